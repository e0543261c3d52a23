"""A sweep that is cut, or breaks, at any moment holds nothing after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chatlease import Deadlines, SqliteLedger, Sweep
from chatlease.adapter import Call
from chatlease.errors import SessionClosed
from chatlease.ledger import Account, Claim, Entry
from chatlease.testing import FakeService, ManualClock, failpoints

from .ledger_kit import OwnHandle
from .peers import HORIZON, House, Process, Watched, engine_of, leave, leave_many


class Stuck(FakeService):
    """Hangs in its deletions, for ever."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        self.calls["delete_chat"] += 1
        await asyncio.get_running_loop().create_future()
        return False


async def stuck_sweep(house: House, service: FakeService, engine: Watched) -> asyncio.Task[Any]:
    """A sweep that hangs in the middle."""
    task = asyncio.create_task(engine.sweep())
    await house.clock.settle()
    assert service.calls["delete_chat"]
    return task


class TestEnd:
    async def test_an_engine_that_closes_lets_go_of_its_claims_at_once(self, clock: ManualClock, house: House) -> None:
        service, ledger = Stuck(clock=clock), house.process()
        await leave_many(150, house, service)
        async with engine_of(service, house, ledger=ledger) as engine:
            sweep = await stuck_sweep(house, service, engine)
            began = clock.now()
        assert clock.now() == began, "closing waits for nothing"
        with pytest.raises(SessionClosed):
            await sweep
        assert ledger.holder not in {entry.holder for entry in house.entries()}
        assert {entry.attempts for entry in house.entries()} == {0}
        assert len(house.statements.claim(house.process()._lease, clock.wall(), accounts_of(house), 1000)) == 150

    async def test_a_cancelled_sweep_lets_go_of_its_claims_at_once(self, clock: ManualClock, house: House) -> None:
        service = Stuck(clock=clock)
        await leave_many(50, house, service)
        async with engine_of(service, house) as engine:
            sweep = await stuck_sweep(house, service, engine)
            sweep.cancel()
            sweep.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sweep
            assert {entry.holder for entry in house.entries()} == {""}

    async def test_who_cancels_again_does_not_cut_the_letting_go(self, clock: ManualClock, house: House) -> None:
        class Slow(Process):
            async def hand_over(self, *hold: Any, **changes: Any) -> None:
                await clock.sleep(1)
                await super().hand_over(*hold, **changes)

        service = Stuck(clock=clock)
        await leave_many(20, house, service)
        async with engine_of(service, house, ledger=Slow(house)) as engine:
            sweep = await stuck_sweep(house, service, engine)
            for _ in range(3):
                sweep.cancel()
                await clock.sleep(0.2)
            with pytest.raises(asyncio.CancelledError):
                await sweep
            assert {entry.holder for entry in house.entries()} == {""}

    async def test_a_claim_that_is_being_made_is_let_go_of_too(
        self, service: FakeService, clock: ManualClock, house: House
    ) -> None:
        """A ledger with a thread goes on with what it was asked for, whoever stops waiting for it."""

        class Slow(Process):
            async def claim(self, accounts: Any, limit: int) -> list[Claim]:
                claims = list(await super().claim(accounts, limit))
                claiming.set()
                await self.house.clock.sleep(1)
                return claims

        claiming = asyncio.Event()
        await leave(house, service)
        async with engine_of(service, house, ledger=Slow(house)) as engine:
            sweep = asyncio.create_task(engine.sweep())
            await claiming.wait()
            sweep.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sweep
            assert [entry.holder for entry in house.entries()] == [""]

    async def test_a_ledger_that_hangs_does_not_keep_the_engine_open(self, clock: ManualClock, house: House) -> None:
        class Hanging(Process):
            async def hand_over(self, *_: Any, **__: Any) -> None:
                await asyncio.get_running_loop().create_future()

        service = Stuck(clock=clock)
        await leave_many(20, house, service)
        began = clock.now()
        async with engine_of(service, house, ledger=Hanging(house)) as engine:
            sweep = await stuck_sweep(house, service, engine)
        assert clock.now() - began <= Deadlines().grace + 1
        with pytest.raises(SessionClosed):
            await sweep

    @pytest.mark.parametrize("passes", range(0, 60, 3))
    def test_the_end_of_the_loop_lets_go_of_every_claim(self, passes: int) -> None:
        """`asyncio.run` cancels everything at teardown, at any moment of a sweep."""
        clock = ManualClock(autojump=True)
        house, service = House(clock), Stuck(clock=clock)
        ledger = house.process()

        async def main() -> None:
            for _ in range(30):
                await leave(house, service)
            await engine_of(service, house, sweep=Sweep(), ledger=ledger).__aenter__()
            for _ in range(passes):
                await asyncio.sleep(0)

        asyncio.run(main())
        assert ledger.holder not in {entry.holder for entry in house.entries()}
        assert len(service.chats) == 30

    @pytest.mark.parametrize("place", [name for name in failpoints.NAMES if name.startswith("sweep.")])
    async def test_a_sweep_that_breaks_anywhere_holds_nothing_after_it(
        self, service: FakeService, house: House, clock: ManualClock, place: str
    ) -> None:
        for _ in range(3):
            await leave(house, service)
        await leave(house, service, bind=False)
        reached: list[str] = []

        def break_off() -> None:
            reached.append(place)
            raise ZeroDivisionError

        ledger = house.process()
        async with engine_of(service, house, ledger=ledger) as engine:
            with failpoints.at(place, break_off), contextlib.suppress(ZeroDivisionError):
                await engine.sweep()
            assert reached, "every failpoint is on the way of such a sweep"
            assert ledger.holder not in {entry.holder for entry in house.entries()}
            await clock.sleep(HORIZON + 1)  # a chat that is gone when its key is looked for might still come to be
            await engine.sweep()
        assert not service.chats
        assert not house.entries()

    async def test_a_living_sessions_chat_is_never_touched(
        self, service: FakeService, house: House, clock: ManualClock
    ) -> None:
        async with engine_of(service, house) as owner, engine_of(service, house) as other:
            async with owner.session() as session:
                tokens: list[str] = []
                async for token in session.ask("one two three"):
                    tokens.append(token)
                    await clock.sleep(1000)
                    assert (await other.sweep()).claimed == (await owner.sweep()).claimed == 0
                assert "".join(tokens) == "one two three"
            assert service.calls["delete_chat"] == 1


def accounts_of(house: House) -> set[Account]:
    return {entry.owner for entry in house.entries()}


class TestOnDisk:
    """A ledger with a thread, whose process lives on when an engine of it ends."""

    @pytest.fixture
    async def ledger(self, tmp_path: Path) -> AsyncIterator[SqliteLedger]:
        ledger = SqliteLedger(tmp_path / "ledger")
        await ledger.open()
        yield ledger
        await ledger.aclose()

    async def leave(self, path: Path, service: FakeService, number: int) -> None:
        """Have another process leave so many chats, and end."""
        other = OwnHandle(path)
        await other.open()
        for _ in range(number):
            entry = Entry(id=str(uuid4()), service=service.service, origin=service.origin, account="bot")
            hold = await other.intent(entry)
            await other.bound(hold, service.plant("bot", key=entry.id, prompt="hello"))
        await other.aclose()

    async def test_what_another_process_left_is_swept(self, ledger: SqliteLedger) -> None:
        service = FakeService()
        await self.leave(ledger.path, service, 120)
        async with Watched(service, ledger=ledger, sweep=None) as engine:
            assert (await engine.sweep()).swept == 120
            assert (await ledger.counts()).open == 0
        assert not service.chats

    @pytest.mark.parametrize("how", ["close", "cancel"])
    async def test_who_ends_in_the_middle_leaves_its_claims_to_the_next_engine_of_the_same_process(
        self, ledger: SqliteLedger, how: str
    ) -> None:
        stuck = Stuck()
        await self.leave(ledger.path, stuck, 120)
        async with Watched(stuck, ledger=ledger, sweep=None) as engine:
            sweep = asyncio.create_task(engine.sweep())
            async with asyncio.timeout(20):
                while not stuck.calls["delete_chat"]:  # noqa: ASYNC110  (a thread is at work)
                    await asyncio.sleep(0.001)
            if how == "cancel":
                sweep.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sweep
        if how == "close":
            with pytest.raises(SessionClosed):
                await sweep
        free = FakeService()
        free.origin, free.chats = stuck.origin, stuck.chats
        async with Watched(free, ledger=ledger, sweep=None) as engine:
            assert (await engine.sweep()).swept == 120
        assert not free.chats

    @pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8, 16, 32, 64])
    def test_the_end_of_the_loop_at_any_moment_leaves_everything_to_the_next_process(
        self, tmp_path: Path, milliseconds: int
    ) -> None:
        service = FakeService()
        path = tmp_path / "ledger"

        async def main() -> None:
            await Watched(service, ledger=f"sqlite:///{path}", sweep=Sweep()).__aenter__()
            await asyncio.sleep(milliseconds / 1000)

        async def rest() -> None:
            async with Watched(service, ledger=f"sqlite:///{path}", sweep=None) as engine:
                assert (await engine.sweep()).open == 0

        asyncio.run(self.leave(path, service, 60))
        asyncio.run(main())
        asyncio.run(rest())
        assert not service.chats
