"""The tables of a ledger on PostgreSQL, as ordered additive migrations; see `_schema` for their rules, and SQLite's.

Rules that live here:

* The tables and columns are those on SQLite, and so are their meanings; a time is seconds since the epoch, by the
  server's clock. What is more here is `holders.writes`: how many transactions a holder has begun.
* Everything is in one schema of the ledger's own. Migrations run in one transaction, under an advisory lock which ends
  with it: many processes may start at once.
* A user who may write rows but make no tables can use a ledger that is up to date.
* Only a database in UTF-8 is used: in another one a name of somebody's could not be written.
"""

from __future__ import annotations

from typing import Any

from chatlease.errors import LedgerUnavailable

from ._schema import MIN_READER, Database

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE holders(
          id TEXT PRIMARY KEY,
          state TEXT NOT NULL CHECK(state IN ('live', 'dead', 'gone')),
          lease_until FLOAT8 NOT NULL,
          host TEXT NOT NULL,
          lock TEXT NOT NULL,
          started_at FLOAT8 NOT NULL,
          ended_at FLOAT8,
          writes BIGINT NOT NULL DEFAULT 0     -- transactions that it has begun
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)
        """,
        """
        CREATE TABLE entries(
          id TEXT PRIMARY KEY,
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          state TEXT NOT NULL CHECK(state IN ('intent', 'bound', 'settled', 'absent')),
          orphaned INTEGER NOT NULL DEFAULT 0,
          dead INTEGER NOT NULL DEFAULT 0,
          chat TEXT,
          holder TEXT,
          epoch INTEGER NOT NULL DEFAULT 0,
          intent_at FLOAT8 NOT NULL,
          create_deadline FLOAT8 NOT NULL,
          next_try_at FLOAT8 NOT NULL,
          attempts INTEGER NOT NULL DEFAULT 0,
          error_code TEXT NOT NULL DEFAULT '',
          orphaned_at FLOAT8 NOT NULL DEFAULT 0,
          settled_at FLOAT8
        ) WITH (autovacuum_vacuum_scale_factor = 0.05)
        """,
        "CREATE INDEX entries_open ON entries(next_try_at) WHERE state IN ('intent', 'bound')",
        "CREATE INDEX entries_held ON entries(holder) WHERE state IN ('intent', 'bound')",
        "CREATE INDEX entries_settled ON entries(settled_at) WHERE settled_at IS NOT NULL",
        "CREATE INDEX entries_account ON entries(account, origin, service)",
        """
        CREATE TABLE parked(
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          until FLOAT8 NOT NULL, error_code TEXT NOT NULL,
          PRIMARY KEY(service, origin, account)
        )
        """,
        """
        CREATE TABLE turns(
          id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          entry TEXT NOT NULL UNIQUE,
          holder TEXT NOT NULL,
          taken INTEGER NOT NULL DEFAULT 0
        ) WITH (autovacuum_vacuum_scale_factor = 0.05)
        """,
        "CREATE INDEX turns_account ON turns(account)",
        """
        CREATE TABLE budgets(
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          began_at FLOAT8 NOT NULL, used INTEGER NOT NULL,
          PRIMARY KEY(service, origin, account)
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)
        """,
    ),
)
"""Each a tuple of statements; the schema's version is how many were applied."""

SCHEMA_VERSION = len(MIGRATIONS)
_MIN_SERVER = 120000
_MIGRATE = "Run `chatlease ledger migrate` as a user who may make tables."


def version_of(db: Database, schema: str) -> int:
    """
    Return the version of a schema, 0 where there is none.

    Raises:
        LedgerUnavailable: It cannot be used: it is somebody else's, needs a newer library, or the server does not do.
    """
    ((server, encoding, has_meta, has_others, may_look),) = db.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
        " EXISTS(SELECT 1 FROM pg_tables WHERE schemaname = ?1 AND tablename = 'meta'),"
        " EXISTS(SELECT 1 FROM pg_tables WHERE schemaname = ?1 AND tablename <> 'meta'),"
        " coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = ?1), true)",
        (schema,),
    )
    if server < _MIN_SERVER or encoding != "UTF8":
        raise LedgerUnavailable(
            f"the ledger needs PostgreSQL 12 and a database in UTF8, this is {server // 10000} in {encoding}",
            hint="Name another server or database.",
        )
    if not may_look:
        raise LedgerUnavailable(
            f"the user may not look into the schema {schema}",
            hint="Grant USAGE on it, and SELECT, INSERT, UPDATE and DELETE on its tables.",
        )
    if not has_meta and not has_others:
        return 0
    meta = _meta(db) if has_meta else {}
    if not meta.get("schema_version", "").isdigit():
        raise LedgerUnavailable(
            f"the schema {schema} holds tables, but no ledger; it is left as it is", hint="Name another by ?schema=."
        )
    if int(meta.get("min_reader", "0")) > SCHEMA_VERSION:
        raise LedgerUnavailable(
            f"the ledger's schema needs a reader of version {meta['min_reader']}, this library is {SCHEMA_VERSION}",
            hint="Upgrade chatlease, or name another schema.",
        )
    return int(meta["schema_version"])


def refuse_older(version: int) -> None:
    """
    Refuse a schema that has to be migrated by hand.

    Raises:
        LedgerUnavailable: It is older than this library.
    """
    if version < SCHEMA_VERSION:
        what = f"is of version {version}, this library needs {SCHEMA_VERSION}" if version else "is not there yet"
        raise LedgerUnavailable(f"the ledger's schema {what}", hint=_MIGRATE)


def migrate(db: Database, schema: str) -> int:
    """
    Bring a schema up to date, in the caller's transaction, others kept out; return the version it had.

    Raises:
        LedgerUnavailable: See `version_of`.
    """
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended('chatlease ' || ?, 0))", (schema,))
    had = version_of(db, schema)
    if not list(db.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (schema,))):
        db.execute(f'CREATE SCHEMA "{schema}"')
    if not had:
        db.execute("CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for version in range(had, SCHEMA_VERSION):
        for statement in MIGRATIONS[version]:
            db.execute(statement)
    if had < SCHEMA_VERSION:
        _note(db)
    return had


def _meta(db: Database) -> dict[str, str]:
    rows: list[Any] = list(db.execute("SELECT key, value FROM meta"))
    return {str(key): str(value) for key, value in rows}


def _note(db: Database) -> None:
    db.executemany(
        "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        [("schema_version", str(SCHEMA_VERSION)), ("min_reader", str(MIN_READER))],
    )
