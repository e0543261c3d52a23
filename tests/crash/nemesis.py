"""
What happens to a server, and to the ways to it, while workers are killed.

Rules that live here:

* Every fleet has a way of its own to a schema of its own. Now and then something happens to one of them, or to all: a
  connection ends, nothing comes through for a while, nobody can connect for a while, the server ends every session, or
  crashes (``-m immediate``) and is started again; that only to a server of our own.
* Nothing lasts as long as a lease: workers that are not stopped may go on. One that was hit too hard, twice in a row on
  a busy machine, loses its lease all the same, and must say so.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager

from tests import postgres
from tests.crash.schedule import FLEETS
from tests.crash.terms import LEASE_S
from tests.cuttable import Cuttable, cuttable

_EVERY_S = (1.0, 4.0)
_LASTS_S = (0.05, LEASE_S / 5)


class Nemesis:
    """
    The ways to a server, and what happens to them.

    Args:
        server: The server's address.
        ways: One for each fleet.
        own: The server, if it is our own.

    Attributes:
        ledgers: Each fleet's address.
        done: How often each thing happened.
    """

    def __init__(self, server: str, ways: list[Cuttable], own: postgres.Cluster | None) -> None:
        self.ledgers = [way.url for way in ways]
        self.done: Counter[str] = Counter()
        self._server = server
        self._ways = ways
        self._own = own

    async def torment(self, seed: int) -> None:
        """Let things happen, until cancelled."""
        rng = random.Random(f"nemesis {seed}")
        kinds: dict[str, Callable[[random.Random], Awaitable[None]]] = {
            "snap": self._snap,
            "cut": self._cut,
            "stall": self._stall,
            "terminate": self._terminate,
        }
        if self._own is not None:
            kinds["crash"] = self._crash
        while True:
            await asyncio.sleep(rng.uniform(*_EVERY_S))
            name = rng.choice([*kinds])
            happening = asyncio.ensure_future(kinds[name](rng))
            self.done[name] += 1
            try:
                await asyncio.shield(happening)
            except asyncio.CancelledError:
                await happening  # a server that was stopped is started, a way that was cut is mended
                raise

    async def _snap(self, rng: random.Random) -> None:
        await asyncio.to_thread(rng.choice(self._ways).snap)

    async def _cut(self, rng: random.Random) -> None:
        way = rng.choice(self._ways)
        await asyncio.to_thread(way.cut)
        await asyncio.sleep(rng.uniform(*_LASTS_S))
        await asyncio.to_thread(way.mend)

    async def _stall(self, rng: random.Random) -> None:
        way = rng.choice(self._ways)
        await asyncio.to_thread(way.stall)
        await asyncio.sleep(rng.uniform(*_LASTS_S))
        await asyncio.to_thread(way.mend)

    async def _terminate(self, _rng: random.Random) -> None:
        ends = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        await asyncio.to_thread(postgres.ask, self._server, ends)

    async def _crash(self, _rng: random.Random) -> None:
        assert self._own is not None
        await asyncio.to_thread(self._own.stop, at_once=True)
        await asyncio.to_thread(self._own.start)


@contextmanager
def nemesis() -> Generator[Nemesis]:
    """Start a server, or take the one that is named, with a way and a schema for every fleet."""
    with ExitStack() as stack:
        own = None if postgres.NAMED else stack.enter_context(postgres.cluster())
        server = postgres.NAMED if own is None else own.url
        schemas = [stack.enter_context(postgres.schema(server)) for _ in range(FLEETS)]
        yield Nemesis(server, [stack.enter_context(cuttable(each)) for each in schemas], own)
