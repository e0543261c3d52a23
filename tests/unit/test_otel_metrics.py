"""The metrics of `chatlease.otel`: what they count, what they are told apart by, and that no id is among that."""

from __future__ import annotations

import asyncio

import pytest

from chatlease import Engine, State, Sweep, Swept, Trigger
from chatlease.errors import RunFailed, Unavailable
from chatlease.events import Failed
from chatlease.ledger import Entry
from chatlease.otel import OpenTelemetry
from chatlease.testing import FakeService, Fault, ManualClock, MemoryLedger
from chatlease.testing.fake_service import FakeChat

from .otel_kit import Telemetry, labels
from .test_otel_spans import Odd, slow, to

CHAT = {"operation": "chat", "provider": "fake", "model": "fake-1"}


@pytest.fixture
def told() -> Telemetry:
    return Telemetry()


async def test_sessions_are_counted_by_state_and_their_lives_measured(clock: ManualClock, told: Telemetry) -> None:
    service = slow(FakeService(clock=clock))
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
        service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 999)
        await engine.ask("one two").text()
    assert told.metric("chatlease.sessions.opened") == {labels(service="fake"): 2}
    by_state = {labels(service="fake", state="deleted"): 1, labels(service="fake", state="orphaned"): 1}
    assert told.metric("chatlease.sessions.closed") == by_state
    assert told.metric("chatlease.chats.left") == {labels(service="fake"): 1}
    lives = told.metric("chatlease.session.duration")
    assert lives[labels(service="fake", state="deleted")] == pytest.approx(4.375)
    assert lives[labels(service="fake", state="orphaned")] > engine.deadlines.drain - 5


async def test_open_sessions_are_counted_by_the_state_that_they_are_in(clock: ManualClock, told: Telemetry) -> None:
    def open_now() -> dict[str, float]:
        found = told.metric("chatlease.sessions.open")
        return {str(dict(each)["chatlease.state"]): value for each, value in found.items() if value}

    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        sessions = [engine.session(account=f"bot-{number}", prompt="one two") for number in range(3)]
        for session in sessions:
            await session.step()
        assert open_now() == {"cookies-ready": 3}
        await sessions[0].step()
        assert open_now() == {"cookies-ready": 2, "chat-created": 1}
        await sessions[0].aclose()
        await sessions[1].abandon()
        assert open_now() == {"cookies-ready": 1}
    assert open_now() == {}


async def test_the_steps_are_measured_each_by_itself(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(slow(FakeService(clock=clock)), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    steps = told.metric("chatlease.step.duration")
    assert {dict(each)["chatlease.trigger"]: value for each, value in steps.items()} == {
        "ready_cookies": 0.0,
        "create_chat": 1.5,
        "send_prompt": 0.25,
        "queue_assistant": 0.5,
        "open_stream": 2.0,
        "delete_chat": 0.125,
    }


async def test_answers_are_measured_as_the_conventions_say(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(slow(FakeService(clock=clock)), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    assert told.metric("gen_ai.client.operation.duration") == {labels(**CHAT): 2.5}
    assert told.metric("gen_ai.client.operation.time_to_first_chunk") == {labels(**CHAT): 2.5}
    assert told.metric("chatlease.tokens") == {labels(service="fake"): 2}
    units = {name: unit for name, unit in told.units().items() if name.startswith("gen_ai.")}
    assert units == dict.fromkeys(units, "s")
    assert len(units) == 2


async def test_what_failed_is_counted_by_step_and_error(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock)
    service.fail("create_chat", Unavailable("out of order", status=503))
    service.fail("queue_assistant", Fault(Unavailable("out of order", status=503), delay_s=0.5))
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await engine.ask("one two").text()
        service._batches = [("one ", Failed(RunFailed("worker died")))]
        with pytest.raises(RunFailed):
            await engine.ask("one two").text()
    assert told.metric("chatlease.errors") == {
        labels(service="fake", trigger="create_chat", error="Unavailable"): 1,
        labels(service="fake", trigger="queue_assistant", error="Unavailable"): 1,
        labels(service="fake", trigger="read_answer", error="RunFailed"): 1,
    }
    answers = told.count("gen_ai.client.operation.duration")
    assert answers == {labels(**CHAT, error="Unavailable"): 1, labels(**CHAT, error="RunFailed"): 1}
    assert labels(service="fake", trigger="create_chat", error="Unavailable") in told.count("chatlease.step.duration")


async def test_an_answer_that_the_bot_left_is_not_measured(clock: ManualClock, told: Telemetry) -> None:
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine,
        engine.ask("one two") as answer,
    ):
        await anext(aiter(answer))
    assert told.count("gen_ai.client.operation.duration") == {}
    assert told.metric("chatlease.tokens") == {}


async def test_an_answer_that_was_never_asked_for_is_not_measured(clock: ManualClock, told: Telemetry) -> None:
    """Its session waited for the account's turn until it was closed."""
    service = FakeService(clock=clock, answer_s=5.0)
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        first = engine.session(account="bob", prompt="one")
        await to(State.ASSISTANT_QUEUED, first)
        second = engine.session(account="bob", prompt="two")
        await to(State.PROMPT_SENT, second)
        waiting = asyncio.create_task(second.queue_assistant())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await first.aclose()
        assert told.count("gen_ai.client.operation.duration") == {}
        assert told.metric("chatlease.errors") == {
            labels(service="fake", trigger="queue_assistant", error="CancelledError"): 1
        }
        await second.queue_assistant()
        await second.aclose()
    waited = [event.name for span in told.spans("chatlease.session") for event in span.events]
    assert waited == ["session.gate.waiting"], "its second try had no need to"


async def test_retries_requeues_and_waits_for_the_gate_are_counted(clock: ManualClock, told: Telemetry) -> None:
    service = Odd(clock=clock)
    service.fail("send_prompt", Unavailable("no connection", sent=False))
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two", account="bob").text()
    assert told.metric("chatlease.retries") == {labels(service="fake", trigger="send_prompt"): 1}
    assert told.metric("chatlease.requeues") == {labels(service="fake"): 1}
    assert told.count("chatlease.gate.wait") == {labels(service="fake"): 2}
    assert told.metric("chatlease.gate.wait") == {labels(service="fake"): 0.0}


# -- sweeps and the ledger --------------------------------------------------------------------------------------------


async def entries(ledger: MemoryLedger, service: FakeService, *accounts: str) -> None:
    """Leave a chat of each of these accounts to the sweepers."""
    for account in accounts:
        hold = await ledger.intent(
            Entry(id=f"id-{account}", service=service.service, origin=service.origin, account=account)
        )
        await ledger.bound(hold, f"chat-{account}")
        service.chats[f"chat-{account}"] = FakeChat(account, f"id-{account}")
        await ledger.hand_over(hold, attempts=1, error_code="http-503")


async def test_sweeps_what_they_did_and_what_they_left_are_counted(clock: ManualClock, told: Telemetry) -> None:
    ledger, service = MemoryLedger(clock=clock), FakeService(clock=clock)
    service.accounts = {"alice", "bob"}
    await ledger.open()
    async with Engine(service, clock=clock, ledger=ledger, hooks=[told.hook]) as engine:
        assert told.metric("chatlease.ledger.open") == {}, "nobody has looked yet"
        await entries(ledger, service, "alice", "bob", "carol")
        service.fail("delete_chat", Fault(Unavailable("out of order", status=503), delay_s=3.0))
        await engine.sweep()
        counts = await ledger.counts()
        assert (counts.open, counts.parked, counts.dead) == (2, 1, 0)
        assert told.metric("chatlease.ledger.open") == {labels(): 2}
        assert told.metric("chatlease.ledger.parked") == {labels(): 1}
        assert told.metric("chatlease.ledger.undeleted") == {labels(): 0}
    assert told.metric("chatlease.sweep.chats") == {
        labels(service="fake", outcome="deleted"): 1,
        labels(service="fake", outcome="failed"): 1,
    }
    assert told.metric("chatlease.sweeps") == {labels(outcome="completed"): 1}
    assert told.metric("chatlease.sweep.duration") == {labels(): pytest.approx(3.0)}


async def test_dead_letters_are_counted(clock: ManualClock, told: Telemetry) -> None:
    ledger, service = MemoryLedger(clock=clock), FakeService(clock=clock)
    await ledger.open()
    sweep = Sweep(attempts=2, every=1e6)
    async with Engine(service, clock=clock, ledger=ledger, sweep=sweep, hooks=[told.hook]) as engine:
        await engine.sweep()
        await entries(ledger, service, "alice")
        service.fail("delete_chat", Unavailable("out of order", status=503))
        await engine.sweep()
        assert told.metric("chatlease.ledger.undeleted") == {labels(): 1}
    assert told.metric("chatlease.sweep.chats") == {labels(service="fake", outcome="dead"): 1}


async def test_a_sweep_that_fails_is_counted(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        engine.tracer.tell("sweep.failed", error="LedgerUnavailable")
    assert told.metric("chatlease.sweeps") == {labels(outcome="failed"): 1}


async def test_what_happens_to_the_ledger_is_counted(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        engine.tracer.tell("ledger.failed", error_code="disk-full")
        engine.tracer.tell("ledger.recovered")
    assert told.metric("chatlease.ledger.events") == {
        labels(event="ledger.failed"): 1,
        labels(event="ledger.recovered"): 1,
    }


# -- what tells points apart ------------------------------------------------------------------------------------------


async def test_no_id_is_an_attribute_and_sessions_add_no_series(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two", account="bot-0").text()
        before = len(list(told.points()))
        for number in range(20):
            await engine.ask("one two", account=f"bot-{number}").text()
    assert len(list(told.points())) == before
    values = {str(value) for _, point in told.points() for value in (point.attributes or {}).values()}
    states = {state.value for state in State}
    assert values - states - {trigger.value for trigger in Trigger} == {"fake", "fake-1", "chat"}


async def test_the_account_is_an_attribute_where_it_is_asked_for(clock: ManualClock) -> None:
    told = Telemetry(account=True)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two", account="bob").text()
        assert told.metric("chatlease.tokens") == {labels(service="fake", account="bob"): 2}
    assert set(told.metric("chatlease.sessions.open").values()) == {0}


async def test_names_of_models_are_bounded(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        for number in range(103):
            await engine.ask("one", model=f"made-up-{number}").text()
    answers = told.count("gen_ai.client.operation.duration")
    assert len(answers) == 101
    assert answers[labels(operation="chat", provider="fake", model="_OTHER")] == 3


async def test_hooks_of_several_engines_add_up(clock: ManualClock, told: Telemetry) -> None:
    other: OpenTelemetry = told.another_hook()
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as first,
        Engine(FakeService(clock=clock), clock=clock, hooks=[other]) as second,
    ):
        sessions = [first.session(), second.session()]
        for session in sessions:
            await session.ready_cookies()
        assert told.metric("chatlease.sessions.open")[labels(service="fake", state="cookies-ready")] == 2
        second.tracer.emit("sweep.completed", {**dict.fromkeys(Swept.__struct_fields__, 0), "open": 7})
        assert told.metric("chatlease.ledger.open") == {labels(): 7}
    assert told.metric("chatlease.sessions.closed") == {labels(service="fake", state="deleted"): 2}
