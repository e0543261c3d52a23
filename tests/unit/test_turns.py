"""An account's turn is shared by processes: nobody cancels another's run, nobody overtakes, nobody starves."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatlease import Deadlines, Session, SqliteLedger, State
from chatlease._ledger._stored import StoredLedger
from chatlease.adapter import Call, Capabilities, RunOptions
from chatlease.errors import Busy, LedgerUnavailable, RateLimited
from chatlease.events import Final, Pending
from chatlease.ledger import Account, Turn
from chatlease.testing import FakeService, Fault, ManualClock
from chatlease.testing.fake_service import rate_budget, unavailable

from .paced import PacedService
from .peers import House, Process, Watched, apart, own_gate

PROMPT = "one two"


@pytest.fixture(autouse=True)
def _own_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatlease._steps.gate_of", own_gate)


def waiting(clock: ManualClock) -> PacedService:
    """A service whose answers take five seconds, three of them in its queue, where others would cancel them."""
    first = Pending(1, 1)
    return PacedService(clock, [(first,), (first,), (first,), ("one ",), (Final(PROMPT),)], 1.0)


def process(name: str, service: Any, house: House, **options: Any) -> Watched:
    given: dict[str, Any] = {"ledger": house.process(), "clock": house.clock}
    return Watched(service, **(given | options))


@asynccontextmanager
async def queued(engine: Watched, name: str) -> AsyncGenerator[Session]:
    """A session of that process whose answer is queued, and which nobody reads."""

    async def queue(session: Session) -> None:
        while session.state is not State.ASSISTANT_QUEUED:
            await session.step()

    async with engine.session(prompt=PROMPT, account="bot") as session:
        await go(name, queue(session))
        yield session


def go(name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(apart(name, work))


def turns(house: House) -> list[Any]:
    return house.db.execute("SELECT entry FROM turns").fetchall()


class TestSlots:
    async def test_without_a_shared_ledger_processes_cancel_each_other(self, clock: ManualClock, house: House) -> None:
        """The harm that turns are there against: the tests below can see it."""
        service = waiting(clock)
        async with Watched(service, clock=clock) as one, Watched(service, clock=clock) as two:
            asks = [go(name, engine.ask(PROMPT, account="bot").text()) for name, engine in (("1", one), ("2", two))]
            await asyncio.gather(*asks)
        assert service.cancelled_runs > 0

    async def test_no_run_is_ever_cancelled_by_another_process(self, clock: ManualClock, house: House) -> None:
        service = waiting(clock)
        engines = [process(str(n), service, house, deadlines=Deadlines(gate=1000)) for n in range(4)]
        for engine in engines:
            await engine.__aenter__()
        asks = [go(str(n % 4), engines[n % 4].ask(PROMPT, account="bot").text()) for n in range(40)]
        assert set(await asyncio.gather(*asks)) == {PROMPT}
        for engine in engines:
            await engine.aclose()
            assert not engine.told("session.run.requeued")
        assert service.cancelled_runs == 0
        assert not turns(house)

    async def test_processes_are_served_in_the_order_in_which_they_came(self, clock: ManualClock, house: House) -> None:
        service = waiting(clock)
        engines = [process(str(n), service, house) for n in range(5)]
        served: list[int] = []

        async def ask(number: int) -> None:
            async with engines[number].ask(PROMPT, account="bot") as answer:
                async for _ in answer:
                    served.append(number)
                    break

        for engine in engines:
            await engine.__aenter__()
        asks: list[asyncio.Task[Any]] = []
        for number in (3, 0, 4, 1, 2):
            asks.append(go(str(number), ask(number)))
            await clock.sleep(0.01)
        await asyncio.gather(*asks)
        assert served == [3, 0, 4, 1, 2]
        for engine in engines:
            await engine.aclose()

    async def test_the_slot_of_a_process_that_died_is_free(self, clock: ManualClock, house: House) -> None:
        service, dying = waiting(clock), house.process()
        owner = process("1", service, house, ledger=dying)
        async with owner, process("2", service, house) as engine, queued(owner, "1"):
            dying.kill()
            began = clock.now()
            async with queued(engine, "2"):
                assert clock.now() - began < 10

    async def test_an_idle_consumer_starves_nobody(self, clock: ManualClock, house: House) -> None:
        """It holds the slot and does not read; its process looks at its run because another process waits."""
        service = FakeService(clock=clock, pending=1, answer_s=20)
        one, two = process("1", service, house), process("2", service, house)
        async with one, two, queued(one, "1") as holder:
            began = clock.now()
            assert await go("2", two.ask(PROMPT, account="bot").text()) == PROMPT
            assert 20 <= clock.now() - began <= 27
            assert holder.state is State.ASSISTANT_QUEUED
        assert service.cancelled_runs == 0

    async def test_closing_waits_for_no_look_at_an_idle_session(self, clock: ManualClock, house: House) -> None:
        service = waiting(clock)
        one, two = process("1", service, house), process("2", service, house)
        async with two:
            async with one, queued(one, "1"):
                ask = go("2", two.ask(PROMPT, account="bot").text())
                service.fail("read_answer", Fault(delay_s=float("inf")))
                await clock.sleep(6)
                assert service.calls["read_answer"] == 1
                service.end_runs()
                began = clock.now()
            assert clock.now() - began < 1
            assert await ask == PROMPT

    async def test_nobody_is_looked_at_while_nobody_waits(self, clock: ManualClock, house: House) -> None:
        service = FakeService(clock=clock, pending=1, answer_s=20)
        async with process("1", service, house) as idle, queued(idle, "1"):
            await clock.sleep(100)
            assert service.calls["read_answer"] == 0

    async def test_waiting_longer_than_the_gate_deadline_is_busy(self, clock: ManualClock, house: House) -> None:
        service = waiting(clock)
        one, two = process("1", service, house), process("2", service, house, deadlines=Deadlines(gate=7))
        async with one, two, queued(one, "1") as holder:
            began = clock.now()
            with pytest.raises(Busy):
                await go("2", two.ask(PROMPT, account="bot").text())
            assert clock.now() - began == pytest.approx(7)
            assert turns(house) == [(holder.id,)], "whoever gave up stands in nobody's way"
            service.end_runs()

    async def test_several_slots_are_taken_by_as_many(self, clock: ManualClock, house: House) -> None:
        service = FakeService(clock=clock, tokens=["a"], capabilities=Capabilities(runs_per_account=2))
        engines = [process(str(n), service, house, deadlines=Deadlines(gate=3)) for n in range(3)]
        for engine in engines:
            await engine.__aenter__()
        async with AsyncExitStack() as sessions:
            for number in (0, 1):
                await sessions.enter_async_context(queued(engines[number], str(number)))
            with pytest.raises(Busy):
                await sessions.enter_async_context(queued(engines[2], "2"))
        for engine in engines:
            await engine.aclose()


class TestBudget:
    async def test_the_sum_of_all_processes_never_exceeds_the_budget(self, clock: ManualClock, house: House) -> None:
        class Noting(FakeService):
            async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
                at.append(clock.now())
                return await super().queue_assistant(call, chat, prompt, model, options)

        at: list[float] = []
        service = Noting(clock=clock, capabilities=rate_budget(5, 660))
        engines = [process(str(n), service, house, deadlines=Deadlines(gate=10_000)) for n in range(3)]
        for engine in engines:
            await engine.__aenter__()
        asks = [go(str(n % 3), engines[n % 3].ask(PROMPT, account="bot").text()) for n in range(18)]
        await asyncio.gather(*asks)
        windows = [at[n : n + 5] for n in range(0, 18, 5)]
        for window, following in itertools.pairwise(windows):
            assert following[0] - window[0] >= 660
        assert at[-1] - at[0] < 4 * 660, "and the budget is used"
        for engine in engines:
            await engine.aclose()

    async def test_a_budget_that_is_used_up_for_longer_than_the_gate_deadline_is_said_at_once(
        self, clock: ManualClock, house: House
    ) -> None:
        service = FakeService(clock=clock, capabilities=rate_budget(2, 660))
        async with process("1", service, house) as one, process("2", service, house) as two:
            for _ in range(2):
                await go("1", one.ask(PROMPT, account="bot").text())
            began = clock.now()
            with pytest.raises(RateLimited) as raised:
                await go("2", two.ask(PROMPT, account="bot").text())
            assert clock.now() == began
            assert raised.value.retry_after_s == pytest.approx(660)
            assert not turns(house)

    async def test_a_failure_at_the_limit_that_another_process_used_up_is_known_for_what_it_is(
        self, clock: ManualClock, house: House
    ) -> None:
        service = FakeService(clock=clock, capabilities=rate_budget(2, 660))
        async with process("1", service, house) as one, process("2", service, house) as two:
            await go("1", one.ask(PROMPT, account="bot").text())
            service.fail("queue_assistant", unavailable(500))
            with pytest.raises(RateLimited):
                await go("2", two.ask(PROMPT, account="bot").text())


class Failing(Process):
    """A ledger whose turns cannot be asked for."""

    async def take_turn(self, *_: Any, **__: Any) -> Turn:
        raise LedgerUnavailable("the disk is full")


class Slow(Process):
    """A ledger that grants a turn only after a while, and tells so even later."""

    seconds = 1.0

    async def take_turn(self, account: Account, entry: str, **options: Any) -> Turn:
        await self.house.clock.sleep(self.seconds / 2)
        turn = await super().take_turn(account, entry, **options)
        await self.house.clock.sleep(self.seconds / 2)
        return turn


class TestTrouble:
    async def test_a_ledger_that_fails_costs_fairness_not_the_session(self, clock: ManualClock, house: House) -> None:
        service = waiting(clock)
        async with process("1", service, house, ledger=Failing(house)) as engine:
            asks = [go("1", engine.ask(PROMPT, account="bot").text()) for _ in range(3)]
            assert set(await asyncio.gather(*asks)) == {PROMPT}
            assert {keys["error"] for keys in engine.told("session.gate.alone")} == {"LedgerUnavailable"}
            assert len(engine.told("session.gate.alone")) == 3
        assert service.cancelled_runs == 0, "this process's own gate still holds"

    async def test_a_ledger_that_hangs_costs_the_time_of_a_call(self, clock: ManualClock, house: House) -> None:
        ledger = Slow(house)
        ledger.seconds = 100
        async with process("1", waiting(clock), house, ledger=ledger) as engine:
            assert await go("1", engine.ask(PROMPT, account="bot").text()) == PROMPT
            assert len(engine.told("session.gate.alone")) == 1
            await clock.sleep(100)
            assert not turns(house), "what it granted so late was given back"

    @pytest.mark.parametrize("after", [0.25, 0.75])
    async def test_a_turn_that_is_granted_to_someone_who_gave_up_is_given_back(
        self, clock: ManualClock, house: House, after: float
    ) -> None:
        service = waiting(clock)
        async with process("1", service, house, ledger=Slow(house)) as engine:
            ask = go("1", engine.ask(PROMPT, account="bot").text())
            await clock.sleep(after)
            assert len(turns(house)) == (after > 0.5)
            ask.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ask
            await clock.sleep(2)
            assert not turns(house)
            assert await go("1", engine.ask(PROMPT, account="bot").text()) == PROMPT

    @pytest.mark.parametrize("seed", range(5))
    async def test_whoever_is_cancelled_at_any_moment_leaves_no_turn_behind(
        self, handle: Callable[[], StoredLedger], seed: int
    ) -> None:
        dice = random.Random(seed)
        service = FakeService(tokens=["a"], pending=2)
        async with Watched(service, ledger=handle()) as engine:
            asks = [asyncio.create_task(engine.ask(PROMPT, account="bot").text()) for _ in range(30)]
            for ask in asks:
                for _ in range(dice.randrange(40)):
                    await asyncio.sleep(0)
                ask.cancel()
            await asyncio.gather(*asks, return_exceptions=True)
            assert await asyncio.wait_for(engine.ask(PROMPT, account="bot").text(), 20) == "a"


class TestShared:
    async def test_processes_on_one_ledger_never_cancel_each_other(self, handle: Callable[[], StoredLedger]) -> None:
        service = FakeService(tokens=["one ", "two"], pending=3)
        engines = [Watched(service, ledger=handle()) for _ in range(3)]
        for engine in engines:
            await engine.__aenter__()
        asks = [go(str(n % 3), engines[n % 3].ask(PROMPT, account="bot").text()) for n in range(12)]
        assert Counter(await asyncio.gather(*asks)) == {PROMPT: 12}
        for engine in engines:
            await engine.aclose()
            assert not engine.told("session.gate.alone")
        assert service.cancelled_runs == 0
        assert not service.chats

    async def test_a_process_that_asks_again_and_again_starves_no_other(
        self, handle: Callable[[], StoredLedger]
    ) -> None:
        """It keeps its place while nobody waits, and gives it up when somebody does."""
        service = FakeService(tokens=["a"], pending=2)
        greedy, modest = (Watched(service, ledger=handle()) for _ in range(2))
        asked: list[str] = []

        async def ask(engine: Watched) -> None:
            asked.append(await engine.ask(PROMPT, account="bot").text())

        async def ask_for_ever() -> None:
            while True:
                await ask(greedy)

        async with greedy, modest:
            busy = go("greedy", ask_for_ever())
            while len(asked) < 20:  # noqa: ASYNC110  (threads are at work)
                await asyncio.sleep(0.001)
            for _ in range(2):
                await asyncio.wait_for(go("modest", ask(modest)), 10)
            before = len(asked)
            while len(asked) < before + 20:  # noqa: ASYNC110  (threads are at work)
                await asyncio.sleep(0.001)
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        assert service.cancelled_runs == 0
        assert not service.chats

    async def test_an_idle_consumer_starves_no_other_process(self, handle: Callable[[], StoredLedger]) -> None:
        service = FakeService(pending=1, answer_s=0.5)
        deadlines = Deadlines(poll=0.2)
        one, two = (Watched(service, ledger=handle(), deadlines=deadlines) for _ in range(2))
        async with one, two, queued(one, "1") as holder:
            assert await asyncio.wait_for(go("2", two.ask(PROMPT, account="bot").text()), 10) == PROMPT
            assert holder.state is State.ASSISTANT_QUEUED
        assert service.cancelled_runs == 0

    async def test_a_budget_is_one_for_all_processes_on_one_ledger(self, handle: Callable[[], StoredLedger]) -> None:
        service = FakeService(tokens=["a"], capabilities=rate_budget(10, 3600))
        deadlines = Deadlines(gate=20)
        engines = [Watched(service, ledger=handle(), deadlines=deadlines) for _ in range(3)]
        for engine in engines:
            await engine.__aenter__()
        asks = [go(str(n % 3), engines[n % 3].ask(PROMPT, account="bot").text()) for n in range(24)]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, str)] == ["a"] * 10
        assert sum(isinstance(answer, RateLimited) for answer in answers) == 14
        assert service.calls["queue_assistant"] == 10
        for engine in engines:
            await engine.aclose()


class TestOnDisk:
    async def test_a_killed_process_gives_its_slot_up_at_once(self, tmp_path: Path) -> None:
        """A real one: it is seen to be dead by the lock that the kernel let go of."""
        path, service = tmp_path / "ledger", FakeService(pending=1)
        async with Watched(service, ledger=SqliteLedger(path)) as engine:
            child = await _child(path, service.origin)
            try:
                ask = asyncio.create_task(engine.ask(PROMPT, account="bot").text())
                await asyncio.sleep(0.5)
                assert service.calls["send_prompt"] == 1
                assert service.calls["queue_assistant"] == 0, "the other process has the slot"
            finally:
                child.kill()
                await child.wait()
            assert await asyncio.wait_for(ask, 20) == PROMPT


_HOLDS_THE_SLOT = """
    import asyncio, sys
    from chatlease import SqliteLedger
    from chatlease.ledger import Account

    async def main(path, origin):
        ledger = SqliteLedger(path)
        await ledger.open()
        turn = await ledger.take_turn(Account("fake", origin, "bot"), "theirs", slots=1, runs=None, window_s=0.0)
        print(turn.taken, flush=True)
        await asyncio.sleep(1000)

    asyncio.run(main(*sys.argv[1:]))
"""


async def _child(path: Path, origin: str) -> asyncio.subprocess.Process:
    """A process that takes the account's slot and keeps it."""
    program = textwrap.dedent(_HOLDS_THE_SLOT)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(path), origin),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"True\n"
    return child
