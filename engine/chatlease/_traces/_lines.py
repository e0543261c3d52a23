"""The lines of trace files: read as a stream, decoded into what the model needs, counted where they are no good.

Rules that live here:

* A line that is cut, damaged, too long, or no trace line at all is *broken*: counted and passed over. Where a process
  was cut in the middle of a line and another one went on behind it, the other one's line is still read.
* A line of a later version of the format is *newer*: counted and passed over.
* Keys and events that are not known are nothing to complain about. Numbers are bounded, and texts are cut, so that no
  line costs much and every one can be shown. Durations and counts are not negative.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from chatlease._trace_events import SCHEMA_VERSION

from ._files import LONGEST, STDIN, Source, opened, raw_lines, rotated

_MERGED = 256
"""So many sets of files are read side by side, in the order of time; more of them, one after the other."""

_LONGEST_TEXT = 1000
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=_LONGEST_TEXT)]
Time: TypeAlias = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Line(msgspec.Struct, frozen=True, gc=False):
    """
    A line of a trace file: those of its keys that a reader of traces needs.

    A key that the line does not have is ``None``. See `diagrams/README.md` for what each of them says.
    """

    v: Count
    at: Time
    event: Text
    engine: Text = ""
    session: Text | None = None
    service: Text | None = None
    account: Text | None = None
    chat: Text | None = None
    model: Text | None = None
    trigger: Text | None = None
    source: Text | None = None
    dest: Text | None = None
    state: Text | None = None
    elapsed_s: Seconds | None = None
    waited_s: Seconds | None = None
    queued_s: Seconds | None = None
    http_status: Count | None = None
    error: Text | None = None
    error_code: Text | None = None
    cause: Text | None = None
    attempts: Count | None = None
    count: Count | None = None
    token_count: Count | None = None
    polled: bool | None = None
    pid: Count | None = None
    host: Text | None = None
    version: Text | None = None
    ledger: Text | None = None


class _Version(msgspec.Struct, gc=False):
    v: int


_decode = msgspec.json.Decoder(Line).decode
_decode_keys = msgspec.json.Decoder(dict[str, Any]).decode
_decode_version = msgspec.json.Decoder(_Version).decode
_BROKEN = (ValueError, RecursionError)
"""What decoding raises: msgspec's errors and UnicodeDecodeError are ValueErrors."""
_BEGIN = b'{"v":'


class Counts:
    """
    What became of the lines so far.

    Attributes:
        good: Those that were read.
        broken: Those that were passed over: cut, damaged, or no trace lines.
        newer: Those that were passed over because they are of a later version of the format.
    """

    def __init__(self) -> None:
        self.good = 0
        self.broken = 0
        self.newer = 0

    def decoded(self, raws: Iterable[bytes | None]) -> Iterator[Line]:
        """Yield the good ones of some lines; ``None`` among them is a broken one."""
        for raw in raws:
            line = self.line(raw)
            if line is not None:
                yield line

    def line(self, raw: bytes | None) -> Line | None:
        """Decode a line; ``None`` for one that is passed over. An empty line is neither good nor broken."""
        if raw is None or len(raw) > LONGEST:
            self.broken += 1
            return None
        try:
            line = _decoded(raw)
        except _BROKEN:
            return self._damaged(raw)
        if line.v > SCHEMA_VERSION:
            self.newer += 1
            return None
        self.good += 1
        return line

    def _damaged(self, raw: bytes) -> Line | None:
        """Count a line that could not be decoded; returns the whole one at its end, if there is one."""
        if not raw or raw.isspace():
            return None
        if _is_newer(raw):
            self.newer += 1
            return None
        self.broken += 1
        begin = raw.rfind(_BEGIN, 1)
        return self.line(raw[begin:]) if begin > 0 else None


def _decoded(raw: bytes) -> Line:
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        return _with_texts_cut(raw)


def _with_texts_cut(raw: bytes) -> Line:
    """Decode a line that is as it should be but for the length of its texts: a model's name may be of any."""
    keys = _decode_keys(raw)
    if not any(isinstance(value, str) and len(value) > _LONGEST_TEXT for value in keys.values()):
        raise ValueError
    cut = {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in keys.items()}
    return msgspec.convert(cut, Line)


def _is_newer(raw: bytes) -> bool:
    try:
        return _decode_version(raw).v > SCHEMA_VERSION
    except _BROKEN:
        return False


class Lines(Counts):
    """The lines of some trace files, to be read once; made by `read_lines`."""

    def __init__(self, sets: Sequence[Sequence[Path]]) -> None:
        super().__init__()
        self._sets = sets

    def __iter__(self) -> Iterator[Line]:
        """Yield the good lines; those of several sets in the order of time."""
        with ExitStack() as stack:
            streams = [self._stream(files) for files in opened(self._sets, stack)]
            if len(streams) == 1:
                yield from streams[0]  # by far the most usual, and a merge would cost a third more
            elif len(streams) <= _MERGED:
                yield from heapq.merge(*streams, key=attrgetter("at"))
            else:
                yield from itertools.chain.from_iterable(streams)

    @property
    def in_order(self) -> bool:
        """Whether a line can only come after everything that happened before it."""
        return len(self._sets) == 1

    def _stream(self, files: Sequence[Source]) -> Iterator[Line]:
        for file in files:
            yield from self.decoded(raw_lines(file))


def read_lines(paths: Iterable[Path], *, only: bool = False) -> Lines:
    """
    Read trace files as a stream, in one pass, without holding more than a few lines of them.

    Args:
        paths: Trace files, or ``-`` for the standard input. Each stands for its whole set: FILE.2, FILE.1, FILE.
        only: Read just the files named.

    Returns:
        An iterable of lines that counts what it passes over; nothing is opened before it is iterated, which raises
        OSError where a file cannot be read.
    """
    return Lines([[path] if only or path == STDIN else rotated(path, ahead=True) for path in paths])
