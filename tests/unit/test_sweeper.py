"""The sweeper gives back what others left: when, and without harm to anyone; whatever goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from chatlease import Deadlines, Sweep, TraceEvent
from chatlease.adapter import Call, Capabilities, Credential, Login
from chatlease.errors import LedgerUnavailable, RateLimited, SessionClosed, UsageError
from chatlease.ledger import Claim
from chatlease.testing import FakeService, Fault, ManualClock
from chatlease.testing.fake_service import unavailable

from .peers import House, Left, Process, Watched, engine_of, leave, leave_many, run_on

HANG = Fault(delay_s=float("inf"))
STOPPABLE = Capabilities(listing=True, stopping=True, deletion_during_run="harmful")
SAFE = Capabilities(listing=True)
BLIND = Capabilities(deletion_during_run="harmful")


class TestWhen:
    async def test_the_sweep_at_the_start_never_delays_the_first_session(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service)
        service.fail("read_answer", HANG)
        async with engine_of(service, house, sweep=Sweep()) as engine:
            began = clock.now()
            assert await engine.ask("one two").text() == "one two"
            assert clock.now() == began
            assert service.chats.keys() == {left.chat}
            await clock.sleep(90)
            assert not service.chats, "the hanging call cost the chat no more than its time"

    async def test_it_sweeps_when_the_engine_opens(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave(house, service)
        async with engine_of(service, house, sweep=Sweep()):
            await clock.sleep(1)
            assert not service.chats

    async def test_it_sweeps_every_so_often(self, service: FakeService, house: House, clock: ManualClock) -> None:
        async with engine_of(service, house, sweep=Sweep(every=60)) as engine:
            for _ in range(3):
                await clock.sleep(1)
                await leave(house, service)
                await clock.sleep(61)
                assert not service.chats
            assert 3 <= len(engine.told("sweep.completed")) <= 5

    async def test_without_settings_it_sweeps_only_when_told(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service)
        async with engine_of(service, house) as engine:
            await clock.sleep(1000)
            assert service.chats.keys() == {left.chat}
            swept = await engine.sweep()
            assert not service.chats
        assert (swept.reaped, swept.claimed, swept.swept, swept.open) == (1, 1, 1, 0)

    async def test_the_figures_of_a_sweep_are_what_was_done(self, service: FakeService, house: House) -> None:
        await leave_many(3, house, service)
        gone = await leave(house, service)
        del service.chats[str(gone.chat)]
        await leave(house, service, create=False)
        service.fail("delete_chat", unavailable())
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
            assert engine.told("sweep.completed") == [{k: getattr(swept, k) for k in swept.__struct_fields__}]
        figures = (swept.reaped, swept.claimed, swept.swept, swept.failed, swept.absent, swept.dead, swept.open)
        assert figures == (5, 5, 3, 1, 0, 0, 2)

    async def test_without_a_ledger_there_is_nothing_to_sweep(self, service: FakeService, clock: ManualClock) -> None:
        async with Watched(service, ledger=None, clock=clock) as engine:
            with pytest.raises(UsageError, match="no ledger"):
                await engine.sweep()

    async def test_a_closed_engine_sweeps_no_more(self, service: FakeService, house: House) -> None:
        async with engine_of(service, house) as engine:
            pass
        left = await leave(house, service)
        with pytest.raises(SessionClosed):
            await engine.sweep()
        assert service.chats.keys() == {left.chat}

    async def test_sweeps_of_one_engine_never_overlap(self, service: FakeService, house: House) -> None:
        await leave_many(30, house, service)
        async with engine_of(service, house, sweep=Sweep()) as engine:
            await asyncio.gather(*(engine.sweep() for _ in range(3)))
            names = [e.event for e in engine.events if e.event in {"sweep.started", "sweep.completed"}]
        assert names == ["sweep.started", "sweep.completed"] * (len(names) // 2)
        assert service.calls["delete_chat"] == 30

    async def test_the_orphan_of_a_failed_cleanup_is_deleted_soon_by_the_same_process(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        service.fail("delete_chat", *[unavailable()] * 200)
        own = Credential(cookies={"login": "known to this session alone"})
        deadlines = Deadlines(drain=5, grace=5)
        async with engine_of(service, house, sweep=Sweep(every=600), deadlines=deadlines) as engine:
            await engine.ask("one", credential=own).text()
            assert len(service.chats) == 1
            assert [entry.orphaned for entry in house.entries()] == [True]
            service.faults.clear()
            await clock.sleep(6)
            assert not service.chats
            assert not house.entries()

    async def test_many_failed_cleanups_do_not_put_the_next_sweep_off(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        async with engine_of(service, house, sweep=Sweep(every=60, first_retry=5)) as engine:
            await clock.sleep(1)
            sweeps = len(engine.told("sweep.completed"))
            session = engine.session()
            await session.ready_cookies()
            for _ in range(20):
                engine.sweeper.remember(session)
                await clock.sleep(3)
            assert len(engine.told("sweep.completed")) >= sweeps + 8

    async def test_a_failing_ledger_ends_a_sweep_not_the_sweeping(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        class Failing(Process):
            fails = True

            async def reap(self) -> int:
                if self.fails:
                    raise LedgerUnavailable("the disk is full")
                return await super().reap()

        ledger = Failing(house)
        await leave(house, service)
        async with engine_of(service, house, sweep=Sweep(), ledger=ledger) as engine:
            await clock.sleep(1)
            assert engine.told("sweep.failed") == [{"error": "LedgerUnavailable"}]
            with pytest.raises(LedgerUnavailable):
                await engine.sweep()
            ledger.fails = False
            await clock.sleep(61)
            assert not service.chats

    async def test_a_ledger_that_fails_for_one_account_is_told_and_costs_the_others_nothing(
        self, service: FakeService, house: House
    ) -> None:
        class Failing(Process):
            async def claim(self, accounts: Any, limit: int) -> list[Claim]:
                if {account.account for account in accounts} == {"sick"}:
                    raise LedgerUnavailable("the disk is full")
                return list(await super().claim(accounts, limit))

        sick = await leave(house, service, "sick")
        await leave(house, service, "well")
        async with engine_of(service, house, ledger=Failing(house)) as engine:
            with pytest.raises(LedgerUnavailable):
                await engine.sweep()
        assert service.chats.keys() == {sick.chat}


class TestRuns:
    async def test_a_run_that_is_going_is_waited_for(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service)
        run_on(service, left, 10)
        began = clock.now()
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
        assert swept.swept == 1
        assert 10 <= clock.now() - began < 20
        assert service.lost_messages == 0

    async def test_a_run_that_goes_on_is_left_for_later_where_deleting_would_do_harm(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        for _ in range(5):
            run_on(service, await leave(house, service), 60)
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
            assert (swept.swept, swept.failed, len(service.chats)) == (0, 5, 5)
            assert house.codes() == {"run-going"}
            assert {keys["error_code"] for keys in engine.told("sweep.chat.failed")} == {"run-going"}
            assert service.calls["delete_chat"] == 0
            await clock.sleep(60)
            await engine.sweep()
        assert not service.chats
        assert service.lost_messages == 0

    async def test_a_run_is_stopped_where_the_service_can(self, clock: ManualClock, house: House) -> None:
        service = FakeService(clock=clock, capabilities=STOPPABLE)
        run_on(service, await leave(house, service), 1e9)
        async with engine_of(service, house) as engine:
            began = clock.now()
            assert (await engine.sweep()).swept == 1
        assert clock.now() == began
        assert service.calls["stop_run"] == 1
        assert service.lost_messages == 0

    async def test_a_stop_that_fails_keeps_nobody_from_deleting_where_that_is_safe(
        self, clock: ManualClock, house: House
    ) -> None:
        service = FakeService(clock=clock, capabilities=Capabilities(listing=True, stopping=True))
        service.fail("stop_run", unavailable())
        await leave(house, service)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 1
        assert not service.chats

    async def test_where_deletion_is_safe_and_nothing_can_be_stopped_nobody_looks(
        self, clock: ManualClock, house: House
    ) -> None:
        service = FakeService(clock=clock, capabilities=SAFE)
        await leave(house, service)
        async with engine_of(service, house) as engine:
            await engine.sweep()
        assert service.calls == Counter(ready_cookies=1, delete_chat=1)


class TestGone:
    async def test_no_such_chat_is_success_with_a_login_that_was_accepted(
        self, service: FakeService, house: House
    ) -> None:
        left = await leave(house, service)
        service.chats.clear()
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 1
        assert house.states() == {left.entry: "settled"}
        assert service.calls["list_chats"] == 1, "the listing is what proves the login"

    async def test_one_proof_is_enough_for_a_sweep(self, service: FakeService, house: House) -> None:
        await leave_many(20, house, service)
        service.chats.clear()
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 20
        assert service.calls["list_chats"] <= 4

    async def test_no_such_chat_is_nothing_with_a_login_that_is_refused(self, clock: ManualClock, house: House) -> None:
        class Shy(FakeService):
            """Answers 404 before it looks at who asks, as some do."""

            async def delete_chat(self, call: Call, chat: str) -> bool:
                return False

        service = Shy(clock=clock, capabilities=SAFE)
        service.logins = {"bot": Credential(cookies={"login": "another"})}
        left = await leave(house, service)
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).swept == 0
        assert house.states() == {left.entry: "bound"}
        assert service.chats.keys() == {left.chat}

    async def test_the_login_of_another_account_never_settles(self, clock: ManualClock, house: House) -> None:
        """The wrong login is refused by the listing that proves it; the chat, which looks gone to it, stays known."""

        class Mixed(FakeService):
            def _accepts(self, login: Login) -> bool:
                return login.credential == Credential(cookies={"login": "right"})

            async def delete_chat(self, call: Call, chat: str) -> bool:
                return self._accepts(call.login) and await super().delete_chat(call, chat)

        service = Mixed(clock=clock, capabilities=SAFE)
        left = await leave(house, service)
        async with engine_of(service, house, credentials={"bot": {"login": "wrong"}}) as engine:
            await engine.sweep()
            assert house.states() == {left.entry: "bound"}
        await clock.sleep(3600)
        async with engine_of(service, house, credentials={"bot": {"login": "right"}}) as engine:
            await engine.sweep()
        assert not service.chats

    async def test_without_a_listing_a_gone_chat_is_unproven_until_another_was_deleted(
        self, clock: ManualClock, house: House
    ) -> None:
        service = FakeService(clock=clock, capabilities=BLIND)
        left = await leave(house, service)
        service.chats.clear()
        async with engine_of(service, house) as engine:
            assert (await engine.sweep()).failed == 1
            assert house.codes() == {"unproven"}
            await leave(house, service)
            assert (await engine.sweep()).swept == 1
            await clock.sleep(10)
            await leave(house, service)
            await engine.sweep()
            await clock.sleep(60)
        assert house.states()[left.entry] in {"bound", "settled"}


class TestTrouble:
    async def test_retry_after_is_honoured_and_the_account_left_alone(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave_many(30, house, service)
        service.fail("read_answer", *[RateLimited("x", status=429, retry_after_s=500)] * 4)
        async with engine_of(service, house) as engine:
            await engine.sweep()
            assert service.calls["read_answer"] <= 4
            assert all(entry.next_try_at >= clock.wall() + 500 for entry in house.entries())
            calls = service.calls.copy()
            await clock.sleep(499)
            await engine.sweep()
            assert service.calls == calls
            await clock.sleep(2)
            assert (await engine.sweep()).swept == 30

    async def test_one_who_asks_to_be_left_alone_is_asked_nothing_more_in_this_sweep(
        self, service: FakeService, house: House
    ) -> None:
        await leave_many(10, house, service)
        service.fail("read_answer", RateLimited("x", status=429))
        async with engine_of(service, house, sweep=Sweep(at_once=1, every=1e6)) as engine:
            await asyncio.sleep(0)
            await engine.sweep()
        assert service.calls["read_answer"] == 1

    async def test_a_service_that_fails_now_and_then_but_not_in_a_row_is_not_left_alone(
        self, service: FakeService, house: House
    ) -> None:
        await leave_many(12, house, service)
        for _ in range(3):
            service.fail("delete_chat", unavailable(), unavailable(), Fault())
        async with engine_of(service, house, sweep=Sweep(at_once=1, every=1e6)) as engine:
            await asyncio.sleep(0)
            swept = await engine.sweep()
        assert service.calls["delete_chat"] == 12
        assert len(service.chats) == len(house.entries()) == 6
        assert swept.open == 6

    async def test_a_dead_letter_that_could_not_be_tried_is_still_one(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave(house, service)
        service.fail("delete_chat", ValueError("broken"))
        async with engine_of(service, house, sweep=Sweep(attempts=1, every=1e6)) as engine:
            await clock.sleep(1)
            assert [entry.dead for entry in house.entries()] == [True]
            service.logins = {}
            await clock.sleep(86401)
            assert (await engine.sweep()).undeleted == 1
        assert [entry.dead for entry in house.entries()] == [True]

    async def test_a_chat_that_cannot_be_deleted_becomes_a_dead_letter_that_is_shown_and_tried_daily(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        left = await leave(house, service)
        service.fail("delete_chat", *[ValueError("broken")] * 25)
        async with engine_of(service, house) as engine:
            while not (swept := await engine.sweep()).dead:
                assert swept.failed == 1
                (entry,) = house.entries()
                await clock.sleep(entry.next_try_at - clock.wall())
            assert (swept.dead, swept.undeleted, swept.open) == (1, 1, 1)
            assert service.calls["delete_chat"] == 20 or clock.now() - 1e6 > 72 * 3600
            (dead,) = engine.told("sweep.chat.dead")
            assert (dead["session"], dead["chat"], dead["error_code"]) == (left.entry, left.chat, "ValueError")
            for _ in range(2):
                calls = service.calls["delete_chat"]
                await clock.sleep(86000)
                assert (await engine.sweep()).claimed == 0
                await clock.sleep(401)
                again = await engine.sweep()
                assert service.calls["delete_chat"] == calls + 1
                assert (again.dead, again.undeleted) == (0, 1)
            assert len(engine.told("sweep.chat.dead")) == 1, "one alert, not one a day"
            service.faults.clear()
            await clock.sleep(86401)
            assert (await engine.sweep()).swept == 1
        assert not house.entries()

    async def test_three_days_are_enough_whatever_the_number_of_tries(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        await leave(house, service)
        async with engine_of(service, house) as engine:
            service.fail("delete_chat", *[unavailable()] * 3)
            assert (await engine.sweep()).failed == 1
            await clock.sleep(71 * 3600)
            assert (await engine.sweep()).failed == 1
            await clock.sleep(3601)
            assert (await engine.sweep()).dead == 1

    async def test_one_accounts_outage_costs_the_others_nothing(self, clock: ManualClock, house: House) -> None:
        class Partly(FakeService):
            async def delete_chat(self, call: Call, chat: str) -> bool:
                self.calls[call.login.account] += 1
                if call.login.account == "sick":
                    await clock.sleep(29)
                    raise unavailable()
                return await super().delete_chat(call, chat)

        service = Partly(clock=clock)
        await leave_many(200, house, service, "sick")
        await leave_many(200, house, service, "well")
        async with engine_of(service, house) as engine:
            sweep = asyncio.create_task(engine.sweep())
            await clock.sleep(1)
            assert {chat.account for chat in service.chats.values()} == {"sick"}, "the others do not even wait for it"
            await sweep
            assert service.calls["sick"] <= 8, "the circuit is broken after a few failures"
            await engine.sweep()
        assert {entry.attempts for entry in house.entries()} == {0, 1}, "those not tried lose no try"

    @pytest.mark.parametrize("fault", [Fault(ValueError("x")), HANG, Fault(unavailable(), when="after")])
    async def test_whatever_an_adapter_does_costs_only_its_own_chat(
        self, service: FakeService, house: House, fault: Fault
    ) -> None:
        await leave_many(30, house, service)
        service.fail("delete_chat", fault)
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
        assert (swept.swept, swept.failed) == (29, 1)
        assert len(house.entries()) == 1

    async def test_a_call_that_is_cancelled_inside_the_adapter_has_failed(
        self, clock: ManualClock, house: House
    ) -> None:
        class Cut(FakeService):
            async def delete_chat(self, call: Call, chat: str) -> bool:
                if not self.calls["delete_chat"]:
                    self.calls["delete_chat"] += 1
                    raise asyncio.CancelledError
                return await super().delete_chat(call, chat)

        service = Cut(clock=clock)
        await leave_many(2, house, service)
        async with engine_of(service, house) as engine:
            swept = await engine.sweep()
        assert (swept.swept, swept.failed) == (1, 1)
        assert house.codes() == {"cancelled-inside"}

    async def test_no_more_calls_at_once_than_allowed(self, clock: ManualClock, house: House) -> None:
        class Counting(FakeService):
            now_under_way = most = 0

            async def delete_chat(self, call: Call, chat: str) -> bool:
                self.now_under_way += 1
                self.most = max(self.most, self.now_under_way)
                await clock.sleep(1)
                self.now_under_way -= 1
                return await super().delete_chat(call, chat)

        service = Counting(clock=clock, capabilities=SAFE)
        for number in range(60):
            await leave(house, service, f"bot-{number % 10}")
        async with engine_of(service, house, sweep=Sweep(at_once=6)) as engine:
            await engine.sweep()
        assert not service.chats
        assert service.most == 6


class TestTogether:
    async def test_several_engines_on_one_ledger_share_the_work(self, clock: ManualClock, house: House) -> None:
        """Every chat is deleted, none of them by two, and none that lives."""

        class Slow(FakeService):
            async def delete_chat(self, call: Call, chat: str) -> bool:
                await clock.sleep(random.uniform(0, 2))
                return await super().delete_chat(call, chat)

        service = Slow(clock=clock)
        lefts: list[Left] = [await leave(house, service, f"bot-{number % 3}") for number in range(400)]
        engines = [engine_of(service, house) for _ in range(5)]
        for engine in engines:
            await engine.__aenter__()
        session = engines[0].session(account="bot-1")
        await session.ready_cookies()
        await session.create_chat()
        swept = await asyncio.gather(*(engine.sweep() for engine in engines))
        assert service.chats.keys() == {session.chat}
        assert sum(each.swept for each in swept) == len(lefts) == service.calls["delete_chat"]
        assert sum(each.swept > 0 for each in swept) > 1
        await session.aclose()
        for engine in engines:
            await engine.aclose()
        assert not house.entries()


class TestEvents:
    async def test_events_name_what_was_done_and_nothing_secret(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        secret = "tr0ub4dor"
        credential = Credential(
            cookies={"login": secret}, headers={"X": f"Bearer {secret}"}, proxy=f"http://u:{secret}@p"
        )
        events: list[TraceEvent] = []
        await leave(house, service)
        failing = await leave(house, service)
        service.fail("read_answer", unavailable(), ValueError(secret))
        async with engine_of(service, house, credentials={"bot": credential}, events=events) as engine:
            await engine.sweep()
            service.logins = {}
            await clock.sleep(60)
            await engine.sweep()
            service.logins = None
            await clock.sleep(3601)
            await leave(house, service, create=False)
            await engine.sweep()
            assert failing.chat not in service.chats
        assert secret not in repr(events)
        assert secret not in repr(house.db.execute("SELECT * FROM entries").fetchall())
        keys = {event.event: set(event.keys) - {"engine"} for event in events if event.event.startswith("sweep.")}
        who = {"service", "account"}
        assert keys == {
            "sweep.started": set(),
            "sweep.holder.reaped": {"count"},
            "sweep.chat.failed": who | {"session", "chat", "error_code", "attempts", "retry_in_s"},
            "sweep.chat.deleted": who | {"session", "chat", "age_s", "attempts"},
            "sweep.account.parked": who | {"error_code"},
            "sweep.account.unparked": who,
            "sweep.completed": {
                *("reaped", "claimed", "swept", "absent", "failed", "parked", "dead", "open", "undeleted", "elapsed_s")
            },
        }
