"""What the ledger contract wants of claims, and of what else sweepers and people ask; see `check_ledger`."""

from __future__ import annotations

from chatlease.ledger import Account, Claim, Counts

from .conformance import _want
from .ledger_probe import LATER_S, Probe, gone

__all__ = ["check_claim", "check_counts", "check_known", "check_orders", "check_parking"]


async def check_claim(probe: Probe) -> None:
    """What nobody holds is claimed once, oldest first, and only for the accounts asked for."""
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
    await gone(probe, held.entry, "absent closes the entry")


def _is_ours(claim: Claim) -> bool:
    entry = claim.entry
    return entry.orphaned and entry.alive and entry.holder == claim.hold.lease.holder and entry.id == claim.hold.entry


async def check_known(probe: Probe) -> None:
    """What a listing is compared with: all chats that were ever bound, and the intents of living sessions."""
    ended = await probe.intended()
    await probe.ledger.bound(ended, "chat-ended")
    probe.ledger.settled(ended)
    await gone(probe, ended.entry, "settled closes the entry")
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


async def check_parking(probe: Probe) -> None:
    """A parked account is left alone until its probe, or until it is parked no more."""
    name, park = await probe.left(), probe.ledger.park
    _want(await park(probe.account, seconds=LATER_S, error_code="http-403"), "park says that it was not parked")
    _want(not await park(probe.account, seconds=LATER_S, error_code="http-403"), "park says that it was parked")
    _want(not await probe.is_due(), "a parked account is not due")
    _want((await probe.open(name)).parked, "entries of a parked account say so")
    if await probe.later():
        _want(await probe.is_due(), "a parked account is due for a probe after its time")
    _want(await probe.ledger.unpark(probe.account), "unpark says that it was parked")
    _want(not await probe.ledger.unpark(probe.account), "unpark says that it was not parked")
    _want(await probe.is_due(), "an account that is parked no more is due")


async def check_orders(probe: Probe) -> None:
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


async def check_counts(probe: Probe) -> None:
    """`counts` counts what there is."""
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
