"""Chats of one account whose create reply was lost: they exist, or not, or not yet, and nobody knows their ids.

Where the id is ours to choose it is known, and no such chat comes here.

Rules that live here:

* They are looked for in one listing per sweep, however many they are, and the listing comes first: what the ledger
  knows is asked after it, so that a chat of ours in the listing cannot be missing in the ledger.
* Where the service gives back the key that a chat was made with, the key is proof: the chat is looked for at once, and
  again when its create can take effect no more; only then is the entry absent. Nothing else is touched.
* Elsewhere only time and emptiness tell (see `_sweep.match`), so nothing is looked for before its time, and what is
  done with a find is `Sweep.reconcile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _failpoints
from ._interrupt import Deadline
from ._sweep import Match, clock_ahead, match, ready_at
from .adapter import Call, ChatListing
from .errors import Unavailable
from .ledger import Claim

if TYPE_CHECKING:
    from ._account_sweep import AccountSweep


class LostCreates:
    """
    The dead intents of one account in one sweep.

    Args:
        sweep: Of the account; it ends the claims.
    """

    def __init__(self, sweep: AccountSweep) -> None:
        self._sweep = sweep
        self._claims: list[Claim] = []
        self._by_key = sweep.adapter.capabilities.client_key
        self._http_date: str | None = None
        self._date_seen_at = 0.0

    async def take(self, claims: list[Claim]) -> None:
        """Keep those that may be looked for now; what must wait, or can never be found, is handed on."""
        code = self._why_not()
        if code:
            await self._sweep.together(self._sweep.bury(claim, code, claim.entry.attempts) for claim in claims)
            return
        waits = [(claim, self._wait_of(claim)) for claim in claims]
        self._claims += [claim for claim, wait in waits if wait <= 0]
        await self._sweep.together(self._sweep.hand_on(claim, wait) for claim, wait in waits if wait > 0)

    async def look(self) -> None:
        """List the account's chats, delete those that were lost, and end the claims."""
        if not self._claims:
            return
        reason = ""
        with self._sweep.blamed() as blame:
            reason = await self._give_back(await self._find())
        if await self._sweep.excused(blame, self._claims):
            await self._sweep.together(self._conclude(claim, reason) for claim in self._claims)

    def _wait_of(self, claim: Claim) -> float:
        if self._by_key:
            return 0.0
        return ready_at(self._sweep.settings, claim.entry, self._sweep.ledger.lease_s) - claim.at

    def _why_not(self) -> str:
        if not self._sweep.adapter.capabilities.listing:
            return "no-listing"
        return "reconcile-off" if self._sweep.settings.reconcile == "off" and not self._by_key else ""

    async def _find(self) -> Match:
        listings = await self._sweep.ask(self._list, self._sweep.deadlines.answer)
        await self._sweep.accept()
        _failpoints.reach("sweep.listed")
        known = await self._sweep.ledger.known(self._sweep.account)
        seen_at = known.now - (self._sweep.clock.now() - self._date_seen_at)
        return match(
            listings,
            [claim.entry for claim in self._claims],
            known,
            skew=self._sweep.settings.skew,
            offset=clock_ahead(self._http_date, seen_at),
            by_key=self._by_key,
        )

    async def _list(self, call: Call) -> list[ChatListing]:
        found: list[ChatListing] = []
        chats = aiter(self._sweep.adapter.list_chats(call))
        while True:
            with Deadline(self._sweep.clock, self._sweep.deadlines.call, _late):  # each page has its own
                each = await anext(chats, None)
            if each is None:
                return found
            if not found:
                self._http_date, self._date_seen_at = call.http_date, self._sweep.clock.now()
            found.append(each)

    async def _give_back(self, found: Match) -> str:
        """Delete what was found; returns why the account is not clean yet, as a code."""
        for claim in tuple(self._claims):
            listing = found.by_key.get(claim.hold.entry)
            if listing is not None:
                await self._sweep.delete(listing.chat, may_run=not listing.empty)
                self._sweep.settle(claim, listing.chat)
                self._claims.remove(claim)
        for chat in found.ambiguous:
            self._sweep.trace("sweep.candidate.ambiguous", None, chat=chat)
        for chat in found.ours:
            await self._give_back_candidate(chat)
        if found.ours and self._sweep.settings.reconcile == "report":
            return "reported"
        return "ambiguous" if found.ambiguous else ""

    async def _give_back_candidate(self, chat: str) -> None:
        if self._sweep.settings.reconcile == "report":
            self._sweep.trace("sweep.candidate.found", None, chat=chat)
            return
        await self._sweep.delete(chat, may_run=False)
        self._sweep.done["swept"] += 1
        self._sweep.trace("sweep.candidate.deleted", None, chat=chat)

    async def _conclude(self, claim: Claim, reason: str) -> None:
        if reason == "reported":
            await self._sweep.bury(claim, reason, claim.entry.attempts)
        elif reason:
            await self._sweep.hand_on(claim, self._sweep.settings.first_retry)
        else:
            await self._sweep.miss(claim)


def _late() -> Exception:
    return Unavailable("the listing took too long", code="deadline-call")
