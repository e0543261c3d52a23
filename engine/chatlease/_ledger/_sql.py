"""What the statements on one connection share: the words of their SQL, and an entry as a row."""

from __future__ import annotations

from typing import Any

from chatlease.ledger import Entry, EntryState

from ._schema import Database

OPEN = "state IN ('intent', 'bound')"
"""Of an entry: neither settled nor absent."""
HELD = "EXISTS(SELECT 1 FROM holders h WHERE h.id = e.holder AND h.state = 'live')"
"""Of an entry ``e``: its holder lives, as far as the ledger knows."""
PARKED = "EXISTS(SELECT 1 FROM parked p WHERE p.service = e.service AND p.origin = e.origin AND p.account = e.account"
"""Of an entry ``e``: its account waits; the bracket is left open for more."""
SAME = "service = ? AND origin = ? AND account = ?"
"""Of anything: it is that account's."""
_ENTRY = f"""
    id, service, origin, account, state, chat, orphaned, dead, attempts, error_code, coalesce(holder, ''), {HELD},
    intent_at, create_deadline, next_try_at, orphaned_at,
    {PARKED})
"""


class Sql:
    """
    Statements on one connection.

    Args:
        db: In autocommit mode; transactions are the caller's.
    """

    FREE = ""
    """Behind a SELECT of what is about to be changed: leaves out what another transaction has in hand."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def _rows(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        return list(self._db.execute(sql, parameters))

    def _entries(self, where: str, parameters: tuple[object, ...]) -> list[Entry]:
        return [entry_of(row) for row in self._rows(f"SELECT {_ENTRY} FROM entries e WHERE {where}", parameters)]


def columns_of(entry: Entry) -> tuple[object, ...]:
    """Return the columns of an entry that do not depend on who holds it."""
    return (
        entry.id,
        entry.service,
        entry.origin,
        entry.account,
        entry.state.value,
        entry.chat,
        int(entry.orphaned),
        entry.orphaned_at,
        entry.attempts,
        entry.error_code,
        entry.intent_at,
        entry.create_deadline,
    )


def entry_of(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of `Sql._entries`."""
    alive = bool(row[11])
    return Entry(
        id=row[0],
        service=row[1],
        origin=row[2],
        account=row[3],
        state=EntryState(row[4]),
        chat=row[5],
        orphaned=bool(row[6]) or not alive,
        dead=bool(row[7]),
        parked=bool(row[16]),
        attempts=row[8],
        error_code=row[9],
        holder=row[10],
        alive=alive,
        intent_at=row[12],
        create_deadline=row[13],
        next_try_at=row[14],
        orphaned_at=row[15],
    )
