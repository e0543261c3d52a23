"""What the first line of an engine's trace says of it: which process on which machine, and what it works with."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterable
from typing import Any

from ._ledger import MemoryLedger, PostgresLedger, SqliteLedger
from .adapter import Adapter
from .ledger import Ledger


def introduction(ledger: Ledger | None, adapters: Iterable[Adapter]) -> dict[str, Any]:
    """
    Return the keys of ``engine.opened``.

    Args:
        ledger: The engine's.
        adapters: The services that it speaks to.
    """
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "version": _version(),
        "ledger": _name(ledger),
        "services": [adapter.service for adapter in adapters],
    }


@functools.cache  # it reads a file, which took a fifth of a short-lived engine's time
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  (only an engine that is traced asks)

    try:
        return version("chatlease")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def _name(ledger: Ledger | None) -> str:
    """Return the kind of a ledger, a word of our own (``none`` for no ledger), or a foreign ledger's class."""
    if ledger is None:
        return "none"
    names: dict[type, str] = {SqliteLedger: "sqlite", PostgresLedger: "postgres", MemoryLedger: "memory"}
    return names.get(type(ledger), type(ledger).__qualname__)
