"""What goes wrong at a made-up service on purpose, by step."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["before", "after", "drop", "page", "echo", "cut", "stall", "garble"]
"""
``before``, ``after``: refused as broken, without or with the effect; ``drop``: the effect, and no reply; ``page``: a
page instead; ``echo``: refused as invalid, in words that hold all that was sent; of a stream, ``cut``, ``stall``
and ``garble`` (a frame that is none).
"""


@dataclass(slots=True)
class _Programmed:
    step: str
    kind: Kind
    times: int | None
    probability: float


class Faults:
    """
    The faults of a service; of several for a step the first happens.

    Attributes:
        hits: How often each happened, by step and kind.
    """

    def __init__(self, seed: int = 0) -> None:
        self.hits: Counter[tuple[str, Kind]] = Counter()
        self._rng = random.Random(seed)
        self._programmed: list[_Programmed] = []

    def add(self, step: str, kind: Kind, *, times: int | None = 1, probability: float = 1.0) -> None:
        self._programmed.append(_Programmed(step, kind, times, probability))

    def clear(self) -> None:
        self._programmed.clear()

    def next(self, step: str) -> Kind | None:
        """Return what goes wrong with this call."""
        for each in self._programmed:
            if each.step == step and each.times != 0 and self._rng.random() < each.probability:
                each.times = None if each.times is None else each.times - 1
                self.hits[step, each.kind] += 1
                return each.kind
        return None
