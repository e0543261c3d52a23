"""Which sessions of a trace are shown.

Rules that live here:

* Names are patterns, as of files: ``http-5*``. Case does not count.
* *Since* is when a session was last heard of: one that began earlier and failed after it is shown.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from chatlease._clock import Clock
from chatlease._lifecycle import State
from chatlease._traces import UNKNOWN, SessionTrace, Status
from chatlease.errors import UsageError

_AGO = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>s|min|m|h|d)")
_STATES = tuple(dict.fromkeys((*(each.value for each in State), UNKNOWN, *get_args(Status))))
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    What a session must be to be shown; what is left out does not matter.

    Attributes:
        state: Its state, or what became of it: open, deleted, left, swept.
        error: Class or code of one of its errors.
        account: Whose.
        service: Where.
        slow: It lived, or lives, at least so many seconds.
        leaked: Its chat is left.
        since: It was heard of since then, in seconds since the epoch.
    """

    state: str | None = None
    error: str | None = None
    account: str | None = None
    service: str | None = None
    slow: float | None = None
    leaked: bool = False
    since: float | None = None

    def __post_init__(self) -> None:
        """
        Refuse what no session can be.

        Raises:
            UsageError: ``slow`` is no duration, or there is no such state.
        """
        if self.slow is not None and not 0 <= self.slow < math.inf:
            raise UsageError(f"--slow is a number of seconds, 0 or more, not {self.slow:g}")
        state = _matcher(self.state)
        if state is not None and not any(state(word) for word in _STATES):
            raise UsageError(f"there is no state {self.state!r}", hint=_near(self.state or ""))

    def test(self) -> Callable[[SessionTrace], bool]:
        """Return what says whether a session is shown; it asks only what was given."""
        tests = self._tests()
        return lambda session: all(each(session) for each in tests)

    def _tests(self) -> list[Callable[[SessionTrace], bool]]:
        tests: list[Callable[[SessionTrace], bool]] = []
        if self.leaked:
            tests.append(lambda session: session.leaked)
        if (since := self.since) is not None:
            tests.append(lambda session: last_heard(session) >= since)
        if (slow := self.slow) is not None:
            tests.append(lambda session: session.elapsed_s >= slow)
        if (service := _matcher(self.service)) is not None:
            tests.append(lambda session: service(session.service))
        if (account := _matcher(self.account)) is not None:
            tests.append(lambda session: account(session.account))
        if (state := _matcher(self.state)) is not None:
            tests.append(lambda session: state(session.state) or state(session.status))
        if (error := _matcher(self.error)) is not None:
            tests.append(lambda session: any(error(each.error) or error(each.error_code) for each in session.errors))
        return tests


def last_heard(session: SessionTrace) -> float:
    """Return when a session was last heard of, by itself or by a sweep."""
    return session.last_at if session.swept is None else max(session.last_at, session.swept.at)


def _near(state: str) -> str:
    near = difflib.get_close_matches(state.lower(), _STATES)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(_STATES)}."


def _matcher(pattern: str | None) -> Callable[[str], bool] | None:
    if pattern is None:
        return None
    match = re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
    return lambda name: match(name) is not None


def moment_of(when: str | None, clock: Clock) -> float | None:
    """
    Return the time that a person means: ``2h`` is two hours ago, else an ISO time, by the local clock unless it says.

    Raises:
        UsageError: It is none.
    """
    if when is None:
        return None
    ago = _AGO.fullmatch(when)
    if ago is not None:
        return clock.wall() - float(ago["number"]) * _SECONDS[ago["unit"]]
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise UsageError(
            f"{when!r} is no time",
            hint="Write 90s, 15min, 2h or 3d for so long ago, or 2026-01-31T12:00 (add Z for UTC).",
        ) from None
    try:
        return moment.astimezone().timestamp()
    except (ValueError, OverflowError, OSError):  # at the ends of the calendar, where no local clock tells the time
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
