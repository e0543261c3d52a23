"""The ledger on PostgreSQL: where it is, how it is made, and what several transactions at once do to each other."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chatlease import Engine, PostgresLedger
from chatlease._ledger import _server_schema
from chatlease._ledger._address import parsed
from chatlease._ledger._server_statements import ServerStatements
from chatlease._settings import chosen_ledger
from chatlease.errors import LedgerUnavailable, UsageError
from chatlease.ledger import Account, Lease, Turn
from chatlease.testing import FakeService
from tests import postgres
from tests.unit.ledger_kit import (
    ACCOUNT,
    OwnServerHandle,
    beat,
    ended,
    heard_from,
    new_entry,
    opened,
    started,
    store_of,
    tell,
    until,
)

SECRET = "s3cr%3At"
ONE = Account("fake", "fake://1", "one")


# -- where it is ------------------------------------------------------------------------------------------------------


def test_an_address_has_a_name_without_user_and_password() -> None:
    address = parsed(
        f"postgres://bot:{SECRET}@db.example:5433,[::1]:5434/bots?schema=fleet&lease=30&sslmode=require", None
    )
    assert address.name == "postgresql://db.example:5433,[::1]:5434/bots?schema=fleet"
    assert address.dsn == f"postgresql://bot:{SECRET}@db.example:5433,[::1]:5434/bots?sslmode=require"
    assert (address.schema, address.options) == ("fleet", {"lease": 30.0})
    for shown in (repr(address), repr(PostgresLedger(f"postgresql://bot:{SECRET}@h/b")), f"{address}"):
        assert "s3cr" not in shown
        assert "bot:" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bot:a/s3cr@h/b",
        "postgresql://bot:a?s3cr@h/b",
        "postgresql://bot:1?s3cr@h/b",
        "postgresql://bot:1#s3cr@h/b",
        "postgresql://bot:s3cr",
        "postgresql://h/b#s3cr",
        "postgresql://h/b?schema=s3cr%20x",
        "postgresql://h/b?schema=S3cr",
        "postgresql://h/b?lease=-1",
        "postgresql://h/b?keep=nan",
        "postgresql://h/b?migrate=maybe",
        "postgresql://h\n/s3cr",
        "postgresql://bot:s3cr\u2100@h/b",
        "postgresql://bot:s3cr[@h/b",
    ],
)
def test_an_address_that_may_be_misread_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_ledger(url)
    assert "s3cr" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_options_in_the_address_are_terms_and_arguments_come_first() -> None:
    url = "postgresql://h/b?lease=12&horizon=34&keep=56&migrate=off"
    ledger = chosen_ledger(url)
    assert isinstance(ledger, PostgresLedger)
    assert (ledger.lease_s, ledger._terms.horizon, ledger._terms.keep, ledger._migrates) == (12.0, 34.0, 56.0, False)
    assert PostgresLedger(url, lease=99.0, migrate=True).lease_s == 99.0
    both = parsed("postgresql://h/b?schema=one", "two")
    assert (both.schema, both.dsn) == ("two", "postgresql://h/b"), "a server refuses options that it does not know"


async def test_an_error_shows_nothing_of_the_address_that_is_secret() -> None:
    ledger = PostgresLedger(f"postgresql://bot:{SECRET}@127.0.0.1:{postgres.free_port()}/bots")
    with pytest.raises(LedgerUnavailable, match="nothing listens there") as caught:
        await ledger.open()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "s3cr" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


async def test_a_database_that_is_not_there_is_said(postgres_server: str) -> None:
    url = postgres_server.rpartition("/")[0] + "/no_such_database"
    with pytest.raises(LedgerUnavailable, match="there is no such database"):
        await PostgresLedger(url).open()


def test_without_the_driver_a_ledger_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(UsageError, match="asyncpg") as caught:
        PostgresLedger("postgresql://h/b")
    assert "chatlease[postgres]" in caught.value.hint


async def test_an_engine_uses_it_by_its_address(postgres_url: str) -> None:
    service = FakeService()
    async with Engine(service, ledger=postgres_url, sweep=None) as engine:
        assert await engine.ask("hello").text() == "hello"
    assert not service.chats
    assert postgres.ask(postgres_url, "SELECT state FROM entries") == [("settled",)]
    assert postgres.ask(postgres_url, "SELECT state FROM holders") == [("gone",)]


# -- how it is made ---------------------------------------------------------------------------------------------------


async def test_handles_that_are_opened_at_once_make_one_ledger(postgres_url: str) -> None:
    handles = [OwnServerHandle(postgres_url) for _ in range(6)]
    await asyncio.gather(*(each.open() for each in handles))
    versions = postgres.ask(postgres_url, "SELECT value FROM meta WHERE key = 'schema_version'")
    assert versions == [(str(_server_schema.SCHEMA_VERSION),)]
    await asyncio.gather(*(each.aclose() for each in handles))


async def test_without_migrating_a_ledger_is_made_by_the_command(postgres_url: str) -> None:
    ledger = PostgresLedger(postgres_url, migrate=False)
    with pytest.raises(LedgerUnavailable, match="is not there yet") as caught:
        await ledger.open()
    assert "chatlease ledger migrate" in caught.value.hint
    assert await ledger.migrate() == (0, _server_schema.SCHEMA_VERSION)
    assert await ledger.migrate() == (_server_schema.SCHEMA_VERSION, _server_schema.SCHEMA_VERSION)
    async with opened(ledger):
        assert (await ledger.counts()).open == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("UPDATE meta SET value = '99' WHERE key = 'min_reader'", "needs a reader of version 99"),
        ("DROP TABLE meta", "holds tables, but no ledger"),
        ("UPDATE meta SET value = 'x'", "holds tables, but no ledger"),
    ],
)
async def test_a_schema_that_is_not_for_us_is_left_as_it_is(postgres_url: str, change: str, text: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        ledger.settled(await ledger.intent(new_entry()))
    postgres.ask(postgres_url, change)
    before = postgres.ask(postgres_url, "SELECT id, state FROM holders")
    for refused in (PostgresLedger(postgres_url).open(), PostgresLedger(postgres_url).migrate()):
        with pytest.raises(LedgerUnavailable, match=text):
            await refused
    assert postgres.ask(postgres_url, "SELECT id, state FROM holders") == before


async def test_a_user_who_makes_no_tables_uses_what_is_there(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)):
        pass
    schema = parsed(postgres_url, None).schema
    user = f"{schema}_user"
    as_user = postgres_url.replace("://", f"://{user}@") if "@" not in postgres_url else ""
    if not as_user:
        as_user = f"postgresql://{user}@{postgres_url.partition('@')[2]}"
    postgres.ask(postgres_url, f'CREATE ROLE "{user}" LOGIN')
    try:
        with pytest.raises(LedgerUnavailable, match="the user may not"):
            await PostgresLedger(as_user).open()
        for grant in (
            f'USAGE ON SCHEMA "{schema}"',
            f'SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}"',
        ):
            postgres.ask(postgres_url, f'GRANT {grant} TO "{user}"')
        async with opened(PostgresLedger(as_user)) as ledger:
            ledger.settled(await ledger.intent(new_entry()))
            assert (await ledger.take_turn(ACCOUNT, "turn", slots=1, runs=1, window_s=60.0)).taken
    finally:
        postgres.ask(postgres_url, f'DROP OWNED BY "{user}"')
        postgres.ask(postgres_url, f'DROP ROLE "{user}"')


async def test_a_server_that_cannot_be_written_to_is_refused(postgres_url: str) -> None:
    """A standby says so when it is asked at the connection."""
    ledger = PostgresLedger(f"{postgres_url}&default_transaction_read_only=on")
    with pytest.raises(LedgerUnavailable, match="none of its servers can be written to"):
        await ledger.open()


async def test_commits_are_durable_though_the_database_has_that_turned_off(postgres_url: str) -> None:
    async with opened(PostgresLedger(f"{postgres_url}&synchronous_commit=off")) as ledger:
        asked = "SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation')"
        assert await ledger._run(lambda statements, now, lease: list(statements._db.execute(asked))) == [
            ("on", "read committed")
        ]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 801])
async def test_what_the_server_cannot_hold_is_refused_and_costs_nobody_else_anything(
    postgres_url: str, name: str
) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        bad = new_entry(Account("fake", "fake://1", name))
        results = await asyncio.gather(ledger.intent(new_entry()), ledger.intent(bad), return_exceptions=True)
        assert [type(each).__name__ for each in results] == ["Hold", "LedgerUnavailable"]
        long = new_entry(Account("f" * 800, "\u00e9" * 400, "x" * 800))
        assert (await ledger.intent(long)).entry == long.id


@pytest.mark.parametrize("name", ["\0", "\udc80", "x" * 801])
async def test_a_question_that_the_server_cannot_understand_costs_nobody_else_anything(
    postgres_url: str, name: str
) -> None:
    account = Account("fake", "fake://1", name)
    async with opened(PostgresLedger(postgres_url)) as ledger:
        questions = [
            ledger.claim([account], 5),
            ledger.known(account),
            ledger.park(account, seconds=1.0, error_code="check"),
            ledger.unpark(account),
            ledger.take_turn(account, "a", slots=1, runs=None, window_s=60.0),
            ledger.take_turn(ONE, name, slots=2, runs=None, window_s=60.0),
        ]
        if len(name) == 1:
            questions += [ledger.retry(name), ledger.forget(name)]
        results = await asyncio.gather(ledger.intent(new_entry()), *questions, return_exceptions=True)
        assert [type(each).__name__ for each in results] == ["Hold"] + ["LedgerUnavailable"] * len(questions)


# -- transactions side by side ----------------------------------------------------------------------------------------


class Side:
    """One process's statements, in transactions that the test begins and ends."""

    def __init__(self, url: str, holder: str) -> None:
        self.holder = holder
        self._stack = ExitStack()
        self._wire = self._stack.enter_context(postgres.wire(url))
        self._schema = parsed(url, None).schema
        self.sql = ServerStatements(self._wire, 300.0)

    def begin(self) -> None:
        self._wire.run(f'BEGIN; SET LOCAL search_path TO "{self._schema}"; SET LOCAL lock_timeout = 2000')

    def commit(self) -> None:
        self._wire.run("COMMIT")

    @contextmanager
    def transaction(self) -> Generator[ServerStatements]:
        self.begin()
        yield self.sql
        self.commit()

    def take(self, entry: str, *, slots: int | None = 1, runs: int | None = None) -> Turn:
        return self.sql.take_turn(ONE, entry, self.holder, 1000.0, slots=slots, runs=runs, window_s=60.0)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def sides(postgres_url: str) -> Iterator[list[Side]]:
    """Three processes, each a live holder."""
    found = [Side(postgres_url, holder) for holder in ("one", "two", "three")]
    with found[0].transaction():
        _server_schema.migrate(found[0]._wire, parsed(postgres_url, None).schema)
        for each in found:
            found[0].sql.join(each.holder, 1000.0, lease=60.0, host="", lock="")
    try:
        yield found
    finally:
        for each in found:
            each.close()


def test_who_is_in_a_transaction_is_not_declared_dead_and_nobody_waits_for_him(sides: list[Side]) -> None:
    one, two, _ = sides
    one.begin()
    assert one.sql.enter("one", None) is not None
    with two.transaction() as sql:
        assert sql.bury("one", 2000.0, 1060.0) is False
    one.sql.renew("one", 2000.0, 60.0)
    one.commit()
    with two.transaction() as sql:
        assert sql.bury("one", 2000.0, 1060.0) is False, "it has renewed its lease"
        assert sql.bury("one", 2000.0, 2060.0) is True


def test_what_one_claims_another_passes_over(sides: list[Side]) -> None:
    one, two, three = sides
    with three.transaction() as sql:
        sql.intend([(name, *_who(ONE), None, "three", 1000.0) for name in "abcd"])
        sql.leave("three", 1000.0)
    one.begin()
    mine = one.sql.claim(_lease("one"), 1001.0, [ONE], 2)
    with two.transaction() as sql:
        theirs = sql.claim(_lease("two"), 1001.0, [ONE], 9)
    one.commit()
    assert [sorted(claim.entry.id for claim in claims) for claims in (mine, theirs)] == [["a", "b"], ["c", "d"]]


def test_what_another_has_claimed_meanwhile_is_not_taken(sides: list[Side]) -> None:
    """The claimer may be a process that began after we looked; then no lock tells."""
    one, two, three = sides
    with three.transaction() as sql:
        sql.intend([("a", *_who(ONE), None, "three", 1000.0)])
        sql.leave("three", 1000.0)
    one.begin()
    with two.transaction() as sql:
        (claim,) = sql.claim(_lease("two"), 1001.0, [ONE], 9)
    assert one.sql._take("a", _lease("one"), 1001.0) == []
    one.commit()
    assert claim.hold.epoch == 1


def test_a_turn_is_given_by_one_transaction_at_a_time_and_nobody_waits(sides: list[Side]) -> None:
    one, two, _ = sides
    one.begin()
    assert one.take("a").taken
    with two.transaction():
        assert not two.take("b").taken
        assert not two.take("c", slots=None, runs=5).taken, "the budget is counted by one at a time, too"
    one.commit()
    with two.transaction():
        assert not two.take("b").taken


def test_a_slot_that_was_given_is_seen_by_whoever_came_before(sides: list[Side]) -> None:
    """Places are numbered when they are asked for, and seen when that is durable."""
    one, two, three = sides
    three.begin()
    assert three.sql._alone(_who(ONE))
    one.begin()
    assert not one.take("early").taken
    three.commit()
    with two.transaction():
        assert two.take("late").taken, "the earlier place is not durable yet"
    one.commit()
    with one.transaction() as sql:
        assert not one.take("early").taken
        assert sql.awaited_turns("two") == ["late"]
    with two.transaction() as sql:
        sql.end_turns(["late"])
    with one.transaction():
        assert one.take("early").taken


def test_the_time_is_the_servers_and_goes_on_within_a_transaction(sides: list[Side]) -> None:
    one = sides[0]
    with one.transaction() as sql:
        first, again = sql.enter("one", None), sql.enter("one", None)
        assert first is not None
        assert again is not None
        assert first.now < again.now
        assert again.number == first.number + 1
        assert sql.enter("one", 7.0) == ("live", again.number + 1, 7.0)
        assert sql.enter("nobody", None) is None


def _who(account: Account) -> tuple[str, str, str]:
    return account.service, account.origin, account.account


def _lease(holder: str) -> Lease:
    return Lease(holder, lambda: 0.0, 1e9)


# -- one process ------------------------------------------------------------------------------------------------------


async def test_handles_and_loops_of_a_process_share_one_connection(postgres_url: str) -> None:
    url = f"{postgres_url}&application_name=shared"
    async with opened(PostgresLedger(url)) as ledger, opened(PostgresLedger(url)) as same:
        assert store_of(ledger) is store_of(same)

        def elsewhere() -> None:
            async def use() -> None:
                async with opened(PostgresLedger(url)) as other:
                    other.settled(await other.intent(new_entry()))

            asyncio.run(use())

        thread = threading.Thread(target=elsewhere)
        thread.start()
        holds = await asyncio.gather(*(ledger.intent(new_entry()) for _ in range(50)))
        await asyncio.to_thread(thread.join)
        assert {hold.lease.holder for hold in holds} == {store_of(ledger).lease.holder}
        backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shared'"
        assert postgres.ask(postgres_url, backends) == [(1,)]
    assert postgres.ask(postgres_url, "SELECT state, count(*) FROM holders GROUP BY 1") == [("gone", 1)]

    async def none() -> bool:
        return postgres.ask(postgres_url, backends) == [(0,)]

    await until(none)


async def test_what_many_ask_at_once_is_one_transaction(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        await ledger.intent(new_entry())
        ((before,),) = postgres.ask(postgres_url, "SELECT writes FROM holders")
        holds = await asyncio.gather(*(ledger.intent(new_entry()) for _ in range(200)))
        await asyncio.gather(*(ledger.bound(hold, f"chat-{hold.entry}") for hold in holds))
        for hold in holds:
            ledger.settled(hold)
        assert (await ledger.counts()).open == 1
        ((after,),) = postgres.ask(postgres_url, "SELECT writes FROM holders")
        assert after - before <= 6


async def test_a_lease_is_renewed_by_one_row(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        lease = "SELECT lease_until - extract(epoch FROM clock_timestamp())::float8 FROM holders"
        postgres.ask(postgres_url, "UPDATE holders SET lease_until = 0")
        await beat(ledger)
        ((left,),) = postgres.ask(postgres_url, lease)
        assert 50 < left <= 60


_HOLDS = """
    import asyncio, os, sys
    from chatlease import PostgresLedger
    from chatlease.ledger import Entry

    async def main():
        ledger = PostgresLedger(sys.argv[1])
        await ledger.open()
        hold = await ledger.intent(Entry(id=sys.argv[2], service="fake", origin="fake://1", account="bot-7"))
        print(hold.lease.holder, flush=True)
        {then}

    asyncio.run(main())
"""
_FORKS = """
child = os.fork()
        if not child:
            other = PostgresLedger(sys.argv[1])
            async def own():
                await other.open()
                own = await other.intent(Entry(id="childs", service="fake", origin="fake://1", account="bot-7"))
                print(own.lease.holder, flush=True)
                await other.aclose()
            import threading
            thread = threading.Thread(target=asyncio.run, args=(own(),))
            thread.start()
            thread.join()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        ledger.settled(hold)
        await ledger.aclose()
"""


async def test_a_process_that_ends_without_closing_is_gone_all_the_same(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        process = started(_HOLDS.format(then="return"), postgres_url, "theirs")
        assert await asyncio.to_thread(heard_from, process)
        await asyncio.to_thread(ended, process)
        (entry,) = await ledger.open_entries()
        assert (entry.id, entry.alive) == ("theirs", False)


async def test_a_killed_process_lives_until_its_lease_has_run_out(postgres_url: str) -> None:
    async with opened(PostgresLedger(f"{postgres_url}&lease=2")) as ledger:
        process = started(_HOLDS.format(then="sys.stdin.readline()"), f"{postgres_url}&lease=2", "theirs")
        assert await asyncio.to_thread(heard_from, process)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.communicate)
        assert await ledger.reap() == 0

        async def reaped() -> bool:
            return await ledger.reap() == 1

        await until(reaped)
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.entry.id == "theirs"


async def test_a_forked_child_is_a_holder_of_its_own_and_leaves_its_parents_alone(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        process = started(_HOLDS.format(then=_FORKS.strip()), postgres_url, "parents")
        holder, childs = [await asyncio.to_thread(heard_from, process) for _ in range(2)]
        assert holder != childs
        await asyncio.to_thread(ended, process)
        entries = [(each.id, each.alive) for each in await ledger.open_entries()]
        assert entries == [("childs", False)]


async def test_what_another_process_holds_can_be_seen_and_is_left_alone(postgres_url: str) -> None:
    async with opened(PostgresLedger(postgres_url)) as ledger:
        process = started(_HOLDS.format(then="sys.stdin.readline(); await ledger.aclose()"), postgres_url, "theirs")
        holder = await asyncio.to_thread(heard_from, process)
        (entry,) = await ledger.open_entries()
        assert (entry.holder, entry.alive) == (holder, True)
        assert await ledger.claim([ACCOUNT], 5) == []
        tell(process)
        await asyncio.to_thread(ended, process)
        assert len(await ledger.claim([ACCOUNT], 5)) == 1
