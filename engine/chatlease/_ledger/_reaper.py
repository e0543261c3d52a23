"""Which holders are dead.

Rules that live here:

* One whose lock file is free is dead; one whose file is locked is not, whatever its lease says.
* Where no lock can tell, a holder is dead when its lease ran out *and* we have watched that same lease for its whole
  length by our own monotonic clock: a jump of the wall clock ends nobody.
* A lock file is removed when the death is durable, not before: else a transaction that fails would leave a dead holder
  of which no lock tells.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatlease.ledger import Lease

from . import _holders
from ._holder_statements import Other
from ._statements import Statements


class Reaper:
    """
    Watches the other holders of one ledger.

    Args:
        folder: Where their lock files are.
        lease: Length of a lease, in seconds.
        now: Monotonic time.
    """

    def __init__(self, folder: Path, lease: float, now: Callable[[], float]) -> None:
        self._folder = folder
        self._lease = lease
        self._now = now
        self._watched: dict[str, tuple[float, float]] = {}
        self._ended: list[str] = []

    def begin(self) -> None:
        """Take note that a transaction begins; what one before it found, if it failed, is found again."""
        self._ended.clear()

    def confirm(self) -> None:
        """Take note that the transaction is durable: the lock files of the dead are removed."""
        for lock in self._ended:
            _holders.forget(self._folder, lock)
        self._ended.clear()

    def reap(self, statements: Statements, now: float, mine: Lease) -> int:
        """Declare those dead that are; return how many."""
        others = statements.others(mine.holder)
        known = {other.id for other in others}
        self._watched = {holder: seen for holder, seen in self._watched.items() if holder in known}
        return sum(self._bury(statements, now, other) for other in others)

    def _bury(self, statements: Statements, now: float, other: Other) -> bool:
        over = _holders.is_over(self._folder, other.host, other.lock)
        if over:
            buried = statements.bury(other.id, now)
        elif over is None and self._ran_out(other, now):
            buried = statements.bury(other.id, now, other.lease_until)
        else:
            return False
        if buried and other.lock:
            self._ended.append(other.lock)
        return buried

    def _ran_out(self, other: Other, now: float) -> bool:
        seen, since = self._watched.get(other.id, (None, 0.0))
        if seen != other.lease_until:
            self._watched[other.id] = (other.lease_until, self._now())
            return False
        return other.lease_until < now and self._now() - since >= self._lease
