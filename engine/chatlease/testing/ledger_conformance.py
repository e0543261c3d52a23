"""The ledger contract as a program: run it against a ledger before trusting it with the promise.

Every check uses accounts of its own, so the ledger need not be empty; all entries that it makes are closed in the end.
It says what the contract wants, and raises `ContractBroken` naming what came instead. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from chatlease.ledger import Account, EntryState, Hold, Ledger, Turn

from .conformance import _want
from .ledger_probe import LATER_S, Probe, eventually, gone, interrupted, is_ours, lost
from .ledger_sweeps import check_claim, check_counts, check_known, check_orders, check_parking
from .ledger_turns import check_at_hand, check_awaited_turns, check_budget, check_dead_places, check_queue
from .manual_clock import ManualClock

__all__ = ["check_ledger"]


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


_Check = Callable[[Probe], Awaitable[None]]


async def _with(make: Callable[[], Ledger], clock: ManualClock | None, check: _Check) -> None:
    ledger = make()
    await ledger.open()
    probe = Probe(make, clock, ledger)
    try:
        await check(probe)
    except Exception as error:
        about = f" ({check.__doc__.strip()})" if check.__doc__ else ""
        name = check.__name__.removeprefix("_").removeprefix("check_").replace("_", " ")
        error.add_note(f"check_ledger was checking: {name}{about}")
        raise
    finally:
        await probe.ended()


# -- what sessions write ----------------------------------------------------------------------------------------------


async def _check_surface(probe: Probe) -> None:
    _want(probe.ledger.lease_s > 0, "lease_s is more than 0", probe.ledger.lease_s)
    stop = probe.ledger.listen(lambda _event, _keys: None)
    stop()
    stop()
    _want(await probe.ledger.reap() >= 0, "reap returns how many")


async def _check_intent(probe: Probe) -> None:
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
    await gone(probe, hold.entry, "absent closes the entry")


async def _check_chosen(probe: Probe) -> None:
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
    await gone(probe, hold.entry, "absent closes the entry")


async def _check_bound(probe: Probe) -> None:
    hold = await probe.intended()
    await probe.ledger.bound(hold, "chat-b")
    entry = await probe.open(hold.entry)
    _want((entry.state, entry.chat) == (EntryState.BOUND, "chat-b"), "bound notes the chat", entry)
    _want(entry.alive and not entry.orphaned, "bound leaves the entry held", entry)
    probe.ledger.settled(hold)
    await gone(probe, hold.entry, "settled closes the entry")
    _want(await lost(probe.ledger.bound(hold, "other")), "bound of an entry that is closed raises LeaseLost")


async def _check_hand_over(probe: Probe) -> None:
    hold = await probe.intended()
    await probe.ledger.bound(hold, "chat-h")
    await probe.ledger.hand_over(hold, attempts=3, error_code="http-503", retry_in_s=LATER_S, dead=True)
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
        await gone(probe, hold.entry, "a claim's hold settles its entry")


# -- the fence --------------------------------------------------------------------------------------------------------


async def _check_fence(probe: Probe) -> None:
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
    await gone(probe, hold.entry, "the hold of the last claim settles the entry")


async def _check_powerless(probe: Probe, hold: Hold) -> None:
    before = await probe.open(hold.entry)
    _want(await lost(probe.ledger.bound(hold, "stolen")), "bound with a hold that has ended raises LeaseLost")
    probe.ledger.settled(hold)
    probe.ledger.absent(hold)
    await probe.ledger.hand_over(hold, attempts=99, error_code="stolen", dead=True)
    after = await probe.found(hold.entry)
    _want(after == before, "a hold that has ended changes nothing", after)


async def _check_cancelled(probe: Probe) -> None:
    """Whoever is cancelled loses nothing that the ledger has accepted, and leaves nothing that only he knew of."""
    hold = await probe.intended()
    _ = await interrupted(probe.ledger.bound(hold, "chat-c"))
    await eventually(lambda: probe.open(hold.entry), lambda entry: entry.chat == "chat-c", "a cancelled bound is kept")
    _ = await interrupted(probe.ledger.hand_over(hold, attempts=1, error_code="check"))
    await eventually(lambda: probe.open(hold.entry), lambda entry: not entry.alive, "a cancelled hand_over is kept")
    task = await interrupted(probe.claimed())
    if task.cancelled():
        claims = await eventually(probe.claimed, bool, "what a cancelled claim took can be claimed again")
    else:
        claims = task.result()
    probe.ledger.settled(claims[0].hold)
    await _check_cancelled_intent(probe)


async def _check_cancelled_intent(probe: Probe) -> None:
    new = probe.new()
    task = await interrupted(probe.ledger.intent(new))
    if not task.cancelled():
        probe.ledger.absent(task.result())
    await gone(probe, new.id, "an intent whose caller was cancelled is closed: its create was never sent")


# -- what needs two holders -------------------------------------------------------------------------------------------


async def _check_two_holders(probe: Probe) -> None:
    other = await probe.another()
    hold = await probe.intended(other)
    await other.bound(hold, "chat-o")
    intent = await probe.intended(other)
    entry = await probe.open(hold.entry)
    _want(entry.alive and not entry.orphaned, "another process's session lives, too", entry)
    await probe.ledger.reap()
    _want(not await probe.claimed(), "the entry of a process that lives is not claimed")
    _want(not await probe.ledger.forget(hold.entry), "the entry of a process that lives is not forgotten")
    await other.aclose()
    entry = await probe.open(hold.entry)
    _want(entry.orphaned and not entry.alive, "a process that has closed its ledger holds nothing any more", entry)
    known = await probe.ledger.known(probe.account)
    _want(known.living_intents == (), "known has no intents of processes that have ended", known)
    claims = await probe.claimed()
    left = {claim.entry.id for claim in claims}
    _want(left == {hold.entry, intent.entry}, "the entries of a process that has ended can be claimed", claims)
    _want(all(is_ours(claim) for claim in claims), "a claimed entry is held by us and stays orphaned", claims)
    for claim in claims:
        probe.ledger.settled(claim.hold)
    await gone(probe, hold.entry, "the chat of a process that has ended can be settled by its claimer")


async def _check_exclusive(probe: Probe) -> None:
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
        await gone(probe, name, "settled closes the entry")


async def _check_lasting(probe: Probe) -> None:
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


async def _check_window(probe: Probe) -> None:
    turn: Turn = await check_budget(probe.ledger, probe.account, LATER_S)
    _want(0 < turn.wait_s <= LATER_S, "wait_s is the rest of the window", turn)
    if await probe.later():
        turn = await probe.ledger.take_turn(probe.account, "run-3", slots=None, runs=2, window_s=LATER_S)
        _want(turn.taken, "a new window has a new budget", turn)
    for number in range(4):
        probe.ledger.end_turn(f"run-{number}")


async def _check_at_hand(probe: Probe) -> None:
    await check_at_hand(probe.ledger, probe.account, 3600.0)


async def _check_awaited(probe: Probe) -> None:
    await check_awaited_turns(probe.ledger, await probe.another(), probe.account)


async def _check_dead_places(probe: Probe) -> None:
    await check_dead_places(probe.ledger, await probe.another(), probe.account)


_CHECKS: tuple[_Check, ...] = (
    _check_surface,
    _check_intent,
    _check_chosen,
    _check_bound,
    _check_hand_over,
    _check_fence,
    check_claim,
    check_known,
    check_parking,
    check_orders,
    check_counts,
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
