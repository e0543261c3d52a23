"""What the tests of HTTP share: a raw loopback server, faked answers without a server, and a search for secrets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp.client_reqrep import ClientResponse
from aioresponses import aioresponses
from yarl import URL

from chatlease.adapter import Call, Credential, Deadlines, Login
from chatlease.errors import ChatleaseError
from chatlease_adapters.http import Answer, HttpClient


def call_of(credential: Credential | None = None, deadlines: Deadlines | None = None) -> Call:
    """The circumstances of one call, for an account called ``test``."""
    return Call(Login("test", Credential() if credential is None else credential), deadlines or Deadlines())


class Idd(msgspec.Struct):
    """A document with an id."""

    id: str


ID = msgspec.json.Decoder(Idd)
"""Reads one."""


async def get(client: HttpClient, url: str | URL, credential: Credential | None = None, **kwargs: Any) -> Answer:
    """Make one call, and close the client."""
    try:
        return await client.call(call_of(credential), "GET", url, **kwargs)
    finally:
        await client.aclose()


async def failure(awaitable: Awaitable[object]) -> Any:
    """The error that it raises, checked for what no error may hold."""
    with pytest.raises(ChatleaseError) as caught:
        await awaitable
    assert foreign(caught.value) == []
    return caught.value


def answered(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer as a client would."""
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# ------------------------------------------------------------------------------------------------------------ loopback


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Reply:
    """
    Bytes to answer with, written piece by piece, so that the client reads them piece by piece.

    Attributes:
        pieces: Head and body, as they go over the wire.
        hold: Keep the connection open until the client leaves.
        reset: End the connection by a reset instead of a close.
    """

    pieces: Sequence[bytes]
    hold: bool = False
    reset: bool = False


def reply(
    body: bytes = b"", status: str = "200 OK", *headers: str, hold: bool = False, length: int | None = None
) -> Reply:
    """An answer with a content length."""
    size = f"Content-Length: {len(body) if length is None else length}"
    head = "\r\n".join([f"HTTP/1.1 {status}", size, "Connection: close", *headers, "", ""])
    return Reply([head.encode() + body], hold=hold)


def chunked(*pieces: bytes, status: str = "200 OK", headers: Sequence[str] = (), end: bool = True) -> Reply:
    """An answer in HTTP chunks; without ``end`` it stays unfinished and the connection open."""
    head = "\r\n".join([f"HTTP/1.1 {status}", "Transfer-Encoding: chunked", *headers, "", ""])
    framed = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
    return Reply([head.encode(), *framed, *([b"0\r\n\r\n"] if end else [])], hold=not end)


@dataclass
class Loopback:
    """
    A server that reads one request per connection and answers with the next reply, or what ``answer`` makes of it.

    Attributes:
        seen: The requests, in the order in which they came.
        left: Set for every connection that the client has closed while it was held open.
    """

    replies: list[Reply] = field(default_factory=list[Reply])
    answer: Callable[[Request], Reply] | None = None
    seen: list[Request] = field(default_factory=list[Request])
    left: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    url: str = ""
    port: int = 0

    async def end(self) -> None:
        """Give the connections up that are still open."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets in the loop's next round

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.create_task(self.connection(reader, writer)))

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._exchange(reader, writer)
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        self.seen.append(request)
        self.arrived.set()
        given = self.answer(request) if self.answer else self.replies.pop(0)
        for piece in given.pieces:
            writer.write(piece)
            await writer.drain()
            for _ in range(4):  # the client's side of this loop reads the piece before the next one is written
                await asyncio.sleep(0)
        if given.hold:
            await reader.read()
            self.left.set()
        if given.reset:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Request(method, target, headers, await reader.readexactly(length))


@contextlib.asynccontextmanager
async def loopback(*replies: Reply, answer: Callable[[Request], Reply] | None = None) -> AsyncGenerator[Loopback]:
    """Serve on a free port of 127.0.0.1; at the end every connection is gone."""
    served = Loopback(list(replies), answer)
    server = await asyncio.start_server(served.connect, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    served.url = f"http://127.0.0.1:{served.port}"
    try:
        yield served
    finally:
        server.close()
        await served.end()


async def closed_port() -> int:
    """A port of 127.0.0.1 that refuses connections."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


# --------------------------------------------------------------------------------------------------------- no server


class _Response(ClientResponse):
    """aioresponses 0.7.9 makes responses without ``stream_writer``, which aiohttp 3.14 asks for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


class FakedHttp:
    """Answers every request of aiohttp without a server, with what it was told."""

    def __init__(self, faked: Any) -> None:
        self._faked = faked

    def add(
        self,
        method: str,
        url: str,
        *,
        status: int = 200,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        exception: Exception | None = None,
    ) -> None:
        """Answer the next request of this method to this address so, or fail with the exception."""
        self._faked.add(
            url, method, status=status, body=body, headers=headers, exception=exception, response_class=_Response
        )


@contextlib.contextmanager
def faked_http() -> Generator[FakedHttp]:
    """Put answers in the place of every server; a request that nothing was told of fails."""
    with aioresponses() as faked:
        yield FakedHttp(faked)


# ------------------------------------------------------------------------------------------------------------ secrets


def shown(error: BaseException) -> str:
    """Everything that can be seen of an exception, of its causes and contexts, and of what they hold."""
    return "\n".join(_shown(error, set()))


def _shown(value: object, known: set[int]) -> Iterator[str]:
    if id(value) in known:
        return
    known.add(id(value))
    yield str(value)
    yield repr(value)
    if isinstance(value, BaseException):
        for part in (value.args, vars(value), getattr(value, "__notes__", ()), value.__cause__, value.__context__):
            yield from _shown(part, known)
    elif isinstance(value, dict):
        yield from _shown([*cast("dict[object, object]", value).items()], known)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in cast("Iterable[object]", value):
            yield from _shown(part, known)


def foreign(error: BaseException | None) -> list[BaseException]:
    """The exceptions in an exception's chain that are not ours."""
    chain: list[BaseException] = []
    queue = [error]
    while queue:
        current = queue.pop()
        if current is not None and current not in chain:
            chain.append(current)
            queue += [current.__cause__, current.__context__]
    return [link for link in chain if not type(link).__module__.startswith("chatlease")]


__all__ = [
    "FakedHttp",
    "Loopback",
    "Reply",
    "Request",
    "call_of",
    "chunked",
    "closed_port",
    "faked_http",
    "foreign",
    "loopback",
    "reply",
    "shown",
]
