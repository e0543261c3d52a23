"""Trace files, read again: lines as a stream, gathered into sessions.

`read_lines` gives the lines of some files, `Gatherer` makes sessions of them:

    lines = read_lines(paths)
    gatherer = Gatherer(in_order=lines.in_order)
    for line in lines:
        for session in gatherer.feed(line):
            ...  # it has ended
    for session in gatherer.rest():
        ...  # it is open, or its chat is left

The way of a session is drawn from these alone; nothing here knows an engine that runs.
"""

from ._files import STDIN, identity, rotated
from ._follow import Follower
from ._gatherer import HELD, QUIET_S, Gatherer
from ._lines import Counts, Line, Lines, read_lines
from ._recent import ERRORS_S, RATES_S, Recent
from ._sessions import (
    LONGEST_LIST,
    UNKNOWN,
    EngineTrace,
    Failure,
    Outcome,
    SessionTrace,
    Status,
    Stay,
    StepTrace,
    SweepTrace,
)

__all__ = [
    "ERRORS_S",
    "HELD",
    "LONGEST_LIST",
    "QUIET_S",
    "RATES_S",
    "STDIN",
    "UNKNOWN",
    "Counts",
    "EngineTrace",
    "Failure",
    "Follower",
    "Gatherer",
    "Line",
    "Lines",
    "Outcome",
    "Recent",
    "SessionTrace",
    "Status",
    "Stay",
    "StepTrace",
    "SweepTrace",
    "identity",
    "read_lines",
    "rotated",
]
