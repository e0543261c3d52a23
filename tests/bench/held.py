"""
For how long a flood of tokens keeps everything else on the event loop waiting.

Rules that live here:

* While an answer comes as fast as it can be read, and is read by a loop that awaits nothing else, a second task wants
  to run every millisecond, and notes how late it is.
* What counts is the longest time of all rounds. CPU time of the loop's thread is what the flood took; the wall clock
  also has what the machine gave to other programs meanwhile, and stands beside it.
* The final event repeats the whole answer, and one event is decoded in one piece. So the flood is one of short tokens,
  whose final event is small; what a final event of 10 MB does is shown beside it, without a target.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench import ours, plain
from tests.bench.figures import Measures, Outcome, Spread
from tests.bench.measure import opened, turned
from tests.bench.peers import DEFAULT, FLOOR, NONE, Ask, Peers
from tests.bench.server import Script
from tests.bench.serving import serving

FLOOD = "a flood of tokens holds the event loop"
LARGE = "a 10 MB answer holds the event loop"
LONGEST = "longest, ms"
TYPICAL = "in a round, ms"
WALL = "wall clock, ms"
PERIOD_S = 0.001

SCRIPTS = {
    FLOOD: Script(tokens=131_072, per_write=64),
    LARGE: Script(tokens=262_144, per_write=64, words=8),
}
PEERS: Peers = {FLOOR: plain.floor, NONE: ours.chatlease(ledger=None), DEFAULT: ours.chatlease()}


@dataclass(slots=True)
class Holds:
    """
    The longest times of the rounds, in seconds.

    Attributes:
        cpu: That the loop's thread worked in one piece.
        wall: That the second task was late.
    """

    cpu: list[float] = field(default_factory=list[float])
    wall: list[float] = field(default_factory=list[float])

    def measures(self) -> Measures:
        """Return them for the report."""
        return {
            LONGEST: Spread.sure(max(self.cpu) * 1000),
            TYPICAL: Spread.of([seconds * 1000 for seconds in self.cpu]),
            WALL: Spread.of([seconds * 1000 for seconds in self.wall]),
        }


async def measure(name: str, rounds: int, script: Script | None = None) -> list[Outcome]:
    """
    Measure.

    Args:
        name: Of one of the `SCRIPTS`.
        rounds: After one that warms up.
        script: Instead of that one.
    """
    script = script or SCRIPTS[name]
    holds = {peer: Holds() for peer in PEERS}
    async with serving(script) as server, opened(PEERS, server.url) as peers:
        for number in range(rounds + 1):
            for peer in turned(list(PEERS), number):
                cpu, wall = await _longest(peers[peer].ask, f"{peer}-{number}", script)
                if number:
                    holds[peer].cpu.append(cpu)
                    holds[peer].wall.append(wall)
        await server.check()
    found = {peer: its.measures() for peer, its in holds.items()}
    raw = {peer: its.cpu for peer, its in holds.items()}
    return [Outcome(name, "answer", found, [f"{rounds} rounds"], raw=raw)]


async def _longest(ask: Ask, account: str, script: Script) -> tuple[float, float]:
    with _frozen():
        ticks = Ticks()
        ticking = asyncio.create_task(ticks.run())
        count = 0
        async for _token in ask(account):
            count += 1
        ticking.cancel()
        await asyncio.wait({ticking})
    if count != script.tokens:
        raise RuntimeError(f"{account}: {count} tokens of {script.tokens}")
    return ticks.cpu, ticks.wall


class Ticks:
    """A task that wants to run every millisecond, and how long it was kept from it."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self.wall = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            cpu, wall = time.thread_time(), time.perf_counter()
            await asyncio.sleep(PERIOD_S)
            self.cpu = max(self.cpu, time.thread_time() - cpu)
            self.wall = max(self.wall, time.perf_counter() - wall - PERIOD_S)


@contextmanager
def _frozen() -> Generator[None]:
    """Hide what the benchmark has in memory from the garbage collector, which would stop the loop to look at it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
