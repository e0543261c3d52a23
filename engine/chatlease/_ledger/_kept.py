"""What this process knows of its chats, in memory, so that it can be written again when the ledger's file is lost.

Rules that live here:

* Entries that it holds, entries that it claimed, and entries that it left to the sweepers (so many of these at most):
  writing one too many costs a deletion of a chat that is gone, writing one too few leaves a chat.
* Of what others wrote into a lost file nothing is known but the time. So for every account that is used here, now or in
  the days after, one entry says that there may be chats of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chatlease.ledger import Account, Claim, Entry, EntryState, Hold

from ._batch import Batch
from ._statements import Statements

_LEFT = 10_000
"""So many entries are remembered that were left to the sweepers, and so many accounts; bots live long."""


class Kept:
    """
    The memory of one process.

    Args:
        horizon: See `Statements`.
        keep: How long ago a file may have been lost for it to matter, in seconds.
    """

    def __init__(self, horizon: float, keep: float) -> None:
        self._horizon = horizon
        self._keep = keep
        self._held: dict[str, tuple[Entry, int]] = {}
        self._left: dict[str, Entry] = {}
        self._accounts: dict[Account, None] = {}

    def take(self, batch: Batch) -> None:
        """Take over what a committed batch changed, in the order in which it was written."""
        for hold in batch.absent:
            self._held.pop(hold.entry, None)
        for entry, at, _ in batch.intents:
            self._intend(entry, at)
        for hold, chat, waiter in batch.bound:
            if waiter is None or waiter.error is None:
                self._change(hold, chat=chat, state=EntryState.BOUND)
        for hold in batch.settled:
            self._held.pop(hold.entry, None)
        for hold, changes, _ in batch.handed:
            self._leave(hold, changes)
        for *_, waiter in batch.claims:
            self._claim(waiter.result)

    def orphan_all(self) -> None:
        """Hold nothing any more: the lease was lost."""
        for entry, _ in self._held.values():
            self._remember(msgspec.structs.replace(entry, orphaned=True))
        self._held.clear()

    def restore(self, statements: Statements, holder: str, now: float) -> None:
        """Write everything into a new file, or into an old copy, which may have older states of it."""
        statements.note_loss(now)
        statements.restore(holder, self._held.values(), self._left.values(), now)
        self._suspect(statements, self._accounts, now)

    def suspect(self, statements: Statements, batch: Batch, now: float) -> None:
        """Note what a lost file may have held of the accounts that are used here for the first time."""
        strangers = {entry.owner: None for entry, _, _ in batch.intents if entry.owner not in self._accounts}
        if strangers:
            self._suspect(statements, strangers, now)

    def _suspect(self, statements: Statements, accounts: dict[Account, None], now: float) -> None:
        lost_at = statements.lost_at()
        if lost_at is not None and now - lost_at < self._keep:
            statements.suspect(accounts, lost_at - self._keep, lost_at)

    def _intend(self, entry: Entry, at: float) -> None:
        self._accounts[entry.owner] = None
        if len(self._accounts) > _LEFT:
            del self._accounts[next(iter(self._accounts))]
        mine = Entry(
            id=entry.id,
            service=entry.service,
            origin=entry.origin,
            account=entry.account,
            chat=entry.chat,
            intent_at=at,
            create_deadline=at + self._horizon,
        )
        self._held[entry.id] = mine, 0

    def _change(self, hold: Hold, **changes: Any) -> None:
        held = self._held.get(hold.entry)
        if held is not None:
            self._held[hold.entry] = msgspec.structs.replace(held[0], **changes), held[1]

    def _leave(self, hold: Hold, changes: dict[str, Any]) -> None:
        held = self._held.pop(hold.entry, None)
        if held is not None:
            attempts, error_code = changes["attempts"], changes["error_code"]
            self._remember(msgspec.structs.replace(held[0], orphaned=True, attempts=attempts, error_code=error_code))

    def _remember(self, entry: Entry) -> None:
        self._left[entry.id] = entry
        if len(self._left) > _LEFT:
            del self._left[next(iter(self._left))]

    def _claim(self, claims: list[Claim] | None) -> None:
        for claim in claims or ():
            self._left.pop(claim.entry.id, None)
            self._held[claim.entry.id] = claim.entry, claim.hold.epoch
