"""Scenarios that between them reach every event: sessions, processes, sweeps and ledgers, in all the ways they go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import pytest

from chatlease import Deadlines, Engine, MemoryLedger, Session, SqliteLedger, State, Sweep, TraceEvent, TraceFile
from chatlease.adapter import AnswerStream, Call, Capabilities, Credential, RateBudget
from chatlease.errors import ChatleaseError, LedgerUnavailable, NotAuthenticated, Unavailable
from chatlease.events import Batch, Final, Pending, PluginStep, RunStatus
from chatlease.ledger import Entry, Turn
from chatlease.testing import HANG, FakeService, ManualClock
from chatlease.testing.fake_chats import FakeStream
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import running

from .ledger_kit import OwnHandle, opened, store_of, until
from .peers import HORIZON, LEASE, MARGIN, House, Process, apart, leave, own_gate
from .spoiled import faults

PROMPT = "one two"
OUT_OF_ORDER = Unavailable("out of order", status=503)
_KEYLESS = Capabilities(listing=True, deletion_during_run="harmful", runs_per_account=1)
_OWN_IDS = Capabilities(client_id=True, listing=True)


class Stage:
    """
    Where a scenario is played: a clock that jumps, a folder, and a trace file that gets every event.

    Attributes:
        clock: The clock.
        folder: For what else is on disk.
        file: The trace file.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock(autojump=True)
        self.folder = folder
        self.patch = patch
        folder.mkdir(exist_ok=True)
        self.path = folder / "trace.jsonl"
        self.file = TraceFile(self.path, level=logging.DEBUG)

    def engine(self, service: Any, **options: Any) -> Engine:
        """Return an engine that is traced."""
        given: dict[str, Any] = {"clock": self.clock, "hooks": [self.file]}
        return Engine(service, **(given | options))

    def service(self, **options: Any) -> FakeService:
        """Return a service by the stage's clock."""
        return FakeService(clock=self.clock, **options)


Scenario: TypeAlias = Callable[[Stage], Awaitable[None]]


async def ask(engine: Engine, **options: Any) -> str | None:
    """Have a whole session, whatever becomes of it."""
    answer = engine.ask(PROMPT, **options)
    try:
        return await answer.text()
    except ChatleaseError:
        return None
    finally:
        await answer.session.wait_closed()


async def queued(engine: Engine, **options: Any) -> Session:
    """Return a session whose answer is queued, and which nobody reads."""
    session = engine.session(prompt=PROMPT, **options)
    while session.state is not State.ASSISTANT_QUEUED:
        await session.step()
    return session


# -- sessions ---------------------------------------------------------------------------------------------------------


async def whole(stage: Stage) -> None:
    """Two at once on one account: one waits for the other's slot, and finds its login known."""
    async with stage.engine(stage.service(pending=3)) as engine:
        await asyncio.gather(ask(engine), ask(engine))


async def over_http(stage: Stage) -> None:
    """With a prompt that is refused, and a stream that breaks."""
    async with (
        running(answers="echo", token_interval=0) as site,
        Engine(OpenAssistant(url=site.url, cookies={"a": "b"}), hooks=[stage.file]) as engine,
    ):
        await ask(engine)
        site.faults.add("send_prompt", "500")
        site.faults.add("open_stream", "cut(1)")
        await ask(engine)
        await ask(engine)


async def spoiled(stage: Stage) -> None:
    """Every step fails in every way, and every stream."""
    for _, spoil in faults():
        service = stage.service(tokens=["one ", "two"])
        spoil(service)
        async with stage.engine(service) as engine:
            await ask(engine, credential=Credential(cookies={"a": "b"}))


async def closed_in_the_middle(stage: Stage) -> None:
    async with stage.engine(stage.service(answer_s=50)) as engine:
        for seconds in (0.0, 1.0):
            task = asyncio.create_task(ask(engine))
            await stage.clock.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(LookupError):
            async with engine.session(prompt=PROMPT) as session:
                await session.step()
                raise LookupError
        engine.session()


async def budget(stage: Stage) -> None:
    """The account's budget of answers is used up: one waits for the next window, another one not that long."""
    can = Capabilities(deletion_during_run="harmful", runs_per_account=1, rate_budget=RateBudget(1, 30.0))
    async with stage.engine(stage.service(capabilities=can)) as engine:
        for gate in (60.0, 60.0, 5.0):
            await ask(engine, account="bot", deadlines=Deadlines(gate=gate))
        holder = await queued(engine, account="other")
        await ask(engine, account="other", deadlines=Deadlines(gate=3.0))
        await holder.aclose()


class Odd(FakeService):
    """Cancels the first run, and refuses the third stream."""

    opened = 0

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self.opened += 1
        if self.opened == 1:
            self.chats[chat].runs[-1].status = RunStatus.CANCELLED
        return None if self.opened in {1, 3} else await super().open_stream(call, chat, run)


async def odd_answers(stage: Stage) -> None:
    service = Odd(clock=stage.clock)
    async with stage.engine(service) as engine:
        await ask(engine)
        service.fail("read_answer", Unavailable("out of order", status=502), OUT_OF_ORDER)
        await ask(engine)
        scripts: list[list[Batch]] = [
            [("three ",), (Final(PROMPT),)],
            [(Pending(2, 3),), (Pending(1, 3),), (PluginStep("hm", "look"),), ("one ", "two"), (Final(PROMPT),)],
            [(Final(PROMPT),)],
        ]
        for script in scripts:
            service._batches = script
            await ask(engine)


class Broken(FakeStream):
    """A stream that breaks, in a way that has a status."""

    async def read(self) -> Batch:
        raise OUT_OF_ORDER


class Breaking(FakeService):
    """Its streams break."""

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        await super().open_stream(call, chat, run)
        return Broken(self.clock, self.chats[chat].runs[-1])


async def broken_stream(stage: Stage) -> None:
    async with stage.engine(Breaking(clock=stage.clock)) as engine:
        await ask(engine)


async def stalled(stage: Stage) -> None:
    """Two answers of which nothing more comes: one of them is still going, the other cannot be looked at."""
    service = stage.service(batches=[("one ",), HANG], answer_s=1e6)
    async with stage.engine(service) as engine:
        await ask(engine)
        service.fail("read_answer", *[OUT_OF_ORDER] * 99)
        service._batches = []
        await ask(engine)


async def renewed_login(stage: Stage) -> None:
    service, logins = stage.service(), itertools.count()
    service.fail("create_chat", NotAuthenticated("no", status=401))

    def another(_service: str, _account: str) -> Credential:
        return Credential(cookies={"login": str(next(logins))})

    async with stage.engine(service, credentials=another) as engine:
        await ask(engine, account="bot")


async def left_behind(stage: Stage) -> None:
    """A chat that could not be deleted; with a hook that fails at it."""

    def broken(event: TraceEvent) -> None:
        if event.event == "session.cleanup.failed":
            raise ValueError

    service = stage.service()
    service.fail("delete_chat", *[OUT_OF_ORDER] * 999)
    async with stage.engine(service, hooks=[stage.file, broken]) as engine:
        await ask(engine)


async def full_disk(stage: Stage) -> None:
    """The trace's own disk is full for a while, and more is told than can be kept."""
    stage.patch.setattr("chatlease._trace_file._HELD", 1000)
    append = stage.file._files.append

    def fail(data: bytes, at: float) -> int:
        raise OSError(28, "no space left on device")

    async with stage.engine(stage.service()) as engine:
        stage.patch.setattr(stage.file._files, "append", fail)
        await ask(engine)
        stage.patch.setattr(stage.file._files, "append", append)
        await ask(engine)


# -- processes and ledgers --------------------------------------------------------------------------------------------


async def turns(stage: Stage) -> None:
    """Two processes with one account; then one whose ledger cannot tell whose turn it is."""
    stage.patch.setattr("chatlease._steps.gate_of", own_gate)

    class Failing(Process):
        async def take_turn(self, *_: Any, **__: Any) -> Turn:
            raise LedgerUnavailable("the disk is full")

    house = House(stage.clock)
    service = stage.service(batches=[(Pending(1, 1),), ("one ",), (Final(PROMPT),)], answer_s=1.0)
    async with (
        stage.engine(service, ledger=house.process()) as one,
        stage.engine(service, ledger=house.process()) as two,
        stage.engine(service, ledger=Failing(house)) as three,
    ):
        first = await apart("one", queued(one, account="bot"))
        waiting = asyncio.create_task(apart("two", ask(two, account="bot")))
        await stage.clock.sleep(1)
        await first.aclose()
        await waiting
        await apart("three", ask(three, account="bot"))


async def broken_ledger(stage: Stage) -> None:
    path = stage.folder / "ledger"
    async with opened(SqliteLedger(path)):
        pass
    path.write_bytes(b"this is no database at all, but long enough to be taken for one. " * 100)
    async with stage.engine(FakeService(), ledger=SqliteLedger(path), clock=None) as engine:  # disks take real time
        await ask(engine)
        await until(lambda: b"ledger.quarantined" in stage.path.read_bytes())


async def failing_ledger(stage: Stage) -> None:
    ledger = OwnHandle(stage.folder / "ledger")
    async with stage.engine(FakeService(), ledger=ledger, clock=None) as engine:
        store_of(ledger)._told_failing("disk-full")
        store_of(ledger)._told_recovered()
        await ask(engine)


async def lost_lease(stage: Stage) -> None:
    clock = ManualClock()
    ledger = OwnHandle(stage.folder / "ledger", clock=clock)
    service = FakeService(clock=clock)
    async with stage.engine(service, ledger=ledger, clock=clock) as engine:
        session = engine.session(prompt=PROMPT)
        await session.step()
        await session.step()
        await clock.advance(51.0)
        with pytest.raises(ChatleaseError):
            await session.step()
        store_of(ledger).pulse()
        await until(lambda: b"ledger.lease_lost" in stage.path.read_bytes())
        await session.wait_closed()


# -- sweeps -----------------------------------------------------------------------------------------------------------


async def swept(stage: Stage) -> None:
    """Chats of dead processes: deleted, not yet, at last given up; a login refused, and accepted again."""
    house, service = House(stage.clock), stage.service()
    await leave(house, service)
    await leave(house, service, create=False)
    service.fail("delete_chat", OUT_OF_ORDER)
    settings = Sweep(attempts=2)
    async with stage.engine(
        service, ledger=house.process(), sweep=settings, credentials={"bot": Credential()}
    ) as engine:
        await engine.sweep()
        await stage.clock.sleep(120)
        service.fail("delete_chat", *[OUT_OF_ORDER] * 2)
        await leave(house, service)
        await stage.clock.sleep(HORIZON + LEASE + MARGIN)
        service.logins = {}
        await leave(house, service)
        await engine.sweep()
        service.logins = None
        await stage.clock.sleep(3700)


async def lost_replies(stage: Stage) -> None:
    """Creates whose replies were lost: found and deleted, only reported, perhaps a living session's, never there."""
    settings: list[Sweep] = [Sweep(reconcile="delete"), Sweep(reconcile="report")]
    for sweep in settings:
        house, service = House(stage.clock), stage.service(capabilities=_KEYLESS)
        await leave(house, service, bind=False)
        await leave(house, service, create=False)
        await stage.clock.sleep(HORIZON + LEASE + MARGIN + 1)
        async with stage.engine(service, ledger=house.process(), sweep=sweep) as engine:
            await engine.sweep()
    house, service = House(stage.clock), stage.service(capabilities=_KEYLESS)
    living = Entry(id="living", service=service.service, origin=service.origin, account="bot")
    await house.process().intent(living)
    await leave(house, service, bind=False)
    await stage.clock.sleep(HORIZON + LEASE + MARGIN + 1)
    async with stage.engine(service, ledger=house.process(), sweep=None) as engine:
        await engine.sweep()


async def never_came(stage: Stage) -> None:
    """A create that never made its chat, whose id was ours to choose."""
    house, service = House(stage.clock), stage.service(capabilities=_OWN_IDS)
    process = house.process()
    entry = Entry(id="s-1", service=service.service, origin=service.origin, account="bot", chat="chat-of-ours")
    await process.intent(entry)
    process.kill()
    await stage.clock.sleep(HORIZON + LEASE + MARGIN + 1)
    async with stage.engine(service, ledger=house.process(), sweep=None) as engine:
        await engine.sweep()


async def failing_sweep(stage: Stage) -> None:
    class Failing(MemoryLedger):
        async def reap(self) -> int:
            raise LedgerUnavailable("the disk is full")

    async with stage.engine(stage.service(), ledger=Failing(stage.clock), sweep=Sweep()):
        await stage.clock.sleep(1)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            *(
                whole,
                over_http,
                spoiled,
                closed_in_the_middle,
                budget,
                odd_answers,
                broken_stream,
                stalled,
                renewed_login,
            ),
            left_behind,
            *(
                full_disk,
                turns,
                broken_ledger,
                failing_ledger,
                lost_lease,
                swept,
                lost_replies,
                never_came,
                failing_sweep,
            ),
        )
    }
)
