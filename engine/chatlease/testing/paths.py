"""Say which path a session has to take, and read well where it took another.

Rules that live here:

* A path is the states that a session reached, by the steps that succeeded. ``new``, where every session begins, may be
  left out. The last state that is given is where the path has to end, unless ``...`` follows it.
* A name that is no state is a mistake of the test, and no result of it: a ValueError, with the names that are near.
* Of several ways to lay ``...`` over a path the one is shown that agrees with most of what was expected.
"""

from __future__ import annotations

import difflib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from types import EllipsisType
from typing import TypeAlias

from chatlease import Session, State, TraceEvent

from .traces import read_trace

__all__ = ["Expected", "Traced", "assert_path"]

Expected: TypeAlias = State | str | EllipsisType
"""A state, by its member or by its spelling in traces; ``...`` for any number of states, none too."""

Traced: TypeAlias = Iterable[TraceEvent] | str | os.PathLike[str]
"""Trace events in order (what `capture_trace` gives), or the path of a trace file."""

_NAMES = tuple(state.value for state in State)
_NEW = State.NEW.value
_ANY = "..."
_NO_MORE = "(no more)"


def assert_path(trace: Traced, *states: Expected, session: Session | str | None = None) -> None:
    """
    Check the states that a session went through.

    Args:
        trace: What was traced.
        *states: In order: members of `chatlease.State`, or their spellings in traces (``"cookies-ready"``); ``...``
            stands for any number of states. The path has to end where they end.
        session: Which session, or its id; may be left out where the trace has only one.

    Raises:
        AssertionError: It took another path. The text shows both side by side, with the step that led to each state,
            its status and time, and the steps that failed in between; ``>`` marks the first difference.
        TypeError: What should be a state is neither a `State` nor a text nor ``...``.
        ValueError: There is no such state, it is not said which of several sessions is meant, or an event of a session
            is none: a key that says what happened is missing, or is no text.
    """
    expected = [_spelled(state) for state in states]
    if not expected:
        raise ValueError("name at least one state")
    log = _chosen(_logs(trace), session)
    taken = log.reached[1:] if expected[0] not in {_NEW, _ANY} else log.reached
    rows, agrees = _laid([each.state for each in taken], expected)
    if not agrees:
        raise AssertionError(_told(log, taken, rows))


def _spelled(state: object) -> str:
    if isinstance(state, EllipsisType):
        return _ANY
    name = state.value if isinstance(state, State) else state
    if not isinstance(name, str):
        raise TypeError(f"a state is a State, its spelling in traces, or ...; {name!r} is none")
    if name in _NAMES:
        return name
    near = difflib.get_close_matches(name.lower().replace("_", "-"), _NAMES, n=2)
    meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(_NAMES)}"
    raise ValueError(f"there is no state {name!r}; {meant}")


# -- what was traced --------------------------------------------------------------------------------------------------


@dataclass
class _Reached:
    """A state, how it was reached, and which steps failed while the session stood there."""

    state: str
    how: str = ""
    failed: list[str] = field(default_factory=list[str])


@dataclass
class _Log:
    """What one session did."""

    session: str
    reached: list[_Reached] = field(default_factory=lambda: [_Reached(_NEW)])
    closed: bool = False

    def note(self, event: TraceEvent) -> None:
        """Take over an event of this session."""
        keys = event.keys
        if event.event == "session.transition.completed":
            status = keys.get("http_status", "")
            dest, trigger = _text(event, "dest"), _text(event, "trigger")
            self.reached.append(_Reached(dest, f"{trigger:<16} {status!s:>3} {_time(keys)}"))
        elif event.event == "session.transition.failed":
            code = f" ({keys['error_code']})" if keys.get("error_code") else ""
            status = f", HTTP {keys['http_status']}" if keys.get("http_status") else ""
            why = f"{keys.get('error', 'an error')}{code}{status}"
            self.reached[-1].failed.append(f"{_text(event, 'trigger')} failed after {_time(keys).strip()}: {why}")
        self.closed = self.closed or event.event == "session.closed"


def _text(event: TraceEvent, key: str) -> str:
    """Return what an event cannot do without: a test must not pass because a step of it could not be read."""
    found: object = event.keys.get(key)
    if not isinstance(found, str):
        raise ValueError(f"{event.event} at {event.at:g} is no event of a session: its {key!r} is {found!r}")  # noqa: TRY004  (of the data, not of the call)
    return found


def _time(keys: dict[str, object]) -> str:
    told = keys.get("elapsed_s")
    seconds = told if isinstance(told, int | float) else 0.0
    return f"{seconds * 1000:8.1f} ms" if seconds < 1 else f"{seconds:8.3f} s"


def _logs(trace: Traced) -> dict[str, _Log]:
    events = read_trace(trace) if isinstance(trace, (str, os.PathLike)) else trace
    logs: dict[str, _Log] = {}
    for event in events:
        if event.event.startswith("session.") and event.keys.get("session") is not None:
            name = _text(event, "session")
            logs.setdefault(name, _Log(name)).note(event)
    return logs


def _chosen(logs: dict[str, _Log], session: Session | str | None) -> _Log:
    if session is not None:
        name = session if isinstance(session, str) else session.id
        if name not in logs:
            raise AssertionError(f"session {name} left no trace; {_listed(logs.values())}")
        return logs[name]
    if len(logs) > 1:
        raise ValueError(f"the trace has several sessions, say which by session=...; {_listed(logs.values())}")
    if not logs:
        raise AssertionError("no session left a trace: none was begun, or it was not traced")
    return next(iter(logs.values()))


def _listed(logs: Iterable[_Log]) -> str:
    lines = [f"\n    {log.session}  {' > '.join(each.state for each in log.reached)}" for log in logs]
    return f"there are:{''.join(lines)}" if lines else "there is no other"


# -- laying what was expected over what was taken ---------------------------------------------------------------------

_Place: TypeAlias = tuple[int, int]
"""So many states of the path, so many of what was expected."""


def _laid(taken: Sequence[str], expected: Sequence[str]) -> tuple[list[tuple[str, int | None]], bool]:
    """Return the rows (what was expected, the number of the state taken) and whether they agree to the end."""
    came_from = _reachable(taken, expected)
    end = (len(taken), len(expected))
    place = end if end in came_from else _furthest(came_from, len(taken), expected)
    rows = list(_agreed(came_from, place))
    rest = zip_longest(expected[place[1] :], range(place[0], len(taken)))
    return [*rows, *((name or _NO_MORE, number) for name, number in rest)], place == end


def _reachable(taken: Sequence[str], expected: Sequence[str]) -> dict[_Place, _Place | None]:
    """Return every place to which both agree, with the one before it."""
    came_from: dict[_Place, _Place | None] = {(0, 0): None}
    todo = deque(came_from)
    while todo:
        place = todo.popleft()
        for after in _after(place, taken, expected):
            if after not in came_from:
                came_from[after] = place
                todo.append(after)
    return came_from


def _after(place: _Place, taken: Sequence[str], expected: Sequence[str]) -> Iterator[_Place]:
    at, want = place
    if want == len(expected):
        return
    if expected[want] == _ANY:
        yield at, want + 1
        if at < len(taken):
            yield at + 1, want
    elif at < len(taken) and expected[want] == taken[at]:
        yield at + 1, want + 1


def _furthest(places: Iterable[_Place], taken: int, expected: Sequence[str]) -> _Place:
    """Return the place behind which the paths part: as much as possible of what was expected lies before it."""
    want = max(place[1] for place in places)
    ats = [at for at, each in places if each == want]
    missing = sum(name != _ANY for name in expected[want:])
    return max((at for at in ats if at <= taken - missing), default=min(ats)), want


def _agreed(came_from: dict[_Place, _Place | None], place: _Place) -> Iterator[tuple[str, int | None]]:
    """Yield the rows up to a place: an empty text stands for what ``...`` has swallowed."""
    way = [place]
    while (before := came_from[way[-1]]) is not None:
        way.append(before)
    way.reverse()
    swallowed = False
    for (at, want), (at_after, want_after) in pairwise(way):
        if want_after == want:
            yield ("" if swallowed else _ANY), at
            swallowed = True
        elif at_after == at:
            if not swallowed:
                yield _ANY, None
            swallowed = False
        else:
            yield "=", at


# -- the text ---------------------------------------------------------------------------------------------------------


def _told(log: _Log, taken: Sequence[_Reached], rows: Sequence[tuple[str, int | None]]) -> str:
    marked = next(number for number, (name, at) in enumerate(rows) if _differ(name, at, taken))
    lines = [f"session {log.session} took another path than expected", "", f"    {'expected':<18}  taken"]
    skipped = log.reached[: len(log.reached) - len(taken)]
    lines += [f"    {'':<18}    {text}" for each in skipped for text in each.failed]
    end = "(no more)" if log.closed else "(no more: the session is still open)"
    for number, (name, at) in enumerate(rows):
        mark = ">" if number == marked else " "
        reached = None if at is None else taken[at]
        shown = reached.state if name == "=" and reached is not None else name
        text = f"{reached.state:<18}  {reached.how}" if reached is not None else "" if name == _ANY else end
        lines.append(f"  {mark} {shown:<18}  {text}".rstrip())
        lines += [f"    {'':<18}    {text}" for text in (reached.failed if reached is not None else ())]
    return "\n".join(lines)


def _differ(name: str, at: int | None, taken: Sequence[_Reached]) -> bool:
    if name in {"=", "", _ANY}:
        return False
    return at is None or taken[at].state != name
