"""A process that was stopped longer than its lease stops using its chats, says so, and leaves them to the sweepers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from chatlease import Session, State
from chatlease._core import Core
from chatlease.adapter import Call, Capabilities
from chatlease.errors import LeaseLost
from chatlease.events import Batch, Final
from chatlease.ledger import EntryState
from chatlease.testing import HANG, FakeService, Fault, ManualClock, failpoints

from .ledger_kit import OwnHandle
from .paced import collect
from .peers import Watched

LEASE = 60.0
HANGS = Fault(delay_s=float("inf"))


async def until(holds: Callable[[], object]) -> None:
    """Wait for what a thread, or another process, is about to do."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  (there is nobody to tell us)
            await asyncio.sleep(0.002)


class Stoppable(OwnHandle):
    """A ledger whose process can be stopped: its clock goes on, and nothing else."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        super().__init__(path, lease=LEASE, clock=clock)
        self.manual = clock

    def stop(self, seconds: float = LEASE + 1) -> None:
        """Stop the process for that long; it wakes up before anything else happens."""
        self.manual._now += seconds

    def beat(self) -> None:
        """Do what the process does every so often once it is awake."""
        assert self._store is not None
        self._store.pulse()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service(clock: ManualClock) -> FakeService:
    return FakeService(clock=clock, batches=[("one ",), HANG, (Final("one two"),)])


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Stoppable:
    return Stoppable(tmp_path / "ledger", clock)


@pytest.fixture
async def engine(service: FakeService, ledger: Stoppable, clock: ManualClock) -> AsyncIterator[Watched]:
    async with Watched(service, ledger=ledger, clock=clock, sweep=None) as engine:
        yield engine


@pytest.fixture
async def session(engine: Watched) -> Session:
    """One whose chat exists."""
    session = engine.session(account="bot", prompt="one two")
    await session.ready_cookies()
    await session.create_chat()
    return session


async def left_alone(session: Session, service: FakeService, calls: Any) -> None:
    """Hold that the session ended orphaned, and sent nothing since these calls."""
    await session.wait_closed()
    assert session.state is State.ORPHANED
    assert service.calls == calls
    assert session.chat in service.chats


async def stopped_between_two_tokens(engine: Watched, service: FakeService, ledger: Stoppable) -> None:
    """Hold that who reads an answer gets no second token, and that the session ends as above."""
    async with engine.ask("one two", account="bot") as answer:
        tokens = aiter(answer)
        assert await anext(tokens) == "one "
        calls = service.calls.copy()
        ledger.stop()
        with pytest.raises(LeaseLost):
            await anext(tokens)
    await left_alone(answer.session, service, calls)


async def test_the_step_in_flight_ends_with_lease_lost(
    session: Session, service: FakeService, ledger: Stoppable, engine: Watched
) -> None:
    service.fail("send_prompt", HANGS)
    step = asyncio.create_task(session.send_prompt("one two"))
    await until(lambda: service.calls["send_prompt"])
    calls = service.calls.copy()
    ledger.stop()
    ledger.beat()
    with pytest.raises(LeaseLost):
        await step
    await left_alone(session, service, calls)
    assert len(engine.told("ledger.lease_lost")) == 1


async def test_the_next_step_raises_lease_lost_though_nobody_said_a_word(
    session: Session, service: FakeService, ledger: Stoppable
) -> None:
    """The watchdog is the process's own clock: no write, no pulse and no other process is needed."""
    calls = service.calls.copy()
    ledger.stop()
    with pytest.raises(LeaseLost):
        await session.send_prompt("one two")
    await session.aclose()
    await left_alone(session, service, calls)
    with pytest.raises(LeaseLost):
        await session.send_prompt("one two")


async def test_a_stop_shorter_than_the_lease_changes_nothing(
    session: Session, service: FakeService, ledger: Stoppable, engine: Watched
) -> None:
    for _ in range(5):
        ledger.stop(LEASE * 5 / 6 - 1)
        ledger.beat()
        await engine.ledger.counts()  # type: ignore[union-attr]
    await session.send_prompt("one two")
    await session.aclose()
    assert session.state is State.DELETED
    assert not engine.told("ledger.lease_lost")


async def test_the_reader_of_a_stream_gets_lease_lost(engine: Watched, service: FakeService, ledger: Stoppable) -> None:
    tokens: list[str] = []
    answer = engine.ask("one two", account="bot")
    reading = asyncio.create_task(collect(answer, tokens))
    await until(lambda: tokens)
    calls = service.calls.copy()
    ledger.stop()
    ledger.beat()
    with pytest.raises(LeaseLost):
        await reading
    await left_alone(answer.session, service, calls)
    assert all(stream.closed for stream in service.streams)


async def test_a_reader_that_comes_back_after_the_stop_reads_nothing_more(
    engine: Watched, service: FakeService, ledger: Stoppable
) -> None:
    """It was busy with a token when the process was stopped, and is the first to run after it."""
    await stopped_between_two_tokens(engine, service, ledger)


@pytest.mark.parametrize("batches", [[("one ",), ("two",), (Final("one two"),)], [("one ",)]], ids=["stream", "poll"])
async def test_not_even_what_the_service_has_sent_already_is_given_out(
    ledger: Stoppable, clock: ManualClock, batches: list[Batch]
) -> None:
    """Nor is the service asked for it, where the stream has ended."""
    service = FakeService(clock=clock, batches=batches, answer_s=1e9)
    async with Watched(service, ledger=ledger, clock=clock, sweep=None) as engine:
        await stopped_between_two_tokens(engine, service, ledger)


async def test_a_process_that_was_stopped_before_its_create_was_sent_does_not_send_it(
    engine: Watched, service: FakeService, ledger: Stoppable
) -> None:
    """The create could take effect long after its deadline, when sweepers have looked for its chat in vain."""
    with failpoints.at("create_chat.intended", ledger.stop), pytest.raises(LeaseLost):
        await engine.ask("one two", account="bot").text()
    assert service.calls["create_chat"] == 0
    assert not await ledger.open_entries(), "and nobody has to look for it"


async def test_who_waits_in_no_queue_when_the_lease_is_lost(
    session: Session, engine: Watched, service: FakeService, ledger: Stoppable
) -> None:
    """The account's turn is another session's, and may be for long: a step says at once that it is not to be made."""
    await session.send_prompt("one two")
    other = engine.session(account="bot", prompt="one two")
    for _ in range(4):
        await other.step()
    calls = service.calls.copy()
    ledger.stop()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(session.queue_assistant(), 20)
    assert not engine.told("session.gate.waiting")
    for each in (session, other):
        await each.aclose()
        await left_alone(each, service, calls)


async def test_a_run_is_not_looked_at_when_the_lease_is_lost_while_its_end_is_waited_for(
    session: Session, service: FakeService, ledger: Stoppable, clock: ManualClock
) -> None:
    await session.send_prompt("one two")
    await session.queue_assistant()
    service.chats[session.known_chat].runs[0].ends_at = 1e12
    closing = asyncio.create_task(session.aclose())
    await until(lambda: service.calls["read_answer"])
    calls = service.calls.copy()
    ledger.stop()
    await clock.advance(1)
    await closing
    await left_alone(session, service, calls)


async def test_a_process_that_was_stopped_while_it_waited_for_its_turn_does_not_use_it(
    engine: Watched, service: FakeService, ledger: Stoppable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in a crash run: the run was queued on a chat that a sweeper had deleted meanwhile."""
    take = engine.turns.take

    async def stopped_meanwhile(session: Core) -> None:
        await take(session)
        ledger.stop()

    monkeypatch.setattr(engine.turns, "take", stopped_meanwhile)
    with pytest.raises(LeaseLost):
        await engine.ask("one two", account="bot").text()
    assert service.calls["send_prompt"] == 1
    assert service.calls["queue_assistant"] == 0


async def test_sweepers_delete_the_chat_in_the_name_of_another_holder(
    session: Session, engine: Watched, service: FakeService, ledger: Stoppable
) -> None:
    ledger.stop()
    swept = await engine.sweep()
    assert swept.swept == 1
    assert not service.chats
    await until(lambda: session.state is State.ORPHANED)
    assert service.calls["delete_chat"] == 1, "the session did not delete it, too"
    with pytest.raises(LeaseLost):
        await session.send_prompt("one two")
    async with engine.session(account="bot") as another:
        await another.ready_cookies()
        await another.create_chat()
    assert another.state is State.DELETED, "the process goes on with its new holder"


async def test_a_create_that_is_answered_after_the_lease_was_lost_is_deleted_by_its_session(
    engine: Watched, service: FakeService, ledger: Stoppable, clock: ManualClock
) -> None:
    """Sweepers know only of its intent, so nobody else could delete it soon."""
    arrived, answer = asyncio.Event(), asyncio.Event()

    class Slow(FakeService):
        async def create_chat(self, call: Call, client_key: str) -> str:
            chat = await FakeService.create_chat(service, call, client_key)
            arrived.set()
            await answer.wait()
            return chat

    service.create_chat = Slow.create_chat.__get__(service)  # type: ignore[method-assign]
    asking = asyncio.create_task(engine.ask("one two", account="bot").text())
    await arrived.wait()
    ledger.stop()
    ledger.beat()
    await until(lambda: engine.told("ledger.lease_lost"))
    answer.set()
    with pytest.raises(LeaseLost):
        await asking
    assert not service.chats
    assert service.calls["send_prompt"] == 0


async def test_an_intent_that_another_process_claimed_is_not_bound(
    engine: Watched, service: FakeService, ledger: Stoppable, clock: ManualClock, tmp_path: Path
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    class Keyless(FakeService):
        async def create_chat(self, call: Call, client_key: str) -> str:
            chat = await super().create_chat(call, client_key)
            arrived.set()
            await answer.wait()
            return chat

    other = OwnHandle(tmp_path / "ledger", lease=LEASE, clock=clock)
    slow = Keyless(clock=clock, capabilities=Capabilities(listing=True))
    async with Watched(slow, ledger=ledger, clock=clock, sweep=None) as owner:
        asking = asyncio.create_task(owner.ask("one two", account="bot").text())
        await arrived.wait()
        assert ledger._store is not None
        ours = ledger._store.lease.holder
        await other.open()
        await other._run(lambda statements, now, lease: statements.bury(ours, now))
        (claim,) = await other.claim(await other.due(), 10)
        assert claim.entry.state is EntryState.INTENT
        answer.set()
        with pytest.raises(LeaseLost):
            await asking
        assert not slow.chats, "the session gave its chat back itself"
        await other.aclose()


async def test_closing_the_engine_after_the_stop_sends_nothing(
    service: FakeService, ledger: Stoppable, clock: ManualClock
) -> None:
    async with Watched(service, ledger=ledger, clock=clock, sweep=None) as engine:
        session = engine.session(account="bot")
        await session.ready_cookies()
        await session.create_chat()
        calls = service.calls.copy()
        ledger.stop()
        await session.aclose()
    await left_alone(session, service, calls)


_STREAMS = """
    import asyncio, json, sys
    from chatlease import Engine, SqliteLedger
    from chatlease.testing import FakeService, HANG

    async def main(path, liveness):
        service = FakeService(batches=[("one ",), HANG])
        ledger = SqliteLedger(path, lease=1.0, liveness=liveness)
        events = []
        def hear(event):
            events.append(event.event)

        async with Engine(service, ledger=ledger, sweep=None, hooks=[hear]) as engine:
            answer = engine.ask("one two", account="bot")
            tokens = aiter(answer)
            await anext(tokens)
            print(json.dumps({"origin": service.origin, "chat": answer.session.chat}), flush=True)
            calls, name = service.calls.copy(), ""
            try:
                await anext(tokens)
            except Exception as error:
                name = type(error).__name__
            await answer.aclose()
            await answer.session.wait_closed()
            sent = sum((service.calls - calls).values())
            lost = events.count("ledger.lease_lost")
            told = {"error": name, "state": answer.session.state.value, "sent": sent, "lost": lost}
            print(json.dumps(told), flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("liveness", ["lease", "flock"])
async def test_a_stopped_process_loses_its_chat_and_learns_it_when_it_goes_on(
    tmp_path: Path, liveness: Literal["lease", "flock"]
) -> None:
    """A real one, stopped by SIGSTOP for longer than its lease. Where a lock tells that it lives, it is not reaped."""
    path = tmp_path / "ledger"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(_STREAMS), str(path), liveness),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(each for each in sys.path if each)},
    )
    try:
        assert child.stdout is not None
        streaming = json.loads(await child.stdout.readline())
        ledger = OwnHandle(path, lease=1.0, liveness=liveness)
        await ledger.open()
        child.send_signal(signal.SIGSTOP)
        reaped = await reaped_within(ledger.reap, 3.0)
        assert reaped == (liveness == "lease")
        if reaped:
            (claim,) = await ledger.claim(await ledger.due(), 10)
            assert (claim.entry.chat, claim.entry.state) == (streaming["chat"], EntryState.BOUND)
            ledger.settled(claim.hold)
        child.send_signal(signal.SIGCONT)
        told = json.loads(await asyncio.wait_for(child.stdout.readline(), 20))
        assert told == {"error": "LeaseLost", "state": "orphaned", "sent": 0, "lost": 1}
        await asyncio.wait_for(child.wait(), 20)
        await ledger.reap()
        claims = await ledger.claim(await ledger.due(), 10)
        assert [claim.entry.chat for claim in claims] == ([] if reaped else [streaming["chat"]])
        await ledger.aclose()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def reaped_within(reap: Callable[[], Awaitable[int]], seconds: float) -> bool:
    """Reap again and again, as sweepers do."""
    ends = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        if await reap():
            return True
        await asyncio.sleep(0.05)
    return False
