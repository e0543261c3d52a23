"""
Many sessions at once, all in the middle of their answers: what each costs, in CPU time and in memory.

Rules that live here:

* A session is parked when its first tokens have come, and a task waits for the next one; the service sends no more
  until all are parked. At most a hundred are on their way there, else their calls would wait for one another.
* CPU time is that of the whole session, from its beginning to the deletion of its chat, beside the floor's.
* Memory is what `tracemalloc` counts between before the first session and when all are parked, in a pass of its own,
  because counting costs time. A session's own memory is what is more than the floor's. Beside it stands what was
  allocated in which package, by the innermost Python frame.
* A size for which the system allows too few open files is left out, and that is said.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from tests.bench import descriptors, ours, plain
from tests.bench.figures import Measures, Outcome, Rounds, Spread, cpu_measures
from tests.bench.measure import TAIL_S, turned
from tests.bench.peers import DEFAULT, FLOOR, NONE, Opened, Peer, Peers
from tests.bench.server import Script
from tests.bench.serving import Server, serving

AXIS = "sessions at once"
MEMORY = "KiB"
OWN = "own KiB"
_PACKAGES = {"chatlease": "chatlease", "chatlease_adapters": "chatlease", "aiohttp": "aiohttp", "asyncio": "asyncio"}
_SCRIPT = Script(tokens=16, per_write=2, park_after=2)
_OPENING = 100
_SETTLE_S = 0.1
_WARM_UP = 20

PEERS: Peers = {FLOOR: plain.floor, NONE: ours.patient(ledger=None), DEFAULT: ours.patient()}


def name_of(at_once: int) -> str:
    """Return the shape's name in the report."""
    return f"parked sessions, {at_once:,} at once"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How a size is measured.

    Attributes:
        at_once: Sessions.
        rounds: Of CPU time, at most.
        memory: Whether to count the memory, too.
        sessions: So many in a round, at least, a few at once again and again.
    """

    at_once: int
    rounds: int
    memory: bool = True
    sessions: int = 200


FULL = (Plan(1, 5, memory=False), Plan(100, 5), Plan(1_000, 3), Plan(10_000, 1, memory=False))
QUICK = (Plan(1, 1, memory=False), Plan(100, 2))


async def measure(plan: Plan, rounds: int) -> list[Outcome]:
    """Measure one size, in at most so many rounds."""
    name = name_of(plan.at_once)
    if not descriptors.allow(plan.at_once):
        return [Outcome(name, "session", {}, [f"left out: the system does not allow {plan.at_once:,} open files"])]
    times = max(1, plan.sessions // plan.at_once)
    seconds = await _cpu(plan.at_once, times, min(rounds, plan.rounds))
    peers = cpu_measures(seconds, plan.at_once * times)
    notes = [f"{len(seconds[FLOOR])} rounds"]
    if plan.memory:
        notes.append(await _add_memory(peers, plan.at_once))
    return [Outcome(name, "session", peers, notes, AXIS, plan.at_once, seconds)]


# ----------------------------------------------------------------------------------------------------------- CPU time


async def _cpu(at_once: int, times: int, rounds: int) -> Rounds:
    seconds: dict[str, list[float]] = {name: [] for name in PEERS}
    for number in range(rounds):
        for name in turned(list(PEERS), number):
            seconds[name].append(await _cpu_of(PEERS[name], at_once, times))
    return seconds


async def _cpu_of(peer: Peer, at_once: int, times: int) -> float:
    # A service for each peer and round: connections that were closed a moment ago keep their ports for a while.
    async with serving(_SCRIPT) as server, peer(server.url) as opened:
        await _park(opened, server, "warm", _WARM_UP).whole()
        gc.collect()
        before = time.process_time()
        for number in range(times):
            await _park(opened, server, f"{number}", at_once).whole()
        await asyncio.sleep(TAIL_S)
        used = time.process_time() - before
        await server.check()
    return used


# ------------------------------------------------------------------------------------------------------------- memory


async def _add_memory(peers: dict[str, Measures], at_once: int) -> str:
    """Add what each peer needs; returns a note on what was allocated where."""
    where: list[str] = []
    for name, peer in PEERS.items():
        total, by_package = await _memory_of(peer, at_once)
        peers[name][MEMORY] = Spread.sure(total / 1024)
        parts = ", ".join(f"{package} {size / 1024:.1f}" for package, size in by_package.most_common())
        where.append(f"{name}: {parts}")
    for measures in peers.values():
        measures[OWN] = Spread.sure(measures[MEMORY].median - peers[FLOOR][MEMORY].median)
    return f"KiB a session by package: {'; '.join(where)}"


async def _memory_of(peer: Peer, at_once: int) -> tuple[float, Counter[str]]:
    """Return the bytes of a parked session, in all and by package."""
    async with serving(_SCRIPT) as server, peer(server.url) as opened:
        await _park(opened, server, "warm", _WARM_UP).whole()
        gc.collect()
        tracemalloc.start(1)
        try:
            park = _park(opened, server, "parked", at_once)
            await park.fill()
            await asyncio.sleep(_SETTLE_S)
            gc.collect()
            total, _ = tracemalloc.get_traced_memory()
            statistics = tracemalloc.take_snapshot().statistics("filename")
        finally:
            tracemalloc.stop()
        await park.empty()
        await server.check()
    return total / at_once, _by_package(statistics, at_once)


def _by_package(statistics: Sequence[tracemalloc.Statistic], at_once: int) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for statistic in statistics:
        sizes[_package(statistic.traceback[0].filename)] += statistic.size
    return Counter({package: size // at_once for package, size in sizes.items()})


def _package(filename: str) -> str:
    for part in PurePath(filename).parts:
        if part in _PACKAGES:
            return _PACKAGES[part]
    return "others"


# ------------------------------------------------------------------------------------------------------------ sessions


class Park:
    """
    Sessions that are begun together, stand together, and end together.

    Args:
        peer: Who holds them.
        server: Where.
        accounts: Of each session, its account.
        script: What the server answers.
    """

    def __init__(self, peer: Opened, server: Server, accounts: Sequence[str], script: Script) -> None:
        self._ask = peer.ask
        self._server = server
        self._accounts = accounts
        self._script = script
        self._opening = asyncio.Semaphore(_OPENING)
        self._left = len(accounts)
        self._full = asyncio.Event()
        self._tasks: list[asyncio.Task[int]] = []

    async def whole(self) -> None:
        """Begin all, park them, and have them end."""
        await self.fill()
        await self.empty()

    async def fill(self) -> None:
        """Begin all, and wait until all are parked."""
        self._tasks = [asyncio.create_task(self._session(account)) for account in self._accounts]
        full = asyncio.create_task(self._full.wait())
        await asyncio.wait({full, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                full.cancel()
                raise RuntimeError("a session ended before all were parked") from task.exception()

    async def empty(self) -> None:
        """Let all go on, to the deletion of their chats."""
        self._server.release()
        counts = await asyncio.gather(*self._tasks)
        if set(counts) != {self._script.tokens}:
            raise RuntimeError(f"sessions got {min(counts)} to {max(counts)} tokens of {self._script.tokens}")

    async def _session(self, account: str) -> int:
        count = 0
        await self._opening.acquire()
        async for _token in self._ask(account):
            count += 1
            if count == self._script.park_after:
                self._note_parked()
        return count

    def _note_parked(self) -> None:
        self._opening.release()
        self._left -= 1
        if not self._left:
            self._full.set()


def _park(peer: Opened, server: Server, name: str, at_once: int) -> Park:
    return Park(peer, server, [f"{name}-{each}" for each in range(at_once)], _SCRIPT)
