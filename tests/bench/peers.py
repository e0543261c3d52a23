"""
The peers: ways to hold the same session, all seen as ``ask(account)``, an async iterable of the answer's tokens.

Rules that live here:

* A peer is opened once per shape, and may keep between sessions what it would keep in a bot.
* Every peer sends the same five requests with the same login header and gives out every token.
* The floor is what a good programmer writes with aiohttp in an hour, not what can be squeezed out of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import orjson

from chatlease import Credential, Engine
from chatlease_adapters.open_assistant import OpenAssistant

Ask: TypeAlias = Callable[[str], AsyncIterable[str]]
"""A whole session of an account, by name: its tokens."""

Peer: TypeAlias = Callable[[str], AbstractAsyncContextManager[Ask]]
"""Opens a peer at a URL."""

MODEL = "OA_SFT_Llama_30B_6"
PROMPT = "Hello, how are you?"
COOKIE = "__Secure-next-auth.session-token"
AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/111.0.0.0"}
SAMPLING: Mapping[str, object] = {
    "top_k": 50,
    "top_p": None,
    "typical_p": None,
    "temperature": 0.35,
    "repetition_penalty": 1.1111111111111112,
    "max_new_tokens": 1024,
}


def _prompter_message(chat: str) -> dict[str, object]:
    return {"chat_id": chat, "content": PROMPT, "parent_id": None}


def _assistant_message(chat: str, parent: str) -> dict[str, object]:
    run: dict[str, object] = {"model_config_name": MODEL, "sampling_parameters": SAMPLING, "plugins": []}
    return {"chat_id": chat, "parent_id": parent, **run}


# ------------------------------------------------------------------------------------------------------------- floor


@asynccontextmanager
async def floor(url: str) -> AsyncGenerator[Ask]:
    """Plain, good use of aiohttp: one shared session, reads of whatever has come, one decode per event."""
    # Accounts differ by a header, so the jar has nothing to do.
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(url, headers=AGENT, cookie_jar=jar) as http:

        async def post(path: str, cookie: Mapping[str, str], body: object) -> str:
            async with http.post(path, json=body, headers=cookie) as response:
                answer: dict[str, str] = orjson.loads(await response.read())
                return answer["id"]

        async def ask(account: str) -> AsyncIterator[str]:
            cookie = {"Cookie": f"{COOKIE}={account}"}
            chat = await post("/api/chat", cookie, None)
            try:
                prompt = await post("/api/chat/prompter_message", cookie, _prompter_message(chat))
                run = await post("/api/chat/assistant_message", cookie, _assistant_message(chat, prompt))
                where = {"chat_id": chat, "message_id": run}
                async with http.post("/api/chat/events", params=where, headers=cookie) as response:
                    async for token in _tokens(response):
                        yield token
            finally:
                async with http.delete("/api/chat", params={"chat_id": chat}, headers=cookie) as response:
                    await response.read()

        yield ask


async def _tokens(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    rest = b""
    async for data in response.content.iter_any():
        *frames, rest = (rest + data).split(b"\r\n\r\n")
        for frame in frames:
            event: dict[str, Any] = orjson.loads(frame[6:])
            if event["event_type"] == "token":
                yield event["text"]


# ----------------------------------------------------------------------------------------------------- seeds' algorithm


@asynccontextmanager
async def seeds(url: str) -> AsyncGenerator[Ask]:
    """The algorithm that the seeds describe: a session per call, line by line, the standard library's JSON."""

    async def ask(account: str) -> AsyncIterator[str]:
        base = f"{url}/api/chat"
        async with aiohttp.ClientSession(cookies={COOKIE: account}, headers=AGENT) as http:
            async with http.post(base) as response:
                chat = (await response.json())["id"]
            async with http.post(f"{base}/prompter_message", json=_prompter_message(chat)) as response:
                parent = (await response.json())["id"]
            async with http.post(f"{base}/assistant_message", json=_assistant_message(chat, parent)) as response:
                answer = await response.json()
                if "message" in answer:
                    raise RuntimeError(answer["message"])
                run = answer["id"]
            async with http.post(f"{base}/events", params={"chat_id": chat, "message_id": run}) as response:
                async for line in response.content:
                    text = line.decode("utf-8")
                    if text.startswith("data: "):
                        event = json.loads(text[6:])
                        if event["event_type"] == "token":
                            yield event["text"]
            async with http.delete(base, params={"chat_id": chat}) as response:
                response.raise_for_status()

    yield ask


# --------------------------------------------------------------------------------------------------------- Chatlease


@asynccontextmanager
async def bare(url: str) -> AsyncGenerator[Ask]:
    """Chatlease without a ledger: its promise ends with the process, as the other peers' does."""
    async with Engine(OpenAssistant(url=url), ledger=None) as engine:
        yield _asking(engine)


@asynccontextmanager
async def default(url: str) -> AsyncGenerator[Ask]:
    """Chatlease as it comes, with its default ledger."""
    async with Engine(OpenAssistant(url=url)) as engine:
        yield _asking(engine)


def _asking(engine: Engine) -> Ask:
    return lambda account: engine.ask(PROMPT, credential=Credential(cookies={COOKIE: account}))


PEERS: Mapping[str, Peer] = {"floor": floor, "seeds": seeds, "chatlease, no ledger": bare, "chatlease": default}
"""By the name in the report; the first is what the others are measured against."""
