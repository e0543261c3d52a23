"""What the ledgers that are written to from a thread of this process have in common: the contract, put to their store.

Rules that live here:

* A caller that is cancelled leaves nothing behind that only it knew of: an intent becomes absent (its create was never
  sent), claimed entries are given back.
* What cannot be written as text is refused here; further on it would cost others their transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Account, Claim, Counts, Entry, Hold, Holder, Known, Lease, Listener, Turn

from . import _stores
from ._batch import Batch, Call, Waiter, given_back
from ._presence import Terms
from ._statements import Statements
from ._store import Store


class StoredLedger(ABC):
    """
    A handle on a store (`chatlease.ledger.Ledger`).

    Args:
        name: What to call it in front of people.
        terms: How it keeps its promise.
    """

    shared = True

    def __init__(self, name: object, terms: Terms) -> None:
        self._name = name
        self._terms = terms
        self._store: Store | None = None
        self._opening = 0
        self._is_open = False

    @property
    def name(self) -> str:
        """What to call it in front of people: where it is, without any secret."""
        return str(self._name)

    @abstractmethod
    def _obtain_store(self) -> Store:
        """Return this process's store, with one user more."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def lease_s(self) -> float:
        """Length of a holder's lease, in seconds."""
        return self._terms.lease

    async def open(self) -> None:
        """
        Open it, making or migrating what it is kept in; see `chatlease.ledger.Ledger`.

        Raises:
            LedgerUnavailable: It cannot be written, or needs a newer library.
        """
        if self._store is None or self._store.abandoned:
            self._store = self._obtain_store()
            self._is_open = False
        self._opening += 1
        try:
            await self._run(lambda statements, now, lease: None)
            self._is_open = True
        except BaseException:
            if self._opening == 1 and not self._is_open:  # else another engine uses it
                await self.aclose()
            raise
        finally:
            self._opening -= 1

    async def aclose(self) -> None:
        """Make everything durable and let go of it, once its last user in this process has; see the contract."""
        store, self._store = self._store, None
        if store is not None and not store.abandoned and _stores.release(store):
            ended = Waiter()
            store.end(ended)
            await ended.future

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `chatlease.ledger.Ledger`."""
        return self._opened.news.listen(listener)

    # -- what sessions write ------------------------------------------------------------------------------------------

    async def intent(self, entry: Entry) -> Hold:
        """See `chatlease.ledger.Ledger`."""
        store, waiter = self._opened, Waiter(self.absent)
        self._check_names(entry.id, entry.service, entry.origin, entry.account)
        self._check_text(entry.chat or "")
        now = store.now()
        store.submit(lambda batch: batch.intents.append((entry, now, waiter)))
        return cast("Hold", await waiter.future)

    async def bound(self, hold: Hold, chat: str) -> None:
        """See `chatlease.ledger.Ledger`."""
        store, waiter = self._opened, Waiter()
        self._check_text(chat)
        store.submit(lambda batch: batch.bound.append((hold, chat, waiter)))
        await waiter.future

    def settled(self, hold: Hold) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._note(lambda batch: batch.settled.append(hold))

    def absent(self, hold: Hold) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._note(lambda batch: batch.absent.append(hold))

    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        """See `chatlease.ledger.Ledger`."""
        waiter = Waiter()
        self._check_text(error_code)
        changes = {"attempts": attempts, "error_code": error_code, "retry_in_s": retry_in_s, "dead": dead}
        self._opened.submit(lambda batch: batch.handed.append((hold, changes, waiter)))
        await waiter.future

    # -- what sweepers do ---------------------------------------------------------------------------------------------

    async def open_entries(self) -> Sequence[Entry]:
        """See `chatlease.ledger.Ledger`."""
        found: list[Entry] = await self._run(lambda statements, now, lease: statements.open_entries())
        return found

    async def counts(self) -> Counts:
        """See `chatlease.ledger.Ledger`."""
        return cast("Counts", await self._run(lambda statements, now, lease: statements.counts()))

    async def holders(self) -> Sequence[Holder]:
        """
        Return the other processes that use the ledger, the oldest first; for people.

        Raises:
            LedgerUnavailable: It cannot be asked now.
        """
        found: list[Holder] = await self._run(
            lambda statements, now, lease: [each for each in statements.living(now) if each.id != lease.holder]
        )
        return found

    async def reap(self) -> int:
        """See `chatlease.ledger.Ledger`."""
        return cast("int", await self._run(self._opened.reap))

    async def due(self) -> Sequence[Account]:
        """See `chatlease.ledger.Ledger`."""
        found: list[Account] = await self._run(lambda statements, now, lease: statements.due(now))
        return found

    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        """See `chatlease.ledger.Ledger`."""
        self._check_accounts(*accounts)
        waiter = Waiter(self._give_back)
        self._opened.submit(lambda batch: batch.claims.append((accounts, limit, waiter)))
        found: list[Claim] = await waiter.future
        return found

    async def known(self, account: Account) -> Known:
        """See `chatlease.ledger.Ledger`."""
        self._check_accounts(account)
        return cast("Known", await self._run(lambda statements, now, lease: statements.known(account, now)))

    async def park(self, account: Account, *, seconds: float, error_code: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        self._check_accounts(account)
        return cast(
            "bool", await self._run(lambda statements, now, lease: statements.park(account, now + seconds, error_code))
        )

    async def unpark(self, account: Account) -> bool:
        """See `chatlease.ledger.Ledger`."""
        self._check_accounts(account)
        return cast("bool", await self._run(lambda statements, now, lease: statements.unpark(account)))

    async def retry(self, entry: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        self._check_text(entry)
        return cast("bool", await self._run(lambda statements, now, lease: statements.retry(entry, now)))

    async def forget(self, entry: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        self._check_text(entry)
        return cast("bool", await self._run(lambda statements, now, lease: statements.forget(entry, now)))

    # -- an account's turn --------------------------------------------------------------------------------------------

    def turn_at_hand(self, account: Account, entry: str, *, runs: int | None, window_s: float) -> Turn | None:
        """See `chatlease.ledger.Ledger`."""
        store = self._opened
        if store.lease.lost():  # somebody else may have our places
            return None
        turn = store.places.take(account, entry, runs, window_s, store.now())
        if turn is not None and turn.taken and runs is not None:
            spent = store.places.spent(account)
            store.submit(lambda batch: batch.spent.update({account: spent}), wake=False)
        return turn

    async def take_turn(
        self, account: Account, entry: str, *, slots: int | None, runs: int | None, window_s: float
    ) -> Turn:
        """See `chatlease.ledger.Ledger`."""
        places = self._opened.places
        self._check_accounts(account)
        self._check_names(entry)

        def ask(statements: Statements, now: float, lease: Lease) -> Turn:
            if slots == 1:
                return places.own(statements, account, entry, lease.holder, now, runs=runs, window_s=window_s)
            return statements.take_turn(account, entry, lease.holder, now, slots=slots, runs=runs, window_s=window_s)

        turn = self.turn_at_hand(account, entry, runs=runs, window_s=window_s) if slots == 1 else None
        return cast("Turn", await self._run(ask)) if turn is None else turn

    def end_turn(self, entry: str) -> None:
        """See `chatlease.ledger.Ledger`."""
        store = self._store
        if store is None or store.abandoned:
            return
        ticket = store.places.end(entry, store.now())
        if ticket is None:
            self._note(lambda batch: batch.ended_turns.append(entry))
        elif ticket:
            store.submit(lambda batch: batch.ended_turns.append(ticket))

    async def awaited_turns(self) -> Sequence[str]:
        """See `chatlease.ledger.Ledger`."""
        places = self._opened.places
        found: list[str] = await self._run(
            lambda statements, now, lease: places.awaited(statements.awaited_turns(lease.holder), lease.holder)
        )
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> Store:
        if self._store is None or self._store.abandoned:
            raise LedgerUnavailable(f"the ledger {self.name} is not open in this process", hint="Await open() first.")
        return self._store

    async def _run(self, call: Call) -> Any:
        waiter = Waiter()
        self._opened.submit(lambda batch: batch.calls.append((call, waiter)))
        return await waiter.future

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """Leave claimed entries as they were to the next sweep."""
        notes = given_back(claims)
        self._note(lambda batch: batch.handed.extend(notes))

    def _note(self, add: Callable[[Batch], object]) -> None:
        store = self._store
        if store is not None and not store.abandoned:  # closed: it costs one more deletion of a chat that is gone
            store.submit(add, wake=False)

    def _check_accounts(self, *accounts: Account) -> None:
        for each in accounts:
            self._check_names(each.service, each.origin, each.account)

    def _check_names(self, *names: str) -> None:
        """Raise `LedgerUnavailable` for names that cannot be kept."""
        self._check_text(*names)

    def _check_text(self, *texts: str) -> None:
        """Raise `LedgerUnavailable` for what is no Unicode: halves of surrogate pairs, which JSON may hold."""
        try:
            for text in texts:
                text.encode()
        except UnicodeEncodeError:
            raise LedgerUnavailable("the ledger cannot hold an id or a name that is no Unicode text") from None
