"""What an attack did to the ledger and to those who use it; each was seen to happen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chatlease import Credential, Deadlines, Engine, MemoryLedger, SqliteLedger, Sweep
from chatlease._ledger._places import Places
from chatlease._ledger._statements import Statements
from chatlease._logins import _KEPT, Logins
from chatlease.errors import LedgerUnavailable, Unavailable
from chatlease.ledger import Account, Entry, Turn
from chatlease.testing import FakeService, ManualClock

from .ledger_kit import Faults, sqlite_error

ACCOUNT = Account("fake", "fake://1", "bot")
PROMPT = "one two"


def entry(name: str) -> Entry:
    return Entry(id=name, service=ACCOUNT.service, origin=ACCOUNT.origin, account=ACCOUNT.account)


def take(places: Places, statements: Statements, entry: str, now: float = 1000.0) -> Turn:
    return places.own(statements, ACCOUNT, entry, "mine", now, runs=2, window_s=600.0)


# -- one ledger, several engines --------------------------------------------------------------------------------------


async def test_an_engine_that_is_cancelled_while_it_opens_does_not_close_the_ledger_of_another(tmp_path: Path) -> None:
    service, ledger = FakeService(), SqliteLedger(tmp_path / "ledger")
    async with Engine(service, ledger=ledger) as engine, engine.session() as session:
        await session.ready_cookies()
        await session.create_chat()
        opening = asyncio.ensure_future(Engine(FakeService(), ledger=ledger).__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait({opening})
        [found] = await ledger.open_entries()
        assert found.alive
    assert not service.chats
    await ledger.aclose()


async def test_a_ledger_that_does_not_close_keeps_no_engine_open(clock: ManualClock) -> None:
    class Stuck(MemoryLedger):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    engine = Engine(FakeService(clock=clock), ledger="memory", clock=clock)
    engine.ledger = Stuck(clock)
    with pytest.warns(ResourceWarning, match="did not close: the ledger"):
        async with engine:
            await engine.ask(PROMPT).text()
    assert engine.deadlines.grace == Deadlines().grace


async def test_everyone_who_is_refused_gets_an_error_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes and frames of one caller are no business of another's."""
    faults = Faults()
    monkeypatch.setattr("chatlease._ledger._connection.connect", faults.connect)
    ledger = SqliteLedger(tmp_path / "ledger")
    await ledger.open()
    faults.fail = lambda sql: sqlite_error("SQLITE_FULL") if sql == "COMMIT" else None
    refused = await asyncio.gather(*(ledger.intent(entry(f"e{n}")) for n in range(20)), return_exceptions=True)
    faults.fail = lambda sql: None
    assert all(isinstance(error, LedgerUnavailable) and error.__cause__ is not None for error in refused)
    assert len({id(error) for error in refused}) == len(refused) == 20
    await ledger.aclose()


# -- logins -----------------------------------------------------------------------------------------------------------


async def test_a_chat_is_written_down_with_the_login_that_created_it_although_the_first_was_refused(
    clock: ManualClock,
) -> None:
    class Renewed(FakeService):
        async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
            return Credential(cookies={"login": "old" if rejected is None else "new"})

    new = Credential(cookies={"login": "new"}).fingerprint()
    service, ledger = Renewed(clock=clock), MemoryLedger(clock)
    service.accounts = {new}
    async with Engine(service, ledger=ledger, clock=clock) as engine, engine.session() as session:
        await session.ready_cookies()
        await session.create_chat()
        [chat] = service.chats.values()
        assert chat.account == new
        [found] = ledger.entries
        assert found.account == new
    assert not service.chats
    assert not ledger.entries


async def test_logins_are_not_kept_for_everybody_who_ever_came(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    logins = Logins(None)
    async with Engine(service, ledger=None, clock=clock) as engine:
        for number in range(_KEPT + 50):
            session = engine.session(account=f"user-{number}")
            await logins.find(session)
    assert len(logins._cached) <= _KEPT + 1
    assert len(logins._locks) <= _KEPT + 1


# -- turns ------------------------------------------------------------------------------------------------------------


def test_a_place_that_is_used_is_kept_when_something_else_cannot_be_written(statements: Statements) -> None:
    places = Places()
    assert take(places, statements, "one").taken
    places.confirm()
    assert places.undo() == []
    assert not take(places, statements, "two").taken, "it is still used"


def test_a_place_whose_ticket_was_not_written_is_given_up(statements: Statements) -> None:
    places = Places()
    assert take(places, statements, "one").taken
    assert len(places.undo()) == 1
    assert places.take(ACCOUNT, "two", 2, 600.0, 1000.0) is None


def test_a_budget_survives_a_clock_that_is_set_back(statements: Statements) -> None:
    """It is counted anew, rather than refused for as long as the clock was set back."""
    places = Places()
    for name in ("one", "two"):
        assert take(places, statements, name).taken
        places.end(name, 1000.0)
    assert take(places, statements, "three").wait_s == pytest.approx(600.0)
    places.end("three", 1000.0)
    assert take(places, statements, "four", now=1000.0 - 36_000.0).taken
    options = {"slots": None, "runs": 1, "window_s": 600.0}
    other = Account("fake", "fake://1", "other")
    assert statements.take_turn(other, "five", "theirs", 1000.0, **options).taken  # type: ignore[arg-type]
    assert not statements.take_turn(other, "six", "theirs", 1001.0, **options).taken  # type: ignore[arg-type]
    assert statements.take_turn(other, "seven", "theirs", 10.0, **options).taken  # type: ignore[arg-type]


def test_budgets_are_not_kept_for_ever(statements: Statements) -> None:
    assert take(Places(), statements, "one").taken
    statements.purge(999.0)
    assert statements.budget(ACCOUNT, 2000.0) == (1000.0, 1)
    statements.purge(1001.0)
    assert statements.budget(ACCOUNT, 2000.0) == (2000.0, 0)


# -- sweeps -----------------------------------------------------------------------------------------------------------


def test_what_a_dead_process_left_is_due_although_the_clock_was_set_back(statements: Statements) -> None:
    statements.intend([("e", ACCOUNT.service, ACCOUNT.origin, ACCOUNT.account, None, "theirs", 100_000.0)])
    statements.bury("theirs", 100_001.0)
    assert statements.due(100_000.0 - 36_000.0) == [ACCOUNT]


async def test_a_service_cannot_ask_to_be_left_alone_for_a_year(clock: ManualClock) -> None:
    service, ledger = FakeService(clock=clock), MemoryLedger(clock)
    year = Unavailable("later", status=503, retry_after_s=365 * 86_400.0)
    service.fail("delete_chat", *[year] * 100)
    how = Sweep(longest_retry=3600.0)
    async with Engine(service, ledger=ledger, clock=clock, sweep=None, deadlines=Deadlines(drain=1)) as engine:
        engine.sweeper.settings = how
        await engine.ask(PROMPT).text()
        assert (await engine.sweep()).failed == 1
        [found] = ledger.entries
        assert found.next_try_at - clock.wall() <= how.longest_retry
