"""
The session without Chatlease: the floor, and the algorithm that the seeds describe.

Rules that live here:

* The floor is what a good programmer writes with aiohttp in an hour, not what can be squeezed out of it.
* Where sessions share an account, both wait for the account's turn as Chatlease's gate has it: from before the answer
  is queued until its first event.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import orjson

from tests.bench.peers import COOKIE, PROMPT, Opened

MODEL = "OA_SFT_Llama_30B_6"
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
async def floor(url: str) -> AsyncGenerator[Opened]:
    """Plain, good use of aiohttp: one shared session, reads of whatever has come, one decode per event."""
    async with client(url) as http:

        async def ask(account: str) -> AsyncIterator[str]:
            cookie = {"Cookie": f"{COOKIE}={account}"}
            chat = await post(http, "/api/chat", cookie, None)
            try:
                prompt = await post(http, "/api/chat/prompter_message", cookie, _prompter_message(chat))
                run = await post(http, "/api/chat/assistant_message", cookie, _assistant_message(chat, prompt))
                where = {"chat_id": chat, "message_id": run}
                async with http.post("/api/chat/events", params=where, headers=cookie) as response:
                    async for token in _tokens(response):
                        yield token
            finally:
                await _delete(http, chat, cookie)

        yield Opened(ask)


@asynccontextmanager
async def floor_in_turn(url: str) -> AsyncGenerator[Opened]:
    """The floor with a semaphore per account, without which sessions of one account would cancel each other."""
    turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(1))
    async with client(url) as http:

        async def ask(account: str) -> AsyncIterator[str]:
            cookie = {"Cookie": f"{COOKIE}={account}"}
            chat = await post(http, "/api/chat", cookie, None)
            try:
                prompt = await post(http, "/api/chat/prompter_message", cookie, _prompter_message(chat))
                async with _Turn(turns[account]) as turn:
                    run = await post(http, "/api/chat/assistant_message", cookie, _assistant_message(chat, prompt))
                    where = {"chat_id": chat, "message_id": run}
                    async with http.post("/api/chat/events", params=where, headers=cookie) as response:
                        async for token in _tokens(response):
                            if turn.held:
                                turn.end()
                            yield token
            finally:
                await _delete(http, chat, cookie)

        yield Opened(ask)


class _Turn:
    """A semaphore's permit, held in the block that it is entered for, or until `end` is called in there."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore = semaphore
        self.held = False

    def end(self) -> None:
        self.held = False
        self._semaphore.release()

    async def __aenter__(self) -> Self:
        await self._semaphore.acquire()
        self.held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.held:
            self.end()


def client(url: str) -> aiohttp.ClientSession:
    """Return what the floor sends its requests by."""
    # Accounts differ by a header, so the jar has nothing to do; and an open stream keeps its connection.
    return aiohttp.ClientSession(
        url, headers=AGENT, cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
    )


async def post(http: aiohttp.ClientSession, path: str, cookie: Mapping[str, str], body: object) -> str:
    """Make something; returns its id."""
    async with http.post(path, json=body, headers=cookie) as response:
        answer: dict[str, str] = orjson.loads(await response.read())
        return answer["id"]


async def _delete(http: aiohttp.ClientSession, chat: str, cookie: Mapping[str, str]) -> None:
    async with http.delete("/api/chat", params={"chat_id": chat}, headers=cookie) as response:
        await response.read()


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
async def seeds(url: str) -> AsyncGenerator[Opened]:
    """The algorithm that the seeds describe: a session per call, line by line, the standard library's JSON."""

    def ask(account: str) -> AsyncIterator[str]:
        return _by_the_seeds(url, account, _Turn(asyncio.Semaphore(1)))  # whose turn it always is

    yield Opened(ask)


@asynccontextmanager
async def seeds_in_turn(url: str) -> AsyncGenerator[Opened]:
    """The same with a semaphore per account."""
    turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(1))

    def ask(account: str) -> AsyncIterator[str]:
        return _by_the_seeds(url, account, _Turn(turns[account]))

    yield Opened(ask)


async def _by_the_seeds(url: str, account: str, turn: _Turn) -> AsyncIterator[str]:
    base = f"{url}/api/chat"
    async with aiohttp.ClientSession(cookies={COOKIE: account}, headers=AGENT) as http:
        async with http.post(base) as response:
            chat = (await response.json())["id"]
        async with http.post(f"{base}/prompter_message", json=_prompter_message(chat)) as response:
            parent = (await response.json())["id"]
        async with turn:
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
                            if turn.held:
                                turn.end()
                            yield event["text"]
        async with http.delete(base, params={"chat_id": chat}) as response:
            response.raise_for_status()
