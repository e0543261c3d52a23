"""
The benchmark's arithmetic: from numbers per round to medians with quartiles, and what a shape came to.

Rules that live here:

* A ratio is taken within a round, so that a machine that grows slower hurts all peers alike; then come the median of
  the rounds, and the quartiles around it.
* Nothing is thrown away: what is written down has the numbers of every round, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias

from tests.bench.peers import FLOOR, LOGGED, NONE, SEEDS, TRACED

Rounds: TypeAlias = Mapping[str, Sequence[float]]
"""By peer, one number per round; the same rounds for all."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the quartiles below and above it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return that of some values, at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    @classmethod
    def sure(cls, value: float) -> Self:
        """Return that of a number that was measured once, because it does not vary."""
        return cls(value, value, value)


Measures: TypeAlias = dict[str, Spread]
"""By the name of what was measured."""

# What is measured, by the headings of the report.
CPU = "CPU us"
OVER_FLOOR = "x floor"
OVER_SEEDS = "x seeds"
ADDS = "adds, x floor"
"""What a ledger or a trace adds to Chatlease without either, in floors."""
SHARE = "adds, share"
"""What a trace adds, of Chatlease without a ledger and a trace."""
BUSY = "busy"
"""CPU time over the time that it took; low where a peer had to wait, for the service or for the machine."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a shape came to.

    Attributes:
        name: Of the shape.
        per: What the microseconds are divided by.
        peers: By peer, what was measured.
        notes: What else must be said.
        axis: The diagram in which this is a point, if any.
        at: Where on that axis.
        raw: By peer, the numbers of the rounds.
    """

    name: str
    per: str
    peers: Mapping[str, Measures]
    notes: Sequence[str] = ()
    axis: str = ""
    at: float = 0.0
    raw: Rounds = field(default_factory=dict[str, Sequence[float]])


def over(rounds: Rounds, peer: str, base: str) -> Spread:
    """Return the ratio of two peers."""
    return Spread.of([mine / its for mine, its in zip(rounds[peer], rounds[base], strict=True)])


def added(rounds: Rounds, peer: str, less: str, base: str) -> Spread:
    """Return by how many times ``base`` a peer needs more than ``less``."""
    values = zip(rounds[peer], rounds[less], rounds[base], strict=True)
    return Spread.of([(mine - without) / its for mine, without, its in values])


def cpu_measures(rounds: Rounds, units: int) -> dict[str, Measures]:
    """
    Return what CPU times come to.

    Args:
        rounds: CPU seconds; the floor among the peers.
        units: Sessions or tokens in a round.
    """
    return {peer: _of_peer(rounds, peer, units) for peer in rounds}


def _of_peer(rounds: Rounds, peer: str, units: int) -> Measures:
    measures = {CPU: Spread.of([seconds / units * 1e6 for seconds in rounds[peer]])}
    measures[OVER_FLOOR] = over(rounds, peer, FLOOR)
    if SEEDS in rounds:
        measures[OVER_SEEDS] = over(rounds, peer, SEEDS)
    if NONE in rounds and peer not in {FLOOR, SEEDS, NONE}:
        measures[ADDS] = added(rounds, peer, NONE, FLOOR)
    if NONE in rounds and peer in {LOGGED, TRACED}:
        measures[SHARE] = added(rounds, peer, NONE, NONE)
    return measures
