"""The ledger contract as a program: run it against a ledger before trusting it with the promise.

Every check uses accounts of its own, so the ledger need not be empty; all entries that it makes are closed in the end.
It says what the contract wants, and raises `ContractBroken` naming what came instead. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

import msgspec

from chatlease.errors import LeaseLost
from chatlease.ledger import Account, Claim, Counts, Entry, EntryState, Hold, Ledger, Turn

from .conformance import ContractBroken, _want
from .ledger_turns import check_at_hand, check_awaited_turns, check_budget, check_dead_places, check_queue
from .manual_clock import ManualClock

__all__ = ["check_ledger"]

_T = TypeVar("_T")
_PATIENCE = 500
"""So many looks, ten milliseconds apart, at what is made durable in its own time."""
_LATER_S = 5.0
"""All steps of the clock together stay well below any sensible lease."""


async def check_ledger(make: Callable[[], Ledger], *, clock: ManualClock | None = None) -> None:
    """
    Check a ledger; takes seconds at most, and leaves no open entry.

    Args:
        make: Makes a new handle, as *another process* would have it: all handles are onto one ledger, and each that is
            opened is a holder of its own (for `chatlease.SqliteLedger`, whose handles share one holder in a process, a
            handle in a subprocess). A ledger that is not `chatlease.ledger.Ledger.shared` may give the same object
            again; what needs two holders is left out. Each handle is opened and closed here.
        clock: The one that the ledger uses; without it, what happens only after some time is not checked. It is moved
            by less than half a minute in all.

    Raises:
        ContractBroken: Naming the clause.
        LedgerUnavailable: The ledger failed in a way that is nobody's breach of contract.
    """
    for check in _CHECKS:
        await _with(make, clock, check)
    if make().shared:
        for check in _SHARED_CHECKS:
            await _with(make, clock, check)


class _Probe:
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
        await self.clock.advance(_LATER_S + 0.1)
        return True

    async def ended(self) -> None:
        """Leave nothing behind; close every handle twice."""
        for entry in await self.ledger.open_entries():
            if entry.owner == self.account and not entry.alive:
                await self.ledger.forget(entry.id)
        for handle in self._handles:
            await handle.aclose()
            await handle.aclose()


_Check = Callable[[_Probe], Awaitable[None]]


async def _with(make: Callable[[], Ledger], clock: ManualClock | None, check: _Check) -> None:
    ledger = make()
    await ledger.open()
    probe = _Probe(make, clock, ledger)
    try:
        await check(probe)
    finally:
        await probe.ended()


async def _eventually(look: Callable[[], Awaitable[_T]], holds: Callable[[_T], bool], clause: str) -> _T:
    """Look until it holds: some things are made durable in their own time."""
    seen = await look()
    for _ in range(_PATIENCE):
        if holds(seen):
            return seen
        await asyncio.sleep(0.01)
        seen = await look()
    raise ContractBroken(f"{clause}; got {seen!r}")


async def _lost(awaitable: Awaitable[None]) -> bool:
    try:
        await awaitable
    except LeaseLost:
        return True
    return False


async def _interrupted(awaitable: Awaitable[_T]) -> asyncio.Future[_T]:
    """Cancel a caller as soon as its call has begun; returns its task, which has ended one way or the other."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return task


# -- what sessions write ----------------------------------------------------------------------------------------------


async def _check_surface(probe: _Probe) -> None:
    _want(probe.ledger.lease_s > 0, "lease_s is more than 0", probe.ledger.lease_s)
    stop = probe.ledger.listen(lambda _event, _keys: None)
    stop()
    stop()
    _want(await probe.ledger.reap() >= 0, "reap returns how many")


async def _check_intent(probe: _Probe) -> None:
    hold = await probe.intended()
    _want(not hold.lease.lost(), "a new hold's lease is not lost")
    entry = await probe.open(hold.entry)
    _want(
        entry.owner == probe.account and entry.state is EntryState.INTENT, "intent makes an entry of its owner", entry
    )
    _want(entry.chat is None and not entry.dead, "intent takes only id, owner and chat from its argument", entry)
    _want(entry.alive and not entry.orphaned and entry.holder == hold.lease.holder, "a session's entry is held", entry)
    _want(entry.create_deadline > entry.intent_at, "create_deadline is after intent_at", entry)
    probe.ledger.absent(hold)
    await _gone(probe, hold.entry, "absent closes the entry")


async def _check_chosen(probe: _Probe) -> None:
    """A chat whose id we choose is known from the intent on; that it exists is not."""
    new = probe.new()
    probe.ledger.absent(await probe.ledger.intent(new))  # refused with one login, and tried with another
    hold = await probe.ledger.intent(msgspec.structs.replace(new, chat="chosen"))
    entry = await probe.open(hold.entry)
    _want((entry.state, entry.chat) == (EntryState.INTENT, "chosen"), "intent notes a chat that is given", entry)
    await probe.ledger.hand_over(hold, attempts=1, error_code="check")
    claim = await probe.claimed_one()
    found = (claim.entry.state, claim.entry.chat)
    _want(found == (EntryState.INTENT, "chosen"), "a claim has the chat of its intent, unbound", claim)
    probe.ledger.absent(claim.hold)
    await _gone(probe, hold.entry, "absent closes the entry")


async def _check_bound(probe: _Probe) -> None:
    hold = await probe.intended()
    await probe.ledger.bound(hold, "chat-b")
    entry = await probe.open(hold.entry)
    _want((entry.state, entry.chat) == (EntryState.BOUND, "chat-b"), "bound notes the chat", entry)
    _want(entry.alive and not entry.orphaned, "bound leaves the entry held", entry)
    probe.ledger.settled(hold)
    await _gone(probe, hold.entry, "settled closes the entry")
    _want(await _lost(probe.ledger.bound(hold, "other")), "bound of an entry that is closed raises LeaseLost")


async def _gone(probe: _Probe, name: str, clause: str) -> None:
    await _eventually(lambda: probe.found(name), lambda entry: entry is None, clause)


async def _check_hand_over(probe: _Probe) -> None:
    hold = await probe.intended()
    await probe.ledger.bound(hold, "chat-h")
    await probe.ledger.hand_over(hold, attempts=3, error_code="http-503", retry_in_s=_LATER_S, dead=True)
    entry = await probe.open(hold.entry)
    _want(entry.orphaned and not entry.alive and not entry.holder, "an entry that was handed over has no holder", entry)
    _want(entry.orphaned_at > 0, "orphaned_at says since when", entry)
    _want((entry.attempts, entry.error_code, entry.dead) == (3, "http-503", True), "hand_over notes why", entry)
    _want(not await probe.is_due() and not await probe.claimed(), "retry_in_s keeps sweepers away")
    if await probe.later():
        _want(await probe.is_due(), "after retry_in_s an account is due")
        claim = await probe.claimed_one()
        _want(claim.entry.chat == "chat-h", "a claim has the chat", claim)
        probe.ledger.settled(claim.hold)
        await _gone(probe, hold.entry, "a claim's hold settles its entry")


# -- the fence --------------------------------------------------------------------------------------------------------


async def _check_fence(probe: _Probe) -> None:
    """A hold that has ended changes nothing."""
    hold = await probe.intended()
    await probe.ledger.hand_over(hold, attempts=1, error_code="first")
    await _check_powerless(probe, hold)
    first = await probe.claimed_one()
    _want(first.hold.epoch > hold.epoch, "a claim raises the epoch", first)
    await _check_powerless(probe, hold)
    await probe.ledger.hand_over(first.hold, attempts=2, error_code="second")
    second = await probe.claimed_one()
    _want(second.hold.epoch > first.hold.epoch, "every claim raises the epoch", second)
    await _check_powerless(probe, first.hold)
    await probe.ledger.bound(second.hold, "chat-f")
    probe.ledger.settled(second.hold)
    await _gone(probe, hold.entry, "the hold of the last claim settles the entry")


async def _check_powerless(probe: _Probe, hold: Hold) -> None:
    before = await probe.open(hold.entry)
    _want(await _lost(probe.ledger.bound(hold, "stolen")), "bound with a hold that has ended raises LeaseLost")
    probe.ledger.settled(hold)
    probe.ledger.absent(hold)
    await probe.ledger.hand_over(hold, attempts=99, error_code="stolen", dead=True)
    after = await probe.found(hold.entry)
    _want(after == before, "a hold that has ended changes nothing", after)


# -- claiming ---------------------------------------------------------------------------------------------------------


async def _check_claim(probe: _Probe) -> None:
    held = await probe.intended()
    _want(not await probe.is_due() and not await probe.claimed(), "a living session's entry is neither due nor claimed")
    names = [await probe.left() for _ in range(4)]
    _want(await probe.is_due(), "an account with entries that nobody holds is due")
    stranger = Account(probe.account.service, probe.account.origin, "somebody-else")
    _want(not await probe.ledger.claim([stranger], 9), "only entries of the accounts asked for are claimed")
    _want(not await probe.ledger.claim([], 9), "no account, no claim")
    claims = [*await probe.claimed(3), *await probe.claimed(3)]
    _want(
        [each.entry.id for each in claims] == names, "entries are claimed once, oldest first, up to the limit", claims
    )
    _want(all(_is_ours(each) for each in claims), "a claimed entry is held by us and stays orphaned", claims)
    _want(not await probe.claimed(), "what is claimed is not claimed again")
    for each in claims:
        _want((await probe.open(each.entry.id)).orphaned, "a claimed entry stays orphaned")
        probe.ledger.absent(each.hold)
    probe.ledger.absent(held)
    await _gone(probe, held.entry, "absent closes the entry")


def _is_ours(claim: Claim) -> bool:
    entry = claim.entry
    return entry.orphaned and entry.alive and entry.holder == claim.hold.lease.holder and entry.id == claim.hold.entry


async def _check_known(probe: _Probe) -> None:
    ended = await probe.intended()
    await probe.ledger.bound(ended, "chat-ended")
    probe.ledger.settled(ended)
    await _gone(probe, ended.entry, "settled closes the entry")
    living = await probe.intended()
    await probe.left()
    known = await probe.ledger.known(probe.account)
    _want(known.chats == frozenset({"chat-ended"}), "known has the chats that were settled, too", known)
    at = (await probe.open(living.entry)).intent_at
    _want(known.living_intents == (at,), "known has the intents of living sessions, and no others", known)
    _want(known.now >= at, "known has the ledger's time", known)
    await probe.ledger.bound(living, "chat-living")
    known = await probe.ledger.known(probe.account)
    _want(known.chats == frozenset({"chat-ended", "chat-living"}), "known has the chats of living sessions", known)
    _want(known.living_intents == (), "a bound entry is no intent any more", known)
    probe.ledger.settled(living)


async def _check_parking(probe: _Probe) -> None:
    name, park = await probe.left(), probe.ledger.park
    _want(await park(probe.account, seconds=_LATER_S, error_code="http-403"), "park says that it was not parked")
    _want(not await park(probe.account, seconds=_LATER_S, error_code="http-403"), "park says that it was parked")
    _want(not await probe.is_due(), "a parked account is not due")
    _want((await probe.open(name)).parked, "entries of a parked account say so")
    if await probe.later():
        _want(await probe.is_due(), "a parked account is due for a probe after its time")
    _want(await probe.ledger.unpark(probe.account), "unpark says that it was parked")
    _want(not await probe.ledger.unpark(probe.account), "unpark says that it was not parked")
    _want(await probe.is_due(), "an account that is parked no more is due")


async def _check_orders(probe: _Probe) -> None:
    """`retry` and `forget`, which people ask for."""
    _want(not await probe.ledger.retry("no-such-entry"), "retry of no entry is False")
    _want(not await probe.ledger.forget("no-such-entry"), "forget of no entry is False")
    hold = await probe.intended()
    _want(not await probe.ledger.forget(hold.entry), "an entry that is held is not forgotten")
    await probe.open(hold.entry)
    await probe.ledger.hand_over(hold, attempts=7, error_code="check", retry_in_s=86400.0, dead=True)
    await probe.ledger.park(probe.account, seconds=86400.0, error_code="check")
    _want(await probe.ledger.retry(hold.entry), "retry of an open entry is True")
    _want(await probe.is_due() and not (await probe.open(hold.entry)).dead, "retry makes an entry due, dead and parked")
    _want(await probe.ledger.forget(hold.entry), "an entry that nobody holds is forgotten")
    _want(await probe.found(hold.entry) is None, "a forgotten entry is closed")
    _want(not await probe.ledger.forget(hold.entry), "an entry is forgotten once")
    _want(not await probe.ledger.retry(hold.entry), "retry of a closed entry is False")


async def _check_counts(probe: _Probe) -> None:
    before = await probe.ledger.counts()
    held = await probe.intended()
    await probe.left()
    dead = await probe.intended()
    await probe.ledger.hand_over(dead, attempts=1, error_code="check", dead=True)
    _want_more(before, await probe.ledger.counts(), Counts(open=3, orphaned=2, dead=1))
    await probe.ledger.park(probe.account, seconds=60.0, error_code="check")
    _want_more(before, await probe.ledger.counts(), Counts(open=3, orphaned=2, parked=2, dead=1))
    await probe.ledger.unpark(probe.account)
    probe.ledger.absent(held)


def _want_more(before: Counts, after: Counts, more: Counts) -> None:
    for name in more.__struct_fields__:
        got = getattr(after, name) - getattr(before, name)
        _want(got == getattr(more, name), f"counts.{name} counts what there is", got)


async def _check_cancelled(probe: _Probe) -> None:
    """Whoever is cancelled loses nothing that the ledger has accepted, and leaves nothing that only he knew of."""
    hold = await probe.intended()
    _ = await _interrupted(probe.ledger.bound(hold, "chat-c"))
    await _eventually(lambda: probe.open(hold.entry), lambda entry: entry.chat == "chat-c", "a cancelled bound is kept")
    _ = await _interrupted(probe.ledger.hand_over(hold, attempts=1, error_code="check"))
    await _eventually(lambda: probe.open(hold.entry), lambda entry: not entry.alive, "a cancelled hand_over is kept")
    task = await _interrupted(probe.claimed())
    if task.cancelled():
        claims = await _eventually(probe.claimed, bool, "what a cancelled claim took can be claimed again")
    else:
        claims = task.result()
    probe.ledger.settled(claims[0].hold)
    await _check_cancelled_intent(probe)


async def _check_cancelled_intent(probe: _Probe) -> None:
    new = probe.new()
    task = await _interrupted(probe.ledger.intent(new))
    if not task.cancelled():
        probe.ledger.absent(task.result())
    await _gone(probe, new.id, "an intent whose caller was cancelled is closed: its create was never sent")


# -- what needs two holders -------------------------------------------------------------------------------------------


async def _check_two_holders(probe: _Probe) -> None:
    other = await probe.another()
    hold = await probe.intended(other)
    await other.bound(hold, "chat-o")
    entry = await probe.open(hold.entry)
    _want(entry.alive and not entry.orphaned, "another process's session lives, too", entry)
    await probe.ledger.reap()
    _want(not await probe.claimed(), "the entry of a process that lives is not claimed")
    _want(not await probe.ledger.forget(hold.entry), "the entry of a process that lives is not forgotten")
    await other.aclose()
    entry = await probe.open(hold.entry)
    _want(entry.orphaned and not entry.alive, "a process that has closed its ledger holds nothing any more", entry)
    claim = await probe.claimed_one()
    probe.ledger.settled(claim.hold)
    await _gone(probe, hold.entry, "the chat of a process that has ended can be settled by its claimer")


async def _check_exclusive(probe: _Probe) -> None:
    """Of several sweepers exactly one is given an entry."""
    sweepers = [probe.ledger, await probe.another(), await probe.another()]
    names = sorted([await probe.left() for _ in range(12)])
    found = await asyncio.gather(*(probe.claimed(3, each) for each in sweepers * 4))
    _want(
        sorted(claim.entry.id for claims in found for claim in claims) == names,
        "an entry is claimed by exactly one of several sweepers",
        [[claim.entry.id for claim in claims] for claims in found],
    )
    for each, claims in zip(sweepers * 4, found, strict=True):
        for claim in claims:
            each.settled(claim.hold)
    for name in names:
        await _gone(probe, name, "settled closes the entry")


async def _check_lasting(probe: _Probe) -> None:
    """What was acknowledged is there for the next process."""
    hold = await probe.intended()
    await probe.ledger.bound(hold, "chat-l")
    name = await probe.left()
    ended = await probe.intended()
    probe.ledger.settled(ended)
    await probe.ledger.aclose()
    probe.ledger = await probe.another()
    entry = await probe.open(hold.entry)
    _want(entry.chat == "chat-l" and not entry.alive, "a closed ledger keeps what is open", entry)
    await probe.open(name)
    _want(await probe.found(ended.entry) is None, "aclose makes everything durable")
    for claim in await probe.claimed():
        probe.ledger.settled(claim.hold)


def _turned(check: Callable[[Ledger, Account], Awaitable[None]]) -> _Check:
    return lambda probe: check(probe.ledger, probe.account)


async def _check_window(probe: _Probe) -> None:
    turn: Turn = await check_budget(probe.ledger, probe.account, _LATER_S)
    _want(0 < turn.wait_s <= _LATER_S, "wait_s is the rest of the window", turn)
    if await probe.later():
        turn = await probe.ledger.take_turn(probe.account, "run-3", slots=None, runs=2, window_s=_LATER_S)
        _want(turn.taken, "a new window has a new budget", turn)
    for number in range(4):
        probe.ledger.end_turn(f"run-{number}")


async def _check_at_hand(probe: _Probe) -> None:
    await check_at_hand(probe.ledger, probe.account, 3600.0)


async def _check_awaited(probe: _Probe) -> None:
    await check_awaited_turns(probe.ledger, await probe.another(), probe.account)


async def _check_dead_places(probe: _Probe) -> None:
    await check_dead_places(probe.ledger, await probe.another(), probe.account)


_CHECKS: tuple[_Check, ...] = (
    _check_surface,
    _check_intent,
    _check_chosen,
    _check_bound,
    _check_hand_over,
    _check_fence,
    _check_claim,
    _check_known,
    _check_parking,
    _check_orders,
    _check_counts,
    _check_cancelled,
    _turned(check_queue),
    _check_window,
    _check_at_hand,
)
_SHARED_CHECKS: tuple[_Check, ...] = (
    _check_two_holders,
    _check_exclusive,
    _check_lasting,
    _check_awaited,
    _check_dead_places,
)
