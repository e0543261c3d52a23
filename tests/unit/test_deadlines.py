"""Law 7: every deadline has its effect, at its time and with its error, and no clock runs while we do not wait."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields

import pytest

from chatlease import Deadlines, Engine, State
from chatlease.adapter import AnswerStream, Call, RunOptions
from chatlease.errors import (
    Busy,
    ChatleaseError,
    RunCancelled,
    RunFailed,
    ServiceError,
    StreamStalled,
    Unavailable,
    UsageError,
)
from chatlease.events import Batch, Failed, Final, Pending, PluginStep, Reading, RunStatus
from chatlease.testing import HANG, FakeService, Fault, ManualClock, capture_trace

from .paced import PacedService, collect, words

FOREVER = Fault(delay_s=float("inf"))
PENDING: Batch = (Pending(1, 1),)
PROMPT = "one two"


@asynccontextmanager
async def opened(service: FakeService, clock: ManualClock, **seconds: float) -> AsyncGenerator[Engine]:
    async with Engine(service, clock=clock, deadlines=Deadlines(**seconds)) as engine:
        yield engine
    assert engine.ledger is not None
    assert {chat.key for chat in service.chats.values()} == {entry.id for entry in await engine.ledger.open_entries()}
    assert service.lost_messages == 0


async def failure(engine: Engine, clock: ManualClock, prompt: str = PROMPT) -> tuple[ChatleaseError, float]:
    """Ask; return the error, and when it came."""
    began = clock.now()
    async with engine.session() as session:
        with pytest.raises(ChatleaseError) as caught:
            await session.ask(prompt).text()
        return caught.value, clock.now() - began


@pytest.mark.parametrize("name", [field.name for field in fields(Deadlines)])
@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_deadline_that_is_not_positive_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(UsageError, match=name):
        Deadlines(**{name: seconds})


@pytest.mark.parametrize("step", ["create_chat", "send_prompt", "queue_assistant"])
async def test_call(clock: ManualClock, step: str) -> None:
    service = FakeService(clock=clock)
    service.fail(step, FOREVER)
    async with opened(service, clock, call=7) as engine:
        error, after_s = await failure(engine, clock)
        assert (type(error), after_s) == (Unavailable, 7)
        assert isinstance(error, Unavailable)
        assert error.code == "deadline-call"
        assert step in str(error)
        assert service.calls[step] == 1
        service.chats.clear()
        if step == "create_chat":
            service.chats.clear()
            assert engine.ledger is not None
            [claim] = await engine.ledger.claim(await engine.ledger.due(), 1)
            engine.ledger.settled(claim.hold)


async def test_first_event_of_a_stream_that_does_not_open(clock: ManualClock) -> None:
    service = FakeService(clock=clock, answer_s=20)
    service.fail("open_stream", FOREVER)
    async with opened(service, clock, first_event=8) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, after_s) == ("first_event", 8)


async def test_first_event_of_a_stream_that_says_nothing(clock: ManualClock) -> None:
    """Pings are no events; a stream that sends nothing else looks like this to the engine."""
    service = FakeService(clock=clock, batches=[HANG], answer_s=20)
    async with opened(service, clock, first_event=8) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, error.code, after_s) == ("first_event", "deadline-first_event", 8)
        assert "Deadlines.first_event (now 8 s)" in error.hint


async def test_queue(clock: ManualClock) -> None:
    """A place in the queue is no progress, however often it is told."""
    service = PacedService(clock, [PENDING] * 500, every_s=1)
    async with opened(service, clock, queue=40, settle=1) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, after_s) == ("queue", 40)


async def test_idle(clock: ManualClock) -> None:
    service = FakeService(clock=clock, batches=[("one ",), HANG], answer_s=1e9)
    async with opened(service, clock, idle=9, settle=1) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, after_s) == ("idle", 9)


async def test_idle_is_not_prolonged_by_places_in_a_queue(clock: ManualClock) -> None:
    service = PacedService(clock, [("one ",), *[PENDING] * 500], every_s=1)
    async with opened(service, clock, idle=9, settle=1) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, after_s) == ("idle", 10)


async def test_idle_is_prolonged_by_plugins_at_work(clock: ManualClock) -> None:
    plugin: list[Batch] = [(PluginStep("hm", "search"),)] * 3
    service = PacedService(clock, [("one ",), *plugin, ("two",), (Final(PROMPT),)], every_s=6)
    async with opened(service, clock, idle=9) as engine:
        assert await engine.ask(PROMPT).text() == PROMPT


async def test_answer(clock: ManualClock) -> None:
    service = PacedService(clock, [("word ",)] * 500, every_s=5)
    async with opened(service, clock, answer=62, settle=1) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, StreamStalled)
        assert (error.deadline, after_s) == ("answer", 62)


async def test_gate(clock: ManualClock) -> None:
    service = PacedService(clock, [PENDING] * 500, every_s=1)
    async with opened(service, clock, gate=11, settle=1) as engine, engine.session() as holder:
        await holder.ready_cookies()
        await holder.create_chat()
        await holder.send_prompt(PROMPT)
        await holder.queue_assistant()
        error, after_s = await failure(engine, clock)
        assert isinstance(error, Busy)
        assert (error.code, error.sent, after_s) == ("deadline-gate", False, 11)
        assert service.calls["queue_assistant"] == 1
        service.end_runs()


async def test_poll(clock: ManualClock) -> None:
    """An answer that no stream delivers is looked at once in so many seconds."""
    service = FakeService(clock=clock, batches=[], answer_s=21)
    async with opened(service, clock, poll=4) as engine:
        began = clock.now()
        assert await engine.ask(PROMPT).text() == PROMPT
        assert clock.now() - began == 24
        assert service.calls["read_answer"] == 7


async def test_settle(clock: ManualClock) -> None:
    service = FakeService(clock=clock, answer_s=1e9)
    async with opened(service, clock, settle=13, grace=100) as engine:
        session = engine.session()
        await session.ready_cookies()
        await session.create_chat()
        await session.send_prompt(PROMPT)
        await session.queue_assistant()
        began = clock.now()
        with pytest.raises(StreamStalled) as caught:
            await session.stop_run()
        assert (caught.value.deadline, clock.now() - began) == ("settle", 13)
        assert session.state is State.ASSISTANT_QUEUED
        await session.aclose()
        assert engine.ledger is not None
        [entry] = await engine.ledger.open_entries()
        assert (entry.orphaned, entry.error_code) == (True, "deadline-settle")
        assert clock.now() - began == 26


async def test_grace_and_drain(clock: ManualClock) -> None:
    """The caller of a failed session waits for ``grace``, the engine tries for ``drain``."""
    service = FakeService(clock=clock)
    service.fail("send_prompt", Unavailable("out of order", status=500))
    service.fail("delete_chat", *[Unavailable("out of order", status=500)] * 500)
    async with opened(service, clock, grace=3, drain=41) as engine:
        began = clock.now()
        answer = engine.ask(PROMPT)
        with pytest.raises(Unavailable) as caught:
            await answer.text()
        assert clock.now() - began == 3
        assert "still being given back" in caught.value.__notes__[0]
        await answer.session.wait_closed()
        assert clock.now() - began == 41
        assert answer.session.state is State.ORPHANED


async def test_a_slow_consumer_is_not_a_stalled_stream(clock: ManualClock) -> None:
    service = PacedService(clock, words("one two three"), every_s=2)
    async with opened(service, clock, idle=5, answer=20, queue=5, first_event=5) as engine:
        given: list[str] = []
        async for token in engine.ask(PROMPT):
            given.append(token)
            await clock.sleep(1000)
        assert "".join(given) == "one two three"


@pytest.mark.parametrize("batches", [[], [("one ",)], [PENDING, PENDING], [PENDING, ("one ",)]])
async def test_a_stream_that_ends_without_a_final_event_is_polled_and_the_rest_given_out(
    clock: ManualClock, batches: Sequence[Batch]
) -> None:
    service = FakeService(clock=clock, batches=batches, answer_s=9)
    async with opened(service, clock) as engine:
        with capture_trace(engine) as trace:
            given = [token async for token in engine.ask(PROMPT)]
        assert "".join(given) in {PROMPT, ""}
        assert "session.stream.polling" in trace.names()


async def test_a_stream_that_breaks_late_is_polled_even_if_the_first_look_fails(clock: ManualClock) -> None:
    """What was seen by the stream counts as seen."""

    class Breaking(PacedService):
        async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
            stream = await super().open_stream(call, chat, run)
            assert stream is not None
            read, self.reads = stream.read, 0

            async def breaking() -> Batch:
                self.reads += 1
                if self.reads == 5:
                    raise Unavailable("the connection broke")
                return await read()

            stream.read = breaking  # type: ignore[method-assign]  # one stream, one break
            return stream

    service = Breaking(clock, words("one two three four"), every_s=40, answer_s=200)
    service.fail("read_answer", Unavailable("out of order", status=502))
    async with opened(service, clock) as engine:
        answer = engine.ask(PROMPT)
        assert await answer.text() == PROMPT
        assert service.calls["read_answer"] >= 2


async def test_looks_that_fail_for_longer_than_idle_end_the_answer(clock: ManualClock) -> None:
    service = FakeService(clock=clock, batches=[], answer_s=30)
    service.fail("read_answer", *[Unavailable("out of order", status=502)] * 14)
    async with opened(service, clock, idle=20, poll=5) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, Unavailable)
        assert error.status == 502
        assert after_s == 25


async def test_tokens_that_are_no_prefix_of_the_final_text_are_followed_by_nothing(clock: ManualClock) -> None:
    service = FakeService(clock=clock, batches=[("three",), (Final(PROMPT),)])
    async with opened(service, clock) as engine:
        with capture_trace(engine) as trace:
            answer = engine.ask(PROMPT)
            assert [token async for token in answer] == ["three"]
            assert await answer.text() == PROMPT
        [event] = [event for event in trace if event.event == "session.stream.differs"]
        assert (event.keys["given_length"], event.keys["final_length"]) == (5, 7)


async def test_a_stream_that_is_refused_while_the_run_goes_on_is_polled_without_haste(clock: ManualClock) -> None:
    class Refusing(FakeService):
        async def open_stream(self, call: Call, chat: str, run: str) -> None:
            return None

    service = Refusing(clock=clock, answer_s=21)
    async with opened(service, clock, poll=4) as engine:
        assert await engine.ask(PROMPT).text() == PROMPT
        assert service.calls["read_answer"] == 7


async def test_a_look_that_hangs_does_not_surprise_the_caller(clock: ManualClock) -> None:
    """The stream says ``pending``, the look takes for ever: after ``call`` the stream is read on."""
    service = PacedService(clock, [*[PENDING] * 70, *words(PROMPT)], every_s=1)
    service.fail("read_answer", FOREVER)
    async with opened(service, clock) as engine:
        assert await engine.ask(PROMPT).text() == PROMPT


class Cancelling(PacedService):
    """Another program cancels the first so many runs; their streams go on saying ``pending``."""

    def __init__(self, clock: ManualClock, times: int) -> None:
        super().__init__(clock, [PENDING] * 500, every_s=1)
        self.times = times

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        run = await super().queue_assistant(call, chat, prompt, model, options)
        mine = self.chats[chat].runs[-1]
        if self.calls["queue_assistant"] <= self.times:
            mine.status = RunStatus.CANCELLED
        else:
            mine.batches.clear()
            mine.batches.extend(words(PROMPT))
        return run


@pytest.mark.parametrize("times", [1, 2])
async def test_a_run_that_was_cancelled_elsewhere_is_noticed_soon_and_queued_again(
    clock: ManualClock, times: int
) -> None:
    service = Cancelling(clock, times)
    async with opened(service, clock) as engine:
        began = clock.now()
        with capture_trace(engine) as trace:
            assert await engine.ask(PROMPT).text() == PROMPT
        assert service.calls["queue_assistant"] == times + 1
        assert trace.names().count("session.run.requeued") == times
        assert clock.now() - began < times * 20 + 5


async def test_a_run_that_is_cancelled_again_and_again_is_run_cancelled(clock: ManualClock) -> None:
    service = Cancelling(clock, 99)
    async with opened(service, clock) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, RunCancelled)
        assert "another program" in error.hint.lower()
        assert service.calls["queue_assistant"] == 3
        assert after_s < 60


async def test_a_run_that_was_cancelled_after_a_token_is_not_queued_again(clock: ManualClock) -> None:
    class Late(FakeService):
        async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
            await super().read_answer(call, chat, prompt, run)
            return Reading(RunStatus.CANCELLED, None, run)

    service = Late(clock=clock, batches=[("one ",)], answer_s=1e9)
    async with opened(service, clock) as engine:
        session = engine.session()
        answer = session.ask(PROMPT)
        given: list[str] = []
        with pytest.raises(RunCancelled):
            await collect(answer, given)
        assert given == ["one "]
        assert service.calls["queue_assistant"] == 1
        await session.aclose()


async def test_a_failure_in_the_stream_comes_after_the_tokens_before_it(clock: ManualClock) -> None:
    failed = Failed(RunFailed("the worker died", code="aborted_by_worker"))
    service = FakeService(clock=clock, batches=[("one ",), ("two", failed)], answer_s=5)
    async with opened(service, clock) as engine:
        given: list[str] = []
        with pytest.raises(RunFailed, match="the worker died"):
            await collect(engine.ask(PROMPT), given)
        assert given == ["one ", "two"]


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.ABSENT])
async def test_a_run_that_failed_or_vanished_is_run_failed(clock: ManualClock, status: RunStatus) -> None:
    class Lost(FakeService):
        async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
            return Reading(status, None, run)

    service = Lost(clock=clock, batches=[])
    async with opened(service, clock) as engine:
        error, after_s = await failure(engine, clock)
        assert isinstance(error, ServiceError)
        assert (type(error), error.code, after_s) == (RunFailed, status.value, 0)
