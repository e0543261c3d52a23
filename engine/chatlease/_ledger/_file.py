"""The file of a store: open when it is needed, and another one when it was lost.

Rules that live here:

* What is opened is the file that is at the path now. One that was deleted or replaced under us is let go of.
* A file that cannot be trusted any more is set aside, under a lock, so that of several processes that find it lost only
  one moves it, and none moves the new one; at most once in a while, for a disk may fail for good.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import _connection, _holders
from ._faults import code_of

_AGAIN_S = 60.0


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
        self._aside_at: float | None = None

    @property
    def open_connection(self) -> _connection.Connection | None:
        """The connection, if there is one to the file at the path."""
        return self._connection if self._connection is not None and self._connection.is_current() else None

    def connected(self) -> _connection.Connection:
        """Return the connection to the file that is at the path now."""
        if self._connection is not None and not self._connection.is_current():
            with _holders.exclusively(self._folder):
                self._connection.clear_away()
            self.close()
        if self._connection is None:
            self._found = _connection.identity_of(self._path)
            self._connection = _connection.Connection(self._path, self._folder, self._horizon)
            self._found = self._connection.identity
        return self._connection

    def set_aside(self, wall: float) -> str | None:
        """
        Set the lost file aside; return its new name, empty when another process has; ``None``: not so soon again.

        Raises:
            OSError: It cannot be moved.
        """
        if self._aside_at is not None and self._now() - self._aside_at < _AGAIN_S:
            return None
        self._aside_at = self._now()
        self.close()
        with _holders.exclusively(self._folder):
            return _connection.quarantine(self._path, self._found, wall)

    def let_go(self, error: Exception) -> None:
        """Open the file again next time, unless it was only busy or full."""
        if code_of(error) not in {"busy", "full"}:
            self.close()

    def close(self) -> None:
        """Let go of it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
