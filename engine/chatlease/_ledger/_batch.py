"""What waits to be written, and how one transaction writes it all: group commit.

Rules that live here:

* Whoever must know that something is durable waits on a future; it is set, in its own event loop, after the commit.
* Notes that nobody waits for (settled, absent, ended turns) ride along with the next transaction.
* Where a transaction fails, what creates chats is refused at once, and so is every question; what is a note (a chat's
  id, that it was settled or handed over) is refused too, but kept, and written when the file can be written again.
* What somebody asked for who has given up since is not done, or undone where it was done already.
* A chat's id is written before what became of the chat: an entry that was handed over takes none any more. That a chat
  never came to be is written before intents: the same session may try again.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

from chatlease.errors import LeaseLost
from chatlease.ledger import Account, Claim, Entry, Hold, Lease

from ._statements import Statements, key

Call: TypeAlias = Callable[[Statements, float, Lease], Any]
"""Something to do in a transaction: statements, the time, and our lease."""
Handed: TypeAlias = "tuple[Hold, dict[str, Any], Waiter | None]"
"""A chat that is left to the sweepers: the hold that ends, what `Statements.hand_over` is told, and who waits."""
_LOST = "the chat's entry in the ledger is not this process's any more"


class Waiter:
    """
    Somebody in an event loop who waits for a result, or for durability.

    Args:
        undo: Called with a result that nobody took, in whatever thread.
    """

    __slots__ = ("_undo", "error", "future", "loop", "result")

    def __init__(self, undo: Callable[[Any], object] | None = None) -> None:
        self._undo = undo
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    @property
    def given_up(self) -> bool:
        """Whether nobody will look at the result; asked from the writer's thread."""
        return self.future.cancelled()

    def resolve(self) -> None:
        """Tell the outcome; in the waiter's own loop."""
        if self.future.done():
            self.lapse()
        elif self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(_apart(self.error))

    def lapse(self) -> None:
        """Undo what was done for somebody who is gone."""
        if self._undo is not None and self.error is None and self.result is not None:
            self._undo(self.result)


def _apart(error: Exception) -> Exception:
    """Return an error of a waiter's own: notes and frames of one caller are no business of another's."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own


def given_back(claims: Sequence[Claim]) -> list[Handed]:
    """Return the notes that leave claimed entries as they were to the next sweep."""
    notes: list[Handed] = []
    for claim in claims:
        entry = claim.entry
        changes = {"attempts": entry.attempts, "error_code": entry.error_code, "retry_in_s": 0.0}
        notes.append((claim.hold, {**changes, "dead": entry.dead}, None))
    return notes


class Batch:
    """What goes into one transaction."""

    __slots__ = ("absent", "bound", "calls", "claims", "ended_turns", "handed", "intents", "settled", "spent")

    def __init__(self) -> None:
        self.intents: list[tuple[Entry, float, Waiter]] = []
        self.bound: list[tuple[Hold, str, Waiter | None]] = []
        self.settled: list[Hold] = []
        self.absent: list[Hold] = []
        self.handed: list[Handed] = []
        self.spent: dict[Account, tuple[float, int]] = {}
        self.ended_turns: list[str] = []
        self.claims: list[tuple[Collection[Account], int, Waiter]] = []
        self.calls: list[tuple[Call, Waiter]] = []

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in self.__slots__)

    def waiters(self) -> list[Waiter]:
        """Return everybody who waits for this batch."""
        waiting = [each[-1] for kind in (self.intents, self.claims, self.calls) for each in kind]
        return waiting + [each[-1] for kind in (self.bound, self.handed) for each in kind if each[-1] is not None]

    def refuse_new(self, error: Exception) -> None:
        """Take out what would make chats, and everything that is no more than a question."""
        for kind in (self.intents, self.claims, self.calls):
            for each in kind:
                each[-1].error = error
        self.intents, self.claims, self.calls = [], [], []

    def keep(self, later: Batch, error: Exception) -> None:
        """Put the notes that could not be written in front of a later batch; who waits for one is told so."""
        for waiter in self.waiters():
            waiter.error = error
        later.bound[:0] = [(hold, chat, None) for hold, chat, _ in self.bound]
        later.handed[:0] = [(hold, changes, None) for hold, changes, _ in self.handed]
        later.settled[:0] = self.settled
        later.absent[:0] = self.absent
        later.spent = self.spent | later.spent
        later.ended_turns[:0] = self.ended_turns

    def write(self, statements: Statements, now: float, lease: Lease) -> None:
        """Run everything; results and refusals are left with the waiters."""
        if self.spent:
            statements.note_budgets(self.spent, now)
        if self.ended_turns:
            statements.end_turns(self.ended_turns)
        if self.absent:
            statements.miss(now, [key(hold) for hold in self.absent])
        if self.intents:
            self._write_intents(statements, lease)
        if self.bound:
            self._write_bound(statements, lease)
        if self.settled:
            statements.settle(now, [key(hold) for hold in self.settled])
        for hold, changes, _ in self.handed:
            statements.hand_over(key(hold), now, **changes)
        self._answer(statements, now, lease)

    def _write_intents(self, statements: Statements, lease: Lease) -> None:
        holder = lease.holder
        self.intents = [each for each in self.intents if not each[-1].given_up]
        if self.intents:
            statements.intend([(e.id, e.service, e.origin, e.account, e.chat, holder, at) for e, at, _ in self.intents])
        for entry, _, waiter in self.intents:
            waiter.result = Hold(entry.id, lease)

    def _write_bound(self, statements: Statements, lease: Lease) -> None:
        """A holder that is dead must not go on, even where nobody has claimed its entries yet."""
        others = {hold.lease.holder for hold, _, _ in self.bound} - {lease.holder}
        lost = {holder for holder in others if not statements.lives(holder)}
        mine = [(chat, *key(hold)) for hold, chat, _ in self.bound if hold.lease.holder not in lost]
        gone = statements.bind(mine)
        for hold, _, waiter in self.bound:
            if waiter is not None:
                waiter.error = LeaseLost(_LOST) if hold.lease.holder in lost or hold.entry in gone else None

    def _answer(self, statements: Statements, now: float, lease: Lease) -> None:
        """Who gave up is not asked for: a turn taken for nobody would never be given back."""
        for accounts, limit, waiter in self.claims:
            waiter.result = [] if waiter.given_up else statements.claim(lease, now, accounts, limit)
        for call, waiter in self.calls:
            if not waiter.given_up:
                waiter.result = call(statements, now, lease)
