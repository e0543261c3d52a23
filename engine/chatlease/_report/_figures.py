"""Figures over all sessions of a trace, those too that the page does not hold: percentiles and errors, bounded in size.

Rules that live here:

* A percentile is within one per cent of the true one: durations are counted in steps of two per cent. The longest one
  is exact.
* Of kinds of errors and of steps only so many are kept apart; the rest are counted together as ``others``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from chatlease._traces import SessionTrace

from ._document import ErrorRow, LatencyRow, word
from ._phases import FIRST_TOKEN, TURN

WHOLE = "session"
"""The name under which whole sessions are timed."""

_GROWTH = math.log(1.02)
_SHORTEST_S = 1e-6
_MOST_NAMES = 50
_MOST_ERRORS = 300
_OTHERS = "others"


class Histogram:
    """Counts durations, so that their percentiles are known without keeping them."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.count += 1
        self.longest = max(self.longest, seconds)
        self._steps[round(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S) / _GROWTH)] += 1

    def percentile(self, share: float) -> float:
        """
        Return the duration that so many did not exceed.

        Args:
            share: 0 to 1; by nearest rank.
        """
        left = max(1, math.ceil(share * self.count))
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left <= 0:
                return min(self.longest, _SHORTEST_S * math.exp(step * _GROWTH))
        return self.longest


class Figures:
    """Takes sessions, one by one, as they end."""

    def __init__(self) -> None:
        self._durations: dict[str, Histogram] = {}
        self._errors: Counter[tuple[str, str, str]] = Counter()
        self._last: dict[tuple[str, str, str], float] = {}

    def add(self, session: SessionTrace) -> None:
        """Take a session."""
        for name, seconds in _durations(session):
            self._histogram(name).add(seconds)
        for each in session.errors:
            self._count((each.error, each.error_code, each.trigger), each.at)

    def latency(self) -> list[LatencyRow]:
        """Return the percentiles by name, in the order in which the names came."""
        return [
            LatencyRow(
                word(name), each.count, each.percentile(0.5), each.percentile(0.9), each.percentile(0.99), each.longest
            )
            for name, each in self._durations.items()
        ]

    def errors(self) -> list[ErrorRow]:
        """Return the errors by kind, the most frequent first."""
        return [
            ErrorRow(kind[0], kind[1], word(kind[2]), count, self._last[kind])
            for kind, count in self._errors.most_common()
        ]

    def _histogram(self, name: str) -> Histogram:
        if name not in self._durations and len(self._durations) >= _MOST_NAMES:
            name = _OTHERS
        return self._durations.setdefault(name, Histogram())

    def _count(self, kind: tuple[str, str, str], at: float) -> None:
        if kind not in self._errors and len(self._errors) >= _MOST_ERRORS:
            kind = (_OTHERS, "", "")
        self._errors[kind] += 1
        self._last[kind] = max(at, self._last.get(kind, 0.0))


def _durations(session: SessionTrace) -> Iterator[tuple[str, float]]:
    for step in session.steps:
        if step.dest is not None:
            yield step.trigger, step.elapsed_s
    if session.gate_wait_s:
        yield TURN, session.gate_wait_s
    if session.first_token_s is not None:
        yield FIRST_TOKEN, session.first_token_s
    if session.closed_at is not None and session.begun:
        yield WHOLE, session.elapsed_s
