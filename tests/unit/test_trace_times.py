"""What the lines of a trace say is so: times by the engine's clock, waits, tries, causes, and who did it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import pytest

from chatlease import Credential, Deadlines, Engine, MemoryLedger, Session, SqliteLedger, State, TraceEvent
from chatlease._step import error_keys
from chatlease.adapter import AnswerStream, Call, Capabilities, RateBudget
from chatlease.errors import Busy, LeaseLost, NotAuthenticated, RunFailed, ServiceError, StreamStalled, Unavailable
from chatlease.events import Batch, Failed, Final, Pending, PluginStep, RunStatus
from chatlease.ledger import Ledger
from chatlease.testing import HANG, CapturedTrace, FakeService, Fault, ManualClock, capture_trace

from .paced import PacedService
from .peers import House, Process, Watched

PROMPT = "one two"
OUT_OF_ORDER = Unavailable("out of order", status=503)


def one(trace: list[TraceEvent], name: str, **keys: object) -> dict[str, Any]:
    """The keys of the only event of that name, and with those keys."""
    [found] = [event.keys for event in trace if event.event == name and keys.items() <= event.keys.items()]
    return found


@asynccontextmanager
async def traced(service: FakeService, **options: Any) -> AsyncGenerator[tuple[Engine, CapturedTrace]]:
    given: dict[str, Any] = {"clock": service.clock}
    async with Engine(service, **(given | options)) as engine:
        with capture_trace(engine) as trace:
            yield engine, trace


async def queued(engine: Engine, **options: Any) -> Session:
    session = engine.session(prompt=PROMPT, **options)
    while session.state is not State.ASSISTANT_QUEUED:
        await session.step()
    return session


# -- engines ----------------------------------------------------------------------------------------------------------


async def test_an_engine_says_who_it_is_and_how_long_it_was_open(clock: ManualClock) -> None:
    async with Watched(FakeService(clock=clock), clock=clock) as engine:
        await clock.sleep(90)
    assert engine.told("engine.opened") == [
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": version("chatlease"),
            "ledger": "memory",
            "services": ["fake"],
        }
    ]
    assert engine.told("engine.closed") == [{"elapsed_s": 90.0}]
    assert re.fullmatch("[0-9a-f]{8}", engine.tracer.engine)


@pytest.mark.parametrize("ledger", ["sqlite", "memory", "none", "Process"])
async def test_an_engine_names_its_ledger(clock: ManualClock, tmp_path: Any, ledger: str) -> None:
    made: dict[str, Callable[[], Ledger | None]] = {
        "sqlite": lambda: SqliteLedger(tmp_path / "ledger"),
        "memory": MemoryLedger,
        "none": lambda: None,
        "Process": lambda: Process(House(clock)),
    }
    async with Watched(FakeService(), ledger=made[ledger]()) as engine:
        assert engine.told("engine.opened")[0]["ledger"] == ledger


async def test_no_two_engines_have_the_same_id(clock: ManualClock) -> None:
    engines = [Engine(FakeService(clock=clock), clock=clock) for _ in range(50)]
    assert len({engine.tracer.engine for engine in engines}) == 50


# -- the life of a session --------------------------------------------------------------------------------------------


async def test_a_session_says_how_long_it_lived_and_each_step_how_long_it_took(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    service.fail("create_chat", Fault(delay_s=2.0, when="after"))
    service.fail("delete_chat", Fault(delay_s=3.0, when="after"))
    async with traced(service) as (engine, trace), engine.session(prompt=PROMPT) as session:
        await clock.sleep(50)
        await session.step()
        await session.step()
        await clock.sleep(10)
    assert one(trace, "session.closed") | {"state": "deleted", "elapsed_s": 15.0} == one(trace, "session.closed")
    steps = {event.keys["trigger"]: event.keys["elapsed_s"] for event in trace if "dest" in event.keys}
    assert steps == {"ready_cookies": 0.0, "create_chat": 2.0, "delete_chat": 3.0}
    assert one(trace, "session.cleanup.completed")["elapsed_s"] == 3.0


async def test_a_session_that_never_made_a_step_is_opened_before_it_is_closed(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock)) as (engine, trace), engine.session():
        pass
    assert trace.names() == [
        "session.opened",
        "session.cleanup.started",
        "session.transition.started",
        "session.transition.completed",
        "session.closed",
        "session.cleanup.completed",
    ]


@pytest.mark.parametrize("cause", [LookupError, KeyboardInterrupt, asyncio.CancelledError, None])
async def test_a_cleanup_says_what_ended_the_block(clock: ManualClock, cause: type[BaseException] | None) -> None:
    async with traced(FakeService(clock=clock)) as (engine, trace):
        session = engine.session()
        with contextlib.suppress(LookupError, KeyboardInterrupt, asyncio.CancelledError):
            async with session:
                await session.ready_cookies()
                if cause is not None:
                    raise cause
        await session.wait_closed()
    assert one(trace, "session.cleanup.started").get("cause") == (None if cause is None else cause.__name__)


async def test_the_lines_of_a_session_say_whose_it_is_as_soon_as_that_is_known(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock)) as (engine, trace):
        answer = engine.ask(PROMPT)
        await answer.text()
    known = {event.event: event.keys for event in trace if event.keys.get("trigger") != "ready_cookies"}
    assert "account" not in known.pop("session.opened")
    assert {keys["account"] for keys in known.values()} == {answer.session.account}
    assert {keys.get("chat") for event, keys in known.items() if ".transition." not in event} == {"chat-1"}
    ready = one(trace, "session.transition.completed", trigger="ready_cookies")
    assert (ready["account"], ready.get("chat")) == (answer.session.account, None)


async def test_a_step_with_a_lost_lease_is_told_as_failed(clock: ManualClock) -> None:
    house = House(clock)
    async with traced(FakeService(clock=clock), ledger=house.process()) as (engine, trace):
        session = await queued(engine)
        assert session.hold is not None
        session.hold.lease.lose()
        with pytest.raises(LeaseLost):
            await session.open_stream()
        await session.aclose()
    assert one(trace, "session.transition.failed", trigger="open_stream")["error"] == "LeaseLost"


async def test_the_http_status_of_a_step_is_that_of_its_last_answer(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    service.fail("send_prompt", Unavailable("out of order", status=502))
    async with traced(service) as (engine, trace):
        with pytest.raises(Unavailable):
            await engine.ask(PROMPT).text()
    assert one(trace, "session.transition.completed", trigger="create_chat")["http_status"] == 200
    assert one(trace, "session.transition.failed", trigger="send_prompt")["http_status"] == 502
    assert "http_status" not in one(trace, "session.transition.completed", trigger="ready_cookies")


# -- the account's turn -----------------------------------------------------------------------------------------------


async def test_who_does_not_wait_for_the_turn_says_so(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock)) as (engine, trace):
        await engine.ask(PROMPT).text()
    assert one(trace, "session.gate.acquired")["waited_s"] == 0.0
    assert "session.gate.waiting" not in trace.names()
    assert "waited_s" not in one(trace, "session.transition.completed", trigger="queue_assistant")


async def test_who_waits_for_the_slot_says_how_long_with_the_step_too(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock, pending=3, answer_s=100)) as (engine, trace):
        holder = await queued(engine)
        waiting = asyncio.create_task(queued(engine))
        await clock.sleep(7)
        await holder.aclose()
        session = await waiting
        await session.aclose()
    mine = {"session": session.id}
    waited_s = one(trace, "session.gate.acquired", **mine)["waited_s"]
    assert one(trace, "session.gate.waiting", **mine)["waits_for"] == "slot"
    assert waited_s >= 7.0
    step = one(trace, "session.transition.completed", trigger="queue_assistant", **mine)
    assert (step["waited_s"], step["elapsed_s"]) == (waited_s, waited_s)


async def test_who_waits_in_vain_says_how_long(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock, pending=3, answer_s=1000)) as (engine, trace):
        holder = await queued(engine)
        with pytest.raises(Busy):
            await engine.ask(PROMPT, deadlines=Deadlines(gate=9.0)).text()
        await holder.aclose()
    failed = one(trace, "session.transition.failed", trigger="queue_assistant")
    assert (failed["waited_s"], failed["error"], failed["error_code"]) == (9.0, "Busy", "deadline-gate")


async def test_a_step_says_how_long_was_waited_to_whoever_only_hears_of_failures(clock: ManualClock) -> None:
    service, heard = FakeService(clock=clock, pending=3, answer_s=1000), list[TraceEvent]()

    class Failures:
        level = logging.WARNING

        def __call__(self, event: TraceEvent) -> None:
            heard.append(event)

    async with Engine(service, clock=clock, hooks=[Failures()]) as engine:
        holder = await queued(engine)
        waiting = asyncio.create_task(engine.ask(PROMPT).text())
        await clock.sleep(7)
        service.fail("queue_assistant", OUT_OF_ORDER)
        await holder.aclose()
        with pytest.raises(Unavailable):
            await waiting
    assert one(heard, "session.transition.failed", trigger="queue_assistant")["waited_s"] >= 7.0


async def test_who_waits_for_the_budget_says_so(clock: ManualClock) -> None:
    can = Capabilities(deletion_during_run="harmful", runs_per_account=1, rate_budget=RateBudget(1, 30.0))
    async with traced(FakeService(clock=clock, capabilities=can)) as (engine, trace):
        await engine.ask(PROMPT, account="bot").text()
        await clock.sleep(10)
        answer = engine.ask(PROMPT, account="bot")
        await answer.text()
    mine = {"session": answer.session.id}
    assert one(trace, "session.gate.waiting", **mine)["waits_for"] == "budget"
    assert one(trace, "session.gate.acquired", **mine)["waited_s"] == 20.0
    assert one(trace, "session.transition.completed", trigger="queue_assistant", **mine)["waited_s"] == 20.0


# -- the answer -------------------------------------------------------------------------------------------------------


def paced(clock: ManualClock, *batches: Batch, seconds: float = 1.0) -> PacedService:
    return PacedService(clock, list(batches), seconds)


async def test_the_first_token_says_how_long_it_was_waited_for_and_queued(clock: ManualClock) -> None:
    first = Pending(1, 1)
    service = paced(clock, (first,), (first,), (PluginStep("hm", "look"),), ("one ",), ("two",), (Final(PROMPT),))
    async with traced(service) as (engine, trace):
        await engine.ask(PROMPT).text()
    told = one(trace, "session.stream.first_token")
    assert (told["waited_s"], told["queued_s"]) == (4.0, 3.0)
    assert one(trace, "session.stream.ended")["elapsed_s"] == 6.0


async def test_an_answer_that_was_never_pending_was_not_queued(clock: ManualClock) -> None:
    async with traced(paced(clock, ("one ",), (Final(PROMPT),))) as (engine, trace):
        await engine.ask(PROMPT).text()
    told = one(trace, "session.stream.first_token")
    assert told["waited_s"] == 1.0
    assert "queued_s" not in told


async def test_a_slow_reader_is_in_the_time_of_the_answer_and_not_in_the_wait(clock: ManualClock) -> None:
    async with traced(paced(clock, ("one ",), ("two",), (Final(PROMPT),))) as (engine, trace):
        async for _ in engine.ask(PROMPT):
            await clock.sleep(20)
    assert one(trace, "session.stream.first_token")["waited_s"] == 1.0
    assert one(trace, "session.stream.ended")["elapsed_s"] == 43.0


async def test_an_answer_without_a_stream_has_a_first_token_too(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock, batches=[], answer_s=12)) as (engine, trace):
        await engine.ask(PROMPT, deadlines=Deadlines(poll=5)).text()
    assert one(trace, "session.stream.first_token")["waited_s"] == 15.0
    ended = one(trace, "session.stream.ended")
    assert (ended["polled"], ended["token_count"], ended["elapsed_s"]) == (True, 1, 15.0)


class CancelledOnce(PacedService):
    """Its first run is cancelled by somebody else, after a while."""

    opened = 0

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self.opened += 1
        if self.opened == 1:
            self.chats[chat].runs[-1].status = RunStatus.CANCELLED
            return None
        return await super().open_stream(call, chat, run)


async def test_after_a_requeue_the_wait_begins_anew(clock: ManualClock) -> None:
    service = CancelledOnce(clock, [(Pending(1, 1),), ("one ",), (Final(PROMPT),)], 1.0)
    async with traced(service) as (engine, trace):
        await engine.ask(PROMPT).text()
    assert one(trace, "session.run.requeued")["attempt"] == 1
    told = one(trace, "session.stream.first_token")
    assert (told["waited_s"], told["queued_s"]) == (2.0, 2.0)
    assert one(trace, "session.stream.ended")["elapsed_s"] == 3.0


class CancelledAtWork(PacedService):
    """Its first run waits in the queue, begins, and is then cancelled by somebody else."""

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        first = self.chats[chat].runs[-1]
        if len(self.chats[chat].runs) == 1:
            first.batches = deque([(Pending(1, 1),), (PluginStep("hm", "look"),)])
        stream = await super().open_stream(call, chat, run)
        if len(self.chats[chat].runs) == 1:
            first.status = RunStatus.CANCELLED
        return stream


async def test_a_run_that_was_cancelled_elsewhere_does_not_count_as_queued_for_the_next(clock: ManualClock) -> None:
    async with traced(CancelledAtWork(clock, [("one ",), (Final(PROMPT),)], 1.0)) as (engine, trace):
        await engine.ask(PROMPT).text()
    assert one(trace, "session.run.requeued")
    told = one(trace, "session.stream.first_token")
    assert told["waited_s"] == 1.0
    assert "queued_s" not in told


def test_an_error_without_a_code_has_none() -> None:
    assert error_keys(RunFailed("worker died")) == {"error": "RunFailed"}
    assert error_keys(LookupError("a text")) == {"error": "LookupError"}


@pytest.mark.parametrize(
    ("batches", "error", "count"),
    [
        ([("one ",), HANG], StreamStalled, 1),
        ([("one ", Failed(RunFailed("worker died", code="worker")))], RunFailed, 1),
        ([(Failed(RunFailed("worker died", code="worker")),)], RunFailed, 0),
    ],
)
async def test_an_answer_that_fails_says_so_once(
    clock: ManualClock, batches: list[Batch], error: type[ServiceError], count: int
) -> None:
    service, codes = FakeService(clock=clock, batches=batches, answer_s=1e6), set[str]()
    async with traced(service) as (engine, trace), engine.session(prompt=PROMPT) as session:
        answer = session.ask()
        for _ in range(2):
            with pytest.raises(error) as caught:
                await answer.text()
            codes.add(caught.value.code)
    told = one(trace, "session.stream.failed")
    assert (told["error"], {told["error_code"]}, told["token_count"]) == (error.__name__, codes, count)


async def test_who_gives_up_has_not_seen_the_answer_fail(clock: ManualClock) -> None:
    async with traced(FakeService(clock=clock, batches=[("one ",), HANG], answer_s=1e6)) as (engine, trace):
        task = asyncio.create_task(engine.ask(PROMPT).text())
        await clock.sleep(5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "session.stream.failed" not in trace.names()
    assert one(trace, "session.cleanup.started")["cause"] == "CancelledError"


async def test_a_step_that_fails_while_the_answer_is_read_is_told_once(clock: ManualClock) -> None:
    service = CancelledOnce(clock, [("one ",), (Final(PROMPT),)], 1.0)
    service.fail("queue_assistant", Fault(), *[Fault(OUT_OF_ORDER)])
    async with traced(service) as (engine, trace):
        with pytest.raises(Unavailable):
            await engine.ask(PROMPT).text()
    assert one(trace, "session.transition.failed")["trigger"] == "queue_assistant"
    assert "session.stream.failed" not in trace.names()


# -- tries ------------------------------------------------------------------------------------------------------------


def tries(trace: list[TraceEvent], trigger: str) -> list[tuple[int, str]]:
    found = [event.keys for event in trace if event.event == "session.call.retried"]
    return [(keys["attempt"], keys["error_code"]) for keys in found if keys["trigger"] == trigger]


async def test_tries_are_counted_from_one(clock: ManualClock) -> None:
    service = FakeService(clock=clock, batches=[], answer_s=20)
    service.fail("send_prompt", *[Unavailable("no connection", sent=False, code="refused")] * 2)
    service.fail("read_answer", *[OUT_OF_ORDER] * 2, Fault(), OUT_OF_ORDER)
    service.fail("delete_chat", *[OUT_OF_ORDER] * 3)
    async with traced(service) as (engine, trace):
        await engine.ask(PROMPT).text()
    assert tries(trace, "send_prompt") == [(1, "refused"), (2, "refused")]
    assert tries(trace, "read_answer") == [(1, "http-503"), (2, "http-503"), (1, "http-503")]
    assert tries(trace, "delete_chat") == [(1, "http-503"), (2, "http-503"), (3, "http-503")]
    assert one(trace, "session.cleanup.completed")["attempts"] == 3


async def test_looks_at_a_run_that_is_being_stopped_are_counted(clock: ManualClock) -> None:
    service = FakeService(clock=clock, answer_s=3)
    async with traced(service) as (engine, trace):
        session = await queued(engine)
        service.fail("read_answer", *[OUT_OF_ORDER] * 3)
        await session.aclose()
    assert tries(trace, "stop_run") == [(1, "http-503"), (2, "http-503"), (3, "http-503")]


async def test_a_call_that_is_made_again_with_another_login_is_told(clock: ManualClock) -> None:
    service, logins = FakeService(clock=clock), itertools.count()
    service.fail("create_chat", NotAuthenticated("no", status=401))

    def another(_service: str, _account: str) -> Credential:
        return Credential(cookies={"login": str(next(logins))})

    async with traced(service, credentials=another) as (engine, trace):
        await engine.ask(PROMPT, account="bot").text()
    told = one(trace, "session.call.retried")
    assert (told["trigger"], told["attempt"], told["error"]) == ("create_chat", 1, "NotAuthenticated")
    assert told["http_status"] == 401


# -- sweeps -----------------------------------------------------------------------------------------------------------


async def test_a_sweep_says_whose_chat_it_was_and_who_deleted_it(clock: ManualClock) -> None:
    house, service = House(clock), FakeService(clock=clock)
    service.fail("delete_chat", *[OUT_OF_ORDER] * 999)
    process = house.process()
    async with Watched(service, ledger=process, clock=clock, sweep=None) as leaving:
        answer = leaving.ask(PROMPT, account="bot", deadlines=Deadlines(drain=5, settle=5))
        await answer.text()
    [left] = leaving.told("session.cleanup.handed_over")
    process.kill()
    await clock.sleep(3600)
    service.faults.clear()
    service.fail("delete_chat", OUT_OF_ORDER)
    async with Watched(service, ledger=house.process(), clock=clock, sweep=None) as other:
        await other.sweep()
        await clock.sleep(3600)
        await other.sweep()
    events = {event.event: event.keys for event in other.events if event.event.startswith("sweep.chat.")}
    whose = {"session": left["session"], "service": "fake", "account": "bot", "chat": left["chat"]}
    for keys in events.values():
        assert keys | whose | {"engine": other.tracer.engine} == keys
    assert left["attempts"] > 0
    assert events["sweep.chat.failed"]["attempts"] == left["attempts"] + 1
    assert events["sweep.chat.deleted"]["attempts"] == left["attempts"] + 2
