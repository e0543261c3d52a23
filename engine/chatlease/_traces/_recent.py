"""What a trace says of the last minutes: how often things happened, and which errors.

Rules that live here:

* Time is the trace's own: the last minute is the one before its last line. A clock that goes back by more than is kept
  begins anew.
* What is kept is bounded: a count a second, and `KINDS` kinds of errors.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from chatlease._lifecycle import Trigger

from ._lines import Line

RATES_S = 60
"""How far back rates go."""

ERRORS_S = 300
"""How far back errors go."""

KINDS = 200
"""So many kinds of errors are told apart in a second; more of them are ``other``."""

_NAMES: Mapping[str, str] = {
    "session.opened": "opened",
    "session.closed": "ended",
    "session.call.retried": "retried",
    "session.run.requeued": "requeued",
    "session.gate.waiting": "waited",
    "session.cleanup.handed_over": "left",
    "sweep.chat.deleted": "swept",
    "sweep.entry.absent": "swept",
}
_OTHER = ("other", "", "")

Kind: TypeAlias = tuple[str, str, str]
"""Class of an error, its code, and the step or event that it was in."""
_T = TypeVar("_T")


class _Second:
    __slots__ = ("at", "counts", "errors")

    def __init__(self, at: int) -> None:
        self.at = at
        self.counts: Counter[str] = Counter()
        self.errors: Counter[Kind] = Counter()


class Recent:
    """What happened lately."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque()

    def feed(self, line: Line) -> None:
        """Take a line in."""
        second = self._second(int(line.at))
        name = _NAMES.get(line.event)
        if name is not None:
            second.counts[name] += 1
        if line.event == "session.stream.ended":
            second.counts["tokens"] += line.token_count or 0
        if (line.error is not None or line.error_code is not None) and not _is_told(line):
            kind = (line.error or "", line.error_code or "", line.trigger or line.event)
            second.errors[kind if len(second.errors) < KINDS or kind in second.errors else _OTHER] += 1

    def rates(self, now: float) -> Mapping[str, int]:
        """Return how often things happened in the last `RATES_S` seconds before some time, by name."""
        return _sum(each.counts for each in self._seconds if now - RATES_S < each.at <= now)

    def errors(self, now: float) -> Mapping[Kind, int]:
        """Return how often which errors happened in the last `ERRORS_S` seconds before some time."""
        return _sum(each.errors for each in self._seconds if now - ERRORS_S < each.at <= now)

    def _second(self, at: int) -> _Second:
        seconds = self._seconds
        if seconds and at < seconds[-1].at - ERRORS_S:
            seconds.clear()
        if not seconds or at > seconds[-1].at:
            seconds.append(_Second(at))
        while seconds[0].at <= seconds[-1].at - ERRORS_S:
            seconds.popleft()
        return seconds[-1]  # a line that comes a little late counts as one of the newest


def _is_told(line: Line) -> bool:
    """Say whether the error of a line was told by the one before: a deletion that is repeated is a step that failed."""
    return line.event == "session.call.retried" and line.trigger == Trigger.DELETE_CHAT.value


def _sum(counts: Iterable[Counter[_T]]) -> Counter[_T]:
    whole: Counter[_T] = Counter()
    for each in counts:
        whole.update(each)
    return whole
