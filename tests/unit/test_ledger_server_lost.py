"""The ledger on PostgreSQL when the server loses something, or may: nothing is said to be durable that is not."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from chatlease import PostgresLedger
from chatlease._ledger._address import parsed
from chatlease._ledger._server_faults import Fault
from chatlease._ledger._store import Connection
from chatlease._ledger._wire import Wire
from chatlease.errors import LeaseLost, LedgerUnavailable
from chatlease.ledger import Turn
from chatlease.testing import ManualClock
from tests import postgres
from tests.cuttable import cuttable
from tests.unit.ledger_kit import ACCOUNT, Heard, OwnServerHandle, new_entry, opened, store_of, until


async def test_an_intent_whose_standby_never_had_it_is_not_durable() -> None:
    """The commit is there, but whoever waited for the standby was ended: only a later commit tells that it arrived."""
    with postgres.cluster() as server:
        async with opened(PostgresLedger(f"{server.url}?application_name=ours&lease=8")) as ledger:
            alone = "ALTER SYSTEM SET synchronous_standby_names = "
            postgres.ask(server.url, f"{alone}'nobody'")
            postgres.ask(server.url, "SELECT pg_reload_conf()")
            waits = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ours' AND wait_event = 'SyncRep'"
            intent = asyncio.ensure_future(ledger.intent(new_entry()))
            await until(lambda: bool(postgres.ask(server.url, waits)))
            postgres.ask(server.url, f"SELECT pg_terminate_backend(pid) FROM ({waits}) AS found")
            with pytest.raises(LedgerUnavailable):
                await intent
            postgres.ask(server.url, f"{alone}''")
            postgres.ask(server.url, "SELECT pg_reload_conf()")
            assert (await ledger.counts()).open == 0


async def test_a_place_that_nobody_uses_is_left_though_the_server_lost_something(postgres_url: str) -> None:
    """Else the account's other processes would wait for it until this one ends."""
    async with opened(OwnServerHandle(postgres_url)) as one, opened(OwnServerHandle(postgres_url)) as two:
        assert (await one.take_turn(ACCOUNT, "a", slots=1, runs=None, window_s=60.0)).taken
        one.end_turn("a")
        postgres.ask(postgres_url, "UPDATE holders SET writes = 0")
        await one.counts()

        async def free() -> bool:
            return (await two.take_turn(ACCOUNT, "b", slots=1, runs=None, window_s=60.0)).taken

        await until(free)


async def test_a_turn_in_use_outlives_that_the_server_lost_it(postgres_url: str) -> None:
    async with opened(OwnServerHandle(postgres_url)) as one, opened(OwnServerHandle(postgres_url)) as two:
        assert (await one.take_turn(ACCOUNT, "a", slots=1, runs=5, window_s=60.0)).taken
        for change in ("UPDATE holders SET writes = 0", "DELETE FROM turns", "DELETE FROM budgets"):
            postgres.ask(postgres_url, change)
        await one.counts()
        assert not (await two.take_turn(ACCOUNT, "b", slots=1, runs=5, window_s=60.0)).taken
        assert await one.awaited_turns() == ["a"]
        one.end_turn("a")
        await one.counts()
        assert (await two.take_turn(ACCOUNT, "b", slots=1, runs=5, window_s=60.0)).taken
        assert postgres.ask(postgres_url, "SELECT used FROM budgets") == [(2,)]


async def test_a_budget_that_was_noted_late_gives_nothing_back(postgres_url: str) -> None:
    """Who was cut off, and lost the account to another process, knows less of its budget than that one."""
    clock = ManualClock()
    with cuttable(postgres_url) as way:
        async with (
            opened(OwnServerHandle(way.url, clock=clock)) as one,
            opened(OwnServerHandle(postgres_url, clock=clock)) as two,
        ):
            assert (await one.take_turn(ACCOUNT, "a", slots=1, runs=5, window_s=660.0)).taken
            one.end_turn("a")
            way.cut()
            turn = one.turn_at_hand(ACCOUNT, "b", runs=5, window_s=660.0)
            assert turn is not None
            assert turn.taken
            with pytest.raises(LedgerUnavailable):
                await one.counts()
            await two.reap()
            for _ in range(6):
                await clock.advance(11.0)
                store_of(two).pulse()
                await two.counts()
            assert await two.reap() == 1
            for name in "wxyz":
                assert (await two.take_turn(ACCOUNT, name, slots=1, runs=5, window_s=660.0)).taken
                two.end_turn(name)
            await two.counts()  # with it goes what is noted
            way.mend()
            await one.counts()
            assert postgres.ask(postgres_url, "SELECT used FROM budgets") == [(5,)]


async def test_a_schema_that_is_dropped_underneath_is_made_again_with_what_is_known(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        heard, hold = Heard(), await ledger.intent(new_entry())
        ledger.listen(heard)
        await ledger.bound(hold, "chat")
        name = postgres_url.rpartition("schema=")[2]
        postgres.ask(postgres_url, f"DROP SCHEMA {name} CASCADE")
        found = {entry.id: entry.chat for entry in await ledger.open_entries()}
        assert found[hold.entry] == "chat"
        assert heard.names == ["ledger.quarantined"]
        ledger.settled(hold)


async def test_a_turn_that_was_not_written_is_asked_for_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two tries somebody else may have got it."""
    with cuttable(postgres_url) as way:
        async with opened(OwnServerHandle(way.url)) as one, opened(OwnServerHandle(postgres_url)) as two:
            loop, theirs = asyncio.get_running_loop(), list[Turn]()

            async def taken() -> bool:  # not at once: the server may not know yet that the first try was cut
                turn = await two.take_turn(ACCOUNT, "b", slots=1, runs=5, window_s=60.0)
                theirs.extend([turn] * turn.taken)
                return turn.taken

            connected, tries = store_of(one)._connected, itertools.count(1)

            def first_theirs() -> Connection:
                if next(tries) == 2:
                    asyncio.run_coroutine_threadsafe(until(taken), loop).result(20)
                return connected()

            monkeypatch.setattr(store_of(one), "_connected", first_theirs)
            way.cut_at(b"COMMIT\0", "before")
            mine = await one.take_turn(ACCOUNT, "a", slots=1, runs=5, window_s=60.0)
            assert (mine.taken, len(theirs)) == (False, 1)
            assert postgres.ask(postgres_url, "SELECT used FROM budgets") == [(1,)]


async def test_a_place_is_worth_nothing_without_the_lease(postgres_url: str) -> None:
    clock = ManualClock()
    async with opened(OwnServerHandle(postgres_url, clock=clock)) as ledger:
        assert (await ledger.take_turn(ACCOUNT, "a", slots=1, runs=None, window_s=60.0)).taken
        ledger.end_turn("a")
        store_of(ledger).lease.lose()
        assert ledger.turn_at_hand(ACCOUNT, "b", runs=None, window_s=60.0) is None


async def test_nothing_is_written_in_the_name_of_a_holder_that_was_declared_dead(postgres_url: str) -> None:
    """The fence: whatever the dead one asks for first is done as another holder, or not at all."""
    async with opened(OwnServerHandle(postgres_url)) as one, opened(OwnServerHandle(postgres_url)) as two:
        holds = [await one.intent(new_entry()) for _ in range(2)]
        await one.bound(holds[0], "chat")
        dead = holds[0].lease.holder
        postgres.ask(postgres_url, "UPDATE holders SET state = 'dead', ended_at = 0 WHERE id = ?", (dead,))
        later = await one.intent(new_entry())
        assert holds[0].lease.lost()
        assert later.lease.holder != dead
        with pytest.raises(LeaseLost):
            await one.bound(holds[1], "late")
        rows = "SELECT id, chat FROM entries WHERE holder = ? ORDER BY id"
        assert postgres.ask(postgres_url, rows, (dead,)) == [(holds[0].entry, "chat"), (holds[1].entry, None)]
        assert postgres.ask(postgres_url, "SELECT state FROM holders WHERE id = ?", (dead,)) == [("dead",)]
        assert {claim.entry.id for claim in await two.claim([ACCOUNT], 9)} == {hold.entry for hold in holds}


@pytest.mark.parametrize("sql", ["SELECT nothing", "SELECT 1 WHERE ? = 'x'"])
def test_an_error_of_the_drivers_is_not_kept_behind_ours(postgres_url: str, sql: str) -> None:
    """Its text, and its frames, hold addresses and values."""
    with postgres.wire(postgres_url) as wire, pytest.raises(Fault) as failed:
        wire.execute(sql, ("s3cr\udc80",) if "?" in sql else ())
    unreachable = Wire(parsed(f"postgresql://bot:s3cr@127.0.0.1:{postgres.free_port()}/bots", None), 5.0)
    unreachable.set_deadline()
    with pytest.raises(Fault) as refused:
        unreachable.connect()
    unreachable.close()
    for fault in (failed.value, refused.value):
        assert (fault.__cause__, fault.__context__) == (None, None)
        assert "s3cr" not in f"{fault!r} {vars(fault)}"
