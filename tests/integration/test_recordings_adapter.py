"""
Every recorded exchange with Open-Assistant, played at the adapter byte for byte, and cut elsewhere.

What has to come out is derived from the recorded status and body by the small oracle below, which knows the server's
answers from ``README.md`` of the recordings and nothing of the adapter. An exchange of a kind that is not listed in
`KINDS` fails.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

import pytest

from chatlease.adapter import AnswerStream, Call, Credential, RunOptions
from chatlease.errors import (
    Busy,
    NotAuthenticated,
    ProtocolChanged,
    Rejected,
    RunFailed,
    ServiceError,
    Unavailable,
)
from chatlease.events import Failed, Final, Pending, PluginStep, RunStatus
from chatlease_adapters.http import HttpClient, refusal
from chatlease_adapters.open_assistant import OpenAssistant
from tests.unit.aio import Loopback, Reply, Request, call_of, loopback, reply

RECORDED = Path(__file__).parents[1] / "recorded" / "open-assistant"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SEEDS = {
    "top_k": 50,
    "top_p": None,
    "typical_p": None,
    "temperature": 0.35,
    "repetition_penalty": 1.1111111111111112,
    "max_new_tokens": 1024,
}

KINDS = {
    ("site", "POST", "/api/chat"): "create",
    ("site", "GET", "/api/chat"): "list",
    ("site", "GET", "/api/chat?"): "chat",
    ("site", "DELETE", "/api/chat"): "delete",
    ("site", "DELETE", "/api/chat?"): "delete",
    ("site", "POST", "/api/chat/prompter_message"): "prompt",
    ("site", "POST", "/api/chat/assistant_message"): "assistant",
    ("site", "POST", "/api/chat/events"): "events",
    ("site", "POST", "/api/chat/events?"): "events",
    ("site", "GET", "/api/chat/events?"): "events",
    ("site", "GET", "/api/chat/message"): "message",
    ("site", "GET", "/api/chat/message?"): "message",
    ("site", "GET", "/api/chat/models"): "models",
    ("server", "POST", "/chats"): "create",
    ("server", "GET", "/chats"): "list",
    ("server", "GET", "/chats/ID"): "chat",
    ("server", "DELETE", "/chats/ID"): "delete",
    ("server", "POST", "/chats/ID/prompter_message"): "prompt",
    ("server", "POST", "/chats/ID/assistant_message"): "assistant",
    ("server", "GET", "/chats/ID/messages/ID/events"): "events",
    ("server", "GET", "/chats/ID/messages/ID"): "message",
    ("server", "GET", "/configs/model_configs"): "models",
    # Calls that the adapter never makes; their answers are told by the HTTP client alone.
    ("site", "PATCH", "/api/chat"): "other",
    ("site", "PUT", "/api/chat"): "other",
    ("site", "GET", "/api/chat/nothing-here"): "other",
    ("site", "GET", "/api/chat/prompter_message"): "other",
    ("site", "POST", "/api/chat/vote"): "other",
    ("server", "PUT", "/chats/ID"): "other",
    ("server", "GET", "/chats/ID/prompter_message"): "other",
    ("server", "GET", "/auth/check"): "other",
    ("server", "POST", "/auth/trusted"): "other",
}


# ---------------------------------------------------------------------------------------------------- the recordings


@dataclass(frozen=True)
class Exchange:
    """A recorded request and its answer."""

    file: str
    raw: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.file}-{self.raw['n']}"

    @property
    def via(self) -> Literal["site", "server"]:
        return cast("Literal['site', 'server']", self.raw["via"])

    @property
    def request(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.raw["request"])

    @property
    def response(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.raw["response"])

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def kind(self) -> str:
        path = UUID.sub("ID", self.request["path"])
        mark = "?" if {"chat_id", "message_id"} & set(self.request["query"]) else ""
        return KINDS[self.via, self.request["method"], path + mark]

    @property
    def pieces(self) -> list[bytes]:
        if "chunks" not in self.response:
            return [(self.response["body"] or "").encode()]
        return [
            base64.b64decode(chunk["data_base64"]) if "data_base64" in chunk else chunk["data"].encode()
            for chunk in self.response["chunks"]
        ]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def sent(self) -> dict[str, Any]:
        """The recorded request's JSON object; empty where it was none."""
        try:
            sent = json.loads(self.request["body"] or "")
        except ValueError:
            return {}
        return cast("dict[str, Any]", sent) if isinstance(sent, dict) else {}

    @property
    def ids(self) -> tuple[str, str]:
        """Chat and message that the request was about."""
        found = [match.group() for match in UUID.finditer(self.request["path"])]
        query = self.request["query"]
        chat = query.get("chat_id") or self.sent.get("chat_id") or (found[0] if found else "c")
        return chat, query.get("message_id") or (found[1] if len(found) > 1 else "m")

    @property
    def credential(self) -> Credential:
        cookies: dict[str, str] = {}
        headers: dict[str, str] = {}
        for name, value in self.request["headers"]:
            if name == "Cookie":
                cookies.update(pair.split("=", 1) for pair in value.split("; "))
            elif name == "TrustedClient":
                headers[name] = base64.b64encode(value.removeprefix("base64 of ").encode()).decode()
            elif name == "Authorization":
                headers[name] = value
        return Credential(cookies=cookies, headers=headers)

    @property
    def end(self) -> Literal["complete", "left", "broken"]:
        word = self.raw["end"].split()[0]
        ends: dict[str, Literal["complete", "left", "broken"]] = {"complete": "complete", "client": "left"}
        return ends.get(word, "broken")

    def wire(self) -> Reply:
        """The answer as it came over the wire."""
        status = f"HTTP/{self.response['http_version']} {self.status} {self.response['reason']}"
        headers = [f"{name}: {value}" for name, value in self.response["headers"]]
        chunked = any(name.lower() == "transfer-encoding" for name, _ in self.response["headers"])
        pieces = self.pieces
        if chunked:
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
            pieces += [b"0\r\n\r\n"] if self.end == "complete" else []
        return Reply(["\r\n".join([status, *headers, "", ""]).encode(), *pieces], hold=self.end == "left")


@cache
def exchanges() -> list[Exchange]:
    files = sorted(RECORDED.glob("*.jsonl"))
    lines = [(path.stem, json.loads(line)) for path in files for line in path.read_bytes().splitlines()]
    assert {raw["kind"] for _, raw in lines} == {"about", "note", "exchange"}
    return [Exchange(file, raw) for file, raw in lines if raw["kind"] == "exchange"]


def recut(given: Reply, seed: str) -> Reply:
    """The same bytes, cut at random places of the wire, inside heads, chunk sizes and characters too."""
    stream = b"".join(given.pieces)
    chance = random.Random(seed)
    marks = sorted({0, len(stream), *(chance.randrange(len(stream) + 1) for _ in range(min(12, len(stream) // 20)))})
    pieces = [stream[start:end] for start, end in pairwise(marks)]
    return Reply(pieces, hold=given.hold, reset=given.reset)


# --------------------------------------------------------------------------------------------------------- the oracle


@dataclass(frozen=True)
class Error:
    """An error that has to be raised; ``text`` where it has to be exactly that."""

    kind: type[ServiceError]
    text: str | None = None


def oracle(exchange: Exchange) -> Any:
    """What has to come out of an answer, by its status and body."""
    if exchange.status >= 400:
        return oracle_error(exchange)
    return ORACLES[exchange.kind](exchange.json)


def oracle_error(exchange: Exchange) -> Error:
    said: dict[str, Any] = exchange.json or {}
    text: Any = said.get("message", said.get("detail"))
    if isinstance(text, list):
        text = "; ".join(map(oracle_problem, cast("list[dict[str, Any]]", text)))
    if exchange.body.startswith(b"<!DOCTYPE html"):
        return Error(ProtocolChanged)
    if exchange.status in {401, 403}:
        return Error(NotAuthenticated, text)
    if exchange.status >= 500:
        return Error(Busy if "busy" in str(text) else Unavailable, text)
    return Error(Rejected, text)


def oracle_problem(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "body")
    return ": ".join(filter(None, [where, problem["msg"]]))


def oracle_listing(page: dict[str, Any]) -> list[tuple[str, datetime, bool]]:
    chats = page["chats"]
    return [
        (chat["id"], datetime.fromisoformat(chat["created_at"]).replace(tzinfo=UTC), chat["title"] is None)
        for chat in chats
    ]


def oracle_reading(message: dict[str, Any]) -> tuple[RunStatus, str | None, str, str]:
    status = {
        "pending": RunStatus.PENDING,
        "in_progress": RunStatus.GOING,
        "complete": RunStatus.ANSWERED,
        "aborted_by_worker": RunStatus.FAILED,
        "timeout": RunStatus.FAILED,
        "cancelled": RunStatus.CANCELLED,
    }[message["state"]]
    code = message["state"] if status is RunStatus.FAILED else ""
    return status, message["content"], message["id"], code


def oracle_chat(chat: dict[str, Any]) -> dict[str, Any]:
    """For each prompt of the chat what is known of its newest answer."""
    found: dict[str, Any] = {each["id"]: None for each in chat["messages"] if each["role"] == "prompter"}
    for message in sorted(chat["messages"], key=lambda each: each["created_at"]):
        if message["role"] == "assistant":
            found[message["parent_id"]] = oracle_reading(message)
    return found


ORACLES: dict[str, Callable[[Any], Any]] = {
    "create": lambda made: made["id"],
    "prompt": lambda made: made["id"],
    "assistant": lambda made: made["id"],
    "message": oracle_reading,
    "chat": oracle_chat,
    "list": oracle_listing,
    "models": lambda models: [model["name"] for model in models],
    "delete": lambda _: True,
}


def oracle_events(body: bytes) -> list[Any]:
    """The events of a stream: the frames that came whole, in order."""
    *blocks, _unfinished = body.decode().split("\r\n\r\n")
    # A ping is a comment of one line with an empty line after it.
    frames = [json.loads(block.removeprefix("data: ")) for block in blocks if not block.startswith(":")]
    return [event for frame in frames if (event := oracle_event(frame)) is not None]


def oracle_event(frame: dict[str, Any]) -> Any:
    match frame["event_type"]:
        case "token":
            return frame["text"]
        case "pending":
            return Pending(frame["queue_position"], frame["queue_size"])
        case "plugin_intermediate":
            return PluginStep(frame["current_plugin_thought"], frame["current_plugin_action_taken"])
        case "message":
            return Final(frame["message"]["content"] or "")
        case "error":
            return (RunFailed, frame["error"], frame["message"]["state"])
        case kind:
            raise AssertionError(f"a kind of frame that the test does not know: {kind}")


# ---------------------------------------------------------------------------------------------------------- the plays


async def play(adapter: OpenAssistant, call: Call, exchange: Exchange) -> Any:
    """Make the call that the exchange recorded, as the adapter offers it."""
    sent = exchange.sent
    chat, run = exchange.ids
    match exchange.kind:
        case "create":
            return await adapter.create_chat(call, "")
        case "prompt":
            return await adapter.send_prompt(call, chat, sent.get("content", "hi"), sent.get("parent_id"))
        case "assistant":
            model = sent.get("model_config_name", "_lorem")
            return await adapter.queue_assistant(call, chat, sent.get("parent_id", "p"), model, options_of(sent))
        case "message":
            return told(await adapter.read_answer(call, chat, "p", run))
        case "chat":
            prompts = oracle(exchange) if exchange.status == 200 else ["p"]
            return {prompt: told(await adapter.read_answer(call, chat, prompt, None)) for prompt in prompts}
        case "list":
            listed = [each async for each in adapter.list_chats(call)]
            return [(each.chat, each.created_at, each.empty) for each in listed]
        case "models":
            return await adapter.models(call)
        case "delete":
            return await adapter.delete_chat(call, chat)
        case kind:
            raise AssertionError(kind)


def told(reading: Any) -> tuple[RunStatus, str | None, str, str] | None:
    if reading.status is RunStatus.ABSENT:
        return None
    return reading.status, reading.text, reading.run, reading.code


def options_of(sent: dict[str, Any]) -> RunOptions:
    options: dict[str, Any] = {
        name: value
        for name, value in sent.items()
        if name in RunOptions.__annotations__ and (name, value) != ("plugins", [])
    }
    if sent.get("sampling_parameters", SEEDS) != SEEDS:
        options["sampling"] = sent["sampling_parameters"]
    return cast("RunOptions", options)


def adapter_for(exchange: Exchange, server: Loopback) -> OpenAssistant:
    return OpenAssistant(server.url, dialect="website" if exchange.via == "site" else "server")


def answers(exchange: Exchange, first: Reply) -> Callable[[Request], Reply]:
    """The recorded answer to the recorded call; to those that follow from it, the answer that was recorded for them."""
    later = follow_up(exchange)
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        again = len(asked) > 1 and exchange.kind in {"delete", "list", "assistant"}
        return later(request) if again else first

    return answer


def follow_up(exchange: Exchange) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        if exchange.kind == "list":
            return reply(b'{"chats": [], "next": null}')
        if exchange.kind == "assistant":
            return models_of(exchange.via).wire()
        look = look_after(exchange)
        return look.wire() if look else reply(b"", "404 Not Found")

    return answer


@cache
def models_of(via: str) -> Exchange:
    return next(each for each in exchanges() if each.kind == "models" and each.via == via and each.status == 200)


def look_after(exchange: Exchange) -> Exchange | None:
    """The look at the same chat by the same user that was recorded after a deletion, or before a refused one."""
    same = [
        each
        for each in exchanges()
        if (each.file, each.kind, each.raw["user"]) == (exchange.file, "chat", exchange.raw["user"])
        and each.ids[0] == exchange.ids[0]
        and (each.raw["n"] > exchange.raw["n"] or each.status >= 400)
    ]
    return same[-1] if same else None


WIRE: dict[str, Callable[[Exchange], Reply]] = {
    "recorded": lambda exchange: exchange.wire(),
    "recut": lambda exchange: recut(exchange.wire(), exchange.name),
}


@pytest.mark.parametrize("way", WIRE)
@pytest.mark.parametrize("exchange", exchanges(), ids=lambda exchange: str(exchange.name))
async def test_a_recorded_exchange_comes_out_as_its_status_and_body_say(exchange: Exchange, way: str) -> None:
    check = {"events": check_stream, "other": check_other}.get(exchange.kind, check_call)
    async with loopback(answer=answers(exchange, WIRE[way](exchange))) as server:
        call = call_of(exchange.credential)
        await check(exchange, server, call)
    check_request(exchange, server.seen[0])


async def check_call(exchange: Exchange, server: Loopback, call: Call) -> None:
    expected = oracle_deletion(exchange) if exchange.kind == "delete" else oracle(exchange)
    if exchange.kind == "chat" and exchange.status == 404:
        expected = {"p": None}
    async with aclosing(adapter_for(exchange, server)) as adapter:
        got = await outcome(play(adapter, call, exchange))
    assert agree(got, expected), f"{got!r} instead of {expected!r}"
    if exchange.kind not in {"delete", "list"}:
        assert call.http_status == exchange.status
    if "not found" in str(got) and exchange.kind == "assistant" and "Model" in str(got):
        assert "The service offers" in got.hint or "nearest model" in got.hint


def oracle_deletion(exchange: Exchange) -> Any:
    """Gone already where a look at the chat (or the server at once) says so."""
    if exchange.via == "server" and exchange.status == 404:
        return False
    if exchange.via == "server" or exchange.status != 500:
        return oracle(exchange)
    look = look_after(exchange)
    return False if look is None or look.status == 404 else Error(Unavailable)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except ServiceError as error:
        return error


def agree(got: Any, expected: Any) -> bool:
    if not isinstance(expected, Error):
        return bool(got == expected)
    return type(got) is expected.kind and expected.text in {None, str(got)}


async def check_other(exchange: Exchange, server: Loopback, call: Call) -> None:
    query = "?x=1" if exchange.request["query"] else ""
    async with aclosing(HttpClient()) as client:
        answer = await client.call(call, exchange.request["method"], server.url + exchange.request["path"] + query)
    assert (answer.status, answer.body) == (exchange.status, exchange.body)
    if answer.status >= 400:
        assert agree(refusal(answer, "try"), oracle_error(exchange))


async def check_stream(exchange: Exchange, server: Loopback, call: Call) -> None:
    async with aclosing(adapter_for(exchange, server)) as adapter:
        opened = await outcome(adapter.open_stream(call, *exchange.ids))
        assert call.http_status == exchange.status
        if exchange.status == 204:
            assert opened is None
        elif exchange.status >= 400:
            assert agree(opened, oracle_error(exchange))
        else:
            with closing(opened):
                await check_events(exchange, opened)


async def check_events(exchange: Exchange, stream: AnswerStream) -> None:
    expected = oracle_events(exchange.body)
    got: list[Any] = []
    while len(got) < len(expected):
        batch = await stream.read()
        assert batch, "the stream ended before its last event"
        got += map(event_told, batch)
    assert got == expected
    if expected and isinstance(expected[-1], Final | tuple):
        return
    last = await bounded(stream.read())
    match exchange.end:
        case "complete":
            assert last == ()
        case "broken":
            assert isinstance(last, Unavailable)
            assert (last.code, last.sent) == ("connection-lost", True)
        case "left":
            assert last is asyncio.TimeoutError


def event_told(event: Any) -> Any:
    return (type(event.error), str(event.error), event.error.code) if isinstance(event, Failed) else event


async def bounded(awaitable: Awaitable[Any]) -> Any:
    """What comes of it within a number of the loop's rounds, in which all that was sent has arrived."""
    task = asyncio.ensure_future(outcome(awaitable))
    for _ in range(200):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    return asyncio.TimeoutError


# --------------------------------------------------------------------------------------------- what the adapter sends

CANONICAL = {
    ("site", "prompt"): ["chat_id", "content", "parent_id"],
    ("site", "assistant"): ["chat_id", "parent_id", "model_config_name", "sampling_parameters", "plugins"],
    ("server", "create"): [],
    ("server", "prompt"): ["content", "parent_id"],
    ("server", "assistant"): ["parent_id", "model_config_name", "sampling_parameters", "plugins"],
}


def check_request(exchange: Exchange, seen: Request) -> None:
    """What was sent is what was recorded, wherever the recorded request was a proper one."""
    address = urlsplit(seen.target)
    logins = ("Cookie", "Authorization", "TrustedClient")
    recorded = {name: value for name, value in exchange.request["headers"] if name in logins}
    sent = {name: value for name in logins for value in seen.all(name)}
    assert sent.keys() == recorded.keys()
    assert all(sent[name] == recorded[name] for name in sent if name != "TrustedClient")
    assert seen.all("Accept") == ["*/*"]
    if exchange.kind == "other":
        return
    assert address.path == exchange.request["path"]
    assert seen.all("User-Agent") == [value for name, value in exchange.request["headers"] if name == "User-Agent"]
    if exchange.kind == "list":
        return
    # The website takes both methods for its events; the seeds use POST.
    assert seen.method == (
        "POST" if exchange.via == "site" and exchange.kind == "events" else exchange.request["method"]
    )
    if exchange.request["query"]:
        assert dict(parse_qsl(address.query)) == exchange.request["query"]
    check_body(exchange, seen)


def check_body(exchange: Exchange, seen: Request) -> None:
    canonical = CANONICAL.get((exchange.via, exchange.kind))
    if canonical is None:
        assert seen.body == b""
        return
    assert seen.all("Content-Type") == ["application/json"]
    sent = json.loads(seen.body)
    assert list(sent)[: len(canonical)] == canonical
    if list(exchange.sent)[: len(canonical)] == canonical and exchange.request["body"]:
        assert sent == exchange.sent
        assert list(sent) == list(exchange.sent)


def test_every_kind_of_exchange_is_known_and_every_known_kind_was_recorded() -> None:
    assert len(exchanges()) > 400
    assert {exchange.kind for exchange in exchanges()} == set(KINDS.values())
    sums = [sum(1 for each in exchanges() if each.end == end) for end in ("complete", "left", "broken")]
    assert all(sums)
