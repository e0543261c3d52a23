"""
What Chatlease aims at, as data, and what came of it.

Rules that live here:

* A target is met by its median. What was not measured in this run is no verdict, neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench import first_token, held, imports, lived, parked
from tests.bench.figures import ADDS, OVER_FLOOR, OVER_SEEDS, SHARE, Outcome, Spread
from tests.bench.peers import DEFAULT, NONE, TRACED
from tests.bench.shapes import MANY_A_WRITE, ONE_A_WRITE, ONE_ACCOUNT, SHORT_16, SHORT_100


@dataclass(frozen=True, slots=True)
class Target:
    """
    At most so much.

    Attributes:
        shape: Name of the outcome.
        peer: Of whom.
        measure: Of what.
        limit: The most that it may be, in the measure's unit.
    """

    shape: str
    peer: str
    measure: str
    limit: float

    def found(self, outcomes: Mapping[str, Outcome]) -> Spread | None:
        """Return what was measured; ``None`` where nothing was."""
        outcome = outcomes.get(self.shape)
        return None if outcome is None else outcome.peers.get(self.peer, {}).get(self.measure)


_LIVED = lived.growth_of(lived.FULL)

TARGETS: Sequence[Target] = (
    Target(SHORT_16, NONE, OVER_FLOOR, 1.05),
    Target(SHORT_16, DEFAULT, OVER_FLOOR, 1.15),
    Target(SHORT_16, DEFAULT, OVER_SEEDS, 0.65),
    Target(SHORT_16, TRACED, SHARE, 0.15),
    Target(ONE_ACCOUNT, NONE, OVER_FLOOR, 1.05),
    Target(ONE_ACCOUNT, DEFAULT, OVER_FLOOR, 1.15),
    Target(ONE_ACCOUNT, DEFAULT, OVER_SEEDS, 0.65),
    Target(SHORT_100, DEFAULT, ADDS, 0.15),
    Target(ONE_A_WRITE, NONE, OVER_FLOOR, 1.0),
    Target(ONE_A_WRITE, DEFAULT, OVER_FLOOR, 1.0),
    Target(MANY_A_WRITE, NONE, OVER_FLOOR, 1.0),
    Target(MANY_A_WRITE, DEFAULT, OVER_FLOOR, 1.0),
    Target(parked.name_of(1_000), NONE, parked.OWN, 8.0),
    Target(parked.name_of(1_000), DEFAULT, parked.OWN, 8.0),
    Target(_LIVED, NONE, lived.LATER, 1.05),
    Target(_LIVED, DEFAULT, lived.LATER, 1.05),
    Target(_LIVED, NONE, lived.GROWTH, 256.0),
    Target(_LIVED, DEFAULT, lived.GROWTH, 256.0),
    Target(first_token.NAME, NONE, OVER_FLOOR, 1.05),
    Target(first_token.NAME, DEFAULT, OVER_FLOOR, 1.05),
    Target(held.FLOOD, NONE, held.LONGEST, 10.0),
    Target(held.FLOOD, DEFAULT, held.LONGEST, 10.0),
    Target(imports.NAME, imports.PLAIN, imports.OVER_AIOHTTP, 0.30),
    Target(imports.NAME, imports.WITH_CLI, imports.OVER_AIOHTTP, 0.50),
)


def verdict(target: Target, found: Spread | None) -> str:
    """Return ``met``, ``missed by`` how much, or ``not measured``."""
    if found is None:
        return "not measured"
    return "met" if found.median <= target.limit else f"missed by {found.median - target.limit:.2f}"
