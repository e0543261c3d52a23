"""Chats whose create reply was lost are found without their ids, and nobody else's chat is taken for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatlease import Sweep
from chatlease.adapter import Call, Capabilities, ChatListing
from chatlease.errors import NotAuthenticated
from chatlease.ledger import Account, Entry, Hold, Known
from chatlease.testing import FakeService, Fault, ManualClock, failpoints
from chatlease.testing.fake_service import unavailable

from .peers import HORIZON, LEASE, MARGIN, House, Left, Process, engine_of, leave, leave_many, run_on

KEYLESS = Capabilities(listing=True, deletion_during_run="harmful", runs_per_account=1)
READY = HORIZON + LEASE + MARGIN


@pytest.fixture
def keyless(clock: ManualClock) -> FakeService:
    """A service that chooses the ids and takes no key, as most do."""
    return FakeService(clock=clock, capabilities=KEYLESS)


async def begin(process: Process, service: FakeService, *, account: str = "bot", name: str = "living") -> Hold:
    """Have a living session of another process begin a create."""
    return await process.intent(Entry(id=name, service=service.service, origin=service.origin, account=account))


async def lost(house: House, service: FakeService, number: int = 1) -> list[Left]:
    """Have processes die before a create's reply arrives; then wait until such a chat may be looked for."""
    left = await leave_many(number, house, service, bind=False)
    await house.clock.sleep(READY + 1)
    return left


class TestByTime:
    async def test_nothing_is_looked_for_before_create_deadline_lease_and_margin(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, keyless, bind=False)
        async with engine_of(keyless, house) as engine:
            await engine.sweep()
            await clock.sleep(READY - 1)
            await engine.sweep()
            assert keyless.calls["list_chats"] == 0
            assert keyless.chats.keys() == {left.chat}
            await clock.sleep(1.1)
            swept = await engine.sweep()
            assert engine.told("sweep.candidate.deleted") == [{"service": "fake", "account": "bot", "chat": left.chat}]
        assert not keyless.chats
        assert (swept.swept, swept.absent, swept.failed) == (1, 1, 0)
        assert house.states() == {left.entry: "absent"}

    async def test_an_intent_without_a_chat_becomes_absent(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, keyless, create=False)
        await clock.sleep(READY + 1)
        async with engine_of(keyless, house) as engine:
            assert (await engine.sweep()).absent == 1
            (keys,) = engine.told("sweep.entry.absent")
        assert keys["session"] == left.entry

    async def test_one_listing_per_account_whatever_the_number_of_entries(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        for number in range(260):
            await leave(house, keyless, create=number % 2 == 0, bind=False)
        await clock.sleep(READY + 1)
        await leave_many(20, house, keyless)
        async with engine_of(keyless, house) as engine:
            swept = await engine.sweep()
        assert keyless.calls["list_chats"] == 1
        assert keyless.pages == 3, "every page of it"
        assert (swept.absent, swept.swept, swept.open) == (260, 150, 0)
        assert not keyless.chats

    async def test_the_listing_comes_before_what_the_ledger_knows(self, clock: ManualClock, house: House) -> None:
        """A chat that is listed while its session lives is bound when the ledger is read; the other order kills it."""
        other = house.process()

        class Meanwhile(FakeService):
            async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
                hold = await begin(other, self)
                chat = self.plant("bot", key="living")
                async for each in super().list_chats(call):
                    yield each
                await other.bound(hold, chat)
                order.append("listed")

        class Asked(Process):
            async def known(self, account: Account) -> Known:
                order.append("known")
                return await super().known(account)

        order: list[str] = []
        service = Meanwhile(clock=clock, capabilities=KEYLESS)
        service.tells_creation = False
        (left,) = await lost(house, service)
        async with engine_of(service, house, ledger=Asked(house)) as engine:
            swept = await engine.sweep()
        assert order == ["listed", "known"]
        assert left.chat not in service.chats
        assert len(service.chats) == 1, "the living session has its chat"
        assert swept.swept == 1

    async def test_chats_of_others_are_left_alone(self, keyless: FakeService, house: House, clock: ManualClock) -> None:
        theirs = {keyless.plant("bot", at=clock.wall() - 3600), keyless.plant("other")}
        left = await leave(house, keyless, bind=False)
        theirs |= {keyless.plant("bot", prompt="hello")}
        await clock.sleep(READY - 5)
        theirs |= {keyless.plant("bot")}
        await clock.sleep(6)
        async with engine_of(keyless, house) as engine:
            await engine.sweep()
        assert keyless.chats.keys() == theirs
        assert left.chat not in theirs

    @pytest.mark.parametrize("ahead", [-7200.0, -90.0, 0.0, 90.0, 86400.0])
    async def test_the_services_clock_may_be_wrong_by_any_time(
        self, keyless: FakeService, house: House, clock: ManualClock, ahead: float
    ) -> None:
        keyless.ahead_s = ahead
        (left,) = await lost(house, keyless)
        theirs = keyless.plant("bot")
        slow = await leave(house, keyless)
        run_on(keyless, slow, 15)  # what is done before the listing takes its time, and must not count as an offset
        async with engine_of(keyless, house) as engine:
            await engine.sweep()
        assert left.chat not in keyless.chats
        assert keyless.chats.keys() == {theirs}

    async def test_without_times_in_the_listing_emptiness_counts_and_no_living_intent(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        keyless.tells_creation = False
        await leave(house, keyless, bind=False)
        full = keyless.plant("bot", prompt="hello")
        await clock.sleep(READY + 1)
        living = house.process()
        hold = await begin(living, keyless)
        async with engine_of(keyless, house) as engine:
            await engine.sweep()
            assert len(keyless.chats) == 2
            living.absent(hold)
            await clock.sleep(6)
            await engine.sweep()
        assert keyless.chats.keys() == {full}


class TestAmbiguity:
    async def test_a_chat_that_a_living_session_may_have_made_waits_until_that_is_known(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        living = house.process()
        hold = await begin(living, keyless)
        mine = keyless.plant("bot", key="living")
        (left,) = await lost(house, keyless)
        async with engine_of(keyless, house) as engine:
            for _ in range(3):
                assert (await engine.sweep()).absent == 0
                await clock.sleep(6)
            assert {keys["chat"] for keys in engine.told("sweep.candidate.ambiguous")} == {mine, left.chat}
            assert keyless.chats.keys() == {mine, left.chat}
            await living.bound(hold, mine)
            assert (await engine.sweep()).absent == 1
        assert keyless.chats.keys() == {mine}

    async def test_it_ends_with_the_death_of_the_living_session_too(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        living = house.process()
        await begin(living, keyless)
        keyless.plant("bot", key="living")
        await lost(house, keyless)
        async with engine_of(keyless, house) as engine:
            await engine.sweep()
            assert len(keyless.chats) == 2
            living.kill()
            await engine.sweep()
            await clock.sleep(6)
            await engine.sweep()
        assert not keyless.chats
        assert not house.entries()

    async def test_a_session_that_began_later_makes_nothing_ambiguous(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless)
        await begin(house.process(), keyless)
        mine = keyless.plant("bot", key="living")
        async with engine_of(keyless, house) as engine:
            assert (await engine.sweep()).absent == 1
        assert keyless.chats.keys() == {mine}


class TestByChoice:
    async def test_report_deletes_nothing_and_tells_again_every_day(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, keyless, bind=False)
        await leave(house, keyless, create=False)
        await clock.sleep(READY + 1)
        async with engine_of(keyless, house, sweep=Sweep(reconcile="report", every=1e6)) as engine:
            swept = await engine.sweep()
            assert keyless.chats.keys() == {left.chat}
            assert [keys["chat"] for keys in engine.told("sweep.candidate.found")] == [left.chat]
            assert (swept.undeleted, house.codes()) == (2, {"reported"})
            await engine.sweep()
            assert keyless.calls["list_chats"] == 1
            await clock.sleep(86401)
            await engine.sweep()
            assert len(engine.told("sweep.candidate.found")) == 2
            del keyless.chats[str(left.chat)]  # somebody did it by hand
            await clock.sleep(86401)
            assert (await engine.sweep()).absent == 2
        assert keyless.calls["delete_chat"] == 0

    async def test_off_does_not_even_look(self, keyless: FakeService, house: House, clock: ManualClock) -> None:
        await lost(house, keyless)
        async with engine_of(keyless, house, sweep=Sweep(reconcile="off", every=1e6)) as engine:
            assert (await engine.sweep()).undeleted == 1
        assert keyless.calls["list_chats"] == 0
        assert house.codes() == {"reconcile-off"}

    async def test_without_a_listing_it_is_a_dead_letter_at_once(self, house: House, clock: ManualClock) -> None:
        service = FakeService(clock=clock, capabilities=Capabilities())
        left = await leave(house, service, bind=False)
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
            (dead,) = engine.told("sweep.chat.dead")
        assert (swept.dead, dead["session"], dead["error_code"]) == (1, left.entry, "no-listing")


class TestByKey:
    async def test_a_key_finds_its_chat_at_once(self, service: FakeService, house: House, clock: ManualClock) -> None:
        left = await leave(house, service, bind=False)
        theirs = {service.plant("bot"), service.plant("bot", key="somebody's"), service.plant("bot", prompt="hello")}
        began = clock.now()
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
            (keys,) = engine.told("sweep.chat.deleted")
        assert clock.now() == began
        assert (swept.swept, swept.absent) == (1, 0)
        assert (keys["session"], keys["chat"]) == (left.entry, left.chat)
        assert house.states() == {left.entry: "settled"}
        assert service.chats.keys() == theirs, "without our key a chat is somebody else's, empty or not"

    async def test_a_late_create_is_found_when_it_can_take_effect_no_more(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service, create=False)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).absent == 0
            await clock.sleep(200)
            assert (await engine.sweep()).claimed == 0, "it is looked for at once and at its deadline, not in between"
            service.plant("bot", key=left.entry)
            await clock.sleep(HORIZON - 200)
            assert (await engine.sweep()).swept == 1
        assert not service.chats
        assert service.calls["list_chats"] == 2

    async def test_absent_only_after_the_create_deadline(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service, create=False)
        async with engine_of(service, house) as engine:
            await engine.sweep()
            await clock.sleep(HORIZON - 0.1)
            await engine.sweep()
            assert house.states() == {left.entry: "intent"}
            await clock.sleep(0.2)
            assert (await engine.sweep()).absent == 1

    @pytest.mark.parametrize("reconcile", ["report", "off"])
    async def test_a_key_is_no_guess_so_it_is_deleted_whatever_is_said_of_guesses(
        self, service: FakeService, house: House, reconcile: Any
    ) -> None:
        await leave(house, service, bind=False)
        async with engine_of(service, house, sweep=Sweep(reconcile=reconcile, every=1e6)) as engine:
            assert (await engine.sweep()).swept == 1

    async def test_a_run_in_a_found_chat_is_waited_for(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        """A session never prompts a chat that it could not bind; whoever else did, we do no harm."""
        left = await leave(house, service, bind=False)
        service.chats[str(left.chat)].prompts.append("prompt")
        run_on(service, left, 8)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 1
        assert service.lost_messages == 0

    async def test_what_was_deleted_before_something_broke_has_not_failed(
        self, service: FakeService, house: House
    ) -> None:
        first, *others = await leave_many(3, house, service, bind=False)

        def break_off() -> None:
            raise ValueError

        async with engine_of(service, house) as engine:
            with failpoints.at("sweep.settled", break_off):
                swept = await engine.sweep()
            assert (swept.swept, swept.failed) == (1, 2)
            failed = {keys["session"] for keys in engine.told("sweep.chat.failed")}
        assert failed == {each.entry for each in others}
        assert house.states()[first.entry] == "settled"

    async def test_a_create_that_is_answered_late_is_swept_by_the_same_process(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        service.fail("create_chat", Fault(unavailable(), when="late", delay_s=100))
        async with engine_of(service, house, sweep=Sweep()) as engine:
            with pytest.raises(Exception, match="out of order"):
                await engine.ask("one", account="bot").text()
            await clock.sleep(101)
            assert len(service.chats) == 1
            await clock.sleep(HORIZON)
            assert not service.chats
            assert not house.entries()


class TestTrouble:
    async def test_a_listing_that_fails_makes_nothing_absent(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless, 3)
        keyless.fail("list_chats", unavailable())
        async with engine_of(keyless, house) as engine:
            swept = await engine.sweep()
            assert (swept.failed, swept.absent, len(keyless.chats)) == (3, 0, 3)
            await clock.sleep(6)
            assert (await engine.sweep()).absent == 3

    async def test_a_listing_that_breaks_off_in_the_middle_makes_nothing_absent(
        self, clock: ManualClock, house: House
    ) -> None:
        class Breaking(FakeService):
            breaks = True

            async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
                async for each in super().list_chats(call):
                    yield each
                    if self.breaks:
                        raise unavailable()

        service = Breaking(clock=clock, capabilities=KEYLESS)
        await lost(house, service, 3)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).failed == 3
            service.breaks = False
            await clock.sleep(6)
            assert (await engine.sweep()).absent == 3
        assert not service.chats

    async def test_a_listing_that_hangs_has_the_time_of_a_call(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless)
        keyless.fail("list_chats", Fault(delay_s=float("inf")))
        async with engine_of(keyless, house) as engine:
            began = clock.now()
            assert (await engine.sweep()).failed == 1
            assert clock.now() - began <= 31

    async def test_a_candidate_that_cannot_be_deleted_leaves_its_intents_open(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless, 2)
        keyless.fail("delete_chat", Fault(), ValueError("broken"))
        async with engine_of(keyless, house) as engine:
            swept = await engine.sweep()
            assert (swept.swept, swept.absent, swept.failed) == (1, 0, 2)
            await clock.sleep(6)
            assert (await engine.sweep()).absent == 2
        assert not keyless.chats

    async def test_a_refused_listing_parks_the_account(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless)
        keyless.fail("list_chats", *[NotAuthenticated("x", status=401)] * 2)
        async with engine_of(keyless, house) as engine:
            assert (await engine.sweep()).parked == 1
            assert len(engine.told("sweep.account.parked")) == 1
        assert {(entry.attempts, entry.holder) for entry in house.entries()} == {(0, "")}

    async def test_several_engines_looking_at_once_hurt_nobody(
        self, keyless: FakeService, house: House, clock: ManualClock
    ) -> None:
        await lost(house, keyless, 120)
        living = house.process()
        hold = await begin(living, keyless)
        chat = keyless.plant("bot", key="living")
        engines = [engine_of(keyless, house) for _ in range(4)]
        for engine in engines:
            await engine.__aenter__()
        await asyncio.gather(*(engine.sweep() for engine in engines))
        for engine in engines:
            await engine.aclose()
        assert keyless.chats.keys() == {chat}
        await living.bound(hold, chat)
        assert [entry.id for entry in house.entries()] == ["living"]
