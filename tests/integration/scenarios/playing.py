"""Plays the requests of a recording at a local service, in virtual time, and compares every answer.

The clock is moved to the time at which each thing happened when it was recorded. Notes about workers and the server
are made to happen; a stream that the recording's client left is left at the same time. Workers say what the recorded
streams say, token by token at the recorded times (`Script`).
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp

from chatlease.testing import ManualClock
from chatlease_adapters.open_assistant.service import FinalText, Piece, Service, ServiceOptions, Work

from .client import until
from .comparing import Counterparts, compare_body, compare_head, compare_stream
from .recording import Exchange, Frame, Note, Recording, split_frames

_LONGEST_SECOND = 1.5
_UNKNOWN_USERS = {"never-registered"}
_HALVES = "first-half-of-session-of-dave", "second-half-of-session-of-dave"


@dataclass(frozen=True)
class Script:
    """
    What a worker says for one message.

    Attributes:
        tokens: Each with the time at which it says it.
        final: The final text and its time; ``None``: it never comes.
        hangs: Without a final text: it says nothing more, instead of finishing at once.
    """

    tokens: list[tuple[float, str]]
    final: tuple[float, str] | None = None
    hangs: bool = False


Hook = Callable[["Player"], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """
    What a recording does not say by itself.

    Attributes:
        workers: How many are connected at first.
        before: What is to be done before an exchange, by its number: calls that were left out of the recording.
        at: What happened at a time without a note.
        scripts: What workers say for a message, by its recorded id, where the recorded streams do not tell.
        hangs: Workers hang after the last recorded token.
        gap: Time in which ``pending`` frames were left out of the recording.
        positions: Queue positions are compared, too.
    """

    workers: int = 0
    before: Mapping[int, Hook] = field(default_factory=dict[int, Hook])
    at: Mapping[float, Hook] = field(default_factory=dict[float, Hook])
    scripts: Mapping[str, Script] = field(default_factory=dict[str, Script])
    hangs: bool = False
    gap: tuple[float, float] = (0.0, 0.0)
    positions: bool = True


@dataclass
class _Stream:
    recorded: Exchange
    task: asyncio.Task[None]
    chunks: list[tuple[float, str]]


class Player:
    """Drives one recording against one service."""

    def __init__(self, recording: Recording, scenario: Scenario, clock: ManualClock) -> None:
        self.known = Counterparts()
        self.threads: list[list[list[str]]] = []
        self.recording = recording
        self.scenario = scenario
        self.clock = clock
        self.service = Service(_options(recording, self.say), clock)
        self.http: aiohttp.ClientSession
        self._scripts = {**_scripts(recording, hangs=scenario.hangs), **scenario.scripts}
        self._streams: list[_Stream] = []
        self._cookie_jar = aiohttp.DummyCookieJar()

    async def play(self) -> None:
        """Play everything, then compare the streams."""
        for user in {exchange.user for exchange in self.recording.exchanges} - _UNKNOWN_USERS:
            self.service.store.users[str(user)] = str(user)
        await self.service.start()
        try:
            async with aiohttp.ClientSession(cookie_jar=self._cookie_jar) as self.http:
                for _ in range(self.scenario.workers):
                    self.service.add_worker()
                await self._play_all()
        finally:
            await self.service.close()

    async def request(self, exchange: Exchange) -> aiohttp.ClientResponse:
        """Send a recorded request with local ids."""
        body = self.known.translate(exchange.body or "")
        if exchange.body_length is not None:
            body += "y" * (exchange.body_length - len(body))
        query = {name: self.known.translate(value) for name, value in exchange.query.items()}
        return await self.http.request(
            exchange.method,
            self.service.url + self.known.translate(exchange.path),
            params=query,
            data=io.BytesIO(body.encode()) if body else None,
            headers=_headers(exchange),
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        )

    async def say(self, work: Work) -> AsyncGenerator[Piece, None]:
        """Say what was said when it was recorded; the source of the service's answers."""
        self.threads.append([list(step) for step in work.thread])
        await until(lambda: work.message in self.known.recorded)
        script = self._scripts.get(self.known.recorded[work.message], Script([], hangs=True))
        for t, text in script.tokens:
            await self.clock.sleep(t - self.clock.now())
            yield text
        if script.final is not None:
            await self.clock.sleep(script.final[0] - self.clock.now())
            yield FinalText(script.final[1])
        elif script.hangs:
            await asyncio.Event().wait()

    def exchange(self, n: int) -> Exchange:
        """Return a recorded exchange by its number."""
        return next(exchange for exchange in self.recording.exchanges if exchange.n == n)

    async def _play_all(self) -> None:
        for t, act in sorted(self._timeline(), key=lambda item: item[0]):
            await self.clock.advance_to(t)
            await act()
            await self.clock.settle()
        for stream in self._streams:
            await asyncio.wait({stream.task})
            self._compare(stream)

    def _timeline(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        acts: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        for item in self.recording.items:
            acts.append((item.opened if isinstance(item, Exchange) else item.t, self._act(item)))
            if isinstance(item, Exchange) and item.streams:
                acts.append((item.t_end + _PATIENCE.get(item.end, 0.0), self._leave(item)))
        return acts + [(t, self._hook(hook)) for t, hook in self.scenario.at.items()]

    def _act(self, item: Note | Exchange) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            if isinstance(item, Note):
                await self._happen(item)
                return
            if item.n in self.scenario.before:
                await self.scenario.before[item.n](self)
            await (self._open(item) if item.streams else self._call(item))

        return act

    def _hook(self, hook: Hook) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await hook(self)

        return act

    def _leave(self, exchange: Exchange) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            stream = next(stream for stream in self._streams if stream.recorded is exchange)
            ended = exchange.end == "complete" or exchange.end.startswith("broken")
            kinds = [frame.raw[:60] for frame in split_frames(stream.chunks)]
            assert stream.task.done() is ended, f"{exchange.label}: {exchange.end}, but got {kinds}"
            stream.task.cancel()

        return act

    async def _happen(self, note: Note) -> None:
        match note.text:
            case "worker connected to the server" | "stand-in worker connected":
                self.service.add_worker()
            case "worker stopped" | "stand-in worker disconnected" | "worker killed (SIGKILL)":
                await self.service.kill_worker()
            case "server gets the signal":
                await self.service.kill_server()
            case "server is up again":
                self.service.start_server()
            case text if "thread given to the worker" in text:
                assert self.threads.pop(0) == note.values["thread"]
            case _:
                pass  # what was observed is in the exchanges themselves

    async def _call(self, exchange: Exchange) -> None:
        async with await self.request(exchange) as response:
            compare_head(exchange, response.status, response.reason, _lower(response))
            compare_body(exchange, await response.text("utf-8"), self.known)

    async def _open(self, exchange: Exchange) -> None:
        chunks: list[tuple[float, str]] = []
        seen = len(self.service.log)
        task = asyncio.create_task(self._read(exchange, chunks))
        self._streams.append(_Stream(exchange, task, chunks))
        await until(lambda: len(self.service.log) > seen or task.done())

    async def _read(self, exchange: Exchange, chunks: list[tuple[float, str]]) -> None:
        async with await self.request(exchange) as response:
            compare_head(exchange, response.status, response.reason, _lower(response))
            async for data in response.content.iter_any():
                chunks.append((self.clock.now(), data.decode("ascii")))  # noqa: PERF401  (what came before a break counts)

    def _compare(self, stream: _Stream) -> None:
        if not stream.task.cancelled():
            error = stream.task.exception()
            if stream.recorded.end.startswith("broken"):
                assert isinstance(error, aiohttp.ClientPayloadError)
            else:
                assert error is None, error
        frames: list[Frame] = split_frames(stream.chunks)
        scenario = self.scenario
        compare_stream(stream.recorded, frames, self.known, gap=scenario.gap, positions=scenario.positions)


# A stream that ended by itself may do so a little later than recorded: only the last frame's time is scripted.
_PATIENCE = {"complete": 0.5}


def _options(recording: Recording, say: Callable[[Work], AsyncGenerator[Piece, None]]) -> ServiceOptions:
    users = {str(exchange.user) for exchange in recording.exchanges} | {"dave"}
    sessions = {f"session-of-{user}": user for user in users if not user.endswith("-expired")}
    return ServiceOptions(
        workers=0,
        answers=say,
        auth="strict",
        sessions={**sessions, "".join(_HALVES): "dave"},
        banned={"banned"},
        tokens={"access-token-of-debugdave": "debugdave"},
        refresh_tokens={"refresh-token-of-debugdave"},
        client_keys={"dummy-key"},
        pending_interval=_pending_interval(recording),
    )


def _headers(exchange: Exchange) -> list[tuple[str, str]]:
    return [(name, _value(name, value)) for name, value in exchange.headers if name.lower() != "host"]


def _value(name: str, value: str) -> str:
    if name != "TrustedClient":
        return value
    decoded = value.removeprefix("base64 of ")
    return base64.b64encode(decoded.encode()).decode() if decoded else "no base64"


def _lower(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _scripts(recording: Recording, *, hangs: bool) -> dict[str, Script]:
    scripts: dict[str, Script] = {}
    for exchange in recording.exchanges:
        script = _script(exchange.frames, hangs)
        if script is not None:
            scripts[_message_of(exchange)] = script
    return scripts


def _script(frames: list[Frame], hangs: bool) -> Script | None:
    tokens = [(frame.t, str(frame.event["text"])) for frame in frames if frame.kind == "token"]
    finals: list[tuple[float, Any]] = [
        (frame.t, frame.event["message"]["content"]) for frame in frames if frame.kind == "message"
    ]
    if not tokens and not finals:
        return None
    return Script(tokens, finals[0] if finals else None, hangs)


def _message_of(exchange: Exchange) -> str:
    return exchange.query.get("message_id") or exchange.path.split("/")[4]


def _pending_interval(recording: Recording) -> float:
    """The real server's second took 1.00 to 1.07 s, depending on what else the machine did."""
    gaps: list[float] = []
    for exchange in recording.exchanges:
        times = [frame.t for frame in exchange.frames if frame.kind == "pending"]
        gaps += [after - before for before, after in pairwise(times) if after - before < _LONGEST_SECOND]
    return sum(gaps) / len(gaps) if gaps else 1.0
