"""A ledger on PostgreSQL, as this process writes to it.

Rules that live here:

* A connection that failed is made again, and the batch written again, once at least, while there is time. A commit that
  nobody answered for is asked about first: what happened is not done twice. That it can be seen does not make it
  durable where a standby is waited for; a commit behind it does.
* Where that cannot be found out, whoever waits is refused, and what may have happened all the same is taken back by
  notes, which change nothing if it has not: an intent is absent, what was claimed is handed back.
* While the server is away, running sessions go on for as long as their lease does; what they note is kept in memory. It
  is tried again with every renewal of the lease, and whenever somebody asks.
* Times are the server's. Between transactions they are reckoned from the last one, by our own monotonic clock.
* What is old is removed by whoever comes by, seldom: a fleet has many processes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

from chatlease._clock import Clock, SystemClock
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Claim, Hold

from ._address import Address
from ._batch import Batch, given_back
from ._presence import Terms, Unknown
from ._reaper import Reaper
from ._server import Doubt, Server
from ._server_faults import Fault, code_of, unavailable
from ._server_presence import ServerPresence
from ._server_statements import ServerStatements
from ._statements import Statements
from ._store import Store

LONGEST_S = 10.0
"""Within which a batch is written, with everything that it needs; shorter where leases are."""
_LAST_SHARE = 0.25
"""Of that time, for the last try to reach a server that is away: somebody waits for the process to end."""
_PURGE_S = 600.0


class _Happened(Exception):
    """The batch in hand is durable: its last commit was one that nobody answered for."""


def patience_of(terms: Terms) -> float:
    """Return within which time a batch is written, or refused; a lease outlives several that are refused."""
    return max(1.0, min(LONGEST_S, terms.lease / 4))


class ServerStore(Store):
    """
    A schema on a server in this process.

    Args:
        address: Where it is.
        terms: Those of its first user count for all.
        clock: Instead of the server's and this machine's, for tests.
        migrate: Whether to make what is not there.
    """

    PACE_S = 0.025
    """Longer than on a file: a batch is a dozen round trips, whatever is written."""

    def __init__(self, address: Address, terms: Terms, clock: Clock | None, *, migrate: bool) -> None:
        own = clock or SystemClock()
        self._own_presence = ServerPresence(terms, own)
        super().__init__(address, terms, own, self._own_presence, Reaper(Path(), terms.lease, own.now))
        self.name = address.name
        self._given = clock
        self._server = Server(address, patience_of(terms), terms.horizon, migrate=migrate)
        self._offset: float | None = None
        self._purge_at = 0.0
        self._connecting = False
        self._in_hand: Batch | None = None
        self._doubted: Batch | None = None

    def now(self) -> float:
        """Return the server's time, as nearly as it is known here."""
        if self._given is not None or self._offset is None:
            return self._clock.wall()
        return self._clock.now() + self._offset

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _write(self, batch: Batch, *, beat: bool) -> bool:
        at_the_end = self._failing and self._stopping.is_set()
        self._server.wire.set_deadline(_LAST_SHARE if at_the_end else 1.0)
        return super()._write(batch, beat=beat)

    def _connected(self) -> Server:
        self._connecting = True
        server = self._server.connected()
        self._connecting = False
        return server

    def _transact(self, batch: Batch, *, beat: bool) -> bool:
        self._in_hand = batch
        try:
            return super()._transact(batch, beat=beat)
        except _Happened:
            self._make_sure(batch)
            self._confirm(batch, None)
        except Doubt:
            if not self._connecting:  # else it is about the schema, and holds nothing of ours
                self._own_presence.doubt()
                self._doubted = batch
            raise
        return False

    def _make_sure(self, batch: Batch) -> None:
        """Commit something behind a commit that can be seen: whoever waited for its standby may have been ended."""
        self._doubted = batch
        with self._server.transaction() as statements:
            self._own_presence.enter(statements, self._given_time())
        self._doubted = None

    def _given_time(self) -> float | None:
        return None if self._given is None else self._given.wall()

    def _enter(self, statements: Statements) -> float:
        asked = cast("ServerStatements", statements)
        now, happened = self._own_presence.enter(asked, self._given_time())
        if self._given is None:
            self._offset = now - self._clock.now()
        doubted, self._doubted = self._doubted, None
        if happened and doubted is not None and doubted is self._in_hand:
            raise _Happened
        return now

    def _beat(self, statements: Statements, now: float) -> bool:
        statements.renew(self.lease.holder, now, self.terms.lease)
        if now < self._purge_at:
            return False
        more = statements.purge(now - self.terms.keep)
        if not more:
            self._purge_at = now + _PURGE_S * random.uniform(0.5, 1.5)  # noqa: S311  (jitter, no secret)
        return more

    def _refuse(self, batch: Batch, error: Exception) -> None:
        undone = _undone(batch) if isinstance(error, Doubt) or self._doubted is batch else None
        self._doubted = None
        super()._refuse(batch, error)
        if undone is not None:
            self.submit(lambda later: undone.keep(later, error), wake=False)

    def _told_failing(self, code: str) -> None:
        """Tell the first reason; while a server is away, they change from one try to the next."""
        if not self._failing:
            super()._told_failing(code)

    # -- the server ---------------------------------------------------------------------------------------------------

    def _recover(self, error: Exception) -> bool:
        if isinstance(error, Unknown):
            self._begin_anew("rewound")
            return True
        if not isinstance(error, Fault):
            return False
        return (error.again or (error.cut and not self._connecting)) and self._server.wire.has_time

    def _part(self) -> None:
        if self._own_presence.joined and self._server.wire.is_open:
            self._server.wire.set_deadline()
            with self._server.transaction() as statements:
                self._presence.leave(statements, self.now())

    def _let_go(self) -> None:
        self._server.wire.close()

    def _code_of(self, error: Exception) -> str:
        return code_of(error)

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        return unavailable(self.name, error)

    def _is_hopeless(self, error: Exception) -> bool:
        return isinstance(error, Fault) and error.hopeless

    def _may_pass(self, error: Exception) -> bool:
        return isinstance(error, LedgerUnavailable) or (isinstance(error, Fault) and error.may_pass)


def _undone(batch: Batch) -> Batch:
    """Return the notes that take back what a batch may have done for those who are refused."""
    notes = Batch()
    notes.absent += [waiter.result for *_, waiter in batch.intents if isinstance(waiter.result, Hold)]
    claims: list[Claim] = [claim for *_, waiter in batch.claims for claim in waiter.result or ()]
    notes.handed += given_back(claims)
    return notes
