"""This process as a holder on a server: see `_presence`, and `_server_statements` for the number of a transaction.

Rules that live here:

* A number lower than those which we know to be durable means that the server has lost some: it is one that took over
  from another, and was behind (`Unknown`, as for a file that is another one).
* A commit that nobody answered for has happened if the next number is the one behind it.
"""

from __future__ import annotations

from pathlib import Path

from chatlease._clock import Clock

from . import _holders
from ._presence import Fenced, Presence, Terms, Unknown
from ._server_statements import Entered, ServerStatements


class ServerPresence(Presence):
    """
    The holder of one store.

    Args:
        terms: Those of the store, without lock files.
        clock: Its `now` is the watchdog.
    """

    def __init__(self, terms: Terms, clock: Clock) -> None:
        super().__init__(Path(), terms, clock)
        self._number = 0
        self._durable = 0
        self._doubted: int | None = None

    @property
    def joined(self) -> bool:
        """Whether the server knows our holder."""
        return self._joined

    def enter(self, statements: ServerStatements, at: float | None) -> tuple[float, bool]:
        """
        Be a live holder in this transaction.

        Returns:
            The time, and whether the transaction that was doubted is durable.

        Raises:
            Fenced: We were declared dead.
            Unknown: The server lost what we had written.
        """
        found = statements.enter(self.lease.holder, at) or self._begin(statements, at)
        for old, _ in self._former:
            statements.bury(old, found.now)
        if found.state != "live":
            raise Fenced
        if found.number <= self._durable:
            raise Unknown
        happened = self._doubted is not None and found.number > self._doubted
        self._number = found.number
        return found.now, happened

    def _begin(self, statements: ServerStatements, at: float | None) -> Entered:
        if self._joined:
            raise Unknown
        now, holder = statements.time(at), self.lease.holder
        statements.join(holder, now, lease=self._terms.lease, host=_holders.HOST, lock="")
        found = statements.enter(holder, at)
        assert found is not None
        return found

    def doubt(self) -> None:
        """Take note that nobody knows whether the last transaction is durable."""
        self._doubted = self._number

    def confirm(self) -> None:
        """See `Presence`."""
        super().confirm()
        self._durable = self._number
        self._doubted = None

    def rejoin(self) -> None:
        """See `Presence`."""
        super().rejoin()
        self._forget()

    def replace_lost(self) -> str:
        """See `Presence`."""
        lost = super().replace_lost()
        if lost:
            self._forget()
        return lost

    def _forget(self) -> None:
        self._durable, self._doubted = 0, None
