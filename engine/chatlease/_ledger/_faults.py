"""What an error of SQLite means for the promise: try again later, or trust this file no more.

Rules that live here:

* A file that is corrupt, no database, or whose `fsync` failed is lost: after a failed sync a second one may lie, and
  no repair is relied upon. It is set aside and a new one begun.
* Everything else (full, read-only, locked, gone) may pass: new chats are refused until it has.
"""

from __future__ import annotations

import errno
import sqlite3

from chatlease.errors import LedgerUnavailable

_LOST = (
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_IOERR_FSYNC",
    "SQLITE_IOERR_DIR_FSYNC",
    "SQLITE_IOERR_SHORT_READ",
)
_TEXTS = {
    "full": "the disk is full",
    "readonly": "it is read-only",
    "busy": "another process keeps it locked",
    "cantopen": "it cannot be opened",
    "ioerr": "the disk fails",
}


def is_lost(error: BaseException) -> bool:
    """Say whether the file cannot be trusted any more."""
    name = getattr(error, "sqlite_errorname", "")
    return isinstance(error, sqlite3.Error) and name.startswith(_LOST)


def code_of(error: BaseException) -> str:
    """Return a short machine word for an error: ``full``, ``busy``, ``ioerr-write``, ..."""
    if isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "os-error").lower()
    name: str = getattr(error, "sqlite_errorname", "") or type(error).__name__
    return name.removeprefix("SQLITE_").lower().replace("_", "-")


def unavailable(path: object, error: BaseException) -> LedgerUnavailable:
    """Return the error for a ledger that cannot be written now."""
    if isinstance(error, LedgerUnavailable):
        return error
    code = code_of(error)
    text = _TEXTS.get(code.split("-")[0], code)
    failure = LedgerUnavailable(f"the ledger {path} cannot be written: {text}")
    failure.__cause__ = error
    return failure
