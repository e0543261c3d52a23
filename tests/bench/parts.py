"""The parts of the benchmark, in order, for a whole run and for a quick one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.bench import first_token, held, imports, lived, measure, parked
from tests.bench.figures import Outcome
from tests.bench.shapes import SHAPES

ROUNDS = 9
_QUICK_ROUNDS = 3
_SESSIONS = 20
_QUICK_SESSIONS = 5


@dataclass(frozen=True, slots=True)
class Part:
    """
    Something that can be measured by itself.

    Attributes:
        name: What ``--only`` looks into.
        run: Measures it.
    """

    name: str
    run: Callable[[], Awaitable[Sequence[Outcome]]]


def whole(rounds: int | None) -> list[Part]:
    """Return the parts of a whole run, of so many rounds where time allows."""
    count = rounds or ROUNDS
    return [
        *(Part(shape.name, partial(measure.measure, shape, count)) for shape in SHAPES),
        *_parked(parked.FULL, count),
        Part(lived.NAME, partial(lived.measure, lived.FULL)),
        Part(first_token.NAME, partial(first_token.measure, count, _SESSIONS)),
        *_others(count),
    ]


def quick(rounds: int | None) -> list[Part]:
    """Return the same with less work: to see that all works, and big changes."""
    count = rounds or _QUICK_ROUNDS
    return [
        *(Part(shape.name, partial(measure.measure, shape.shortened(), count)) for shape in SHAPES),
        *_parked(parked.QUICK, count),
        Part(lived.NAME, partial(lived.measure, lived.QUICK)),
        Part(first_token.NAME, partial(first_token.measure, count, _QUICK_SESSIONS)),
        *_others(count),
    ]


def _parked(plans: Sequence[parked.Plan], count: int) -> list[Part]:
    return [Part(parked.name_of(plan.at_once), partial(parked.measure, plan, count)) for plan in plans]


def _others(count: int) -> list[Part]:
    return [
        *(Part(name, partial(held.measure, name, count)) for name in held.SCRIPTS),
        Part(imports.NAME, lambda: asyncio.to_thread(imports.measure, count)),
    ]
