"""Leases of the ledger on SQLite: who is taken for dead where no lock tells, and what becomes of a lost lease."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from chatlease import Engine, SqliteLedger
from chatlease._ledger import _holders
from chatlease._ledger._schema import migrate
from chatlease._ledger._statements import Statements
from chatlease.errors import LeaseLost, LedgerUnavailable
from chatlease.testing import FakeService, ManualClock
from tests.unit.ledger_kit import (
    ACCOUNT,
    Faults,
    Heard,
    OwnHandle,
    beat,
    faults,
    new_entry,
    opened,
    rows,
    store_of,
    until,
)

__all__ = ["faults"]


class _OwnWall(ManualClock):
    """A clock whose wall time jumps."""

    jumped = 0.0

    def wall(self) -> float:
        return super().wall() + self.jumped


async def test_without_locks_a_lease_is_watched_for_its_whole_length(tmp_path: Path) -> None:
    """A wall clock that jumps ahead kills nobody: by the monotonic clock nothing was seen yet."""
    path, clock, theirs = tmp_path / "ledger", _OwnWall(), ManualClock()
    async with (
        opened(OwnHandle(path, liveness="lease", clock=clock)) as ledger,
        opened(OwnHandle(path, liveness="lease", clock=theirs)) as other,
    ):
        await other.intent(new_entry())
        clock.jumped = 3600.0
        assert await ledger.reap() == 0
        await clock.advance(45.0)
        await beat(ledger)
        assert await ledger.reap() == 0
        other_store = store_of(other)
        other_store._presence.lease._renewed = theirs.now() + 45.0 + 3600.0  # before its threads see the time
        theirs._now += 45.0 + 3600.0  # it still beats: what was watched is not the same any more
        other_store.pulse()
        renewed = f"SELECT lease_until > 1003000 FROM holders WHERE id = '{other_store.lease.holder}'"
        await until(lambda: rows(path, renewed) == [(1,)])
        await clock.advance(45.0)
        await beat(ledger)
        assert await ledger.reap() == 0
        assert not await ledger.claim([ACCOUNT], 5)


async def test_without_locks_who_does_not_beat_for_a_lease_is_dead(tmp_path: Path) -> None:
    path, clock, theirs = tmp_path / "ledger", ManualClock(), ManualClock()
    async with (
        opened(OwnHandle(path, liveness="lease", clock=clock)) as ledger,
        opened(OwnHandle(path, liveness="lease", clock=theirs)) as other,
    ):
        hold = await other.intent(new_entry())
        assert await ledger.reap() == 0
        for _ in range(3):
            await clock.advance(19.0)
            await beat(ledger)
            assert await ledger.reap() == 0
        await clock.advance(4.0)
        assert await ledger.reap() == 1
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.entry.id == hold.entry
        with pytest.raises(LeaseLost):
            await other.bound(hold, "chat")
        assert (await other.intent(new_entry())).lease.holder != hold.lease.holder


async def test_a_longer_lease_than_ones_own_is_respected(tmp_path: Path) -> None:
    """Its beats are further apart, so that nothing changes for a whole lease of ours."""
    path, clock = tmp_path / "ledger", ManualClock()
    async with (
        opened(OwnHandle(path, liveness="lease", clock=clock)) as ledger,
        opened(OwnHandle(path, liveness="lease", lease=1000.0, clock=ManualClock())) as other,
    ):
        await other.intent(new_entry())
        for _ in range(4):
            assert await ledger.reap() == 0
            await clock.advance(40.0)
            await beat(ledger)
        assert await ledger.reap() == 0


@pytest.mark.parametrize("liveness", ["flock", "lease"])
async def test_a_lease_that_ran_out_ends_all_old_holds(tmp_path: Path, liveness: str) -> None:
    """The process was stopped for longer: it becomes another holder, says so, and may not touch its old chats."""
    path, clock, heard = tmp_path / "ledger", ManualClock(), Heard()
    async with opened(OwnHandle(path, liveness=liveness, clock=clock)) as ledger:  # type: ignore[arg-type]
        ledger.listen(heard)
        hold, other = await ledger.intent(new_entry()), await ledger.intent(new_entry())
        await ledger.bound(other, "chat-other")
        await clock.advance(49.0)
        assert not hold.lease.lost()
        await clock.advance(2.0)
        assert hold.lease.lost()
        with pytest.raises(LeaseLost):
            await ledger.bound(hold, "chat")
        again = await ledger.intent(new_entry())
        assert not again.lease.lost()
        assert heard.events == [("ledger.lease_lost", {"holder": hold.lease.holder})]
        assert rows(path, f"SELECT state FROM holders WHERE id = '{hold.lease.holder}'") == [("dead",)]
        claims = await ledger.claim([ACCOUNT], 5)
        assert {each.entry.id for each in claims} == {hold.entry, other.entry}
        ledger.settled(other)
        await ledger.hand_over(other, attempts=9, error_code="stolen")
        entry = {each.id: each for each in await ledger.open_entries()}[other.entry]
        assert (entry.attempts, entry.alive) == (0, True)


async def test_a_beat_alone_notices_a_lost_lease(tmp_path: Path) -> None:
    path, clock, heard = tmp_path / "ledger", ManualClock(), Heard()
    async with opened(SqliteLedger(path, clock=clock)) as ledger:
        ledger.listen(heard)
        await clock.advance(51.0)
        store_of(ledger).pulse()
        await until(lambda: heard.names == ["ledger.lease_lost"])


async def test_a_former_holder_is_buried_though_the_first_try_fails(tmp_path: Path, faults: Faults) -> None:
    """Its lock file is kept until its death is durable, and goes then: else its chats were held for ever."""
    path, clock = tmp_path / "ledger", ManualClock()
    async with opened(SqliteLedger(path, clock=clock)) as ledger:
        hold = await ledger.intent(new_entry())
        await clock.advance(51.0)
        with faults.failing("SQLITE_FULL"), pytest.raises(LedgerUnavailable):
            await ledger.intent(new_entry())
        assert _holders.is_over(tmp_path / "ledger.holders", _holders.HOST, hold.lease.holder) is False
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.entry.id == hold.entry
        await until(lambda: not (tmp_path / "ledger.holders" / hold.lease.holder).exists())


async def test_a_session_of_a_lost_lease_raises_and_its_chat_is_swept(tmp_path: Path) -> None:
    """Through the engine: the step says LeaseLost, and the same process sweeps what it left."""
    clock, service = ManualClock(), FakeService(tokens=["a ", "b"])
    ledger = SqliteLedger(tmp_path / "ledger", clock=clock)
    async with opened(ledger), Engine(service, ledger=ledger, sweep=None) as engine:
        session = engine.session(prompt="hello")
        for _ in range(3):
            await session.step()
        assert len(service.chats) == 1
        await clock.advance(51.0)
        with pytest.raises(LeaseLost):
            await session.step()
        await session.aclose()
        await engine.sweep()
        assert not service.chats
        assert not await ledger.open_entries()


async def test_holders_on_another_host_are_judged_by_their_lease(tmp_path: Path) -> None:
    """A container with a volume of its own name: its lock file says nothing here."""
    assert _holders.is_over(tmp_path, "another-host", "x") is None
    assert _holders.is_over(tmp_path, _holders.HOST, "") is None
    assert _holders.is_over(tmp_path, _holders.HOST, "missing") is None


@pytest.mark.parametrize(
    ("mark", "ours", "trusted"),
    [
        ("one boot-1", "one boot-1", True),
        ("one boot-1", "two boot-1", True),  # a container that was started again
        ("one boot-1", "one boot-2", True),  # a machine that was
        ("one boot-1", "two boot-2", False),
        ("one", "one boot-1", True),  # written by an older version
        ("one", "two boot-1", False),
        ("one boot-1", "two", False),
        ("one", "two", False),
    ],
)
def test_a_lock_tells_on_the_same_host_or_the_same_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, ours: str, trusted: bool
) -> None:
    (tmp_path / "lock").touch()
    monkeypatch.setattr(_holders, "HOST", ours)
    assert _holders.is_over(tmp_path, mark, "lock") is (True if trusted else None)


def test_a_holder_is_marked_with_its_host_and_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_holders, "_BOOT_ID", tmp_path / "boot_id")
    assert _holders._this_host() == socket.gethostname()
    (tmp_path / "boot_id").write_text("boot-1\n")
    assert _holders._this_host() == f"{socket.gethostname()} boot-1"


async def test_who_is_dead_by_its_lease_leaves_no_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock, here = tmp_path / "ledger", ManualClock(), _holders.HOST
    monkeypatch.setattr(_holders, "HOST", "elsewhere")
    async with opened(OwnHandle(path, clock=ManualClock())) as other:
        lock = tmp_path / "ledger.holders" / store_of(other).lease.holder
        monkeypatch.setattr(_holders, "HOST", here)
        async with opened(OwnHandle(path, clock=clock)) as ledger:
            assert await ledger.reap() == 0
            for _ in range(4):
                assert lock.exists()
                await clock.advance(16.0)
                await beat(ledger)
            assert not lock.exists()
            assert rows(path, "SELECT count(*) FROM holders WHERE state = 'dead'") == [(1,)]


def test_a_dead_holder_never_lives_again() -> None:
    """Not by a beat, nor by joining once more; and it can be declared dead only by the lease that was watched."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    statements = Statements(db, 300.0)
    statements.join("one", 100.0, lease=60.0, host="", lock="")
    assert statements.renew("one", 110.0, 60.0)
    assert not statements.bury("one", 200.0, 160.0)
    assert statements.bury("one", 200.0, 170.0)
    assert not statements.bury("one", 200.0)
    assert not statements.renew("one", 201.0, 60.0)
    statements.join("one", 202.0, lease=60.0, host="", lock="")
    statements.leave("one", 203.0)
    assert statements.state_of("one") == "dead"
    db.close()
