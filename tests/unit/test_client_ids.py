"""Chats whose id is ours to choose: known before they exist, and given back by it whatever became of the create."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from chatlease import Sweep
from chatlease.adapter import Capabilities
from chatlease.errors import LedgerUnavailable, Unavailable
from chatlease.ledger import Entry, EntryState
from chatlease.testing import FakeService, Fault, ManualClock, failpoints
from chatlease.testing.fake_service import unavailable
from tests.unit.ledger_kit import ACCOUNT, bot_on, new_entry
from tests.unit.peers import HORIZON, House, engine_of

CHOSEN = Capabilities(client_id=True, client_key=True, listing=True, stopping=True)
_names = itertools.count(1)


@pytest.fixture
def service(clock: ManualClock) -> FakeService:
    return FakeService(clock=clock, capabilities=CHOSEN)


async def died_in_its_create(house: House, service: FakeService, *, created: bool) -> str:
    """Have a process die between the intent and the reply; returns the chat's id, which is the entry's."""
    process, name = house.process(), f"0190b8f2-0000-7000-8000-{next(_names):012}"
    await process.intent(Entry(id=name, service=service.service, origin=service.origin, account="bot", chat=name))
    if created:
        service.plant("bot", key=name)
    process.kill()
    return name


async def test_the_ledger_knows_the_chats_id_before_the_create_is_sent(house: House, service: FakeService) -> None:
    seen: list[Entry] = []
    with failpoints.at("create_chat.intended", lambda: seen.extend(house.entries())):
        async with engine_of(service, house) as engine, engine.session() as session:
            await session.ready_cookies()
            await session.create_chat()
            assert session.chat == session.id
            (bound,) = house.entries()
    assert [(each.state, each.chat) for each in [*seen, bound]] == [
        (EntryState.INTENT, bound.id),
        (EntryState.BOUND, bound.id),
    ]


async def test_a_chat_whose_reply_nobody_heard_is_deleted_by_its_id_at_once_and_without_a_listing(
    house: House, service: FakeService
) -> None:
    chat = await died_in_its_create(house, service, created=True)
    async with engine_of(service, house) as engine:
        swept = await engine.sweep()
    assert not service.chats
    assert (swept.swept, swept.open) == (1, 0)
    assert service.calls["list_chats"] == service.calls["stop_run"] == 0, "and no run is asked for before a prompt"
    assert house.states() == {chat: "settled"}


async def test_a_chat_that_is_not_there_yet_is_looked_for_again_when_its_create_can_take_effect_no_more(
    house: House, service: FakeService, clock: ManualClock
) -> None:
    """That there is no such chat is final only then: the create may still be on its way."""
    late, never = [await died_in_its_create(house, service, created=False) for _ in range(2)]
    async with engine_of(service, house) as engine:
        first = await engine.sweep()
        assert (first.swept, first.absent, first.open) == (0, 0, 2)
        service.plant("bot", key=late)
        await clock.sleep(HORIZON - 1)
        assert (await engine.sweep()).claimed == 0, "nothing is to be found out before"
        await clock.sleep(1.1)
        second = await engine.sweep()
    assert (second.swept, second.absent, second.open) == (1, 1, 0)
    assert not service.chats
    assert house.states() == {late: "settled", never: "absent"}


async def test_a_create_whose_reply_is_lost_is_handed_over_and_given_back_within_seconds(
    house: House, service: FakeService, clock: ManualClock
) -> None:
    service.fail("create_chat", Fault(unavailable(), when="after"))
    async with engine_of(service, house, sweep=Sweep(first_retry=5.0)) as engine:
        with pytest.raises(Unavailable):
            await engine.ask("hello").text()
        assert service.chats
        await clock.sleep(6.0)
        assert not service.chats
    assert service.calls["list_chats"] == 0
    assert set(house.states().values()) == {"settled"}


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_ledger_file_that_is_lost_gets_the_chosen_ids_again(tmp_path: Path, *, claimed: bool) -> None:
    """As what they were: that the chat exists is still not known, whoever holds the entry."""
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        hold = await bot.ledger.intent(msgspec.structs.replace(new_entry(), chat="chosen"))
        if claimed:
            await bot.ledger.hand_over(hold, attempts=1, error_code="http-503")
            (hold,) = [claim.hold for claim in await bot.ledger.claim([ACCOUNT], 9)]
        _remove(path)
        await bot.engine.ask("on the new file").text()
        entries: Mapping[str, Entry] = {each.id: each for each in await bot.ledger.open_entries()}
        assert (entries[hold.entry].state, entries[hold.entry].chat) == (EntryState.INTENT, "chosen")
        bot.ledger.absent(hold)
        await bot.finishes()


def _remove(path: Path) -> None:
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)


async def test_an_id_that_is_no_unicode_is_refused_before_it_costs_others_their_transaction(tmp_path: Path) -> None:
    async with bot_on(tmp_path / "ledger") as bot:
        with pytest.raises(LedgerUnavailable):
            await bot.ledger.intent(msgspec.structs.replace(new_entry(), chat="\ud800"))
        await bot.finishes()
