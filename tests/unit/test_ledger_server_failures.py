"""The ledger on PostgreSQL when the server, or the way to it, fails: nothing promised is lost, nothing done twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Literal

import pytest

from chatlease import PostgresLedger
from chatlease._ledger._server_store import ServerStore
from chatlease._ledger._statements import Statements
from chatlease.errors import LeaseLost, LedgerUnavailable
from chatlease.ledger import EntryState, Lease
from chatlease.testing import ManualClock
from tests import postgres
from tests.cuttable import Cuttable, cuttable
from tests.unit.ledger_kit import (
    ACCOUNT,
    Heard,
    OwnServerHandle,
    beat,
    bot_with,
    new_entry,
    opened,
    store_of,
    until,
)

COMMIT = b"COMMIT\0"


@pytest.fixture
def way(postgres_url: str) -> Iterator[Cuttable]:
    """The way to a schema of the test's own."""
    with cuttable(postgres_url) as found:
        yield found


async def test_a_server_that_goes_away_refuses_new_chats_and_lets_go_of_the_others(way: Cuttable) -> None:
    async with bot_with(PostgresLedger(way.url)) as bot:
        way.cut()
        error = await bot.refuses()
        assert "cannot be written" in str(error)
        await bot.finishes()
        way.mend()
        await bot.works()
        assert bot.heard == ["ledger.failed", "ledger.recovered"]
    assert postgres.ask(way.url, "SELECT DISTINCT state FROM entries WHERE id = ?", (bot.session.id,)) == [("settled",)]


async def test_a_cable_that_is_pulled_is_the_same_in_good_time(way: Cuttable) -> None:
    async with bot_with(PostgresLedger(way.url, lease=4.0, horizon=60.0)) as bot:
        way.stall()
        began = asyncio.get_running_loop().time()
        assert "does not answer in time" in str(await bot.refuses())
        assert asyncio.get_running_loop().time() - began < 5.0
        way.mend()
        await bot.finishes()
        await bot.works()


async def test_a_connection_that_was_cut_meanwhile_is_noticed_by_nobody(way: Cuttable) -> None:
    async with bot_with(PostgresLedger(way.url)) as bot:
        for _ in range(3):
            way.snap()
            assert await bot.engine.ask("again").text() == "again"
        await bot.finishes()
        assert bot.heard == []


async def test_a_backend_that_is_ended_by_the_server_is_noticed_by_nobody(postgres_url: str) -> None:
    async with bot_with(PostgresLedger(f"{postgres_url}&application_name=ended")) as bot:
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended'"
        assert postgres.ask(postgres_url, ends) == [(True,)]
        assert await bot.engine.ask("again").text() == "again"
        await bot.finishes()
        assert bot.heard == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_nobody_answered_for_is_asked_about_and_nothing_is_done_twice(
    way: Cuttable, when: Literal["before", "after"]
) -> None:
    async with opened(PostgresLedger(way.url)) as ledger:
        heard, new = Heard(), new_entry()
        ledger.listen(heard)
        way.cut_at(COMMIT, when)
        hold = await ledger.intent(new)
        way.cut_at(COMMIT, when)
        await ledger.bound(hold, "chat")
        (entry,) = await ledger.open_entries()
        assert (entry.id, entry.chat, entry.holder) == (new.id, "chat", hold.lease.holder)
        way.cut_at(COMMIT, when)
        await ledger.hand_over(hold, attempts=1, error_code="check")
        way.cut_at(COMMIT, when)
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.hold.epoch == 1
        ledger.settled(claim.hold)
        await ledger.counts()  # with it goes what is noted
        way.cut_at(COMMIT, when)
        turn = await ledger.take_turn(ACCOUNT, "turn", slots=1, runs=2, window_s=60.0)
        assert (turn.taken, turn.last) == (True, False)
        assert await ledger.open_entries() == []
        assert heard.names == []
        assert way.opened == 6
    assert postgres.ask(way.url, "SELECT used FROM budgets") == [(1,)]


async def test_what_may_have_happened_for_who_was_refused_is_taken_back(way: Cuttable) -> None:
    """The commit happens, its answer does not come, and nor does the server for a while."""
    async with opened(PostgresLedger(way.url)) as ledger:
        left = await ledger.intent(new_entry())
        await ledger.hand_over(left, attempts=3, error_code="http-503")

        async def fails(call: object) -> None:
            way.cut_at(COMMIT, "after")
            waiting = asyncio.ensure_future(call)  # type: ignore[call-overload]
            marks = way._marks
            await until(lambda: not marks)
            way.cut()
            with pytest.raises(LedgerUnavailable):
                await waiting
            way.mend()
            await ledger.counts()  # with it goes what is noted

        await fails(ledger.intent(new_entry()))
        await fails(ledger.claim([ACCOUNT], 5))

        async def taken_back() -> bool:
            entries = await ledger.open_entries()
            return [(each.id, each.alive, each.attempts) for each in entries] == [(left.entry, False, 3)]

        await until(taken_back)
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.hold.epoch == 2, "it had been claimed, and was handed back"
        ledger.settled(claim.hold)


@pytest.mark.parametrize("lost", ["the tail", "our holder"])
async def test_what_a_server_that_took_over_did_not_have_is_written_again(
    postgres_url: str, lost: Literal["the tail", "our holder"]
) -> None:
    """Replication is behind where it does not wait; what a dead process had written is found by its account's list."""
    async with opened(PostgresLedger(postgres_url)) as ledger:
        heard = Heard()
        ledger.listen(heard)
        one = await ledger.intent(new_entry())
        ((number,),) = postgres.ask(postgres_url, "SELECT writes FROM holders")
        await ledger.bound(one, "chat-one")
        two = await ledger.intent(new_entry())
        await ledger.bound(two, "chat-two")
        if lost == "the tail":
            postgres.ask(postgres_url, "UPDATE holders SET writes = ?", (number,))
            postgres.ask(postgres_url, "UPDATE entries SET chat = NULL, state = 'intent' WHERE id = ?", (one.entry,))
            postgres.ask(postgres_url, "DELETE FROM entries WHERE id = ?", (two.entry,))
        else:
            for table in ("holders", "entries"):
                postgres.ask(postgres_url, f"DELETE FROM {table}")
        entries = {each.id: each for each in await ledger.open_entries()}
        assert heard.events == [("ledger.quarantined", {"error_code": "rewound"})]
        for hold, chat in ((one, "chat-one"), (two, "chat-two")):
            entry = entries.pop(hold.entry)
            assert (entry.chat, entry.state, entry.alive) == (chat, EntryState.BOUND, True)
            ledger.settled(hold)
        (rest,) = entries.values()
        assert (rest.owner, rest.error_code, rest.orphaned) == (ACCOUNT, "ledger-lost", True)
        await ledger.intent(new_entry())
        assert len(heard.events) == 1


async def test_a_lease_that_ran_out_while_the_server_was_away_is_lost_and_replaced(way: Cuttable) -> None:
    clock = ManualClock()
    async with (
        opened(OwnServerHandle(way.url, clock=clock)) as ledger,
        opened(OwnServerHandle(way.url, clock=ManualClock())) as other,
    ):
        hold = await ledger.intent(new_entry())
        heard = Heard()
        ledger.listen(heard)
        way.cut()
        store = store_of(ledger)
        for _ in range(4):
            assert not hold.lease.lost()
            await clock.advance(12.0)
            store.pulse()
        await clock.advance(3.0)
        assert hold.lease.lost(), "well before the sixty seconds after which a sweeper may take the chat"
        way.mend()
        with pytest.raises(LeaseLost):
            await ledger.bound(hold, "chat")
        again = await ledger.intent(new_entry())
        assert again.lease.holder != hold.lease.holder
        assert ("ledger.lease_lost", {"holder": hold.lease.holder}) in heard.events
        ((state,),) = postgres.ask(way.url, "SELECT state FROM holders WHERE id = ?", (hold.lease.holder,))
        assert state == "dead"
        (claim,) = await other.claim([ACCOUNT], 5)
        assert claim.entry.id == hold.entry
        other.settled(claim.hold)


async def test_renewals_go_on_when_the_server_is_back(way: Cuttable) -> None:
    clock = ManualClock()
    async with opened(OwnServerHandle(way.url, clock=clock)) as ledger:
        hold = await ledger.intent(new_entry())
        way.cut()
        await clock.advance(40.0)
        store_of(ledger).pulse()
        with pytest.raises(LedgerUnavailable):
            await ledger.counts()
        way.mend()
        await beat(ledger)
        ((until_then,),) = postgres.ask(way.url, "SELECT lease_until FROM holders WHERE id = ?", (hold.lease.holder,))
        assert until_then == clock.wall() + 60.0
        await clock.advance(40.0)
        assert not hold.lease.lost()
        ledger.absent(hold)


async def test_who_waits_for_a_server_that_is_away_is_answered_every_time(way: Cuttable) -> None:
    async with opened(PostgresLedger(way.url)) as ledger:
        held = [await ledger.intent(new_entry()) for _ in range(5)]
        way.cut()
        async with asyncio.timeout(30):
            for hold in held:
                ledger.settled(hold)
                results = await asyncio.gather(
                    ledger.intent(new_entry()), ledger.counts(), ledger.reap(), return_exceptions=True
                )
                assert [type(each) for each in results] == [LedgerUnavailable] * 3
        way.mend()
        assert await ledger.open_entries() == []


async def test_a_server_that_is_away_at_the_start_is_said_in_good_time(way: Cuttable) -> None:
    way.cut()
    ledger = PostgresLedger(way.url)
    async with asyncio.timeout(20):
        with pytest.raises(LedgerUnavailable):
            await ledger.open()
    way.mend()
    async with opened(ledger):
        assert (await ledger.counts()).open == 0


async def test_an_end_while_the_server_is_away_takes_no_longer_than_a_batch(way: Cuttable) -> None:
    ledger = PostgresLedger(way.url, lease=8.0)
    await ledger.open()
    hold = await ledger.intent(new_entry())
    way.stall()
    ledger.settled(hold)
    async with asyncio.timeout(3.5):  # two seconds for what is under way, half a one for the last try
        await ledger.aclose()


async def test_two_transactions_that_wait_for_each_other_both_succeed(postgres_url: str) -> None:
    """The server ends one of them; it is written again."""
    gates, tries = [threading.Event(), threading.Event()], [0, 0]
    async with opened(OwnServerHandle(postgres_url)) as one, opened(OwnServerHandle(postgres_url)) as two:
        postgres.ask(postgres_url, "INSERT INTO meta VALUES('a', '0'), ('b', '0')")

        async def crossed(ledger: OwnServerHandle, number: int, names: str) -> None:
            def write(statements: Statements, _now: float, _lease: Lease) -> None:
                tries[number] += 1
                for name in names:
                    statements._db.execute("UPDATE meta SET value = (value::int + 1)::text WHERE key = ?", (name,))
                    gates[number].set()
                    gates[1 - number].wait(5)

            await ledger._run(write)

        await asyncio.gather(crossed(one, 0, "ab"), crossed(two, 1, "ba"))
    assert sum(tries) > 2, "nobody was ended"
    assert postgres.ask(postgres_url, "SELECT value FROM meta WHERE key IN ('a', 'b')") == [("2",), ("2",)]


async def test_statements_are_prepared_only_where_no_pooler_stands_between(postgres_url: str, pooled_url: str) -> None:
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
    for url, direct in ((postgres_url, True), (pooled_url, False)):
        async with opened(PostgresLedger(url)) as ledger:
            await ledger.intent(new_entry())
            ((number,),) = await ledger._run(lambda statements, now, lease: statements._rows(prepared, ()))
            assert (number > 0) is direct


async def test_prepared_statements_that_are_lost_are_noticed_by_nobody(postgres_url: str) -> None:
    """As behind a pooler that passes itself off as the server."""
    async with opened(PostgresLedger(postgres_url)) as ledger:
        heard = Heard()
        ledger.listen(heard)
        await ledger.intent(new_entry())
        await ledger._run(lambda statements, now, lease: statements._db.execute("DEALLOCATE ALL"))
        for _ in range(3):
            await ledger.intent(new_entry())
        assert (await ledger.counts()).open == 4
        assert heard.names == []


def test_a_batch_is_given_up_well_before_the_lease_is() -> None:
    for lease in (3.0, 60.0, 600.0):
        store = PostgresLedger("postgresql://127.0.0.1:1/none", lease=lease)._new_store()
        assert isinstance(store, ServerStore)
        assert store._server.wire.seconds <= max(1.0, lease / 4)
