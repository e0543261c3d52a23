"""JSON lines (NDJSON) out of bytes, without any input or output of its own.

Rules that live here:

* A line ends in LF or CR LF, and only there: JSON may hold every other kind of line end.
* Empty lines say nothing; services send them to keep a connection open.
* Bytes may be cut anywhere, inside a character too: how a stream was cut never shows.
* A line has a largest size, because a service that never ends one would fill the memory.
* What has no line end when the stream ends is not given out: it may have been cut, and the end of a stream is no event.
  The engine then looks at the answer itself.
"""

from __future__ import annotations

from chatlease.errors import ProtocolChanged

__all__ = ["LINE_LIMIT", "JsonLines"]

LINE_LIMIT = 32 * 1024 * 1024
"""Bytes that one line may have unless told otherwise: as many as an event of `chatlease_adapters.sse`."""


class JsonLines:
    """
    Turns the bytes of one stream into lines, as soon as each is complete. Belongs to one stream and one task.

    Empty lines are dropped; everything else is given out, for NDJSON has no comments.
    """

    __slots__ = ("_limit", "_partial")

    def __init__(self, *, line_limit: int = LINE_LIMIT) -> None:
        self._limit = line_limit
        self._partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """
        Take the next bytes, cut anywhere, and return the lines that they complete, without their ends; no empty ones.

        Raises:
            ProtocolChanged: A line is larger than the limit (``line-too-large``). The parser is of no use after it.
        """
        head, end, rest = chunk.rpartition(b"\n")
        if not end:
            return self._keep(rest)
        lines = (bytes(self._partial) + head).split(b"\n")
        self._partial.clear()
        self._check(max(map(len, lines)))
        self._keep(rest)
        return [line for line in map(bytes.strip, lines) if line]

    def _keep(self, rest: bytes) -> list[bytes]:
        self._partial += rest
        self._check(len(self._partial))
        return []

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ProtocolChanged(
                f"lines of at most {self._limit} bytes", "a line that is larger", code="line-too-large"
            )
