"""A ledger under test, and ways to look at it; see `check_ledger`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from chatlease.errors import LeaseLost
from chatlease.ledger import Account, Claim, Entry, Hold, Ledger

from .conformance import ContractBroken, _want
from .manual_clock import ManualClock

__all__ = ["LATER_S", "Probe", "eventually", "gone", "interrupted", "is_ours", "lost"]

LATER_S = 5.0
"""All steps of the clock together stay well below any sensible lease."""
_PATIENCE = 500
"""So many looks, ten milliseconds apart, at what is made durable in its own time."""
_T = TypeVar("_T")


class Probe:
    """
    A ledger under test.

    Args:
        make: See `check_ledger`.
        clock: See `check_ledger`.
        ledger: The first handle, open.
    """

    def __init__(self, make: Callable[[], Ledger], clock: ManualClock | None, ledger: Ledger) -> None:
        self.clock = clock
        self.ledger = ledger
        self.account = Account("check-ledger", "check://", f"account-{uuid4().hex[:12]}")
        self._make = make
        self._handles = [ledger]
        self._number = 0

    async def another(self) -> Ledger:
        """Open another handle."""
        handle = self._make()
        await handle.open()
        self._handles.append(handle)
        return handle

    def new(self, account: Account | None = None) -> Entry:
        """Return an entry to be made, with an id that sorts after those before."""
        self._number += 1
        who = account or self.account
        name = f"check-{self._number:04}-{uuid4().hex[:12]}"
        return Entry(id=name, service=who.service, origin=who.origin, account=who.account, dead=True)

    async def intended(self, ledger: Ledger | None = None) -> Hold:
        """Make an entry."""
        return await (ledger or self.ledger).intent(self.new())

    async def left(self, ledger: Ledger | None = None) -> str:
        """Make an entry whose chat is left to the sweepers; returns its id."""
        hold = await self.intended(ledger)
        await (ledger or self.ledger).hand_over(hold, attempts=1, error_code="check")
        return hold.entry

    async def found(self, name: str, ledger: Ledger | None = None) -> Entry | None:
        """Return an open entry."""
        return {each.id: each for each in await (ledger or self.ledger).open_entries()}.get(name)

    async def open(self, name: str, ledger: Ledger | None = None) -> Entry:
        """Return an entry that must be open."""
        entry = await self.found(name, ledger)
        _want(entry is not None, "an entry is open until it is settled or absent")
        assert entry is not None
        return entry

    async def claimed(self, limit: int = 100, ledger: Ledger | None = None) -> Sequence[Claim]:
        """Claim entries of the account."""
        return await (ledger or self.ledger).claim([self.account], limit)

    async def claimed_one(self) -> Claim:
        """Claim the one entry that is due."""
        claims = await self.claimed()
        _want(len(claims) == 1, "an entry that is due is claimed once", claims)
        return claims[0]

    async def is_due(self) -> bool:
        """Say whether the account has something to be claimed."""
        return self.account in await self.ledger.due()

    async def later(self) -> bool:
        """Let time pass; False where there is no clock for it."""
        if self.clock is None:
            return False
        await self.clock.advance(LATER_S + 0.1)
        return True

    async def ended(self) -> None:
        """Leave nothing behind; close every handle twice."""
        for entry in await self.ledger.open_entries():
            if entry.owner == self.account and not entry.alive:
                await self.ledger.forget(entry.id)
        for handle in self._handles:
            await handle.aclose()
            await handle.aclose()


async def eventually(look: Callable[[], Awaitable[_T]], holds: Callable[[_T], bool], clause: str) -> _T:
    """Look until it holds: some things are made durable in their own time."""
    seen = await look()
    for _ in range(_PATIENCE):
        if holds(seen):
            return seen
        await asyncio.sleep(0.01)
        seen = await look()
    raise ContractBroken(f"{clause}; got {seen!r}")


async def lost(awaitable: Awaitable[None]) -> bool:
    """Say whether it raises `LeaseLost`."""
    try:
        await awaitable
    except LeaseLost:
        return True
    return False


async def interrupted(awaitable: Awaitable[_T]) -> asyncio.Future[_T]:
    """Cancel a caller as soon as its call has begun; returns its task, which has ended one way or the other."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return task


async def gone(probe: Probe, name: str, clause: str) -> None:
    """Wait until an entry is open no more."""
    await eventually(lambda: probe.found(name), lambda entry: entry is None, clause)


def is_ours(claim: Claim) -> bool:
    """Say whether a claimed entry is held by its claimer, and is an orphan still."""
    entry = claim.entry
    return entry.orphaned and entry.alive and entry.holder == claim.hold.lease.holder and entry.id == claim.hold.entry
