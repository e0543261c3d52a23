"""Whose login the sweeper uses, and what becomes of an account whose login is refused, or not known here."""

from __future__ import annotations

from collections import Counter

import pytest

from chatlease import Sweep
from chatlease.adapter import Call, Capabilities, Credential, Login
from chatlease.errors import NotAuthenticated
from chatlease.testing import FakeService, Fault, ManualClock

from .peers import House, engine_of, leave, leave_many

HANG = Fault(delay_s=float("inf"))
SAFE = Capabilities(listing=True)


class TestParking:
    async def test_a_refused_login_parks_the_account_with_one_alert(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave_many(300, house, service)
        service.logins = {}
        async with engine_of(service, house, sweep=Sweep()) as engine:
            await clock.sleep(3000)
            assert len(engine.told("sweep.account.parked")) == 1
            assert engine.told("sweep.account.parked")[0]["error_code"] == "http-403"
            assert service.calls["read_answer"] <= 8, "a refused login is not used again and again"
            assert {(e.attempts, e.dead, e.parked) for e in house.entries()} == {(0, False, True)}
            assert (await engine.sweep()).parked == 300

    async def test_a_parked_account_is_tried_with_one_chat_an_hour_and_unparked_when_that_succeeds(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave_many(50, house, service)
        service.logins = {}
        async with engine_of(service, house) as engine:
            await engine.sweep()
            calls = service.calls["read_answer"]
            await clock.sleep(3500)
            await engine.sweep()
            assert service.calls["read_answer"] == calls, "not before the hour is over"
            await clock.sleep(101)
            await engine.sweep()
            assert service.calls["read_answer"] == calls + 1
            assert len(engine.told("sweep.account.parked")) == 1
            service.logins = None
            await clock.sleep(3601)
            assert (await engine.sweep()).swept == 50
            assert len(engine.told("sweep.account.unparked")) == 1
        assert not service.chats
        assert not house.db.execute("SELECT * FROM parked").fetchall()

    async def test_the_source_is_asked_once_more_and_whoever_was_refused_goes_on(
        self, service: FakeService, house: House
    ) -> None:
        await leave_many(40, house, service)
        good = Credential(cookies={"login": "new"})
        service.logins = {"bot": good}
        asked = Counter[str]()

        def provide(_service: str, account: str) -> Credential:
            asked[account] += 1
            return Credential(cookies={"login": "old"}) if asked[account] == 1 else good

        async with engine_of(service, house, credentials=provide) as engine:
            assert (await engine.sweep()).swept == 40
            assert not engine.told("sweep.account.parked")
        assert asked["bot"] == 2

    @pytest.mark.parametrize("accepted", [0, 1])
    async def test_a_source_is_asked_no_more_than_once_more(
        self, clock: ManualClock, house: House, accepted: int
    ) -> None:
        """Also where what it gave is accepted, and refused again in the same sweep."""

        class Fickle(FakeService):
            def _accepts(self, login: Login) -> bool:
                good = login.credential == Credential(cookies={"login": "number 2"})
                return good and self.calls["delete_chat"] <= accepted + 1

        def provide(_service: str, account: str) -> Credential:
            asked.append(account)
            return Credential(cookies={"login": f"number {len(asked)}"})

        service, asked = Fickle(clock=clock, capabilities=SAFE), list[str]()
        await leave_many(40, house, service)
        settings = Sweep(at_once=1, every=1e6)
        async with engine_of(service, house, credentials=provide, sweep=settings) as engine:
            await clock.sleep(1)
            assert (await engine.sweep()).parked == 40 - accepted
        assert asked == ["bot"] * 2

    async def test_where_the_login_that_was_given_is_refused_the_adapter_may_find_a_better_one(
        self, service: FakeService, house: House
    ) -> None:
        await leave(house, service)
        service.logins = {"bot": Credential(cookies={"login": "bot"})}
        async with engine_of(service, house, credentials={"bot": {"login": "stale"}}) as engine:
            assert (await engine.sweep()).swept == 1
        assert not service.chats

    async def test_what_one_login_proved_another_has_to_prove_again(self, clock: ManualClock, house: House) -> None:
        class Changing(FakeService):
            async def delete_chat(self, call: Call, chat: str) -> bool:
                deleted = await super().delete_chat(call, chat)
                self.logins = {"bot": good}
                return deleted

        def provide(_service: str, _account: str) -> Credential:
            return next(asked)

        good = Credential(cookies={"login": "new"})
        service, asked = Changing(clock=clock, capabilities=SAFE), iter([Credential(cookies={"login": "old"}), good])
        await leave(house, service)
        gone = await leave(house, service)
        del service.chats[str(gone.chat)]
        async with engine_of(service, house, credentials=provide, sweep=Sweep(at_once=1, every=1e6)):
            await clock.sleep(1)
        assert set(house.states().values()) == {"settled"}
        assert service.calls["list_chats"] == 1

    async def test_a_remembered_login_that_is_refused_is_forgotten(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        good = Credential(cookies={"login": "new"})
        async with engine_of(service, house, credentials={"bot": good}) as engine:
            session = engine.session(account="bot", credential=Credential(cookies={"login": "old"}))
            await session.ready_cookies()
            engine.sweeper.remember(session)
            service.logins = {"bot": good}
            for _ in range(2):
                await leave(house, service)
                assert (await engine.sweep()).swept == 1
        assert service.calls["read_answer"] == 3, "the refused login was used once"

    async def test_an_account_is_unparked_by_a_listing_too(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave(house, service, create=False)
        service.logins = {}
        async with engine_of(service, house) as engine:
            await engine.sweep()
            assert len(engine.told("sweep.account.parked")) == 1
            service.logins = None
            await clock.sleep(3601)
            assert (await engine.sweep()).absent == 1
            assert len(engine.told("sweep.account.unparked")) == 1


class TestLogins:
    async def test_accounts_whose_login_is_not_known_here_are_never_claimed(
        self, clock: ManualClock, house: House
    ) -> None:
        class Only(FakeService):
            async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
                raise NotAuthenticated("nothing found", code="no-credentials")

        service = Only(clock=clock)
        mine, theirs = await leave(house, service, "mine"), await leave(house, service, "theirs")
        before = house.db.execute("SELECT * FROM entries WHERE id = ?", (theirs.entry,)).fetchall()
        async with engine_of(service, house, credentials={"mine": {"login": "mine"}}) as engine:
            assert (await engine.sweep()).claimed == 1
        assert house.db.execute("SELECT * FROM entries WHERE id = ?", (theirs.entry,)).fetchall() == before
        assert service.chats.keys() == {theirs.chat}
        assert house.states()[mine.entry] == "settled"

    @pytest.mark.parametrize("error", [ValueError("x"), KeyError("theirs"), NotAuthenticated("x")])
    async def test_a_provider_that_fails_costs_only_its_account(
        self, service: FakeService, house: House, error: Exception
    ) -> None:
        theirs = await leave(house, service, "theirs")
        await leave(house, service, "mine")

        def provide(_service: str, account: str) -> Credential | None:
            if account == "theirs":
                raise error
            return Credential(cookies={"login": account})

        async with engine_of(service, house, credentials=provide) as engine:
            assert (await engine.sweep()).claimed == 1
        assert service.chats.keys() == {theirs.chat}

    async def test_a_source_of_logins_that_hangs_holds_nobody_up(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        for name in ("a", "b", "c"):
            await leave(house, service, name)
        service.fail("ready_cookies", HANG, HANG)
        async with engine_of(service, house) as engine:
            began = clock.now()
            assert (await engine.sweep()).swept == 1
            assert clock.now() - began <= 31

    async def test_chats_of_services_that_this_engine_does_not_have_are_not_touched(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        other = FakeService(clock=clock)
        left = await leave(house, other)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).claimed == 0
        assert other.chats.keys() == {left.chat}

    async def test_an_account_named_by_a_fingerprint_is_served_by_that_very_login_alone(
        self, service: FakeService, house: House
    ) -> None:
        def anybody(_service: str, _account: str) -> Credential:
            return Credential(cookies={"login": "x"})

        default = Credential(cookies={"login": "default"})
        mine = await leave(house, service, default.fingerprint())
        theirs = await leave(house, service, Credential(cookies={"login": "else"}).fingerprint())
        async with engine_of(service, house, credentials=anybody) as engine:
            assert (await engine.sweep()).claimed == 1
        assert service.chats.keys() == {theirs.chat}
        assert house.states()[mine.entry] == "settled"

    async def test_an_adapter_may_find_the_login_of_a_fingerprint_among_several(
        self, clock: ManualClock, house: House
    ) -> None:
        mine = Credential(cookies={"login": "second"})

        class Several(FakeService):
            async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
                if account == mine.fingerprint():
                    return mine
                return await super().ready_cookies(account, rejected)

        service = Several(clock=clock)
        await leave(house, service, mine.fingerprint())
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 1
