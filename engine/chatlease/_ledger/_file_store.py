"""A ledger's file, as this process writes to it.

Rules that live here:

* A file that cannot be trusted any more, and one that was deleted or replaced, is followed by a new one, into which
  goes what this process knows.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chatlease._clock import Clock
from chatlease.errors import LedgerUnavailable

from ._batch import Batch
from ._connection import Connection
from ._faults import code_of, is_lost, unavailable
from ._file import LedgerFile, Replaced
from ._presence import Presence, Terms, Unknown
from ._reaper import Reaper
from ._store import Store


class FileStore(Store):
    """
    A ledger file in this process.

    Args:
        path: The file, absolute.
        terms: Those of its first user count for all.
        clock: For the wall time and the watchdog.
    """

    def __init__(self, path: Path, terms: Terms, clock: Clock) -> None:
        folder = path.with_name(f"{path.name}.holders")
        super().__init__(path, terms, clock, Presence(folder, terms, clock), Reaper(folder, terms.lease, clock.now))
        self.path = path
        self._file = LedgerFile(path, folder, terms.horizon, clock.now)

    def now(self) -> float:
        """Return the time of this host."""
        return self._clock.wall()

    def _connected(self) -> Connection:
        return self._file.connected()

    def _recover(self, error: Exception) -> bool:
        if isinstance(error, Unknown | Replaced):
            self._begin_anew("removed")
            return True
        return self._set_aside(error)

    def _set_aside(self, error: Exception) -> bool:
        """Set the file aside if it is lost; else let go of it. Returns whether to go on with another one."""
        if not is_lost(error):
            self._file.let_go(error)
            return False
        try:
            name = self._file.set_aside(self.now())
        except OSError:
            name = None
        if name is None:
            self._file.close()
            return False
        self._begin_anew(code_of(error), file=name or None)
        return True

    def _part(self) -> None:
        if self._kept and self._file.is_open:  # it may have been lost after our last write
            self._attempt(Batch(), beat=False)
        connection = self._file.open_connection
        if connection is not None:
            with connection.transaction() as statements:
                self._presence.leave(statements, self.now())

    def _let_go(self) -> None:
        self._file.close()

    def _code_of(self, error: Exception) -> str:
        return code_of(error)

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        return unavailable(self.path, error)

    def _is_hopeless(self, error: Exception) -> bool:
        return code_of(error) == "busy"

    def _may_pass(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.Error | OSError | LedgerUnavailable)
