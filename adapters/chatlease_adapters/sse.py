"""Server-sent events out of bytes, without any input or output of its own.

Rules that live here:

* The parsing rules of the WHATWG HTML standard ("Interpreting an event stream"), to the letter: lines end in CR, LF or
  CR LF; one byte order mark at the start is dropped; comments and unknown fields are skipped; one space after the colon
  is dropped; an ``id`` with a NUL is ignored; a ``retry`` that is not all digits is ignored; an event without data only
  sets the last event id; what has no empty line after it when the stream ends was never sent.
* Bytes may be cut anywhere, between CR and LF and inside a character too: how a stream was cut never shows.
* Data stays bytes: JSON decoders take them, and the UTF-8 of a whole event is never cut.
* Two ways through, one result: `SseParser.feed` is the exact one; `SseParser.feed_data` first proves that a block is
  nothing but one ``data: `` line per event, and then cuts it without looking at lines. Their equality is tested.
* An event has a largest size, because a service that never ends one would fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from chatlease.errors import ProtocolChanged

__all__ = ["EVENT_LIMIT", "ServerSentEvent", "SseParser"]

EVENT_LIMIT = 32 * 1024 * 1024
"""Bytes that one event may have unless told otherwise; the largest recorded one has 72 kB."""

_BOM = b"\xef\xbb\xbf"
_CR = b"\r"
_LF = b"\n"
_PREFIX = b"data: "
_CRLF_END = b"\r\n\r\n"
_LF_END = b"\n\n"
_CRLF_CUT = _CRLF_END + _PREFIX
_LF_CUT = _LF_END + _PREFIX
_WIDTH = len(_PREFIX)
_LONGEST_RETRY = 15  # digits; more than any delay that makes sense, and int() refuses very long numbers


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """
    One event.

    Attributes:
        data: The data lines joined by LF, as they came (UTF-8 by the standard, which is not checked here).
        type: The ``event`` field, ``message`` where there was none.
        id: The last event id at that moment, which an earlier event may have set.
    """

    data: bytes
    type: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; what is no UTF-8 becomes U+FFFD, as the standard wants."""
        return self.data.decode("utf-8", "replace")


class SseParser:
    """
    Turns the bytes of one event stream into events, as soon as each is complete.

    Belongs to one stream and one task. At the end of the stream nothing has to be done: an unfinished event is dropped.

    Attributes:
        last_event_id: As the standard defines it; what a client that reconnects would send.
        retry_ms: Reconnection time in milliseconds that the service asked for, if it did.
    """

    __slots__ = (
        "_begun",
        "_blank",
        "_data",
        "_id",
        "_idle",
        "_limit",
        "_partial",
        "_size",
        "_skip_lf",
        "_type",
        "last_event_id",
        "retry_ms",
    )

    def __init__(self, *, event_limit: int = EVENT_LIMIT) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._limit = event_limit
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._type = ""
        self._id = ""
        self._size = 0
        self._begun = False  # the byte order mark, or its absence, has been seen
        self._skip_lf = False  # the last byte was a CR: a LF now belongs to it
        self._blank = True  # the last line was empty
        self._idle = False  # between two events, nothing held back: a block may be cut without looking at lines

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """
        Take the next bytes and return the events that they complete.

        Args:
            chunk: Any number of bytes, cut anywhere.

        Raises:
            ProtocolChanged: An event is larger than the limit (``event-too-large``). The parser is of no use after it.
        """
        events: list[ServerSentEvent] = []
        self._parse(chunk, events)
        return events

    def feed_data(self, chunk: bytes) -> list[bytes]:
        """
        Return ``[event.data for event in self.feed(chunk)]``, fast where every event is one ``data: `` line.

        For streams that use no other field. May be mixed with `feed`.
        """
        if self._idle and len(chunk) <= self._limit:
            payloads = _payloads(chunk)
            if payloads is not None:
                return payloads
        return self._feed_mixed(chunk)

    # ---------------------------------------------------------------------------------------------------- the fast way

    def _feed_mixed(self, chunk: bytes) -> list[bytes]:
        # A large read begins and ends inside an event: only these two need the exact way.
        border = _CRLF_END if _CR in chunk else _LF_END
        payloads: list[bytes] = []
        if not self._idle:
            head, found, chunk = chunk.partition(border)
            payloads += self._feed_exact(head + found)
        block, found, rest = chunk.rpartition(border)
        fast = _payloads(block + found) if self._idle and len(block) < self._limit else None
        if fast is None:
            return payloads + self._feed_exact(chunk)
        return payloads + fast + self._feed_exact(rest)

    def _feed_exact(self, chunk: bytes) -> list[bytes]:
        return [event.data for event in self.feed(chunk)]

    # --------------------------------------------------------------------------------------------------- the exact way

    def _parse(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        if not self._begun:
            chunk = self._begin(chunk)
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(_LF)
            self._skip_lf = False
        if chunk:
            self._skip_lf = chunk.endswith(_CR)
            for line in self._lines(chunk):
                self._line(line, events)
        self._idle = self._begun and self._blank and not self._skip_lf and not self._partial

    def _begin(self, chunk: bytes) -> bytes:
        self._partial += chunk
        start = bytes(self._partial)
        if len(start) < len(_BOM) and _BOM.startswith(start):
            return b""
        self._begun = True
        self._partial.clear()
        return start.removeprefix(_BOM)

    def _lines(self, chunk: bytes) -> list[bytes]:
        # Bytes know no line end but CR, LF and CR LF. A long line is joined once, not with every chunk.
        if _LF not in chunk and _CR not in chunk:
            self._partial += chunk
            self._check(len(self._partial))
            return []
        lines = (bytes(self._partial) + chunk).splitlines()
        self._partial.clear()
        if not chunk.endswith((_LF, _CR)):
            self._partial += lines.pop()
        return lines

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        self._blank = not line
        if self._blank:
            self._dispatch(events)
            return
        self._check(len(line))
        self._size += len(line)
        name, _, value = line.partition(b":")
        field = self._FIELDS.get(name)
        if field is not None:
            field(self, value.removeprefix(b" "))

    def _check(self, more: int) -> None:
        if self._size + more > self._limit:
            raise ProtocolChanged(
                f"events of at most {self._limit} bytes", "an event that is larger", code="event-too-large"
            )

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        self.last_event_id = self._id
        if self._data:
            events.append(ServerSentEvent(b"\n".join(self._data), self._type or "message", self._id))
            self._data = []
        self._type = ""
        self._size = 0

    def _take_data(self, value: bytes) -> None:
        self._data.append(value)

    def _take_event(self, value: bytes) -> None:
        self._type = value.decode("utf-8", "replace")

    def _take_id(self, value: bytes) -> None:
        if b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _take_retry(self, value: bytes) -> None:
        if value.isdigit() and len(value) <= _LONGEST_RETRY:
            self.retry_ms = int(value)

    _FIELDS: ClassVar[dict[bytes, Callable[[SseParser, bytes], None]]] = {
        b"data": _take_data,
        b"event": _take_event,
        b"id": _take_id,
        b"retry": _take_retry,
    }


def _payloads(block: bytes) -> list[bytes] | None:
    """
    Cut a block of whole events that have one ``data: `` line each; ``None`` where that is not proven.

    The proof: it begins with a field, ends with an empty line, and has no line end but those at which it was cut.
    """
    if block[:_WIDTH] != _PREFIX:
        return None
    if block[-4:] == _CRLF_END:
        payloads = block[_WIDTH:-4].split(_CRLF_CUT)
        proven = block.count(_LF) == block.count(_CR) == 2 * len(payloads)
    else:
        payloads = block[_WIDTH:-2].split(_LF_CUT)
        proven = block[-2:] == _LF_END and block.count(_LF) == 2 * len(payloads) and _CR not in block
    return payloads if proven else None
