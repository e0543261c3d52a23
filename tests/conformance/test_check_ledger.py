"""`check_ledger` accepts what keeps the contract, and names the clause that is broken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from chatlease import SqliteLedger
from chatlease.ledger import Account, Claim, Counts, Entry, Hold, Known, Ledger, Turn
from chatlease.testing import ContractBroken, ManualClock, MemoryLedger, check_ledger
from tests.unit.ledger_kit import OwnHandle, OwnServerHandle


@pytest.mark.parametrize("liveness", ["flock", "lease"])
async def test_the_sqlite_ledger_keeps_the_contract(tmp_path: Path, liveness: Literal["flock", "lease"]) -> None:
    clock = ManualClock()
    await check_ledger(lambda: OwnHandle(tmp_path / "ledger", liveness=liveness, clock=clock), clock=clock)


@pytest.mark.parametrize("way", ["postgres_url", "pooled_url"])
async def test_the_postgres_ledger_keeps_the_contract(way: str, request: pytest.FixtureRequest) -> None:
    clock, url = ManualClock(), request.getfixturevalue(way)
    await check_ledger(lambda: OwnServerHandle(url, clock=clock), clock=clock)


async def test_the_postgres_ledger_keeps_the_contract_by_the_servers_clock(postgres_url: str) -> None:
    await check_ledger(lambda: OwnServerHandle(postgres_url))


async def test_a_single_sqlite_handle_by_real_time_keeps_the_contract_as_far_as_it_goes(tmp_path: Path) -> None:
    class Alone(SqliteLedger):
        shared = False

    await check_ledger(lambda: Alone(tmp_path / "ledger"))


async def test_the_memory_ledger_keeps_the_contract() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock)
    await check_ledger(lambda: ledger, clock=clock)
    assert await ledger.counts() == Counts()


async def test_nothing_is_left_open_in_a_checked_ledger(tmp_path: Path) -> None:
    clock = ManualClock()
    await check_ledger(lambda: OwnHandle(tmp_path / "ledger", clock=clock), clock=clock)
    ledger = OwnHandle(tmp_path / "ledger", clock=clock)
    await ledger.open()
    assert await ledger.counts() == Counts()
    await ledger.aclose()


# -- deliberately broken ----------------------------------------------------------------------------------------------


class _TakesAll(MemoryLedger):
    async def intent(self, entry: Entry) -> Hold:
        hold = await super().intent(entry)
        self._sql._db.execute("UPDATE entries SET dead = ? WHERE id = ?", (entry.dead, entry.id))
        return hold


class _ForgetsChosenIds(MemoryLedger):
    async def intent(self, entry: Entry) -> Hold:
        return await super().intent(msgspec.structs.replace(entry, chat=None))


class _BindsSilently(MemoryLedger):
    async def bound(self, hold: Hold, chat: str) -> None:
        if hold.entry in {each.id for each in await self.open_entries()}:
            self._sql.bind([(chat, hold.entry, hold.lease.holder, hold.epoch)])


class _NoEpoch(MemoryLedger):
    """Asks for the holder and not for the epoch."""

    async def hand_over(self, hold: Hold, **changes: Any) -> None:
        now = {row[0]: row[1] for row in self._sql._rows("SELECT id, epoch FROM entries", ())}
        await super().hand_over(Hold(hold.entry, hold.lease, now[hold.entry]), **changes)


class _ClaimsTheLiving(MemoryLedger):
    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        self._sql._db.execute("UPDATE entries SET holder = NULL")
        return await super().claim(accounts, limit)


class _ClaimsTwice(MemoryLedger):
    _given: tuple[Claim, ...] = ()

    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        again = [each for each in self._given if each.entry.owner in accounts]
        claims = [*await super().claim(accounts, limit), *again]
        self._given = tuple(claims)
        return claims


class _ClaimsNewestFirst(MemoryLedger):
    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        return [*reversed(await super().claim(accounts, limit))]


class _Revives(MemoryLedger):
    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        claims = await super().claim(accounts, limit)
        self._sql._db.execute("UPDATE entries SET orphaned = 0")
        return claims


class _ForgetsTheSettled(MemoryLedger):
    async def known(self, account: Account) -> Known:
        known = await super().known(account)
        alive = {each.chat for each in await self.open_entries()}
        return Known(known.chats & alive, known.living_intents, known.now)


class _KnowsDeadIntents(MemoryLedger):
    async def known(self, account: Account) -> Known:
        known = await super().known(account)
        intents = [each.intent_at for each in await self.open_entries() if each.chat is None]
        return Known(known.chats, tuple(intents), known.now)


class _NeverParks(MemoryLedger):
    async def due(self) -> Sequence[Account]:
        self._sql._db.execute("UPDATE parked SET until = 0")
        return await super().due()


class _ParksForEver(MemoryLedger):
    async def park(self, account: Account, *, seconds: float, error_code: str) -> bool:
        return await super().park(account, seconds=seconds * 1000, error_code=error_code)


class _ForgetsTheLiving(MemoryLedger):
    async def forget(self, entry: str) -> bool:
        self._sql._db.execute("UPDATE entries SET holder = NULL WHERE id = ?", (entry,))
        return await super().forget(entry)


class _CountsLiving(MemoryLedger):
    async def counts(self) -> Counts:
        counts = await super().counts()
        return Counts(counts.open, counts.open, counts.parked, counts.dead)


class _LastComeFirstServed(MemoryLedger):
    async def take_turn(self, account: Account, entry: str, **terms: Any) -> Turn:
        turn = await super().take_turn(account, entry, **terms)
        if entry == "fourth":
            self._sql._db.execute("UPDATE turns SET id = -id WHERE entry = 'fourth' AND id > 0")
        return turn


class _NoLimits(MemoryLedger):
    async def take_turn(
        self, account: Account, entry: str, *, slots: int | None, runs: int | None, window_s: float
    ) -> Turn:
        return await super().take_turn(account, entry, slots=slots, runs=None, window_s=window_s)


class _KeepsSlots(MemoryLedger):
    def end_turn(self, entry: str) -> None:
        """Keep it."""


class _EarlyRetry(MemoryLedger):
    async def hand_over(self, hold: Hold, **changes: Any) -> None:
        changes["retry_in_s"] = 0.0
        await super().hand_over(hold, **changes)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (_TakesAll, "only id, owner and chat"),
        (_ForgetsChosenIds, "intent notes a chat that is given"),
        (_BindsSilently, "bound of an entry that is closed raises LeaseLost|has ended raises LeaseLost"),
        (_NoEpoch, "a hold that has ended changes nothing"),
        (_ClaimsTheLiving, "neither due nor claimed"),
        (_ClaimsTwice, "claimed once"),
        (_ClaimsNewestFirst, "oldest first"),
        (_Revives, "stays orphaned"),
        (_ForgetsTheSettled, "settled, too"),
        (_KnowsDeadIntents, "living sessions, and no others"),
        (_NeverParks, "parked account is not due"),
        (_ParksForEver, "due for a probe"),
        (_ForgetsTheLiving, "is not forgotten"),
        (_CountsLiving, "counts.orphaned"),
        (_LastComeFirstServed, "goes to who came first"),
        (_NoLimits, "so many runs and no more"),
        (_KeepsSlots, "slot that is given back"),
        (_EarlyRetry, "retry_in_s keeps sweepers away"),
    ],
)
async def test_a_broken_ledger_is_told_which_clause_it_breaks(broken: type[MemoryLedger], clause: str) -> None:
    clock = ManualClock()
    ledger = broken(clock)
    with pytest.raises(ContractBroken, match=clause):
        await check_ledger(lambda: ledger, clock=clock)


class _LosesWhatWaits(OwnHandle):
    """Writes what nobody waits for with the next question, and closes without."""

    async def open_entries(self) -> Sequence[Entry]:
        for hold in self._waiting:
            super().settled(hold)
        return await super().open_entries()

    def settled(self, hold: Hold) -> None:
        self._waiting = [*self._waiting, hold]

    _waiting: Sequence[Hold] = ()


class _SeesNobodyElse(OwnHandle):
    async def awaited_turns(self) -> Sequence[str]:
        return ()


class _LiesDead(OwnHandle):
    """Closes without saying that its holder is gone, in a mode where nobody could tell for a minute."""

    async def aclose(self) -> None:
        store = self._store
        if store is not None:
            store._presence.leave = lambda statements, now: None  # type: ignore[method-assign]
        await super().aclose()


def _apart(kind: type[OwnHandle], path: Path, clock: ManualClock) -> Callable[[], Ledger]:
    return lambda: kind(path, liveness="lease", clock=clock)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (_LosesWhatWaits, "aclose makes everything durable|settled closes the entry"),
        (_SeesNobodyElse, "awaited_turns names our turns"),
        (_LiesDead, "holds nothing any more"),
    ],
)
async def test_a_broken_shared_ledger_is_told_too(tmp_path: Path, broken: type[OwnHandle], clause: str) -> None:
    clock = ManualClock()
    with pytest.raises(ContractBroken, match=clause):
        await check_ledger(_apart(broken, tmp_path / "ledger", clock), clock=clock)
