"""A ledger shared by engines, threads and loops of one process, and by callers who leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatlease import Engine, SqliteLedger
from chatlease._ledger import _store
from chatlease._ledger._batch import Waiter
from chatlease._ledger._stored import StoredLedger
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import EntryState
from chatlease.testing import FakeService
from tests.unit.ledger_kit import ACCOUNT, Faults, Heard, faults, new_entry, opened, rows, store_of, until

__all__ = ["faults"]


async def test_engines_and_handles_of_a_process_share_one_connection(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "ledger"
    (tmp_path / "link").symlink_to(path)
    async with opened(SqliteLedger(path)) as first, opened(SqliteLedger(tmp_path / "link")) as second:
        async with Engine(FakeService(), ledger=f"sqlite:///{path}", sweep=None) as engine:
            await engine.ask("hello").text()
        assert store_of(first) is store_of(second)
        assert len(faults.connections) == 1
        assert rows(path, "SELECT count(*) FROM holders") == [(1,)]
        await second.intent(new_entry())
    assert rows(path, "SELECT state FROM holders") == [("gone",)]
    with pytest.raises(LedgerUnavailable, match="not open"):
        await second.open_entries()


async def test_loops_in_several_threads_share_it_too(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "ledger"

    def work() -> None:
        async def main() -> None:
            async with opened(SqliteLedger(path)) as ledger:
                for _ in range(20):
                    hold = await ledger.intent(new_entry())
                    await ledger.bound(hold, "chat")
                    ledger.settled(hold)
                await ledger.intent(new_entry())

        asyncio.run(main())

    async with opened(SqliteLedger(path)) as ledger:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, 30)
        assert len(faults.connections) == 1
        assert len(await ledger.open_entries()) == 4
        assert rows(path, "SELECT count(*) FROM entries") == [(84,)]


async def test_a_loop_that_is_gone_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited in a closed loop is not told; an intent of theirs is closed, for nobody will use it."""
    path, gone, resolve = tmp_path / "ledger", threading.Event(), _store._resolve

    def resolve_late(waiters: list[Waiter]) -> None:
        gone.wait(10)
        resolve(waiters)

    async with opened(SqliteLedger(path)) as ledger:

        def leave_at_once() -> None:
            loop = asyncio.new_event_loop()
            other = SqliteLedger(path)
            loop.run_until_complete(other.open())
            monkeypatch.setattr(_store, "_resolve", resolve_late)
            task = loop.create_task(other.intent(new_entry()))
            loop.call_soon(loop.stop)
            loop.run_forever()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
            gone.set()

        await asyncio.to_thread(leave_at_once)
        await ledger.intent(new_entry())

        async def one() -> bool:
            return len(await ledger.open_entries()) == 1

        await until(one)


async def test_a_cancelled_intent_is_not_left_as_living(handle: Callable[[], StoredLedger]) -> None:
    """Else it would keep lost chats of its account ambiguous for as long as this process lives."""
    async with opened(handle()) as ledger:
        for passes in (1, 2, 3, 5, 50):
            task = asyncio.ensure_future(ledger.intent(new_entry()))
            for _ in range(passes):
                await asyncio.sleep(0)
            if not task.cancel():
                ledger.absent(await task)
            await asyncio.wait({task})
            if not task.cancelled():
                ledger.absent(task.result())

        async def none() -> bool:
            return not (await ledger.known(ACCOUNT)).living_intents

        await until(none)


async def test_what_a_cancelled_claim_took_is_given_back(handle: Callable[[], StoredLedger]) -> None:
    async with opened(handle()) as ledger:
        hold = await ledger.intent(new_entry())
        await ledger.hand_over(hold, attempts=3, error_code="http-503", dead=True)
        for passes in (1, 3, 50):
            task = asyncio.ensure_future(ledger.claim([ACCOUNT], 5))
            for _ in range(passes):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                (claim,) = task.result()
                await ledger.hand_over(claim.hold, attempts=3, error_code="http-503", dead=True)

            async def free() -> bool:
                return not (await ledger.open_entries())[0].alive

            await until(free)
        (entry,) = await ledger.open_entries()
        assert (entry.attempts, entry.error_code, entry.dead, entry.orphaned) == (3, "http-503", True, True)


async def test_a_turn_asked_for_by_somebody_who_left_is_not_taken(handle: Callable[[], StoredLedger]) -> None:
    async with opened(handle()) as ledger:
        task = asyncio.ensure_future(ledger.take_turn(ACCOUNT, "left", slots=1, runs=None, window_s=0.0))
        await asyncio.sleep(0)
        task.cancel()
        ledger.end_turn("left")
        await asyncio.wait({task})
        turn = await ledger.take_turn(ACCOUNT, "next", slots=1, runs=None, window_s=0.0)
        assert turn.taken


async def test_a_hold_of_a_lost_lease_is_worth_nothing(handle: Callable[[], StoredLedger]) -> None:
    """A write that waited while our holder was declared dead is made by the next holder, or not at all."""
    async with opened(handle()) as ledger, opened(handle()) as other:
        heard = Heard()
        ledger.listen(heard)
        hold = await ledger.intent(new_entry())
        mine = hold.lease.holder
        await other._run(lambda statements, now, lease: statements.bury(mine, now))
        (claim,) = await other.claim([ACCOUNT], 5)
        with pytest.raises(Exception, match="not this process's"):
            await ledger.bound(hold, "chat")
        assert hold.lease.lost()
        assert heard.events == [("ledger.lease_lost", {"holder": mine})]
        ledger.settled(hold)
        again = await ledger.intent(new_entry())
        assert again.lease.holder != mine
        states = {each.id: (each.state, each.chat, each.alive) for each in await other.open_entries()}
        assert states == {
            hold.entry: (EntryState.INTENT, None, True),
            again.entry: (EntryState.INTENT, None, True),
        }
        other.settled(claim.hold)
        assert len(await other.open_entries()) == 1
        live = "SELECT count(*) FROM holders WHERE state = 'live'"
        assert await other._run(lambda statements, now, lease: statements._rows(live, ())) == [(2,)]


async def test_who_uses_a_ledger_can_be_seen_and_what_they_hold(handle: Callable[[], StoredLedger]) -> None:
    async with opened(handle()) as ledger, opened(handle()) as other:
        holds = [await other.intent(new_entry()) for _ in range(3)]
        other.settled(holds[0])
        await other.take_turn(ACCOUNT, "turn", slots=2, runs=None, window_s=0.0)
        (seen,) = await ledger.holders()
        assert (seen.id, seen.entries, seen.turns) == (holds[0].lease.holder, 2, 1)
        assert seen.host == socket.gethostname()
        assert seen.began_at <= seen.now <= seen.lease_until <= seen.now + ledger.lease_s
        (us,) = await other.holders()
        assert us.entries == 0
        await other.aclose()
        assert await ledger.holders() == []
