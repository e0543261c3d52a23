"""
One peer's life, in a process of its own; see `lived` for the rules.

``python -m tests.bench.lifetime PEER PLAN`` (a `Plan`, as JSON) lives through the next part of its life, of three, for
every line on standard input, and then says so by a line; the last one is what it found, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import ours, plain
from tests.bench.measure import side_by_side
from tests.bench.peers import DEFAULT, FLOOR, NONE, Opened, Peer
from tests.bench.server import Script
from tests.bench.serving import serving

AT_ONCE = 16
SCRIPT = Script(tokens=16, per_write=16)
_PAUSE_S = 0.05
"""After each slice; what is left over even then is as much at the end of a life as at its beginning."""
_INTERNED = 200_000
_ACCOUNTS = [f"account-{each}" for each in range(AT_ONCE)]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    When what is measured, in sessions lived.

    Attributes:
        sooner: Where cost is taken before anything is traced.
        traced_from: Where `tracemalloc` begins to count: soon enough before the first look for what every session
            replaces to have been allocated while it counts.
        look_from: The first look at what it has counted.
        end: The last look, and then cost is taken once more.
        slices: How many slices of sessions are measured at a point.
        turns: Sessions of each account in a slice.
    """

    sooner: tuple[int, ...]
    traced_from: int
    look_from: int
    end: int
    slices: int = 16
    turns: int = 6


@dataclass(slots=True)
class Found:
    """
    What a life came to.

    Attributes:
        costs: By point, CPU seconds of the slices, of the peer and of the floor.
        traced: Bytes counted at the first look and at the last.
        ledger: Bytes of the ledger's files at the two.
    """

    costs: dict[int, dict[str, list[float]]] = field(default_factory=dict[int, dict[str, list[float]]])
    traced: list[int] = field(default_factory=list[int])
    ledger: list[int] = field(default_factory=list[int])

    @classmethod
    def of_json(cls, text: bytes) -> Found:
        """Read what `json` wrote: its keys are strings."""
        found = json.loads(text)
        return cls({int(at): rounds for at, rounds in found["costs"].items()}, found["traced"], found["ledger"])


def _forgetful(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.sqlite3'}?keep=1&lease=8"


PEERS: Mapping[str, Callable[[Path], Peer]] = {
    NONE: lambda _folder: ours.chatlease(ours.Unbudgeted, ledger=None),
    DEFAULT: lambda folder: ours.chatlease(ours.Unbudgeted, ledger=_forgetful(folder)),
}
"""Those who live, each made with a folder for its ledger."""


class Life:
    """
    Sessions of one peer, counted.

    Args:
        name: The peer's, in what is found.
        peer: It.
        floor: What its cost is compared with.
        folder: Where its ledger is.
        plan: Of the life.
    """

    def __init__(self, name: str, peer: Opened, floor: Opened, folder: Path, plan: Plan) -> None:
        self.found = Found()
        self._asks = {FLOOR: floor.ask, name: peer.ask}
        self._name = name
        self._folder = folder
        self._plan = plan
        self._lived = 0

    async def sooner(self) -> None:
        """Take cost at the first points."""
        for at in self._plan.sooner:
            await self._live_to(at)
            await self._take_cost(at)

    async def traced(self) -> None:
        """Live to the end, and look at what grows on the way."""
        await self._live_to(self._plan.traced_from)
        tracemalloc.start(1)
        try:
            renew_interned()
            for at in (self._plan.look_from, self._plan.end):
                await self._live_to(at)
                await self._look()
        finally:
            tracemalloc.stop()

    async def later(self) -> None:
        """Take cost at the end."""
        await self._take_cost(self._plan.end)

    async def _live_to(self, sessions: int) -> None:
        turns = -(-(sessions - self._lived) // AT_ONCE)
        if turns > 0:
            await self._live(self._name, turns)

    async def _look(self) -> None:
        await asyncio.sleep(_PAUSE_S)
        gc.collect()
        self.found.traced.append(tracemalloc.get_traced_memory()[0])
        self.found.ledger.append(sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file()))

    async def _take_cost(self, at: int) -> None:
        costs = self.found.costs[at] = {name: [] for name in self._asks}
        for number in range(self._plan.slices + 1):
            for name in sorted(self._asks, reverse=number % 2 == 1):
                used = await self._slice(name)
                if number:  # the first warms up
                    costs[name].append(used)

    async def _slice(self, name: str) -> float:
        gc.collect()
        before = time.process_time()
        await self._live(name, self._plan.turns)
        await asyncio.sleep(_PAUSE_S)
        return time.process_time() - before

    async def _live(self, name: str, turns: int) -> None:
        count, sessions = await side_by_side(self._asks[name], _ACCOUNTS, turns), AT_ONCE * turns
        if count != sessions * SCRIPT.tokens:
            raise RuntimeError(f"{name}: {count} tokens in {sessions} sessions")
        if name == self._name:
            self._lived += sessions


def renew_interned() -> None:
    """
    Have the interpreter allocate its table of interned strings anew.

    It does that whenever so many have come and gone as there is room for, two megabytes at a time. The old table was
    allocated before anything was traced, so the new one would pass for growth.
    """
    for number in range(_INTERNED):
        sys.intern(f"come and gone {number}")


@asynccontextmanager
async def life_of(name: str, plan: Plan) -> AsyncGenerator[Life]:
    """Have a peer ready to live, with a service and a floor of its own."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(serving(SCRIPT))
        floor = await stack.enter_async_context(plain.floor(server.url))
        peer = await stack.enter_async_context(PEERS[name](folder)(server.url))
        yield Life(name, peer, floor, folder, plan)
        await server.check()


async def main(name: str, plan: Plan) -> None:
    """Live as standard input says."""
    async with life_of(name, plan) as life:
        for part in (life.sooner, life.traced, life.later):
            if not await asyncio.to_thread(sys.stdin.readline):
                return
            await part()
            sys.stdout.write(f"{json.dumps(asdict(life.found))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Plan(**json.loads(sys.argv[2]))))
