"""The ledger's protocol as SQL: every step is one guarded statement, or a few in the caller's transaction.

Rules that live here:

* Every write names its holder and epoch in its WHERE; a hold that has ended changes nothing. That is the fence.
* The time is always given, so that the same statements run under a virtual clock.
* Nothing here opens a transaction, knows a thread or waits: that is the backends' business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Account, Entry, Hold

from ._schema import Database
from ._sql import OPEN, columns_of
from ._sweep_statements import SweepStatements
from ._turn_statements import TurnStatements

_MINE = f"WHERE id = ? AND holder = ? AND epoch = ? AND {OPEN}"
_RESTORE = (
    "INSERT INTO entries(id, service, origin, account, state, chat, orphaned, orphaned_at, attempts, error_code,"
    " intent_at, create_deadline, holder, epoch, next_try_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(id) DO UPDATE SET"
)
_PURGED_AT_ONCE = 1000

Key: TypeAlias = tuple[str, str, int]
"""A hold in SQL: entry, holder, epoch."""


def key(hold: Hold) -> Key:
    """Return a hold as the statements take it."""
    return hold.entry, hold.lease.holder, hold.epoch


class Statements(SweepStatements, TurnStatements):
    """
    The protocol on one connection; here is what those write who hold entries.

    Args:
        db: In autocommit mode; transactions are the caller's.
        horizon: Seconds after an intent in which its create call can still take effect.
    """

    def __init__(self, db: Database, horizon: float) -> None:
        super().__init__(db)
        self._horizon = horizon

    def intend(self, entries: Sequence[tuple[str, str, str, str, str | None, str, float]]) -> None:
        """
        Note that chats may come to be (id, service, origin, account, chat, holder, time); again after one was refused.

        Raises:
            LedgerUnavailable: There is an entry of that id already, which is not absent.
        """
        noted = self._db.executemany(
            "INSERT INTO entries(id, service, origin, account, chat, holder, intent_at, next_try_at, create_deadline,"
            " state) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 'intent') ON CONFLICT(id) DO UPDATE SET state = 'intent',"
            " account = excluded.account, chat = excluded.chat, holder = excluded.holder,"
            " intent_at = excluded.intent_at, next_try_at = excluded.next_try_at,"
            " create_deadline = excluded.create_deadline, settled_at = NULL WHERE entries.state = 'absent'",
            # Due at once when its holder dies, whatever becomes of the clock meanwhile.
            [(*who, at, 0.0, at + self._horizon) for *who, at in entries],
        )
        if noted.rowcount != len(entries):
            raise LedgerUnavailable("the ledger has an entry of that id already", hint="Every session has its own id.")

    def bind(self, chats: Sequence[tuple[str, str, str, int]]) -> set[str]:
        """Note chats' ids (chat, then the hold); returns the entries that are not ours any more."""
        changed = self._db.executemany(f"UPDATE entries SET chat = ?, state = 'bound' {_MINE}", chats)
        if changed.rowcount == len(chats):
            return set()
        held = f"SELECT 1 FROM entries {_MINE}"
        return {entry for _, entry, holder, epoch in chats if not self._rows(held, (entry, holder, epoch))}

    def settle(self, now: float, holds: Iterable[Key]) -> None:
        """Note that chats' deletion was confirmed."""
        self._db.executemany(
            f"UPDATE entries SET state = 'settled', settled_at = ? {_MINE}", [(now, *hold) for hold in holds]
        )

    def miss(self, now: float, holds: Iterable[Key]) -> None:
        """Note that chats certainly never came to be."""
        self._db.executemany(
            f"UPDATE entries SET state = 'absent', settled_at = ? {_MINE}", [(now, *hold) for hold in holds]
        )

    def hand_over(
        self, hold: Key, now: float, *, attempts: int, error_code: str, retry_in_s: float, dead: bool
    ) -> None:
        """Leave a chat to the sweepers."""
        self._db.execute(
            "UPDATE entries SET holder = NULL, orphaned = 1, attempts = ?, error_code = ?, next_try_at = ?, dead = ?,"
            f" orphaned_at = CASE orphaned_at WHEN 0 THEN ? ELSE orphaned_at END {_MINE}",
            (attempts, error_code, now + retry_in_s, int(dead), now, *hold),
        )

    def restore(self, holder: str, held: Iterable[tuple[Entry, int]], left: Iterable[Entry], now: float) -> None:
        """
        Write entries again that a lost file held, from memory; the file may be an old copy that has some of them.

        Args:
            holder: Ours. Whatever else the file says that it holds, it has let go of.
            held: What it holds, with the epoch of each; nobody knows better, but who claimed it since.
            left: What was left to the sweepers; they may know better, except for a chat of which they know nothing.
            now: The time.
        """
        self._db.execute(
            "UPDATE entries SET holder = NULL, orphaned = 1, orphaned_at = CASE orphaned_at WHEN 0 THEN ? ELSE"
            f" orphaned_at END WHERE holder = ? AND {OPEN}",
            (now, holder),
        )
        self._db.executemany(
            f"{_RESTORE} state = excluded.state, chat = excluded.chat, orphaned = excluded.orphaned, dead = 0,"
            " orphaned_at = excluded.orphaned_at, attempts = excluded.attempts, error_code = excluded.error_code,"
            " intent_at = excluded.intent_at, create_deadline = excluded.create_deadline, holder = excluded.holder,"
            " epoch = excluded.epoch, next_try_at = excluded.next_try_at, settled_at = NULL"
            " WHERE entries.epoch <= excluded.epoch",
            [(*columns_of(entry), holder, epoch, now) for entry, epoch in held],
        )
        self._db.executemany(
            f"{_RESTORE} state = excluded.state, chat = excluded.chat"
            " WHERE entries.state = 'intent' AND excluded.chat IS NOT NULL",
            [(*columns_of(entry), None, 0, now) for entry in left],
        )

    def note_loss(self, now: float) -> None:
        """Note that the file before this one was lost, if nobody has."""
        self._db.execute("INSERT INTO meta(key, value) VALUES('lost_at', ?) ON CONFLICT DO NOTHING", (repr(now),))

    def lost_at(self) -> float | None:
        """Return when the file before this one was lost; ``None`` if none was."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'lost_at'", ())
        return float(rows[0][0]) if rows else None

    def suspect(self, accounts: Iterable[Account], since: float, lost_at: float) -> None:
        """Note, once for each account, that chats of it may be left of which nothing is known but the time."""
        self._db.executemany(
            "INSERT INTO entries(id, service, origin, account, state, orphaned, intent_at, create_deadline,"
            " next_try_at, error_code, orphaned_at) VALUES(?1, ?2, ?3, ?4, 'intent', 1, ?5, ?6, ?6, 'ledger-lost', ?6)"
            " ON CONFLICT DO NOTHING",
            # In order: many processes write the same, and where they do so side by side they must not wait in a circle.
            [
                (_lost_id(each, lost_at), each.service, each.origin, each.account, since, lost_at)
                for each in sorted(accounts)
            ],
        )

    def purge(self, before: float) -> bool:
        """Forget what was settled, and which holders ended, before that time; True when there is more to forget."""
        self._db.execute(
            "DELETE FROM holders WHERE id IN (SELECT id FROM holders WHERE state <> 'live' AND ended_at < ?"
            f" AND NOT EXISTS(SELECT 1 FROM entries WHERE holder = holders.id AND {OPEN}){self.FREE})",
            (before,),
        )
        self._db.execute("DELETE FROM budgets WHERE began_at < ?", (before,))
        purged = self._db.execute(
            f"DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE settled_at < ? LIMIT ?{self.FREE})",
            (before, _PURGED_AT_ONCE),
        )
        return bool(purged.rowcount == _PURGED_AT_ONCE)


def _lost_id(account: Account, lost_at: float) -> str:
    """The same in every process, so that many of them leave one note."""
    name = f"{account.service}\0{account.origin}\0{account.account}"
    return f"lost-{int(lost_at)}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
