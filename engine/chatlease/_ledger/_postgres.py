"""The ledger on PostgreSQL: one schema for all processes of a fleet.

Rules that live here:

* The driver is imported when a ledger is opened; without it the reason is given when one is named.
* What a server cannot hold as text, or not in an index, is refused here; further on it would cost others their
  transaction.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
from typing import cast

from chatlease._clock import Clock
from chatlease.errors import LedgerUnavailable, UsageError

from . import _stores
from ._address import parsed
from ._presence import Terms
from ._server import migrated
from ._server_faults import Fault, unavailable
from ._server_schema import SCHEMA_VERSION
from ._server_store import LONGEST_S, ServerStore
from ._stored import StoredLedger

_LONGEST_NAME = 800
"""In bytes. Three of them make a key, and an index of PostgreSQL holds 2,700."""


class PostgresLedger(StoredLedger):
    """
    A ledger in a PostgreSQL database (`chatlease.ledger.Ledger`), for processes on many machines.

    Any number of engines, threads and processes may use the same schema at once; what those of one process write
    together is made durable together, over one connection for each process, also through a pooler by the transaction
    (PgBouncer). A process is known to be dead by its lease, by the server's clock. Needs the extra ``postgres``.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, or several hosts with commas between them, and options:
            the arguments below (``migrate=off``), and those of the driver (``sslmode``, ...).
        schema: Where its tables are; ``chatlease`` by default.
        lease: Seconds after which a process that does not answer for itself loses its chats. 60 by default.
        horizon: Seconds after which a create call, lost on its way, takes effect no more. 300 by default.
        keep: Seconds for which settled entries are kept. A week by default.
        migrate: Make and migrate the tables when it is opened; else somebody runs ``chatlease ledger migrate``.
        clock: For tests, instead of the server's.

    Raises:
        UsageError: The URL or an option makes no sense, or the driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        lease: float | None = None,
        horizon: float | None = None,
        keep: float | None = None,
        migrate: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not _has_driver():
            raise UsageError(
                "a ledger on PostgreSQL needs the package asyncpg", hint="Run `pip install 'chatlease[postgres]'`."
            )
        self._address = address = parsed(url, schema)
        given = {"lease": lease, "horizon": horizon, "keep": keep, "migrate": migrate}
        options = address.options | {name: value for name, value in given.items() if value is not None}
        self._migrates = bool(options.pop("migrate", True))
        super().__init__(address.name, Terms(**options, liveness="lease"))
        self._clock = clock

    async def migrate(self) -> tuple[int, int]:
        """
        Make its tables, or bring them up to date; needs no open ledger, and a user who may make tables.

        Returns:
            The version that the schema had (0 for none) and the one that it has.

        Raises:
            LedgerUnavailable: That cannot be done now.
        """
        try:
            return await asyncio.to_thread(migrated, self._address, LONGEST_S), SCHEMA_VERSION
        except Fault as fault:
            failure = unavailable(self._address.name, fault)
        raise failure

    def unmigrated(self) -> PostgresLedger:
        """Return a handle on the same that makes no tables when it is opened."""
        other = copy.copy(self)
        other._migrates = False  # noqa: SLF001  (ours)
        return other

    def _obtain_store(self) -> ServerStore:
        return cast("ServerStore", _stores.store_of(self._address, self._new_store))

    def _new_store(self) -> ServerStore:
        return ServerStore(self._address, self._terms, self._clock, migrate=self._migrates)

    def _check_text(self, *texts: str) -> None:
        super()._check_text(*texts)
        if any("\0" in text for text in texts):
            raise LedgerUnavailable("PostgreSQL cannot hold an id or a name with a NUL in it")

    def _check_names(self, *names: str) -> None:
        super()._check_names(*names)
        if any(len(name.encode()) > _LONGEST_NAME for name in names):
            raise LedgerUnavailable(f"PostgreSQL cannot index an id or a name of more than {_LONGEST_NAME} bytes")


def _has_driver() -> bool:
    try:
        return importlib.util.find_spec("asyncpg") is not None
    except ValueError:  # a module that is there by name alone
        return False
