"""Reading trace files for a command: once, or as they are written, with errors that a person understands.

Rules that live here:

* A line that is no good is counted and passed over; only files without a single good one are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from chatlease._clock import Clock
from chatlease._traces import Counts, Follower, Line, Lines
from chatlease.errors import UsageError

from ._show import Screen
from ._signals import cancelling

PAUSE_S = 0.25
"""Between two looks at a file that is followed."""


def good_lines(lines: Lines, files: Iterable[Path]) -> Iterator[Line]:
    """
    Yield the lines of trace files.

    Raises:
        UsageError: One of them cannot be read, or there is no trace in any of them.
    """
    try:
        yield from lines
    except OSError as error:
        raise _unreadable(error) from None
    _check(lines, files)


def _unreadable(error: OSError) -> UsageError:
    """Return the error for a file that cannot be read."""
    return UsageError(f"{error.filename or 'a trace file'} cannot be read: {error.strerror or type(error).__name__}")


def _check(counts: Counts, files: Iterable[Path]) -> None:
    """
    Refuse files without a single good line; an empty one is a trace that has not begun.

    Raises:
        UsageError: They are such.
    """
    if counts.good or not (counts.broken or counts.newer):
        return
    names = ", ".join(str(file) for file in files)
    if counts.newer:
        raise UsageError(f"{names} is of a later version of the trace format", hint="A newer chatlease reads it.")
    raise UsageError(
        f"{names} is no trace file", hint="Make one with TraceFile, CHATLEASE_TRACE or `chatlease chat --trace-file`."
    )


async def followed(file: Path, clock: Clock, take: Callable[[Sequence[Line]], object], *, only: bool) -> Follower:
    """
    Give out the lines of a file as they are written, a bounded piece at a time, until a signal comes.

    Args:
        file: It need not be there yet.
        clock: By which it is looked at again.
        take: Called with what is new, after every look.
        only: Begin with this file, not with those that it was rotated to before.

    Returns:
        What became of the lines.

    Raises:
        UsageError: It cannot be read, or is no trace.
    """
    with closing(_follower(file, only=only)) as follower, suppress(asyncio.CancelledError), cancelling():
        while True:
            take(_read(follower))
            if follower.idle:
                _check(follower, [file])
            await clock.sleep(PAUSE_S if follower.idle else 0.0)
    return follower


def _follower(file: Path, *, only: bool) -> Follower:
    if not file.exists():
        Screen().note(f"{file} is not there yet; waiting for it")
    try:
        return Follower(file, only=only)
    except OSError as error:
        raise _unreadable(error) from None


def _read(follower: Follower) -> Sequence[Line]:
    try:
        return follower.read()
    except OSError as error:
        raise _unreadable(error) from None
