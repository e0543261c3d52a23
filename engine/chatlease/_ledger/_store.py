"""One ledger, as this process uses it: one thread, one connection, one holder, whatever engines and loops use it.

Rules that live here:

* The event loops only append to the batch that waits; the writer thread takes it as a whole, so that one transaction
  and one sync serve everybody who asked meanwhile. At most one batch is in flight. Whoever is alone is never delayed;
  where several wait at once, the next sync comes a moment later, for more of them. A note that nobody waits for is
  written with the next batch, or after a quarter of a second.
* The pulse renews the lease four times in its length. A lost lease is noticed by it or by the next write.
* What is written to, a file (`_file_store`) or a server (`_server_store`), and what may go wrong with it, is a
  subclass's business. Where it has lost what it held, what this process knows is written again (`_kept`). Whatever
  else fails is tried again, and told once.
* Nothing that happens to one batch ends the writer: whoever waits is answered.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Protocol

from chatlease._clock import Clock
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Lease

from ._batch import Batch, Waiter
from ._kept import Kept
from ._news import News
from ._places import Places
from ._presence import Fenced, Presence, Terms
from ._reaper import Reaper
from ._statements import Statements

_SOON_S = 0.25
"""So long a note that nobody waits for may wait for something else to be written with."""
TRIES = 4
"""A transaction is tried so often at most: our holder may be dead, then the file lost."""


class _Writer(enum.Enum):
    """What the writer thread does; `LINGERS`: it looks again soon; `SLEEPS`: it must be woken."""

    WRITES = enum.auto()
    LINGERS = enum.auto()
    SLEEPS = enum.auto()


class Connection(Protocol):
    """A way to write."""

    def transaction(self) -> contextlib.AbstractContextManager[Statements]:
        """Write all or nothing; durable when the block ends."""
        ...


class Store(ABC):
    """
    A ledger in this process; `_stores.store_of` returns the one of a place.

    Args:
        place: What tells it from all others.
        terms: Those of its first user count for all.
        clock: For the wall time and the watchdog.
        presence: Our holder.
        reaper: Knows which others live.
    """

    PACE_S = 0.01
    """
    So long the writer rests after a batch for several waiters.

    A sync costs about half of the processor time that a whole session does, whatever is written (measured:
    ``tests/bench/README.md``); without a rest sixteen sessions at once share one among two or three of them.
    """

    def __init__(self, place: Hashable, terms: Terms, clock: Clock, presence: Presence, reaper: Reaper) -> None:
        self.place = place
        self.terms = terms
        self.news = News()
        self.users = 0
        self.abandoned = False
        self._clock = clock
        self._guard = threading.Lock()
        self._batch = Batch()
        self._writer = _Writer.LINGERS
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ends: list[Waiter] = []
        self._beat_due = False
        self._presence = presence
        self._reaper = reaper
        self.places = Places()
        self._kept = Kept(terms.horizon, terms.keep)
        self._restoring = False
        self._failing = ""
        self._threads = [
            threading.Thread(target=self._write_on, name="chatlease ledger", daemon=True),
            threading.Thread(target=self._pulse_on, name="chatlease lease", daemon=True),
        ]

    # -- from the event loops -----------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """Ours, now."""
        return self._presence.lease

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @abstractmethod
    def now(self) -> float:
        """Return the ledger's time."""

    def submit(self, add: Callable[[Batch], object], *, wake: bool = True) -> None:
        """Add something to the batch that waits; ``wake=False`` for what may ride along with something else."""
        with self._guard:
            add(self._batch)
            if self._writer is _Writer.WRITES or not (wake or self._writer is _Writer.SLEEPS):
                return
            self._writer = _Writer.WRITES
        self._wake.put(None)

    def pulse(self) -> None:
        """Show that the process is awake, and have the lease renewed."""
        self._presence.pulse()
        self._beat_due = True
        self._wake.put(None)

    def reap(self, statements: Statements, now: float, lease: Lease) -> int:
        """Declare those dead that are; as a call in a transaction."""
        return self._reaper.reap(statements, now, lease)

    def end(self, waiter: Waiter) -> None:
        """Write what waits, let go of the holder and the file, end the threads; then the waiter is told."""
        self._ends.append(waiter)
        self._stopping.set()
        self._wake.put(None)

    def stop(self, seconds: float) -> None:
        """Do the same, and block until it is done, but no longer than that."""
        self._stopping.set()
        self._wake.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(seconds)

    def abandon(self) -> None:
        """Let go without touching anything that the parent has too; in a forked child."""
        self.abandoned = True
        self._presence.abandon()

    # -- the threads --------------------------------------------------------------------------------------------------

    def _pulse_on(self) -> None:
        while not self._stopping.wait(self.terms.lease / 4):
            self.pulse()

    def _write_on(self) -> None:
        while not self._stopping.is_set():
            self._await_work()
            self._write_all()
        self._write_all()
        self._leave()
        _resolve(self._ends)

    def _await_work(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=_SOON_S)
            return
        with self._guard:
            if (self._batch or self.places.is_look_due(self.now())) and not self._failing:
                return
            self._writer = _Writer.LINGERS if self.places else _Writer.SLEEPS
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=_SOON_S if self.places else None)

    def _write_all(self) -> None:
        """Write until nothing is left; notes that cannot be written wait for the next beat, or for somebody."""
        beat, self._beat_due = self._beat_due, False
        while (batch := self._taken()) or beat or (self.places.is_look_due(self.now()) and not self._failing):
            beat = self._write(batch, beat=beat)
            if self._failing and not self._awaited():
                return

    def _taken(self) -> Batch:
        with self._guard:
            batch, self._batch = self._batch, Batch()
            self._writer = _Writer.WRITES if batch else _Writer.LINGERS
        return batch

    def _awaited(self) -> bool:
        with self._guard:
            if self._batch.waiters():
                return True
            self._writer = _Writer.LINGERS
        return False

    def _write(self, batch: Batch, *, beat: bool) -> bool:
        """Write a batch, and let everybody know; returns whether there is more to purge."""
        waiters = batch.waiters()
        error, more = self._attempt(batch, beat=beat)
        if error is None:
            self._told_recovered()
        else:
            self._end_turns(self.places.undo())
            self._refuse(batch, error)
        _resolve(waiters)
        if len(waiters) > 1:
            self._stopping.wait(self.PACE_S)
        return more

    def _refuse(self, batch: Batch, error: Exception) -> None:
        """Refuse what is new; write the rest without it, or keep it."""
        failure = self._unavailable(error)
        batch.refuse_new(failure)
        again = error if self._is_hopeless(error) or not batch else self._attempt(batch, beat=False)[0]
        if batch and again is not None:
            with self._guard:
                batch.keep(self._batch if self._may_pass(again) else Batch(), failure)
        self._told_failing(self._code_of(error))

    def _attempt(self, batch: Batch, *, beat: bool) -> tuple[Exception | None, bool]:
        """Write a batch, as another holder or somewhere else if need be; returns why that failed, and `_beat`."""
        error: Exception | None = None
        for _ in range(TRIES):
            try:
                return None, self._transact(batch, beat=beat)
            except Fenced as fenced:
                error = fenced
                self.lease.lose()
            except Exception as failure:  # noqa: BLE001  (whatever it is, whoever waits must be answered)
                error = failure
                if not self._recover(failure):
                    break
        return error, False

    def _transact(self, batch: Batch, *, beat: bool) -> bool:
        self._replace_lost_lease()
        connection = self._connected()
        sent_at, more = self._clock.now(), False
        self._reaper.begin()
        with connection.transaction() as statements:
            now = self._enter(statements)
            self.places.begin()
            if self._restoring:
                self._kept.restore(statements, self.lease.holder, now)
                self.places.restore(statements, self.lease.holder, now)
            batch.write(statements, now, self.lease)
            self._kept.suspect(statements, batch, now)
            if beat:
                more = self._beat(statements, now)
            if self.places.is_look_due(now):
                self._end_turns(self.places.look(statements, self.lease.holder, now))
        self._confirm(batch, sent_at if beat else None)
        return more

    def _confirm(self, batch: Batch, renewed_at: float | None) -> None:
        """Take note that a batch is durable."""
        self._presence.confirm()
        self._reaper.confirm()
        self.places.confirm()
        self._restoring = False
        self._kept.take(batch)
        if renewed_at is not None:
            self._presence.renewed(renewed_at)

    def _beat(self, statements: Statements, now: float) -> bool:
        statements.renew(self.lease.holder, now, self.terms.lease)
        return statements.purge(now - self.terms.keep)

    def _replace_lost_lease(self) -> None:
        old = self._presence.replace_lost()
        if old:
            self.places.clear()
            self._kept.orphan_all()
            self.news.tell("ledger.lease_lost", holder=old)

    def _leave(self) -> None:
        try:
            with contextlib.suppress(Exception):
                self._part()
        finally:
            self._presence.release()
            self._let_go()

    def _begin_anew(self, reason: str, **keys: object) -> None:
        """Have everything that we know written again: what we write to does not have it any more."""
        if not self._restoring:
            self.news.tell("ledger.quarantined", error_code=reason, **keys)
        self._restoring = True
        self._presence.rejoin()

    # -- what is written to -------------------------------------------------------------------------------------------

    @abstractmethod
    def _connected(self) -> Connection:
        """Return the way to write, now."""

    def _enter(self, statements: Statements) -> float:
        """Be a live holder in this transaction; returns the time, which is the same for all of it."""
        now = self.now()
        self._presence.join(statements, now)
        return now

    @abstractmethod
    def _recover(self, error: Exception) -> bool:
        """Do what can be done about an error; returns whether to try again."""

    @abstractmethod
    def _part(self) -> None:
        """Write that our holder is gone, if there is where."""

    @abstractmethod
    def _let_go(self) -> None:
        """Let go of what is written to, for ever."""

    @abstractmethod
    def _code_of(self, error: Exception) -> str:
        """Return a short machine word for an error."""

    @abstractmethod
    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        """Return the error for whoever is refused."""

    @abstractmethod
    def _is_hopeless(self, error: Exception) -> bool:
        """Say whether writing less, at once, would fail as well."""

    @abstractmethod
    def _may_pass(self, error: Exception) -> bool:
        """Say whether the same notes could ever be written; else they would stand in the way of all others."""

    # -- turns --------------------------------------------------------------------------------------------------------

    def _end_turns(self, tickets: list[str]) -> None:
        if tickets:
            with self._guard:
                self._batch.ended_turns += tickets

    # -- the news -----------------------------------------------------------------------------------------------------

    def _told_failing(self, code: str) -> None:
        if self._failing != code:
            self._failing = code
            self.news.tell("ledger.failed", error_code=code)

    def _told_recovered(self) -> None:
        if self._failing:
            self._failing = ""
            self.news.tell("ledger.recovered")


def _resolve(waiters: list[Waiter]) -> None:
    """Tell everybody, with one call per event loop; a loop that was closed has nobody left who waits."""
    for loop in {waiter.loop for waiter in waiters}:
        mine = [waiter for waiter in waiters if waiter.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve_all, mine)
        except RuntimeError:
            for waiter in mine:
                waiter.lapse()


def _resolve_all(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.resolve()
