"""What an engine is told by its arguments, and else by the environment.

The whole table of variables is in README.md; those of the engine are ``CHATLEASE_LEDGER``, ``CHATLEASE_SWEEP``,
``CHATLEASE_TRACE`` and ``CHATLEASE_TRACE_LEVEL``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import cast

from ._clock import Clock
from ._deadlines import Deadlines
from ._ledger import MemoryLedger, PostgresLedger, SqliteLedger
from ._sweep import Sweep
from ._trace_file import TraceFile
from .adapter import Credential, CredentialProvider
from .errors import UsageError
from .ledger import Ledger

DEFAULT = "default"
"""What the environment names, else what is best: a SQLite file in the user's state folder, a sweep a minute."""


def chosen_ledger(ledger: Ledger | str | None, clock: Clock | None = None) -> Ledger | None:
    """
    Return the ledger that an argument, or else the environment, names.

    Args:
        ledger: ``sqlite:///PATH``, ``postgresql://...``, ``"memory"``, ``"none"``, ``"default"``, a ledger, or
            ``None``.
        clock: Of the one in memory.

    Raises:
        UsageError: There is no such ledger.
    """
    if ledger == DEFAULT:
        ledger = os.environ.get("CHATLEASE_LEDGER") or DEFAULT
    if not isinstance(ledger, str):
        return ledger
    if ledger == DEFAULT:
        return SqliteLedger()
    if ledger == "memory":
        return MemoryLedger(clock)
    if ledger == "none":
        return None
    if ledger.startswith("sqlite:"):
        return SqliteLedger.from_url(ledger)
    if ledger.startswith(("postgresql:", "postgres:")):
        return PostgresLedger(ledger)
    # The value is not shown: it may be an address with a password.
    raise UsageError(
        "the ledger named (by ledger= or CHATLEASE_LEDGER) is none that there is",
        hint='Give "sqlite:///PATH", "postgresql://...", "memory", "none", a ledger object, or None.',
    )


def chosen_sweep(sweep: Sweep | str | None) -> Sweep | None:
    """
    Return how to sweep, by an argument or else by ``CHATLEASE_SWEEP`` (``off``, or the seconds between two sweeps).

    Raises:
        UsageError: It is neither.
    """
    if sweep is None or isinstance(sweep, Sweep):
        return sweep
    text = os.environ.get("CHATLEASE_SWEEP", "") if sweep == DEFAULT else sweep
    if text in {"", DEFAULT}:
        return Sweep()
    if text == "off":
        return None
    try:
        return Sweep(every=float(text))
    except ValueError:
        raise UsageError("CHATLEASE_SWEEP is `off`, or the seconds between two sweeps, more than 0") from None


def chosen_provider(
    credentials: CredentialProvider | Mapping[str, Credential | Mapping[str, str]] | None,
) -> CredentialProvider | None:
    """
    Return credentials given as a mapping of accounts as a function.

    Raises:
        UsageError: A value is neither a credential nor cookies.
    """
    if not isinstance(credentials, Mapping):
        return credentials
    known = {account: chosen_credential(each) for account, each in credentials.items()}

    def provide(_service: str, account: str, /) -> Credential | None:
        return known.get(account)

    return provide


def chosen_credential(given: object) -> Credential:
    """
    Return a credential, also for bare cookies.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(given, Credential):
        return given
    kind = type(given).__name__
    cookies = cast("Mapping[object, object]", given if isinstance(given, Mapping) else {})
    texts = {name: value for name, value in cookies.items() if isinstance(name, str) and isinstance(value, str)}
    if not texts or len(texts) < len(cookies):
        raise UsageError(
            f"a credential is a chatlease.Credential, or cookies by name; got {kind}",
            hint="Write Credential(cookies={...}) or Credential(headers={...}).",
        )
    return Credential(cookies=texts)


def chosen_deadlines(given: object) -> Deadlines:
    """
    Return the deadlines given, else the defaults.

    Raises:
        UsageError: It is something else.
    """
    if given is None:
        return Deadlines()
    if not isinstance(given, Deadlines):
        raise UsageError(
            f"deadlines are a chatlease.Deadlines, got {type(given).__name__}", hint="Write Deadlines(answer=120)."
        )
    return given


def chosen_trace_file() -> TraceFile | None:
    """
    Return the trace file that the environment names, opened.

    Raises:
        UsageError: It cannot be opened, or its level is none.
    """
    path = os.environ.get("CHATLEASE_TRACE")
    if not path:
        return None
    try:
        return TraceFile(path, level=_trace_level())
    except OSError as error:
        raise UsageError(f"the trace file that CHATLEASE_TRACE names cannot be opened ({error.strerror})") from error


def _trace_level() -> int:
    name = os.environ.get("CHATLEASE_TRACE_LEVEL") or "info"
    if name not in _LEVELS:
        raise UsageError(f"CHATLEASE_TRACE_LEVEL is one of {', '.join(_LEVELS)}")
    return _LEVELS[name]


_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
