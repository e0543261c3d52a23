"""This process as a holder: its lease, its lock file, and its row in the ledger.

Rules that live here:

* Nothing is written in the name of a holder that is not live: every transaction asks first. One that others declared
  dead is given up (`Fenced`); one of which the file knows nothing means that it is another file (`Unknown`).
* A lost lease is replaced at once. The old holder is declared dead in the next transaction, by ourselves, and its lock
  file is kept until that is durable: nobody else could tell that it has ended.
* With lock files the lease is kept by the process being awake, and no sweeper of this host ends it; without them by the
  last renewal that was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from chatlease._clock import Clock
from chatlease.ledger import Lease

from . import _holders
from ._statements import Statements

_MARGIN = 1 / 6
"""Of the lease: we stop using our chats that much before anyone could take them."""


class Fenced(Exception):
    """Our holder was declared dead; nothing was written."""


class Unknown(Exception):
    """The file does not know our holder; nothing was written."""


@dataclass(frozen=True)
class Terms:
    """
    How a ledger on SQLite keeps its promise.

    Attributes:
        lease: Length of a holder's lease, in seconds.
        horizon: Seconds after an intent in which its create call can still take effect.
        keep: Seconds for which settled entries are kept.
        liveness: ``flock`` (where there is such a thing) or ``lease``.
    """

    lease: float = 60.0
    horizon: float = 300.0
    keep: float = 7 * 86400.0
    liveness: Literal["flock", "lease"] = "flock"

    @property
    def locks(self) -> bool:
        """Whether holders have lock files."""
        return self.liveness == "flock" and _holders.locks_work()


class Presence:
    """
    The holder of one store.

    Args:
        folder: Where the lock files are.
        terms: Those of the store.
        clock: Its `now` is the watchdog.
    """

    def __init__(self, folder: Path, terms: Terms, clock: Clock) -> None:
        self._folder = folder
        self._terms = terms
        self._clock = clock
        self._lock: _holders.HolderLock | None = None
        self._joined = False
        self._former: list[tuple[str, _holders.HolderLock | None]] = []
        self.lease = self._new_lease()

    def pulse(self) -> None:
        """Show that the process is awake."""
        if self._terms.locks:
            self.lease.renew(self._clock.now())

    def renewed(self, sent_at: float) -> None:
        """Take note of a renewal that was written."""
        if not self._terms.locks:
            self.lease.renew(sent_at)

    def replace_lost(self) -> str:
        """Become a new holder if the lease was lost; returns the id of the old one, else nothing."""
        if not self.lease.lost():
            return ""
        old, self.lease = self.lease, self._new_lease()
        self._former.append((old.holder, self._lock))
        self._lock = None
        self._joined = False
        return old.holder

    def join(self, statements: Statements, now: float) -> None:
        """
        Be a live holder in this transaction.

        Raises:
            Fenced: We were declared dead.
            Unknown: We had joined, but not this file.
        """
        for old, _ in self._former:
            statements.bury(old, now)
        holder = self.lease.holder
        if not self._joined:
            self._lock_file(holder)
            lock = holder if self._lock is not None else ""
            statements.join(holder, now, lease=self._terms.lease, host=_holders.HOST, lock=lock)
        state = statements.state_of(holder)
        if not state:
            raise Unknown
        if state != "live":
            raise Fenced

    def confirm(self) -> None:
        """Take note that the transaction in which we joined is durable."""
        self._joined = True
        while self._former:
            _, lock = self._former.pop()
            if lock is not None:
                lock.release()

    def rejoin(self) -> None:
        """Join again, the next time: the file is another one."""
        self._joined = False

    def leave(self, statements: Statements, now: float) -> None:
        """End in order."""
        if self._joined:
            statements.leave(self.lease.holder, now)

    def release(self) -> None:
        """Let go of the lock files."""
        for _, lock in [*self._former, ("", self._lock)]:
            if lock is not None:
                lock.release()

    def abandon(self) -> None:
        """Let go of them without unlocking; in a forked child."""
        for _, lock in [*self._former, ("", self._lock)]:
            if lock is not None:
                lock.abandon()

    def _lock_file(self, holder: str) -> None:
        if self._terms.locks and self._lock is None:
            self._lock = _holders.HolderLock(self._folder, holder)

    def _new_lease(self) -> Lease:
        return Lease(uuid4().hex, self._clock.now, self._terms.lease * (1 - _MARGIN))
