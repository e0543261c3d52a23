"""A trace in a file: one JSON object a line.

Rules that live here:

* What is told in one pass of the event loop is one ``write``, at the end of that pass, to a file opened for appending:
  whole lines, in order. A process that is killed loses at most what it told in the pass in which it was killed; of a
  write under way then, the last line may be cut. What is told outside a loop is written at once.
* Nothing but an append happens while a session waits; lines are made, and counted as lost, when they are written.
* Nothing is synced: a loss of power costs what the system had not written yet.
* A file that cannot be written (the disk is full, its folder is gone) disturbs nobody: up to `_HELD` bytes are kept and
  tried again with the next event, and what is more than that is counted. The log says so once; the file itself does,
  with ``trace.lost``, when it can be written again.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable

from ._trace import TraceEvent, log
from ._trace_rotation import Rotation

MAX_BYTES = 64 * 2**20
KEEP = 5
_HELD = 2**20
"""So many bytes, some 4,000 lines, wait in memory for a file that cannot be written."""
_NOBODY = object()


class TraceFile:
    """
    A hook that appends events to a file, one JSON object a line.

    What is told in one pass of the event loop is written by one system call at its end, so a process that is killed
    loses at most what it told in the pass in which it was killed; `flush` writes at once. Several engines, threads and
    processes may share the file. When it is full it is renamed to ``FILE.1``, what was ``FILE.1`` to ``FILE.2``, and so
    on, and a new one is begun: together they have ``(keep + 1) * max_bytes``, and a little more: nobody waits while
    another one renames. What was in the last of them is removed then. That another program renames or removes the file
    is noticed within a second.

    Where the file cannot be written, sessions go on: a megabyte of lines is kept and written later; further ones are
    lost, and counted. The logger ``chatlease`` gets a warning, ``trace.failed``, and the file gets ``trace.lost`` with
    their number as soon as it takes lines again. A process that ends before that loses what was kept.

    Args:
        path: The file; created with mode 0600 where it does not exist. Its folder must exist. What is no regular file
            (a pipe, a terminal, ``/dev/stdout``) is only written to; a pipe must have a reader already, and when it is
            full, lines wait as for a full disk. Of a symbolic link the file behind it is meant, and is the one renamed.
        level: As in `logging`. INFO, the default, is what all that reads traces needs, and costs a short session about
            a tenth of its CPU time; with DEBUG every event is written.
        max_bytes: A file of this size is full; ``None`` for never. By default 64 MiB: some 18,000 short sessions at
            INFO, and not too much to be copied and looked through.
        keep: How many full files are kept, at least 1. By default 5, so that all together have 384 MiB.

    Attributes:
        level: As given.
        lost: Lines lost so far, because the file could not be written.

    Raises:
        OSError: The file cannot be opened.
        ValueError: ``max_bytes`` or ``keep`` is less than 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        level: int = logging.INFO,
        max_bytes: int | None = MAX_BYTES,
        keep: int = KEEP,
    ) -> None:
        if keep < 1 or (max_bytes is not None and max_bytes < 1):
            raise ValueError("a trace file has at least one byte, and at least one full file is kept")
        self.level = level
        self.lost = 0
        self.lock = threading.RLock()  # whatever interrupts the thread that holds it does not wait for it
        self._files = Rotation(path, max_bytes, keep)
        self._told: deque[TraceEvent] = deque()
        self._pass_of: object = _NOBODY
        self._held = bytearray()
        self._untold = 0
        self._failed: TraceEvent | None = None
        self._closed = False
        _everybody.add(self)

    def __call__(self, event: TraceEvent) -> None:
        """
        Append an event, at the end of this pass of the event loop.

        Raises:
            ValueError: The file was closed.
        """
        self._told.append(event)
        if asyncio._get_running_loop() is not self._pass_of:  # noqa: SLF001  (documented; raises nothing outside a loop)
            self._begin_pass()

    def flush(self) -> None:
        """Write at once what waits for the end of the pass, and what could not be written before."""
        with self.lock:
            told = [self._told.popleft() for _ in range(len(self._told))]
            if told:
                self._write(self._lines(told), told[-1])
            elif self._held and self._failed is not None:
                self._catch_up(self._failed)

    def close(self) -> None:
        """Close the file, after a last try to write what waits. May be called twice."""
        with self.lock:
            if not self._closed:
                self.flush()
            self._closed, self._pass_of = True, _NOBODY
            self._held.clear()
            self._files.close()

    def forget(self) -> None:
        """In a forked child: what waits is the parent's to write, and a lock would never be given back."""
        self.lock = threading.RLock()
        self._told.clear()
        self._held.clear()
        self._pass_of, self._untold = _NOBODY, 0

    # -- a pass -------------------------------------------------------------------------------------------------------

    def _begin_pass(self) -> None:
        """Write at the end of this pass, whatever other loops do; at once where there is none."""
        loop = asyncio._get_running_loop()  # noqa: SLF001
        with self.lock:
            if self._closed:
                self._told.clear()
                raise ValueError("the trace file is closed")
            if loop is None:
                self.flush()
            else:
                self._pass_of = loop
                loop.call_soon(self._end_pass)

    def _end_pass(self) -> None:
        self._pass_of = _NOBODY
        if not self._closed:
            self.flush()

    def _lines(self, told: Iterable[TraceEvent]) -> bytes:
        try:
            return b"".join([event.line() for event in told])
        except (TypeError, ValueError):
            return b"".join([self._line(event) for event in told])

    def _line(self, event: TraceEvent) -> bytes:
        try:
            return event.line()
        except (TypeError, ValueError):  # told by the bot itself, and no JSON
            self._lose()
            return b""

    # -- when it cannot be written ------------------------------------------------------------------------------------

    def _write(self, data: bytes, last: TraceEvent) -> None:
        if self._held:
            self._catch_up(last)
        if self._held:
            self._hold(data)
            return
        try:
            written = self._files.append(data, last.at)
        except OSError as error:
            self._hold(data)
            self._fail(error, last)
            return
        if written < len(data):  # no line is cut as long as its rest can still follow
            self._hold(data[written:])
            self._catch_up(last)

    def _hold(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            if len(self._held) + len(line) <= _HELD:
                self._held += line
            else:
                self._lose()

    def _lose(self) -> None:
        self.lost += 1
        self._untold += 1

    def _fail(self, error: OSError, last: TraceEvent) -> None:
        """Note that the file cannot be written; the log is told of the first time."""
        if self._failed is None:
            code = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log("trace.failed", {"engine": last.keys.get("engine"), "file": str(self._files.path), "error_code": code})
        self._failed = last

    def _catch_up(self, last: TraceEvent) -> None:
        """Write what is kept, and then what was lost meanwhile."""
        try:
            while self._held:
                del self._held[: self._files.append(self._held, last.at)]
                if self._untold and not self._held:
                    self._held += _lost(self._untold, last).line()
                    self._untold = 0
        except OSError as error:
            self._fail(error, last)
        else:
            self._failed = None


def _lost(count: int, last: TraceEvent) -> TraceEvent:
    return TraceEvent("trace.lost", last.at, {"engine": last.keys.get("engine", ""), "count": count})


_everybody: weakref.WeakSet[TraceFile] = weakref.WeakSet()


@atexit.register
def _flush() -> None:
    """Write what a loop that was stopped in the middle of a pass has left."""
    for file in tuple(_everybody):
        file.flush()


def _forget() -> None:
    for file in tuple(_everybody):
        file.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
