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


class _Held(msgspec.Struct):
    """
    An entry that we hold, in the parts that come one by one; put together only when it is needed.

    Attributes:
        entry: As it was begun, with the chat's id if that was ours to choose.
        intent_at: When.
        chat: The chat's id, once it is bound.
        epoch: See `Hold`.
    """

    entry: Entry
    intent_at: float
    chat: str | None = None
    epoch: int = 0

    def whole(self, horizon: float, **changes: Any) -> Entry:
        state = EntryState.INTENT if self.chat is None else EntryState.BOUND
        return msgspec.structs.replace(
            self.entry,
            state=state,
            chat=self.entry.chat if self.chat is None else self.chat,
            intent_at=self.intent_at,
            create_deadline=self.entry.create_deadline or self.intent_at + horizon,
            **changes,
        )


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
        self._held: dict[str, _Held] = {}
        self._left: dict[str, Entry] = {}
        self._accounts: dict[Account, None] = {}

    def __bool__(self) -> bool:
        return bool(self._held or self._left)

    def take(self, batch: Batch) -> None:
        """Take over what a committed batch changed, in the order in which it was written."""
        for hold in batch.absent:
            self._held.pop(hold.entry, None)
        for entry, at, _ in batch.intents:
            self._intend(entry, at)
        for hold, chat, waiter in batch.bound:
            if waiter is None or waiter.error is None:
                self._bind(hold, chat)
        for hold in batch.settled:
            self._held.pop(hold.entry, None)
        for hold, changes, _ in batch.handed:
            self._leave(hold, changes)
        for *_, waiter in batch.claims:
            self._claim(waiter.result)

    def orphan_all(self) -> None:
        """Hold nothing any more: the lease was lost."""
        for held in self._held.values():
            self._remember(held.whole(self._horizon, orphaned=True))
        self._held.clear()

    def restore(self, statements: Statements, holder: str, now: float) -> None:
        """Write everything into a new file, or into an old copy, which may have older states of it."""
        statements.note_loss(now)
        held = [(each.whole(self._horizon), each.epoch) for each in self._held.values()]
        statements.restore(holder, held, self._left.values(), now)
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
        self._held[entry.id] = _Held(entry, at)

    def _bind(self, hold: Hold, chat: str) -> None:
        held = self._held.get(hold.entry)
        if held is not None:
            held.chat = chat

    def _leave(self, hold: Hold, changes: dict[str, Any]) -> None:
        held = self._held.pop(hold.entry, None)
        if held is not None:
            attempts, error_code = changes["attempts"], changes["error_code"]
            self._remember(held.whole(self._horizon, orphaned=True, attempts=attempts, error_code=error_code))

    def _remember(self, entry: Entry) -> None:
        self._left[entry.id] = entry
        if len(self._left) > _LEFT:
            del self._left[next(iter(self._left))]

    def _claim(self, claims: list[Claim] | None) -> None:
        for claim in claims or ():
            self._left.pop(claim.entry.id, None)
            bound = claim.entry.chat if claim.entry.state is EntryState.BOUND else None
            self._held[claim.entry.id] = _Held(claim.entry, claim.entry.intent_at, bound, claim.hold.epoch)
