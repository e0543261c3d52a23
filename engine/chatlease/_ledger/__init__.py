"""Backends of the ledger contract (`chatlease.ledger`): in memory, and on SQLite (the default).

`_statements`, and what it is put together from, is the protocol as SQL, `_schema` its tables; `_store` is a file in
this process, `_batch` its group commit, `_connection` how it is opened, `_place` where it may be, `_faults` what its
errors mean; `_holders` and `_reaper` say who still lives.
"""

from __future__ import annotations

from ._memory import MemoryLedger
from ._sqlite import SqliteLedger

__all__ = ["MemoryLedger", "SqliteLedger"]
