"""A ledger in memory: the whole contract but durability; for tests, and for bots that accept to lose it."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Collection, Sequence
from uuid import uuid4

from chatlease._clock import Clock, SystemClock
from chatlease.errors import LeaseLost
from chatlease.ledger import Account, Claim, Counts, Entry, Hold, Known, Lease, Listener, Turn

from . import _schema
from ._statements import Statements, key

_HORIZON_S = 300.0


class MemoryLedger:
    """
    The same protocol, and the same SQL, as the ledger on disk, on a database in memory (`chatlease.ledger.Ledger`).

    One event loop at a time; may be shared by several engines of that loop, and outlives them. What is settled or
    absent is forgotten within a minute or so. Its holder is this process, which lives as long as it does.

    Args:
        clock: Whose wall time counts.
        horizon: Seconds after which a create call, lost on its way, takes effect no more. 300 by default.
    """

    lease_s = 60.0
    """No lease ever runs out here; sweepers use its length as a safety margin."""
    shared = False

    def __init__(self, clock: Clock | None = None, *, horizon: float = _HORIZON_S) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lease = Lease(uuid4().hex, self._clock.now, float("inf"))
        self._horizon = horizon
        self._db: sqlite3.Connection | None = None
        self._statements: Statements | None = None
        self._purged_at = 0.0

    @property
    def _sql(self) -> Statements:
        """The statements; the database is made by the first who needs it, so that importing costs nothing."""
        if self._statements is None:
            self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._db.close)
            _schema.migrate(self._db)
            self._statements = Statements(self._db, self._horizon)
            self._statements.join(self._lease.holder, self._now(), lease=float("inf"), host="", lock="")
        return self._statements

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The open entries, oldest first, without waiting: for tests, after the event loop's end too."""
        return tuple(self._sql.open_entries())

    async def open(self) -> None:
        """Nothing to do: memory is always ready."""

    async def aclose(self) -> None:
        """Keep the entries: they are all that is known of chats left behind."""

    def listen(self, listener: Listener) -> Callable[[], None]:  # noqa: ARG002  (nothing ever happens to memory)
        """See `chatlease.ledger.Ledger`."""
        return lambda: None

    # -- what sessions write ------------------------------------------------------------------------------------------

    async def intent(self, entry: Entry) -> Hold:
        """See `chatlease.ledger.Ledger`."""
        who = (entry.id, entry.service, entry.origin, entry.account, entry.chat)
        self._sql.intend([(*who, self._lease.holder, self._now())])
        return Hold(entry.id, self._lease)

    async def bound(self, hold: Hold, chat: str) -> None:
        """See `chatlease.ledger.Ledger`."""
        if self._sql.bind([(chat, *key(hold))]):
            raise LeaseLost("the chat's entry in the ledger is not this session's any more")

    def settled(self, hold: Hold) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._sql.settle(self._now(), [key(hold)])
        self._purge()

    def absent(self, hold: Hold) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._sql.miss(self._now(), [key(hold)])
        self._purge()

    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._sql.hand_over(
            key(hold), self._now(), attempts=attempts, error_code=error_code, retry_in_s=retry_in_s, dead=dead
        )

    # -- what sweepers do ---------------------------------------------------------------------------------------------

    async def open_entries(self) -> Sequence[Entry]:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.open_entries()

    async def counts(self) -> Counts:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.counts()

    async def reap(self) -> int:
        """See `chatlease.ledger.Ledger`; there is no other holder."""
        return 0

    async def due(self) -> Sequence[Account]:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.due(self._now())

    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.claim(self._lease, self._now(), accounts, limit)

    async def known(self, account: Account) -> Known:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.known(account, self._now())

    async def park(self, account: Account, *, seconds: float, error_code: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.park(account, self._now() + seconds, error_code)

    async def unpark(self, account: Account) -> bool:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.unpark(account)

    async def retry(self, entry: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.retry(entry, self._now())

    async def forget(self, entry: str) -> bool:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.forget(entry, self._now())

    # -- an account's turn --------------------------------------------------------------------------------------------

    def turn_at_hand(self, account: Account, entry: str, *, runs: int | None, window_s: float) -> Turn | None:  # noqa: ARG002
        """See `chatlease.ledger.Ledger`; asking is as cheap."""
        return None

    async def take_turn(
        self, account: Account, entry: str, *, slots: int | None, runs: int | None, window_s: float
    ) -> Turn:
        """See `chatlease.ledger.Ledger`."""
        return self._sql.take_turn(
            account, entry, self._lease.holder, self._now(), slots=slots, runs=runs, window_s=window_s
        )

    def end_turn(self, entry: str) -> None:
        """See `chatlease.ledger.Ledger`."""
        self._sql.end_turns([entry])

    async def awaited_turns(self) -> Sequence[str]:
        """See `chatlease.ledger.Ledger`; no other process can wait."""
        return ()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.wall()

    def _purge(self) -> None:
        """Forget settled entries, once in a while: a listing made just before may still show their chats."""
        now = self._now()
        if now - self._purged_at > self.lease_s:
            self._purged_at = now
            while self._sql.purge(now - self.lease_s):
                pass
