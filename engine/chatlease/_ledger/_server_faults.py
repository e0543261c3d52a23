"""What a failure of PostgreSQL, or of the way to it, means for the promise.

Rules that live here:

* Of the driver's errors only their kind is kept. Their texts may hold values and addresses, so none of them is shown,
  chained, or left as the context of ours.
* A connection that failed in any way is dropped, and so is one to a server that does not write (a standby, since a
  fail-over). The next one may find another server.
* Two transactions that wait for each other end with an error for one of them, which is tried again.
"""

from __future__ import annotations

import re

from chatlease.errors import LedgerUnavailable

_GONE = ("08", "57P")
"""Classes of errors after which a connection is worth nothing."""
_READ_ONLY = frozenset({"25006", "0A000"})
_AGAIN = frozenset({"40001", "40P01"})
_NEVER = ("22", "23")
"""Classes of errors that the same values would meet again: no text, out of range, there already."""
_UNPREPARED = frozenset({"26000", "42P05"})
"""A prepared statement is not there, or there already: another session answers than the one that prepared it."""
_DROPPED = frozenset({"42P01", "3F000"})
"""The schema is not there any more; with the next connection it is looked at again."""
_LATE = frozenset({"55P03", "57014"})
_TEXTS = {
    "timeout": "it does not answer in time",
    "connection-refused": "nothing listens there",
    "invalid-password": "the password is not accepted",
    "invalid-authorization-specification": "the user is not accepted",
    "invalid-catalog-name": "there is no such database",
    "insufficient-privilege": "the user may not",
    "target-server-attribute-not-matched": "none of its servers can be written to",
    "read-only-sql-transaction": "the server is a standby, or read-only",
    "feature-not-supported": "the server is a standby, or read-only",
    "lock-not-available": "another process keeps it locked",
    "query-canceled": "it does not answer in time",
    "undefined-table": "its tables are not there",
}


class Fault(Exception):
    """
    A failure, by its kind alone.

    Attributes:
        code: A short machine word: ``connection-refused``, ``timeout``, ``deadlock-detected``, ...
        state: The server's own code for it (SQLSTATE); empty when it was not the server that failed.
        cut: The connection is worth nothing any more.
    """

    def __init__(self, code: str, state: str = "", *, cut: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.state = state
        self.cut = cut

    @property
    def hopeless(self) -> bool:
        """Whether writing less, at once, would fail as well."""
        return self.cut or self.state in _LATE

    @property
    def may_pass(self) -> bool:
        """Whether the same values could ever be written."""
        return not self.state.startswith(_NEVER)

    @property
    def unprepared(self) -> bool:
        """Whether prepared statements do not work here."""
        return self.state in _UNPREPARED

    @property
    def again(self) -> bool:
        """Whether the same transaction may succeed at once."""
        return self.state in _AGAIN


def fault_of(error: Exception) -> Fault:
    """Return the kind of an error of the driver's, or of the way to the server."""
    state = str(getattr(error, "sqlstate", None) or "")
    code = _kebab(type(error).__name__)
    if isinstance(error, TimeoutError):
        code = "timeout"
    elif isinstance(error, ValueError):  # the driver could not encode it
        return Fault(code, "22000")
    cut = not state or (state.startswith(_GONE) and state not in _LATE) or state in _READ_ONLY | _UNPREPARED | _DROPPED
    return Fault(code, state, cut=cut)


def code_of(error: BaseException) -> str:
    """Return a short machine word for an error."""
    return error.code if isinstance(error, Fault) else _kebab(type(error).__name__)


def unavailable(name: str, error: BaseException) -> LedgerUnavailable:
    """Return the error for a ledger that cannot be written now."""
    if isinstance(error, LedgerUnavailable):
        return error
    code = code_of(error)
    return LedgerUnavailable(f"the ledger {name} cannot be written: {_TEXTS.get(code, code)}")


def _kebab(name: str) -> str:
    words: list[str] = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", name.removesuffix("Error"))
    return "-".join(words).lower()
