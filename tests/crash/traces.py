"""
What the workers' trace files tell.

A process that was killed has written down all but what it told in its last pass of the event loop; the kernel may end
the last write in the middle of a line.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec


class _Line(msgspec.Struct, frozen=True):
    event: str
    failpoint: str = ""
    traceback: str = ""
    monotonic: float = 0.0
    open: int = 0
    undeleted: int = 0


class Told(msgspec.Struct):
    """
    What one worker told.

    Attributes:
        events: How often each event.
        failpoint: Where it killed itself, if it did.
        died_at: When that was, by the monotonic clock.
        unexpected: Tracebacks of what should not have happened.
        final: The entries left open, and the dead letters, where it made the final sweep.
    """

    events: Counter[str] = msgspec.field(default_factory=Counter[str])
    failpoint: str = ""
    died_at: float = 0.0
    unexpected: list[str] = msgspec.field(default_factory=list[str])
    final: tuple[int, int] | None = None


_decoder = msgspec.json.Decoder(_Line)


def read(path: Path) -> Told:
    """Read a trace file; a worker killed before its first line has none."""
    told = Told()
    if not path.exists():
        return told
    whole, _, _cut = path.read_bytes().rpartition(b"\n")
    for line in whole.splitlines():
        _take(told, _decoder.decode(line))
    return told


def _take(told: Told, line: _Line) -> None:
    told.events[line.event] += 1
    match line.event:
        case "crash.failpoint":
            told.failpoint, told.died_at = line.failpoint, line.monotonic
        case "crash.unexpected":
            told.unexpected.append(line.traceback)
        case "crash.final":
            told.final = line.open, line.undeleted
        case _:
            pass
