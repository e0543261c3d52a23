"""Who is killed where or when: the whole schedule comes from one seed, and the same seed gives the same schedule.

What happens between the kills is up to the operating system, so a seed repeats what the harness does, not every
interleaving of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from chatlease.testing.failpoints import NAMES

Kind = Literal["sessions", "steady", "stopped", "sweeper", "final"]
Taste = Literal["any", "cancel", "abandon", "unlucky"]

FLEETS = 2
"""Side by side, each with a ledger, a liveness and accounts of its own."""
_TASTES: dict[str, Taste] = {"stop_run": "cancel", "abandon": "abandon", "hand_over": "unlucky"}


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """
    One worker process, as the schedule has it.

    Attributes:
        name: Unique in a run.
        fleet: Number of its fleet.
        kind: What it does: sessions until it is killed; long ones that nobody may touch (``steady``); long ones in a
            process that is stopped (``stopped``); only sweeping; only the final sweep.
        seed: Of its own choices.
        taste: Which sessions it prefers: those that reach the rarer steps.
        failpoint: Where it kills itself; empty for nowhere.
        hit: At which passing of it.
        seconds: After which it is killed from outside, wherever it is.
    """

    name: str
    fleet: int
    kind: Kind
    seed: str
    taste: Taste = "any"
    failpoint: str = ""
    hit: int = 1
    seconds: float = 0.0


def at_failpoints(seed: int, kills: int) -> list[Life]:
    """Return lives that end at named failpoints: each about equally often, in random order."""
    rng = random.Random(f"failpoints {seed}")
    names = [NAMES[number % len(NAMES)] for number in range(kills)]
    rng.shuffle(names)
    return [_at_failpoint(seed, number, name, rng) for number, name in enumerate(names)]


def at_random(seed: int, kills: int) -> list[Life]:
    """Return lives that end at random moments."""
    rng = random.Random(f"random {seed}")
    return [
        Life(
            name=f"r{number}",
            fleet=number % FLEETS,
            kind="sessions",
            seed=f"{seed} r{number}",
            taste="any" if rng.random() < 0.8 else "cancel",
            seconds=rng.uniform(0.1, 0.9),
        )
        for number in range(kills)
    ]


def mixed(seed: int, kills: int) -> list[Life]:
    """Return lives of both sorts, one in five at a failpoint."""
    lives = [*at_failpoints(seed, kills // 5), *at_random(seed, kills - kills // 5)]
    random.Random(f"order {seed}").shuffle(lives)
    return lives


def stops(seed: int, kills: int) -> list[Life]:
    """Return the lives that are stopped for longer than their lease while so many others are killed."""
    number = max(FLEETS, kills // 100)
    return [
        Life(name=f"s{each}", fleet=each % FLEETS, kind="stopped", seed=f"{seed} s{each}") for each in range(number)
    ]


def steady(seed: int) -> list[Life]:
    """Return the lives that nobody may disturb, one a fleet."""
    return [
        Life(name=f"steady{each}", fleet=each, kind="steady", seed=f"{seed} steady{each}") for each in range(FLEETS)
    ]


def of_fleet(lives: Sequence[Life], fleet: int) -> list[Life]:
    """Return the lives of one fleet, in their order."""
    return [life for life in lives if life.fleet == fleet]


def _without_kill(seed: int, name: str, fleet: int, kind: Kind) -> Life:
    return Life(name=name, fleet=fleet, kind=kind, seed=f"{seed} {name}")


def _at_failpoint(seed: int, number: int, name: str, rng: random.Random) -> Life:
    step = name.partition(".")[0]
    sweeping = step == "sweep"
    # Without lock files a death is only seen by those who live longer than a lease: sweepers die more often with them.
    fleet = 0 if sweeping and rng.random() < 0.75 else number % FLEETS
    return Life(
        name=f"f{number}",
        fleet=fleet,
        kind="sweeper" if sweeping else "sessions",
        seed=f"{seed} f{number}",
        taste=_TASTES.get(step, "any"),
        failpoint=name,
        hit=rng.choice((1, 1, 2, 3)) if step not in {"hand_over", "sweep"} else 1,
        seconds=10.0 if sweeping else 6.0,
    )
