"""What a worker process does until it is killed: sessions, several at once, and a sweeper, as a bot has them.

The engine, the adapter and the ledger are the real ones, over real HTTP and a file that all workers of a fleet share.
What the harness must know beyond the service's journal goes into the worker's trace file, which survives the kill: the
engine's own trace, and the harness's lines, ``crash.failpoint`` and ``crash.unexpected``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Literal

import aiohttp
import msgspec

from chatlease import Credential, Engine, PostgresLedger, SqliteLedger, Swept, TraceEvent, TraceFile
from chatlease.adapter import Adapter
from chatlease.errors import ChatleaseError, LeaseLost, LedgerUnavailable
from chatlease.ledger import Ledger
from chatlease.testing import failpoints
from chatlease_adapters.langgraph import LangGraph
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import SESSION_COOKIE
from tests.crash import mutants
from tests.crash.oracle import OWNER, SWEEPER
from tests.crash.schedule import Life
from tests.crash.terms import ACTOR, DEADLINES, FINAL_SWEEP_S, HORIZON_S, KEEP_S, LEASE_S, SWEEP, Service

_LONGEST_S = 7200
_armed = contextlib.ExitStack()
_LONG_PROMPT = "word " * 200


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the workers of one fleet share.

    Attributes:
        service: Which one it is.
        url: Of the service.
        dialect: How they speak to Open-Assistant.
        on_disconnect: What they tell LangGraph to do with the runs of the dead.
        ledger: Path of the file, or address of the schema.
        liveness: How they know of each other's death, on a file.
        accounts: Names and tokens. The last one is the unlucky one.
    """

    service: Service = "open-assistant"
    url: str
    dialect: Literal["website", "server"]
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    ledger: str
    liveness: Literal["flock", "lease"]
    accounts: dict[str, str]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """
    A life, and everything else that its process is told.

    Attributes:
        life: See `Life`.
        fleet: See `Fleet`.
        trace: Path of its trace file.
        mutant: Which rule it breaks; empty for none.
    """

    life: Life
    fleet: Fleet
    trace: str
    mutant: str = ""


class Unlimited(OpenAssistant):
    """Open-Assistant without its limit of 20 answers in 11 minutes, which no crash test has time for."""

    capabilities = dataclasses.replace(OpenAssistant.capabilities, rate_budget=None)


def live(job: Job) -> int:
    """Live this life; returns the exit code where nobody kills it."""
    signal.alarm(_LONGEST_S)  # whatever becomes of the harness
    mutants.apply(job.mutant)
    trace = TraceFile(job.trace, level=logging.DEBUG)
    if job.life.failpoint:
        _arm(job.life, trace)
    try:
        asyncio.run(_Worker(job, trace).run())
    except BaseException:  # noqa: BLE001  (whatever ends a worker that nobody killed)
        _tell(trace, "crash.unexpected", where="worker", traceback=traceback.format_exc())
        return 1
    return 0


def _arm(life: Life, trace: TraceFile) -> None:
    left = life.hit

    def reached() -> None:
        nonlocal left
        left -= 1
        if not left:
            _tell(trace, "crash.failpoint", failpoint=life.failpoint, monotonic=time.monotonic())
            os.kill(os.getpid(), signal.SIGKILL)

    _armed.enter_context(failpoints.at(life.failpoint, reached))


def _tell(trace: TraceFile, event: str, **keys: object) -> None:
    trace(TraceEvent(event, time.time(), keys))
    trace.flush()  # what comes next may be a kill


class _Worker:
    def __init__(self, job: Job, trace: TraceFile) -> None:
        self._life, self._fleet, self._trace = job.life, job.fleet, trace
        self._rng = random.Random(job.life.seed)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        signing = aiohttp.TraceConfig()
        signing.on_request_start.append(self._sign)
        async with aiohttp.ClientSession(trace_configs=[signing]) as http:
            while not await self._lived(http):
                _tell(self._trace, "crash.unavailable")

    async def _lived(self, http: aiohttp.ClientSession) -> bool:
        """
        Open the engine and live; False when the ledger cannot be opened now, and a bot would be started again.

        That happens: a worker that is stopped in the middle of a transaction keeps all others from writing.
        """
        engine = self._engine(http)
        try:
            await engine.__aenter__()
        except LedgerUnavailable:
            return False
        async with contextlib.aclosing(engine):
            await getattr(self, f"_{self._life.kind}")(engine)
        return True

    def _engine(self, http: aiohttp.ClientSession) -> Engine:
        return Engine(
            self._adapter(http),
            ledger=self._ledger(),
            sweep=SWEEP,
            deadlines=DEADLINES,
            credentials=lambda _service, account: self._credential(account),
            hooks=[self._trace],
        )

    def _ledger(self) -> Ledger:
        fleet, horizon = self._fleet, HORIZON_S[self._fleet.service]
        if fleet.ledger.startswith("postgresql:"):
            return PostgresLedger(fleet.ledger, lease=LEASE_S, horizon=horizon, keep=KEEP_S)
        return SqliteLedger(fleet.ledger, lease=LEASE_S, horizon=horizon, keep=KEEP_S, liveness=fleet.liveness)

    def _adapter(self, http: aiohttp.ClientSession) -> Adapter:
        fleet = self._fleet
        if self._asks_langgraph:
            return LangGraph(fleet.url, on_disconnect=fleet.on_disconnect, session=http)
        return Unlimited(fleet.url, dialect=fleet.dialect, session=http)

    @property
    def _asks_langgraph(self) -> bool:
        return self._fleet.service == "langgraph"

    async def _sign(
        self, _http: aiohttp.ClientSession, _context: object, request: aiohttp.TraceRequestStartParams
    ) -> None:
        """Say who acts: the engine's sweeps run in tasks of that name."""
        task = asyncio.current_task()
        sweeps = task is not None and task.get_name().startswith("chatlease sweep")
        request.headers[ACTOR] = f"{self._life.name}/{SWEEPER if sweeps else OWNER}"

    def _credential(self, account: str) -> Credential:
        token = self._fleet.accounts[account]
        if self._asks_langgraph:
            return Credential(headers={"x-api-key": token})
        if self._fleet.dialect == "server":
            return Credential(headers={"Authorization": f"Bearer {token}"})
        return Credential(cookies={SESSION_COOKIE: token})

    def _account(self) -> str:
        """Choose an account: some of them are used by many workers at once, others by few."""
        names = list(self._fleet.accounts)
        if self._life.taste == "unlucky":
            return names[-1]
        return names[int(self._rng.random() ** 2 * len(names))]

    # -- kinds of lives -----------------------------------------------------------------------------------------------

    async def _sessions(self, engine: Engine) -> None:
        await asyncio.gather(*(self._again(engine, self._session) for _ in range(6)))

    async def _steady(self, engine: Engine) -> None:
        """Long sessions, longer than a lease, and besides them many that wait for the reply to their create."""
        long = [self._again(engine, self._long) for _ in range(3)]
        await asyncio.gather(*long, *(self._again(engine, self._create) for _ in range(4)))

    async def _stopped(self, engine: Engine) -> None:
        """Long sessions, in the middle of which the process is stopped; they end by themselves."""
        ends = asyncio.get_running_loop().call_later(3.0, self._stop.set)
        await asyncio.gather(*(self._again(engine, self._long) for _ in range(4)))
        ends.cancel()

    async def _sweeper(self, engine: Engine) -> None:
        await self._stop.wait()

    async def _final(self, engine: Engine) -> None:
        """Sweep until nothing is open; what is open then is told."""
        ends = time.monotonic() + FINAL_SWEEP_S
        while (swept := await self._swept(engine)).open and time.monotonic() < ends:  # noqa: ASYNC110  (no news of it)
            await asyncio.sleep(0.25)
        _tell(self._trace, "crash.final", open=swept.open, undeleted=swept.undeleted)

    async def _swept(self, engine: Engine) -> Swept:
        while True:
            try:
                return await asyncio.create_task(engine.sweep(), name="chatlease sweep, the final one")
            except LedgerUnavailable:
                _tell(self._trace, "crash.unavailable")

    async def _again(self, engine: Engine, session: Callable[[Engine], Awaitable[None]]) -> None:
        """Have sessions of this sort, one after the other, until told to stop."""
        while not self._stop.is_set():
            try:
                await session(engine)
            except ChatleaseError as error:
                if isinstance(error, LeaseLost):
                    _tell(self._trace, "crash.lease_lost")
                await asyncio.sleep(0.02)
            except Exception:
                _tell(self._trace, "crash.unexpected", where=self._life.kind, traceback=traceback.format_exc())
                raise

    # -- kinds of sessions --------------------------------------------------------------------------------------------

    async def _session(self, engine: Engine) -> None:
        kinds = (self._whole, self._cancelled, self._abandoned, self._turns, self._create)
        weights = {"cancel": (1, 8, 1, 1, 1), "abandon": (1, 1, 8, 1, 1)}.get(self._life.taste, (6, 2, 1, 2, 2))
        await self._rng.choices(kinds, weights)[0](engine)

    async def _whole(self, engine: Engine) -> None:
        await engine.ask("one two three", account=self._account()).text()

    async def _cancelled(self, engine: Engine) -> None:
        prompt, patience_s = ("crawl 60", 2.0) if self._asks_langgraph else ("one two three four", 0.2)
        task = asyncio.ensure_future(engine.ask(prompt, account=self._account()).text())
        await asyncio.wait({task}, timeout=self._rng.uniform(0.0, patience_s))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _abandoned(self, engine: Engine) -> None:
        async with engine.session(account=self._account(), prompt="never sent") as session:
            await session.step()

    async def _create(self, engine: Engine) -> None:
        async with engine.session(account=self._account()) as session:
            await session.ready_cookies()
            await session.create_chat()
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))

    async def _turns(self, engine: Engine) -> None:
        async with engine.session(account=self._account()) as session:
            await session.ask("one two").text()
            await asyncio.sleep(0.05)
            await session.ask("three").text()

    async def _long(self, engine: Engine) -> None:
        """Use a chat for longer than a lease: an answer of some seconds, a silence of some seconds, another answer."""
        async with engine.session(account=self._account()) as session:
            await session.ask(_LONG_PROMPT[: 5 * self._rng.randint(20, 200)]).text()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._rng.uniform(0.5, 1.2) * LEASE_S)
            await session.ask("still there").text()
