"""
A chat service that costs next to nothing: asyncio streams, prebuilt bytes, no framework; a process of its own.

``python -m tests.bench.server TOKENS TOKENS_PER_WRITE`` prints its port and answers the five requests of a session
until its standard input is closed. Connections are kept alive, as by the proxy in front of a real service, and each
write of a stream is one HTTP chunk, as recorded. ``GET /counts`` tells how many chats were created and deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterable

WORD = "word "
_CHAT = "00000000-0000-7000-8000-%012x"


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


def _stream(tokens: int, per_write: int) -> list[bytes]:
    token = _event(event_type="token", text=WORD)
    final = _event(event_type="message", message=_message("assistant", "complete", WORD * tokens))
    pieces = [token * per_write] * (tokens // per_write)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *map(_chunk, pieces), _chunk(final) + b"0\r\n\r\n"]


class Service:
    """The prebuilt answers, and the counts that prove that each chat was deleted."""

    def __init__(self, tokens: int, per_write: int) -> None:
        self.created = 0
        self.deleted = 0
        # The id is put in when a chat is created; the placeholder is as long, so that the content length holds.
        blank = "-" * len(_CHAT % 0)
        chat = {"id": blank, "created_at": "2026-01-01T00:00:00.000000", "title": None, "hidden": False}
        self._chat = _answer(chat).replace(blank.encode(), _CHAT.encode())
        self._fixed = {
            b"/api/chat/prompter_message": [_answer(_message("prompter", "manual", "Hello"))],
            b"/api/chat/assistant_message": [_answer(_message("assistant", "pending", None))],
            b"/api/chat/message": [_answer(_message("assistant", "complete", WORD * tokens))],
            b"/api/chat/events": _stream(tokens, per_write),
        }

    def reply(self, method: bytes, path: bytes) -> Iterable[bytes]:
        """Return the writes that answer a request."""
        if path in self._fixed:
            return self._fixed[path]
        if path == b"/counts":
            return [_answer({"created": self.created, "deleted": self.deleted})]
        if method == b"DELETE":
            self.deleted += 1
            return [_answer(None)]
        self.created += 1
        return [self._chat % self.created]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                method, path = await _request(reader)
                for piece in self.reply(method, path):
                    writer.write(piece)
                    await writer.drain()
                    # So that pieces of one stream go out one by one, and streams take turns.
                    await asyncio.sleep(0)
        writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b" ", 2)
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if found:
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return method, target.partition(b"?")[0]


async def main(tokens: int, per_write: int) -> None:
    """Serve until standard input ends, which is when the benchmark does."""
    server = await asyncio.start_server(Service(tokens, per_write).serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
