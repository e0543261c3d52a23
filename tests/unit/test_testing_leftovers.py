"""`assert_nothing_left`: nothing is nothing, and what is left is named."""

from __future__ import annotations

import pytest

from chatlease import Engine, MemoryLedger
from chatlease.errors import Unavailable
from chatlease.testing import FakeService, Fault, ManualClock, assert_nothing_left

DOWN = Unavailable("out of order", status=503)


async def test_nothing_is_left_of_a_session_that_was_given_back(engine: Engine, service: FakeService) -> None:
    await engine.ask("one").text()
    await assert_nothing_left(engine, service.chats)
    await assert_nothing_left(engine.ledger, service.chats)
    await assert_nothing_left(None, ())


async def test_a_chat_that_no_ledger_knows_of_is_left_in_any_case(engine: Engine, service: FakeService) -> None:
    service.plant("somebody")
    for swept_later in (False, True):
        with pytest.raises(
            AssertionError, match=r"^1 chat left at the service, and no ledger knows of it:\n    chat-1$"
        ):
            await assert_nothing_left(engine, service.chats, swept_later=swept_later)
    service.chats.clear()


async def test_a_chat_that_a_sweep_would_delete_is_left_unless_that_is_allowed(
    engine: Engine, service: FakeService
) -> None:
    service.fail("delete_chat", *[DOWN] * 1000)
    await engine.ask("one").text()
    assert engine.ledger is not None
    [entry] = await engine.ledger.open_entries()
    with pytest.raises(AssertionError) as caught:
        await assert_nothing_left(engine, service.chats)
    assert str(caught.value).splitlines() == [
        "1 chat left at the service; a sweep would delete it:",
        f"    chat-1: entry {entry.id}, bound, orphaned, tries that failed: {entry.attempts} (http-503)",
    ]
    await assert_nothing_left(engine, service.chats, swept_later=True)
    service.faults.clear()
    await engine.sweep()
    await assert_nothing_left(engine, service.chats)


async def test_an_entry_of_unknown_id_stands_for_one_chat_and_no_more(engine: Engine, service: FakeService) -> None:
    service.fail("create_chat", Fault(Unavailable("the connection broke"), when="after"))
    with pytest.raises(Unavailable):
        await engine.ask("one").text()
    with pytest.raises(
        AssertionError, match=r"no ledger knows of it:\n    chat-1\n1 entry open .*\n    of unknown id: "
    ):
        await assert_nothing_left(engine, service.chats)
    await assert_nothing_left(engine, service.chats, swept_later=True)
    service.plant("somebody")
    with pytest.raises(AssertionError, match="2 chats left at the service, and no ledger knows of it"):
        await assert_nothing_left(engine, service.chats, swept_later=True)
    service.chats.clear()


async def test_an_entry_without_a_chat_is_left(service: FakeService) -> None:
    clock = ManualClock(autojump=True)
    ledger = MemoryLedger(clock)
    async with Engine(service, ledger=ledger, clock=clock) as engine, engine.session() as session:
        await session.ready_cookies()
        await session.create_chat()
        service.chats.clear()
        with pytest.raises(
            AssertionError, match=r"1 entry open in the ledger, without a chat of that id .*\n    chat-1: "
        ):
            await assert_nothing_left(ledger, service.chats)
        with pytest.raises(AssertionError, match=rf"1 session not over:\n    <Session {session.id} .*chat-created"):
            await assert_nothing_left(engine, service.chats)
