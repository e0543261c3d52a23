"""An account's turn and its budget: fair, never lost, and nobody starves behind an idle holder."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from chatlease import Engine, Session, State
from chatlease._gate import Budget, Gate, gate_of
from chatlease.adapter import Call, Capabilities, Deadlines, RateBudget
from chatlease.errors import Busy, RateLimited, Rejected, Unavailable
from chatlease.events import Batch, Pending, Reading
from chatlease.testing import FakeService, ManualClock, capture_trace
from chatlease.testing.fake_service import rate_budget

from .paced import PacedService

PROMPT = "one two"
ONE = Capabilities(runs_per_account=1)
DEADLINES = Deadlines()


class Holder:
    """As much of a session as its gate sees."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.looks = 0

    async def look(self) -> None:
        self.looks += 1


async def queued(engine: Engine, **options: Any) -> Session:
    """A session whose answer is queued, so that it holds the account's turn."""
    session = engine.session(prompt=PROMPT, **options)
    while session.state is not State.ASSISTANT_QUEUED:
        await session.step()
    return session


async def test_turns_are_taken_in_the_order_in_which_they_were_asked_for(clock: ManualClock) -> None:
    gate, first = Gate(ONE), Holder()
    assert gate.try_acquire(first)
    served: list[int] = []

    async def take(number: int) -> None:
        holder = Holder()
        await gate.acquire(holder, clock, DEADLINES)
        served.append(number)
        gate.release(holder)

    tasks = [asyncio.create_task(take(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert not gate.try_acquire(Holder()), "nobody overtakes those who wait"
    gate.release(first)
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]
    assert gate.try_acquire(first)


async def test_a_waiter_that_is_cancelled_while_it_is_served_hands_its_turn_on(clock: ManualClock) -> None:
    gate, first, second, third = Gate(ONE), Holder(), Holder(), Holder()
    gate.try_acquire(first)
    served = asyncio.create_task(gate.acquire(second, clock, DEADLINES))
    behind = asyncio.create_task(gate.acquire(third, clock, DEADLINES))
    await asyncio.sleep(0)
    gate.release(first)
    served.cancel()
    await asyncio.wait({served})
    assert served.cancelled()
    await behind
    gate.release(third)
    assert gate.try_acquire(first)


@pytest.mark.parametrize("passes", range(8))
async def test_whenever_a_waiter_is_cancelled_the_turn_is_not_lost(clock: ManualClock, passes: int) -> None:
    gate, first, second, third = Gate(ONE), Holder(), Holder(), Holder()
    gate.try_acquire(first)
    waiting = asyncio.create_task(gate.acquire(second, clock, DEADLINES))
    await asyncio.sleep(0)
    gate.release(first)
    for _ in range(passes):
        await asyncio.sleep(0)
    if waiting.cancel():
        await asyncio.wait({waiting})
    else:
        gate.release(second)
    await gate.acquire(third, clock, DEADLINES)
    gate.release(third)
    assert (gate._holders, list(gate._waiters)) == ([], [])


async def test_a_waiter_whose_loop_is_gone_is_passed_over(clock: ManualClock) -> None:
    gate, first = Gate(ONE), Holder()
    gate.try_acquire(first)

    def wait_elsewhere() -> None:
        async def wait() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(lost(gate)), 0.01)

        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(wait())
        kept.extend(asyncio.all_tasks(loop))
        loop.close()

    async def acquire(gate: Gate) -> None:
        await gate.acquire(Holder(), ManualClock(), DEADLINES)

    def lost(gate: Gate) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(acquire(gate))

    kept: list[asyncio.Task[Any]] = []
    thread = threading.Thread(target=wait_elsewhere)
    thread.start()
    thread.join()
    assert len(gate._waiters) == 1
    gate.release(first)
    assert gate.try_acquire(first)
    for task in kept:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # its loop is gone, on purpose


async def test_two_sessions_of_one_account_never_cancel_each_other(engine: Engine, service: FakeService) -> None:
    async def ask(number: int) -> str:
        return await engine.ask(f"prompt {number}").text()

    texts = await asyncio.gather(*(ask(number) for number in range(10)))
    assert texts == [f"prompt {number}" for number in range(10)]
    assert service.cancelled_runs == 0


async def test_accounts_do_not_wait_for_each_other(engine: Engine) -> None:
    first = await queued(engine, account="a")
    with capture_trace(engine) as trace:
        assert await engine.ask(PROMPT, account="b").text() == PROMPT
    assert "session.gate.waiting" not in trace.names()
    await first.aclose()


async def test_an_idle_holder_starves_nobody(clock: ManualClock) -> None:
    """The run of a session whose user does nothing is looked at by the one who waits."""
    service = FakeService(clock=clock, pending=1, answer_s=12)
    async with Engine(service, clock=clock) as engine:
        idle = await queued(engine)
        began = clock.now()
        assert await engine.ask(PROMPT).text() == PROMPT
        assert clock.now() - began < 12 + 2 * DEADLINES.poll
        await idle.aclose()
    assert not service.chats


async def test_a_look_that_was_answered_late_does_not_end_the_next_turn(clock: ManualClock) -> None:
    """A look at the first run, whose reply comes during the second, says nothing of the second."""
    replied = asyncio.Event()

    class Late(FakeService):
        async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
            reading = await super().read_answer(call, chat, prompt, run)
            await replied.wait()
            return reading

    service = Late(clock=clock)
    async with Engine(service, clock=clock) as engine:
        session = await queued(engine)
        look = asyncio.create_task(session.look())
        await asyncio.sleep(0)
        await session.open_stream()
        assert session.answer is not None
        assert await session.answer.text() == PROMPT
        await session.send_prompt(PROMPT)
        await session.queue_assistant()
        replied.set()
        await look
        assert session.gate is not None
        await session.aclose()


async def test_a_holder_whose_loop_was_closed_under_it_does_not_keep_its_turn(clock: ManualClock) -> None:
    gate, dead = Gate(ONE), Holder()
    dead.loop = asyncio.new_event_loop()
    gate.try_acquire(dead)
    waiting = asyncio.create_task(gate.acquire(Holder(), clock, DEADLINES))
    await asyncio.sleep(0)
    dead.loop.close()
    await waiting
    gate.release(dead)


async def test_an_account_that_stays_taken_is_busy_and_nothing_was_sent(clock: ManualClock) -> None:
    pending: Batch = (Pending(1, 1),)
    service = PacedService(clock, [pending] * 900, every_s=1)
    async with Engine(service, clock=clock, deadlines=Deadlines(gate=20)) as engine:
        holder = await queued(engine)
        began = clock.now()
        async with engine.session() as session:
            with pytest.raises(Busy):
                await session.ask(PROMPT).text()
            assert clock.now() - began == 20
            assert session.state is State.PROMPT_SENT
            service.end_runs()
            assert (await session.queue_assistant()).dest is State.ASSISTANT_QUEUED
            service.end_runs()
        await holder.aclose()
    assert not service.chats


async def test_a_turn_is_free_again_however_its_holder_ended(clock: ManualClock) -> None:
    service = FakeService(clock=clock, pending=1, answer_s=3)
    service.fail("queue_assistant", Unavailable("cut"))
    async with Engine(service, clock=clock) as engine:
        with pytest.raises(Unavailable):
            await engine.ask(PROMPT).text()
        task = asyncio.create_task(engine.ask(PROMPT).text())
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})
        with capture_trace(engine) as trace:
            assert await engine.ask(PROMPT).text() == PROMPT
        assert "session.gate.waiting" not in trace.names()


async def test_a_run_that_was_stopped_by_hand_has_given_its_turn_back(clock: ManualClock) -> None:
    service = FakeService(clock=clock, pending=1, answer_s=3)
    async with Engine(service, clock=clock) as engine:
        stopped = await queued(engine)
        await stopped.stop_run()
        with capture_trace(engine) as trace:
            assert await engine.ask(PROMPT).text() == PROMPT
        assert "session.gate.waiting" not in trace.names()
        await stopped.aclose()


async def test_a_refused_run_has_given_its_turn_back(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    service.fail("queue_assistant", Rejected("no such model", status=400))
    async with Engine(service, clock=clock) as engine, engine.session(prompt=PROMPT) as refused:
        for _ in range(3):
            await refused.step()
        with pytest.raises(Rejected):
            await refused.step()
        with capture_trace(engine) as trace:
            assert await engine.ask(PROMPT).text() == PROMPT
        assert "session.gate.waiting" not in trace.names()


# -- the budget -------------------------------------------------------------------------------------------------------


def test_a_budgets_window_begins_with_its_first_run() -> None:
    budget = Budget(RateBudget(runs=2, window_s=100))
    assert budget.take(1000) == 0
    assert not budget.at_limit()
    assert budget.take(1090) == 0
    assert budget.at_limit()
    assert budget.take(1099) == 1
    assert budget.take(1100) == 0
    assert not budget.fresh(1199)
    assert budget.fresh(1200)


async def test_a_budget_that_ends_soon_is_waited_for(clock: ManualClock) -> None:
    service = FakeService(clock=clock, capabilities=rate_budget(2, 50))
    async with Engine(service, clock=clock) as engine:
        began = clock.now()
        for _ in range(3):
            assert await engine.ask(PROMPT).text() == PROMPT
        assert clock.now() - began == 50


async def test_a_budget_that_does_not_end_within_gate_is_rate_limited_and_nothing_was_sent(clock: ManualClock) -> None:
    service = FakeService(clock=clock, capabilities=rate_budget(2, 500))
    async with Engine(service, clock=clock) as engine:
        for _ in range(2):
            await engine.ask(PROMPT).text()
        await clock.sleep(100)
        with pytest.raises(RateLimited) as caught:
            await engine.ask(PROMPT).text()
        assert (caught.value.code, caught.value.sent, caught.value.retry_after_s) == ("rate-budget", False, 400)
        assert service.calls["queue_assistant"] == 2
    assert not service.chats


async def test_a_500_at_the_limit_is_rate_limited_and_one_before_it_is_not(clock: ManualClock) -> None:
    service = FakeService(clock=clock, capabilities=rate_budget(2, 500))
    service.fail("queue_assistant", *[Unavailable("internal error", status=500)] * 2)
    async with Engine(service, clock=clock) as engine:
        with pytest.raises(Unavailable):
            await engine.ask(PROMPT).text()
        with pytest.raises(RateLimited) as caught:
            await engine.ask(PROMPT).text()
        assert (caught.value.status, caught.value.code) == (500, "rate-limit")
    assert not service.chats


async def test_gates_are_shared_by_all_engines_of_the_process(clock: ManualClock) -> None:
    service = FakeService(clock=clock, pending=1, answer_s=10)
    async with Engine(service, clock=clock) as one, Engine(service, clock=clock) as other:
        holder = await queued(one)
        with capture_trace(other) as trace:
            assert await other.ask(PROMPT).text() == PROMPT
        assert "session.gate.waiting" in trace.names()
        await holder.aclose()
    assert service.cancelled_runs == 0


def test_gates_that_hold_nothing_are_forgotten_as_their_number_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    gates: dict[tuple[str, str], Gate] = {}
    monkeypatch.setattr("chatlease._gate._gates", gates)
    monkeypatch.setattr("chatlease._gate._prune_at", 1024)
    for number in range(5000):
        gate_of("fake://many", f"account-{number}", ONE, now=1e9 + number)
    assert len(gates) < 3000
