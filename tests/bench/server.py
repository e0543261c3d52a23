"""
A chat service that costs next to nothing: asyncio streams, prebuilt bytes, no framework; a process of its own.

``python -m tests.bench.server '{"tokens": 16}'`` (a `Script`, as JSON) prints its port and answers the five requests of
a session until its standard input is closed. Connections are kept alive, as by the proxy in front of a real service,
and each write of a stream is one HTTP chunk, as recorded.

A request of the benchmark's own, ``GET /counts``, tells how many chats were created and deleted. Every line on standard
input lets the parked streams go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORD = "word "
_CHAT = "00000000-0000-7000-8000-%012x"
_BACKLOG = 4096
"""Connections that may wait to be accepted: a thousand sessions begin at once."""


@dataclass(frozen=True, slots=True)
class Script:
    """
    What the service answers every prompt with.

    Attributes:
        tokens: Tokens of one answer.
        per_write: How many of them are written together; divides ``tokens``.
        words: Words of five bytes in a token.
        park_after: So many tokens are written, then the stream is parked; 0 for not at all. Divisible by
            ``per_write``.
    """

    tokens: int
    per_write: int = 1
    words: int = 1
    park_after: int = 0

    def __post_init__(self) -> None:
        if self.tokens % self.per_write or self.park_after % self.per_write:
            raise ValueError(f"{self.tokens} tokens, parked after {self.park_after}, are no writes of {self.per_write}")

    @property
    def text(self) -> str:
        """The whole answer."""
        return WORD * self.words * self.tokens


def _answer(content: object) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode() if content is not None else b""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _message(role: str, state: str, content: str | None) -> dict[str, object]:
    empty = dict.fromkeys(("work_parameters", "safe_content", "safety_level", "safety_label", "safety_rots"))
    ids = {"id": _CHAT % 1, "parent_id": _CHAT % 2, "chat_id": _CHAT % 3, "created_at": "2026-01-01T00:00:00.000000"}
    return {**ids, "role": role, "state": state, "content": content, "score": 0, "reports": [], **empty}


def _event(**content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _stream(script: Script) -> tuple[list[bytes], list[bytes]]:
    """Return the writes of a stream: those before it is parked, and the others."""
    token = _event(event_type="token", text=WORD * script.words)
    final = _event(event_type="message", message=_message("assistant", "complete", script.text))
    writes = [_chunk(token * script.per_write)] * (script.tokens // script.per_write)
    first = script.park_after // script.per_write
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *writes[:first]], [*writes[first:], _chunk(final) + b"0\r\n\r\n"]


class Service:
    """The prebuilt answers, and the counts that prove that each chat was deleted."""

    def __init__(self, script: Script) -> None:
        self.created = 0
        self.deleted = 0
        self._parks = script.park_after > 0
        self._release = asyncio.Event()
        self._before, self._after = _stream(script)
        # The id is put in when a chat is created; the placeholder is as long, so that the content length holds.
        blank = "-" * len(_CHAT % 0)
        chat = {"id": blank, "created_at": "2026-01-01T00:00:00.000000", "title": None, "hidden": False}
        self._chat = _answer(chat).replace(blank.encode(), _CHAT.encode())
        self._fixed: Mapping[bytes, bytes] = {
            b"/api/chat/prompter_message": _answer(_message("prompter", "manual", "Hello")),
            b"/api/chat/assistant_message": _answer(_message("assistant", "pending", None)),
            b"/api/chat/message": _answer(_message("assistant", "complete", script.text)),
        }

    def release(self) -> None:
        """Let the streams that are parked now go on."""
        self._release.set()
        self._release = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                method, path = await _request(reader)
                if path == b"/api/chat/events":
                    await self._stream(writer)
                else:
                    await _write(writer, [self._reply(method, path)])
        writer.close()

    def _reply(self, method: bytes, path: bytes) -> bytes:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        if path == b"/counts":
            return _answer({"created": self.created, "deleted": self.deleted})
        if method == b"DELETE":
            self.deleted += 1
            return _answer(None)
        self.created += 1
        return self._chat % self.created

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        await _write(writer, self._before)
        if self._parks:
            await self._release.wait()
        await _write(writer, self._after)


async def _write(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        # So that pieces of one stream go out one by one, and streams take turns.
        await asyncio.sleep(0)


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b" ", 2)
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if found:
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return method, target.partition(b"?")[0]


async def main(script: Script) -> None:
    """Serve until standard input ends, which is when the benchmark does."""
    service = Service(script)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=_BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        service.release()


if __name__ == "__main__":
    asyncio.run(main(Script(**json.loads(sys.argv[1]))))
