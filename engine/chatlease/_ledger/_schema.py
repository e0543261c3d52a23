"""The tables of a ledger on SQLite, as ordered additive migrations.

Rules that live here:

* A migration that was ever released is never changed. A new one is added at the end, and adds: tables, columns with a
  default, indexes. So old and new versions of the library work side by side on one file.
* `meta.min_reader` is the lowest schema that a reader must know. A library that knows less refuses the file (no new
  chats) and changes nothing in it.
* Times are seconds since the epoch, by the clock of the ledger's host.
"""

from __future__ import annotations

from typing import Any, Protocol

from chatlease.errors import LedgerUnavailable


class Database(Protocol):
    """What is used of a connection: `sqlite3`'s in autocommit mode, or anything that does the same."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run one statement; the result is iterable and has ``rowcount`` for a writing one."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run one statement for each row of parameters; ``rowcount`` is the sum."""
        ...


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE holders(
          id TEXT PRIMARY KEY,                 -- new for every process, after every fork, and after every lost lease
          state TEXT NOT NULL CHECK(state IN ('live', 'dead', 'gone')),     -- dead is for ever: the fence
          lease_until REAL NOT NULL,
          host TEXT NOT NULL,
          lock TEXT NOT NULL,                  -- name of its lock file, empty where it has none
          started_at REAL NOT NULL,
          ended_at REAL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE entries(
          id TEXT PRIMARY KEY,                 -- the session's id
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,       -- names only
          state TEXT NOT NULL CHECK(state IN ('intent', 'bound', 'settled', 'absent')),
          orphaned INTEGER NOT NULL DEFAULT 0, -- no owner will ever use this chat again
          dead INTEGER NOT NULL DEFAULT 0,     -- a dead letter
          chat TEXT,
          holder TEXT,
          epoch INTEGER NOT NULL DEFAULT 0,    -- raised by every claim
          intent_at REAL NOT NULL,
          create_deadline REAL NOT NULL,       -- after it the create call can take effect no more
          next_try_at REAL NOT NULL,
          attempts INTEGER NOT NULL DEFAULT 0,
          error_code TEXT NOT NULL DEFAULT '',
          orphaned_at REAL NOT NULL DEFAULT 0,
          settled_at REAL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX entries_open ON entries(next_try_at) WHERE state IN ('intent', 'bound')",
        "CREATE INDEX entries_settled ON entries(settled_at) WHERE settled_at IS NOT NULL",
        "CREATE INDEX entries_account ON entries(account)",
        """
        CREATE TABLE parked(
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          until REAL NOT NULL, error_code TEXT NOT NULL,
          PRIMARY KEY(service, origin, account)
        ) WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE turns(
          id INTEGER PRIMARY KEY AUTOINCREMENT,         -- the order of the queue
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          entry TEXT NOT NULL UNIQUE,
          holder TEXT NOT NULL,
          taken INTEGER NOT NULL DEFAULT 0
        )
        """,
        "CREATE INDEX turns_account ON turns(account)",
        """
        CREATE TABLE budgets(
          service TEXT NOT NULL, origin TEXT NOT NULL, account TEXT NOT NULL,
          began_at REAL NOT NULL, used INTEGER NOT NULL,
          PRIMARY KEY(service, origin, account)
        ) WITHOUT ROWID
        """,
    ),
)
"""Each a tuple of statements; the schema's version is how many were applied."""

SCHEMA_VERSION = len(MIGRATIONS)
MIN_READER = 1
"""What this version writes as the least that a reader must know."""


def migrate(db: Database, target: int = SCHEMA_VERSION) -> int:
    """
    Bring a file up to date, in one transaction that excludes every other process; return the version it had.

    Raises:
        LedgerUnavailable: The file needs a newer library; nothing was changed.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        had = _version(db)
        for version in range(had, target):
            for statement in MIGRATIONS[version]:
                db.execute(statement)
        if had < target:
            _note(db, target)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return had


def refuse_newer(db: Database) -> None:
    """
    Look whether a file may be used at all, before anything in it is touched.

    Raises:
        LedgerUnavailable: It needs a newer library.
    """
    if list(db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'")):
        _checked(db)


def _version(db: Database) -> int:
    db.execute("CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    return int(_checked(db).get("schema_version", 0))


def _checked(db: Database) -> dict[str, str]:
    meta: dict[str, str] = dict(list(db.execute("SELECT key, value FROM meta")))
    if int(meta.get("min_reader", 0)) > SCHEMA_VERSION:
        raise LedgerUnavailable(
            f"the ledger's schema needs a reader of version {meta['min_reader']}, this library is {SCHEMA_VERSION}",
            hint="Upgrade chatlease, or point CHATLEASE_LEDGER at another file.",
        )
    return meta


def _note(db: Database, version: int) -> None:
    db.executemany(
        "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        [("schema_version", str(version)), ("min_reader", str(min(MIN_READER, version)))],
    )
