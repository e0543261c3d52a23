"""The file of a store: open when it is needed, and another one when it was lost.

Rules that live here:

* What is opened is the file that is at the path now. One that was deleted, emptied or replaced under us is let go of,
  and whoever asks is told once (`Replaced`), even if the new one, as a backup does, knows our holder.
* Only what was a ledger is ever moved: a file that this process had open, or that has a folder of lock files beside it.
  Any other one that SQLite cannot read is somebody else's, and left as it is.
* A file that cannot be trusted any more is set aside, under a lock, so that of several processes that find it lost only
  one moves it, and none moves the new one; at most once in a while, for a disk may fail for good.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from chatlease.errors import LedgerUnavailable

from . import _connection, _holders
from ._faults import code_of, is_lost
from ._place import ANOTHER_FILE

_AGAIN_S = 60.0


class Replaced(Exception):
    """The file is not the one that was open before; nothing was written."""


class LedgerFile:
    """
    The file at a path, as this process has it open.

    Args:
        path: Where it is.
        folder: Of the lock files.
        horizon: See `Statements`.
        now: Monotonic time.
    """

    def __init__(self, path: Path, folder: Path, horizon: float, now: Callable[[], float]) -> None:
        self._path = path
        self._folder = folder
        self._horizon = horizon
        self._now = now
        self._connection: _connection.Connection | None = None
        self._found: _connection.Identity | None = None
        self._ours = False
        self._known: _connection.Identity | None = None
        self._is_lost = False
        self._aside_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, be it to the file at the path or not."""
        return self._connection is not None

    @property
    def open_connection(self) -> _connection.Connection | None:
        """The connection, if there is one to the file at the path."""
        return self._connection if self._connection is not None and self._connection.is_current() else None

    def connected(self) -> _connection.Connection:
        """
        Return the connection to the file that is at the path now.

        Raises:
            Replaced: It is another file than before; said once.
            LedgerUnavailable: It is no ledger, or cannot be used.
        """
        if self._connection is not None and not self._connection.is_current():
            self._is_lost = True
            with _holders.exclusively(self._folder):
                self._connection.clear_away()
            self.close()
        if self._connection is None:
            self._connection = self._opened()
            self._tell_apart(self._connection)
        return self._connection

    def _opened(self) -> _connection.Connection:
        self._found = _connection.identity_of(self._path)
        self._ours = self._ours or self._folder.is_dir()
        try:
            connection = _connection.Connection(self._path, self._folder, self._horizon)
        except sqlite3.Error as error:
            if self._ours or not is_lost(error):
                raise
            failure = error
        else:
            with contextlib.suppress(OSError):  # without locks nothing else makes it, and it marks the file as a ledger
                self._folder.mkdir(mode=0o700, exist_ok=True)
            self._ours = True
            return connection
        raise LedgerUnavailable(
            f"the file {self._path} is no ledger, or a damaged one ({code_of(failure)}); it is left as it is",
            hint=ANOTHER_FILE,
        ) from failure

    def _tell_apart(self, connection: _connection.Connection) -> None:
        self._found = connection.identity
        known, self._known = self._known, connection.identity
        lost, self._is_lost = self._is_lost, False
        if lost or known not in {None, connection.identity}:
            raise Replaced

    def set_aside(self, wall: float) -> str | None:
        """
        Set the lost file aside; return its new name, empty when another process has.

        ``None`` means that it stays: nothing is set aside so soon again, nor what was never a ledger.

        Raises:
            OSError: It cannot be moved.
        """
        if not self._ours or (self._aside_at is not None and self._now() - self._aside_at < _AGAIN_S):
            return None
        self._aside_at = self._now()
        self.close()
        with _holders.exclusively(self._folder):
            name = _connection.quarantine(self._path, self._found, wall)
        self._known = None  # whoever asked knows already that the next one is new
        return name

    def let_go(self, error: Exception) -> None:
        """Open the file again next time, unless it was only busy or full."""
        if code_of(error) not in {"busy", "full"}:
            self.close()

    def close(self) -> None:
        """Let go of it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
