"""Backends of the ledger contract (`chatlease.ledger`): in memory, on SQLite (the default), and on PostgreSQL.

`_statements`, and what it is put together from, is the protocol as SQL, `_schema` its tables. `_stored` puts the
contract to a `_store`, this process's thread that writes; `_batch` is its group commit, `_presence`, `_reaper` and
`_holders` say who still lives. On SQLite: `_file_store`, `_connection` how the file is opened, `_place` where it may
be, `_faults` what its errors mean. On PostgreSQL: `_server_store`, `_server` a transaction, `_wire` the driver,
`_address` where it is, and ``_server_*`` what is otherwise there.
"""

from __future__ import annotations

from ._memory import MemoryLedger
from ._postgres import PostgresLedger
from ._sqlite import SqliteLedger

__all__ = ["MemoryLedger", "PostgresLedger", "SqliteLedger"]
