"""
Many sessions in a row in one process: does the hundred-thousandth cost more than the thousandth, and what has grown?

Rules that live here, and hold for `lifetime`, which is that process:

* Each peer lives its life in a process of its own. Sixteen accounts ask again and again; the service has no rate limit
  here, see `ours.Unbudgeted`.
* The ledger on disk forgets what is settled after a second, so that its purging is part of what is measured.
* Cost is taken at some points of the life, while no other process lives: slices of sessions in turn with slices of the
  floor, one slice one round. What is compared is the ratio to the floor, for no machine stays the same for minutes.
* Growth is what `tracemalloc` counts between two points of the life. It makes everything three times as slow; so it is
  on only between the points at which cost is taken, and then all processes live at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

from tests.bench.figures import OVER_FLOOR, Measures, Outcome, Spread, cpu_measures
from tests.bench.lifetime import AT_ONCE, PEERS, Found, Plan
from tests.bench.peers import FLOOR

NAME = "sessions in a row in one process"
AXIS = "sessions lived"
LATER = "x as sooner"
"""Cost at the last point, in floors, over that at the first."""
GROWTH = "growth KiB"
LEDGER = "ledger KiB"
"""Size of the ledger's files at the last point."""

FULL = Plan(sooner=(1_000, 3_000, 6_000), traced_from=8_500, look_from=10_000, end=100_000)
QUICK = Plan(sooner=(300,), traced_from=800, look_from=900, end=1_400, slices=3)


def name_of(sessions: int) -> str:
    """Return the shape's name in the report."""
    return f"a process that has lived {sessions:,} sessions"


def growth_of(plan: Plan) -> str:
    """Return the name of what compares the points."""
    return f"from the {plan.sooner[0]:,}th session to the {plan.end:,}th"


async def measure(plan: Plan) -> list[Outcome]:
    """Have every peer live its life."""
    founds = await _lives(plan)
    return [*(_point(at, founds, plan) for at in (*plan.sooner, plan.end)), _comparison(founds, plan)]


def _point(at: int, founds: Mapping[str, Found], plan: Plan) -> Outcome:
    peers: dict[str, Measures] = {}
    raw: dict[str, Sequence[float]] = {}
    for name, found in founds.items():
        rounds = found.costs[at]
        peers[name] = cpu_measures(rounds, AT_ONCE * plan.turns)[name]
        raw |= {name: rounds[name], f"{FLOOR} beside {name}": rounds[FLOOR]}
    return Outcome(name_of(at), "session", peers, axis=AXIS, at=at, raw=raw)


def _comparison(founds: Mapping[str, Found], plan: Plan) -> Outcome:
    return Outcome(
        growth_of(plan),
        "session",
        {name: _compared(name, found, plan) for name, found in founds.items()},
        [f"growth: over the last {plan.end - plan.look_from:,} sessions, by tracemalloc"],
    )


def _compared(name: str, found: Found, plan: Plan) -> Measures:
    sooner, later = (
        cpu_measures(found.costs[at], AT_ONCE * plan.turns)[name][OVER_FLOOR] for at in (plan.sooner[0], plan.end)
    )
    measures = {
        LATER: Spread(later.median / sooner.median, later.low / sooner.median, later.high / sooner.median),
        GROWTH: Spread.sure((found.traced[1] - found.traced[0]) / 1024),
    }
    if found.ledger[1]:
        measures[LEDGER] = Spread.sure(found.ledger[1] / 1024)
    return measures


# ----------------------------------------------------------------------------------------------------- the processes


async def _lives(plan: Plan) -> dict[str, Found]:
    async with AsyncExitStack() as stack:
        lives = {name: await stack.enter_async_context(process(name, plan)) for name in PEERS}
        for life in lives.values():
            await goes_on(life)
        await asyncio.gather(*(goes_on(life) for life in lives.values()))
        return {name: Found.of_json(await goes_on(life)) for name, life in lives.items()}


@asynccontextmanager
async def process(name: str, plan: Plan) -> AsyncGenerator[Process]:
    """Have a peer's process, which lives when it is told to."""
    arguments = ("-m", "tests.bench.lifetime", name, json.dumps(asdict(plan)))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    if process.returncode:
        raise RuntimeError(f"{name}: the process ended with {process.returncode}")


async def goes_on(process: Process) -> bytes:
    """Have a process live through the next part of its life; returns what it then says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    said = await process.stdout.readline()
    if not said:
        raise RuntimeError("a process did not live to its end")
    return said
