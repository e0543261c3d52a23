"""Backends of the ledger contract (`chatlease.ledger`), one file each."""

from __future__ import annotations

from ._memory import MemoryLedger

__all__ = ["MemoryLedger"]
