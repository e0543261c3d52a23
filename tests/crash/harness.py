"""One run: a service, two fleets of workers, the kills of a schedule, a final sweep, and the oracle's verdict."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.crash import traces
from tests.crash.nemesis import Nemesis
from tests.crash.nursery import Event
from tests.crash.oracle import Oracle
from tests.crash.processes import LangGraphServer, Nursery, Server
from tests.crash.schedule import FLEETS, Life, of_fleet, steady
from tests.crash.server import Planting, Setup
from tests.crash.terms import LATEST_S, STOP_S, SWEEP, Service
from tests.crash.verdict import Verdict
from tests.crash.worker import Fleet, Job

_SERVERS: dict[Service, type[Server | LangGraphServer]] = {
    "open-assistant": Server,
    "langgraph": LangGraphServer,
}
_AT_ONCE: dict[Service, int] = {"open-assistant": 5, "langgraph": 2}
"""Workers of a fleet besides the steady one and the stopped one."""
_LIVES_LONGER: dict[Service, float] = {"open-assistant": 1.0, "langgraph": 2.5}
"""By so much: LangGraph takes a run from its queue every half a second."""
_LIVES_LONGER_ON_A_SERVER = 2.0
"""By so much, again: it has to be connected to, and is away now and then."""
_LOOKS_S = 0.5
_PLANTS_S = 3.0
_STARTS_WITHIN_S = 20.0
_ACCOUNTS = (12, 48)
"""Of each fleet. Without lock files a dead worker keeps its account's turn for a lease, so that more are needed."""
_PLANTED_EMPTY = 3
_DATE_S = 1.5
"""What a ``Date`` header, in whole seconds, may be wrong by, and a little."""


class Run:
    """
    One run.

    Args:
        seed: Of everything.
        lives: Those that are killed, in this order.
        stops: Those that are stopped for longer than their lease.
        folder: For ledgers, traces and what the programs say.
        service: Which one is asked.
        nemesis: What happens to the server of the ledgers; without one they are files.
        mutant: A rule that all workers break.
        keep: Keep the traces.
        progress: Told how it goes, now and then.
        oracle: Reads the service's journal.

    Attributes:
        ended: How each worker ended, by its name.
    """

    def __init__(
        self,
        seed: int,
        lives: Sequence[Life],
        stops: Sequence[Life],
        folder: Path,
        *,
        service: Service = "open-assistant",
        nemesis: Nemesis | None = None,
        mutant: str = "",
        keep: bool = False,
        progress: Callable[[Verdict, Oracle], object] = lambda _verdict, _oracle: None,
        oracle: Oracle | None = None,
    ) -> None:
        self.ended: dict[str, Event] = {}
        self._seed = seed
        self._lives, self._stops = lives, stops
        self._folder = folder
        self._nemesis = nemesis
        self._mutant = mutant
        self._keep = keep
        self._progress = progress
        self._rng = random.Random(f"run {seed}")
        self._oracle = oracle or Oracle()
        self._service: Service = service
        self._verdict = Verdict(seed=seed, service=service, mutant=mutant)
        self._deaths: dict[str, float] = {}
        self._stopped: set[str] = set()
        self._told_loss: set[str] = set()
        self._planted: list[tuple[str, str]] = []
        self._fleets: list[Fleet] = []
        self._killed_last = 0.0
        self._server: Server
        self._nursery: Nursery

    async def verdict(self) -> Verdict:
        """Run, and judge."""
        began = time.monotonic()
        accounts = [_accounts(self._seed, fleet) for fleet in range(FLEETS)]
        setup = Setup(self._seed, [[*each.values()][-1] for each in accounts])
        with (self._folder / "errors.txt").open("wb") as errors:
            async with _SERVERS[self._service](setup, errors) as self._server, Nursery(errors) as self._nursery:
                self._fleets = [self._fleet(number, each) for number, each in enumerate(accounts)]
                await self._run()
        self._verdict.seconds = time.monotonic() - began
        return self._verdict

    async def _run(self) -> None:
        for fleet in self._fleets:
            for _ in range(_PLANTED_EMPTY):
                await self._plant(fleet, empty=True)
        await asyncio.sleep(SWEEP.skew + _DATE_S)  # an empty chat is nobody's only outside of every create's window
        async with self._watching():
            await self._run_fleets()
            await asyncio.sleep(max(0.0, self._killed_last + LATEST_S + 0.5 - time.monotonic()))
        await self._judge()

    async def _run_fleets(self) -> None:
        torment = None if self._nemesis is None else self._nemesis.torment(self._seed)
        async with _beside(torment), asyncio.TaskGroup() as group:
            for number in range(FLEETS):
                group.create_task(self._run_fleet(number))

    # -- one fleet ----------------------------------------------------------------------------------------------------

    def _fleet(self, number: int, accounts: dict[str, str]) -> Fleet:
        return Fleet(
            service=self._service,
            url=self._server.url,
            dialect="website" if number == self._seed % FLEETS else "server",  # each liveness meets both, by seed
            on_disconnect="cancel" if number == self._seed % FLEETS else "continue",
            ledger=self._ledger(number),
            liveness="flock" if number == 0 else "lease",
            accounts=accounts,
        )

    def _ledger(self, number: int) -> str:
        return str(self._folder / f"ledger{number}.sqlite3") if self._nemesis is None else self._nemesis.ledgers[number]

    async def _run_fleet(self, number: int) -> None:
        (constant,) = of_fleet(steady(self._seed), number)
        undisturbed = asyncio.create_task(self._live(constant))
        planting = asyncio.create_task(self._plant_all(number))
        lives = iter(of_fleet(self._lives, number))
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE[self._service]):
                group.create_task(self._live_all(lives))
            group.create_task(self._live_all(iter(of_fleet(self._stops, number))))
        planting.cancel()
        self._killed_last = began = time.monotonic()
        self._nursery.signal(constant.name, signal.SIGTERM)
        await self._live(Life(name=f"final{number}", fleet=number, kind="final", seed=""))
        await undisturbed
        self._verdict.final_s = max(self._verdict.final_s, time.monotonic() - began)

    async def _live_all(self, lives: Iterator[Life]) -> None:
        for life in lives:
            await self._live(life)

    async def _live(self, life: Life) -> None:
        """Let a worker live until it is killed, or ends by itself where it may."""
        trace = self._folder / f"{life.name}.jsonl"
        fleet = self._fleets[life.fleet]
        end = self._nursery.start(Job(life=life, fleet=fleet, trace=str(trace), mutant=self._mutant))
        if life.kind == "stopped":
            await self._stop(life, end)
        elif life.seconds:
            await self._kill(life, end)
        self._ended(life, await end, traces.read(trace))
        if not self._keep:
            trace.unlink(missing_ok=True)

    async def _kill(self, life: Life, end: asyncio.Future[Event]) -> None:
        longer = _LIVES_LONGER[self._service] * (1.0 if self._nemesis is None else _LIVES_LONGER_ON_A_SERVER)
        await asyncio.wait({end}, timeout=life.seconds * longer)
        if not end.done():
            self._deaths[life.name] = time.monotonic()
            self._nursery.signal(life.name, signal.SIGKILL)

    async def _stop(self, life: Life, end: asyncio.Future[Event]) -> None:
        """Stop a worker that has chats for longer than its lease, and let it go on."""
        rng = random.Random(life.seed)
        ends = time.monotonic() + _STARTS_WITHIN_S
        while not self._oracle.creates[life.name] and not end.done() and time.monotonic() < ends:
            await asyncio.wait({end}, timeout=_LOOKS_S / 5)
        await asyncio.wait({end}, timeout=rng.uniform(0.0, 1.0))
        self._stopped.add(life.name)
        self._nursery.signal(life.name, signal.SIGSTOP)
        await asyncio.wait({end}, timeout=rng.uniform(*STOP_S))
        self._nursery.signal(life.name, signal.SIGCONT)

    def _ended(self, life: Life, event: Event, told: traces.Told) -> None:
        verdict = self._verdict
        self.ended[life.name] = event
        self._deaths.setdefault(life.name, told.died_at or event.at)
        verdict.events.update(told.events)
        verdict.unexpected += told.unexpected
        killed = event.code == -signal.SIGKILL
        verdict.kills += killed
        if told.failpoint:
            verdict.failpoints[told.failpoint] += 1
        if bool(life.seconds) is not killed and not told.unexpected:
            verdict.unexpected.append(f"{life.name} ended with {event.code}")
        if told.events["ledger.lease_lost"]:
            self._told_loss.add(life.name)
        if told.final is not None:
            verdict.unfinished += told.final[0]
            verdict.undeleted += told.final[1]

    # -- chats of another program -------------------------------------------------------------------------------------

    async def _plant_all(self, number: int) -> None:
        """Have another program use the same accounts, at any time: its chats are not empty."""
        while True:
            await self._plant(self._fleets[number], empty=False)
            await asyncio.sleep(_PLANTS_S)

    async def _plant(self, fleet: Fleet, *, empty: bool) -> None:
        token = self._rng.choice([*fleet.accounts.values()])
        self._planted.append((token, await self._server.plant(Planting(token, empty=empty))))

    # -- the verdict --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _watching(self) -> AsyncGenerator[None]:
        async with _beside(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOKS_S)
            self._oracle.take(await self._server.journal())
            self._progress(self._verdict, self._oracle)

    async def _judge(self) -> None:
        verdict = self._verdict
        self._oracle.take(await self._server.journal())
        counts = await self._server.counts()
        present = [await self._server.has_chat(token, chat) for token, chat in self._planted]
        verdict.foreign_lost = present.count(False)
        verdict.left = int(counts["chats"]) - present.count(True)
        verdict.messages_lost = int(counts["lost_messages"])
        verdict.running = int(counts.get("running", 0))
        verdict.latest_create_s = float(counts.get("latest_create_s", 0.0))
        verdict.counts = self._oracle.counts
        verdict.counts["steady"] = sum(self._oracle.creates[life.name] for life in steady(self._seed))
        verdict.hurt, verdict.allowed = self._oracle.judge(self._deaths, self._stopped | self._told_loss)
        verdict.stopped = len(self._stopped)
        verdict.faults = Counter() if self._nemesis is None else self._nemesis.done
        verdict.lost_leases = len(self._stopped & self._told_loss)
        verdict.paused = len(self._told_loss - self._stopped)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None] | None) -> AsyncGenerator[None]:
    """Do something else during the block."""
    task = None if work is None else asyncio.create_task(work)
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _accounts(seed: int, fleet: int) -> dict[str, str]:
    return {f"bot-{number}": f"{seed}-{fleet}-{number}" for number in range(_ACCOUNTS[fleet])}
