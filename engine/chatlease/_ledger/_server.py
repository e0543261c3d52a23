"""The server of a store: a transaction on it, as often as it is there.

Rules that live here:

* What a transaction needs of its session is set for that transaction alone, with its beginning: the schema, how long it
  may wait for a lock, run, and be left alone, and that its commit is durable (a database may have that turned off).
* A process that is stopped in the middle of a transaction keeps its locks for as long as `seconds`, and no longer.
* A commit whose answer did not come may have happened, or happen yet: `Doubt`.
* A schema is looked at whenever a connection is made, and migrated if that is wanted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from . import _server_schema
from ._address import Address
from ._server_faults import Fault
from ._server_statements import ServerStatements
from ._wire import Wire


class Doubt(Fault):
    """A commit that was sent, and nobody knows what became of it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code, fault.state, cut=True)


class Server:
    """
    A schema on a server, as this process uses it.

    Args:
        address: Where it is.
        seconds: Within which a transaction is done, with all that it needs.
        horizon: See `Statements`.
        migrate: Whether to make what is not there.
    """

    def __init__(self, address: Address, seconds: float, horizon: float, *, migrate: bool) -> None:
        self.wire = Wire(address, seconds)
        self._schema = address.schema
        self._migrates = migrate
        self._statements = ServerStatements(self.wire, horizon)
        self._begin = _beginning(address.schema, seconds)

    def connected(self) -> Server:
        """
        Be connected.

        Raises:
            Fault: There is no server that can be written to.
            LedgerUnavailable: The schema cannot be used.
        """
        if not self.wire.is_open:
            self.wire.connect()
            try:
                self._prepare()
            except BaseException:
                self.wire.drop()
                raise
        return self

    @contextlib.contextmanager
    def transaction(self) -> Generator[ServerStatements]:
        """
        Write all or nothing; durable when the block ends.

        Raises:
            Doubt: It may or may not be.
            Fault: It is not.
        """
        try:
            self.wire.run(self._begin)
            yield self._statements
        except BaseException as error:
            self._roll_back(error)
            raise
        self._commit()

    def migrate(self) -> int:
        """Bring the schema up to date; returns the version it had."""
        with self.transaction():
            return _server_schema.migrate(self.wire, self._schema)

    def _prepare(self) -> None:
        with self.transaction():
            version = _server_schema.version_of(self.wire, self._schema)
        if version < _server_schema.SCHEMA_VERSION:
            if not self._migrates:
                _server_schema.refuse_older(version)
            self.migrate()

    def _commit(self) -> None:
        try:
            done = self.wire.run("COMMIT")
        except Fault as fault:
            if not fault.cut:  # the server says no
                self._roll_back(fault)
                raise
            self.wire.drop()
            failure: Fault = Doubt(fault)
        else:
            if done == "COMMIT":
                return
            failure = Fault("rolled-back", "40000")
        raise failure

    def _roll_back(self, error: BaseException) -> None:
        if isinstance(error, Fault) and error.cut:
            self.wire.drop()
            return
        try:
            self.wire.run("ROLLBACK")
        except Fault:
            self.wire.drop()


def migrated(address: Address, seconds: float) -> int:
    """
    Bring a schema up to date, from whatever thread; return the version it had.

    Raises:
        Fault: That cannot be done now.
        LedgerUnavailable: The schema cannot be used.
    """
    server = Server(address, seconds, 0.0, migrate=False)
    try:
        server.wire.set_deadline()
        server.wire.connect()
        return server.migrate()
    finally:
        server.wire.close()


def _beginning(schema: str, seconds: float) -> str:
    limits = {
        "lock_timeout": seconds / 4,
        "statement_timeout": seconds / 2,
        "idle_in_transaction_session_timeout": seconds,
    }
    return "; ".join(
        [
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            f'SET LOCAL search_path TO "{schema}"',
            *(f"SET LOCAL {name} = {max(1, int(limit * 1000))}" for name, limit in limits.items()),
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        ]
    )
