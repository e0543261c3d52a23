"""The ledger's protocol as SQL: every step is one guarded statement, or a few in the caller's transaction.

Rules that live here:

* Every write names its holder and epoch in its WHERE; a hold that has ended changes nothing. That is the fence.
* A holder goes from live to dead (or gone) and never back: every renewal asks for ``state = 'live'``.
* An entry is claimed only when its time has come and its holder is not live; claiming raises the epoch.
* The time is always given, so that the same statements run under a virtual clock.
* Nothing here opens a transaction, knows a thread or waits: that is the backends' business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Account, Claim, Counts, Entry, EntryState, Hold, Known, Lease, Turn

from ._schema import Database

_OPEN = "state IN ('intent', 'bound')"
_HELD = "EXISTS(SELECT 1 FROM holders h WHERE h.id = e.holder AND h.state = 'live')"
_PARKED = "EXISTS(SELECT 1 FROM parked p WHERE p.service = e.service AND p.origin = e.origin AND p.account = e.account"
_MINE = f"WHERE id = ? AND holder = ? AND epoch = ? AND {_OPEN}"
_SAME = "service = ? AND origin = ? AND account = ?"
_ENTRY = f"""
    id, service, origin, account, state, chat, orphaned, dead, attempts, error_code, coalesce(holder, ''), {_HELD},
    intent_at, create_deadline, next_try_at, orphaned_at,
    {_PARKED})
"""
_RESTORE = (
    "INSERT INTO entries(id, service, origin, account, state, chat, orphaned, orphaned_at, attempts, error_code,"
    " intent_at, create_deadline, holder, epoch, next_try_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(id) DO UPDATE SET"
)
_PURGED_AT_ONCE = 1000

Key: TypeAlias = tuple[str, str, int]
"""A hold in SQL: entry, holder, epoch."""


class Other(NamedTuple):
    """
    Another live holder.

    Attributes:
        id: Its id.
        lease_until: Until when its lease runs, by the ledger's clock.
        host: Where its process runs.
        lock: Name of its lock file; empty where it has none.
    """

    id: str
    lease_until: float
    host: str
    lock: str


def key(hold: Hold) -> Key:
    """Return a hold as the statements take it."""
    return hold.entry, hold.lease.holder, hold.epoch


class Statements:
    """
    The protocol on one connection.

    Args:
        db: In autocommit mode; transactions are the caller's.
        horizon: Seconds after an intent in which its create call can still take effect.
    """

    def __init__(self, db: Database, horizon: float) -> None:
        self._db = db
        self._horizon = horizon

    # -- holders ------------------------------------------------------------------------------------------------------

    def join(self, holder: str, now: float, *, lease: float, host: str, lock: str) -> None:
        """Make a holder live; one that is there already stays what it is."""
        self._db.execute(
            "INSERT OR IGNORE INTO holders(id, state, lease_until, host, lock, started_at)"
            " VALUES(?, 'live', ?, ?, ?, ?)",
            (holder, now + lease, host, lock, now),
        )

    def renew(self, holder: str, now: float, lease: float) -> bool:
        """Renew a holder's lease; False when it does not live any more."""
        changed = self._db.execute(
            "UPDATE holders SET lease_until = ? WHERE id = ? AND state = 'live'", (now + lease, holder)
        )
        return bool(changed.rowcount == 1)

    def state_of(self, holder: str) -> str:
        """Return ``live``, ``dead`` or ``gone``; empty for a holder of which the ledger knows nothing."""
        rows = self._rows("SELECT state FROM holders WHERE id = ?", (holder,))
        return str(rows[0][0]) if rows else ""

    def lives(self, holder: str) -> bool:
        """Say whether a holder lives, as far as the ledger knows."""
        return self.state_of(holder) == "live"

    def leave(self, holder: str, now: float) -> None:
        """End a holder in order; what it still holds may be claimed."""
        self._end(holder, "gone", now)

    def others(self, holder: str) -> list[Other]:
        """Return the other live holders."""
        rows = self._rows("SELECT id, lease_until, host, lock FROM holders WHERE state = 'live' AND id <> ?", (holder,))
        return [Other(*row) for row in rows]

    def bury(self, holder: str, now: float, lease_until: float | None = None) -> bool:
        """Declare a holder dead for ever; with ``lease_until`` only if its lease is still that."""
        return self._end(holder, "dead", now, lease_until)

    def _end(self, holder: str, state: str, now: float, lease_until: float | None = None) -> bool:
        changed = self._db.execute(
            "UPDATE holders SET state = ?1, ended_at = ?2 WHERE id = ?3 AND state = 'live'"
            " AND (?4 IS NULL OR lease_until = ?4)",
            (state, now, holder, lease_until),
        )
        if changed.rowcount != 1:
            return False
        self._db.execute("DELETE FROM turns WHERE holder = ?", (holder,))
        return True

    # -- entries, by those who hold them ------------------------------------------------------------------------------

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
            " create_deadline = excluded.create_deadline, settled_at = NULL WHERE state = 'absent'",
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
            f" orphaned_at END WHERE holder = ? AND {_OPEN}",
            (now, holder),
        )
        self._db.executemany(
            f"{_RESTORE} state = excluded.state, chat = excluded.chat, orphaned = excluded.orphaned, dead = 0,"
            " orphaned_at = excluded.orphaned_at, attempts = excluded.attempts, error_code = excluded.error_code,"
            " intent_at = excluded.intent_at, create_deadline = excluded.create_deadline, holder = excluded.holder,"
            " epoch = excluded.epoch, next_try_at = excluded.next_try_at, settled_at = NULL"
            " WHERE entries.epoch <= excluded.epoch",
            [(*_row(entry), holder, epoch, now) for entry, epoch in held],
        )
        self._db.executemany(
            f"{_RESTORE} state = excluded.state, chat = excluded.chat"
            " WHERE entries.state = 'intent' AND excluded.chat IS NOT NULL",
            [(*_row(entry), None, 0, now) for entry in left],
        )

    def note_loss(self, now: float) -> None:
        """Note that the file before this one was lost, if nobody has."""
        self._db.execute("INSERT OR IGNORE INTO meta(key, value) VALUES('lost_at', ?)", (repr(now),))

    def lost_at(self) -> float | None:
        """Return when the file before this one was lost; ``None`` if none was."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'lost_at'", ())
        return float(rows[0][0]) if rows else None

    def suspect(self, accounts: Iterable[Account], since: float, lost_at: float) -> None:
        """Note, once for each account, that chats of it may be left of which nothing is known but the time."""
        self._db.executemany(
            "INSERT OR IGNORE INTO entries(id, service, origin, account, state, orphaned, intent_at, create_deadline,"
            " next_try_at, error_code, orphaned_at) VALUES(?1, ?2, ?3, ?4, 'intent', 1, ?5, ?6, ?6, 'ledger-lost', ?6)",
            [(_lost_id(each, lost_at), each.service, each.origin, each.account, since, lost_at) for each in accounts],
        )

    # -- entries, by sweepers -----------------------------------------------------------------------------------------

    def open_entries(self) -> list[Entry]:
        """Return the entries that are neither settled nor absent, oldest first."""
        return self._entries(f"{_OPEN} ORDER BY intent_at, id", ())

    def counts(self) -> Counts:
        """Return how many entries are open."""
        ((number, orphaned, waiting, dead),) = self._rows(
            "SELECT count(*), coalesce(sum(gone), 0), coalesce(sum(gone AND parked), 0), coalesce(sum(dead), 0) FROM"
            f" (SELECT orphaned OR NOT {_HELD} AS gone, {_PARKED}) AS parked, dead FROM entries e WHERE {_OPEN})",
            (),
        )
        return Counts(number, orphaned, waiting, dead)

    def due(self, now: float) -> list[Account]:
        """Return the accounts that have entries to claim, and are not parked (or due for a probe)."""
        rows = self._rows(
            f"SELECT DISTINCT service, origin, account FROM entries e WHERE {_OPEN} AND next_try_at <= ?"
            f" AND NOT {_HELD} AND NOT {_PARKED} AND p.until > ?) ORDER BY service, origin, account",
            (now, now),
        )
        return [Account(*row) for row in rows]

    def claim(self, lease: Lease, now: float, accounts: Collection[Account], limit: int) -> list[Claim]:
        """Take over entries whose time has come and whose holder is not live; none for one that is dead itself."""
        if not self.lives(lease.holder):
            return []
        found: list[str] = []
        for each in dict.fromkeys(accounts):
            rows = self._rows(
                f"SELECT id FROM entries e WHERE {_OPEN} AND next_try_at <= ? AND {_SAME} AND NOT {_HELD}"
                " ORDER BY next_try_at LIMIT ?",
                (now, each.service, each.origin, each.account, limit - len(found)),
            )
            found += [name for (name,) in rows]
        return [self._take(name, lease, now) for name in found]

    def _take(self, name: str, lease: Lease, now: float) -> Claim:
        self._db.execute(
            "UPDATE entries SET holder = ?, orphaned = 1, epoch = epoch + 1,"
            " orphaned_at = CASE orphaned_at WHEN 0 THEN ? ELSE orphaned_at END WHERE id = ?",
            (lease.holder, now, name),
        )
        ((epoch,),) = self._rows("SELECT epoch FROM entries WHERE id = ?", (name,))
        (entry,) = self._entries("id = ?", (name,))
        return Claim(entry, Hold(name, lease, epoch), now)

    def known(self, account: Account, now: float) -> Known:
        """Return what is known of an account."""
        who = (account.service, account.origin, account.account)
        chats = self._rows(f"SELECT chat FROM entries WHERE {_SAME} AND chat IS NOT NULL", who)
        living = self._rows(
            f"SELECT intent_at FROM entries e WHERE {_SAME} AND state = 'intent' AND orphaned = 0 AND {_HELD}",
            who,
        )
        return Known(frozenset(chat for (chat,) in chats), tuple(at for (at,) in living), now)

    def park(self, account: Account, until: float, error_code: str) -> bool:
        """Let an account wait; True when it was not parked."""
        who = (account.service, account.origin, account.account)
        had = self._rows(f"SELECT 1 FROM parked WHERE {_SAME}", who)
        self._db.execute(
            "INSERT INTO parked(service, origin, account, until, error_code) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET until = excluded.until, error_code = excluded.error_code",
            (*who, until, error_code),
        )
        return not had

    def unpark(self, account: Account) -> bool:
        """Let an account be swept again; True when it was parked."""
        who = (account.service, account.origin, account.account)
        return bool(self._db.execute(f"DELETE FROM parked WHERE {_SAME}", who).rowcount)

    def retry(self, entry: str, now: float) -> bool:
        """Make an open entry due now, and its account too."""
        rows = self._rows(f"SELECT service, origin, account FROM entries WHERE id = ? AND {_OPEN}", (entry,))
        for who in rows:
            self.unpark(Account(*who))
            self._db.execute("UPDATE entries SET next_try_at = ?, dead = 0, attempts = 0 WHERE id = ?", (now, entry))
        return bool(rows)

    def forget(self, entry: str, now: float) -> bool:
        """Drop an open entry that no living process holds."""
        changed = self._db.execute(
            "UPDATE entries AS e SET state = 'absent', settled_at = ?, error_code = 'forgotten', epoch = epoch + 1"
            f" WHERE id = ? AND {_OPEN} AND NOT {_HELD}",
            (now, entry),
        )
        return bool(changed.rowcount)

    def purge(self, before: float) -> bool:
        """Forget what was settled, and which holders ended, before that time; True when there is more to forget."""
        self._db.execute(
            "DELETE FROM holders WHERE state <> 'live' AND ended_at < ?"
            f" AND NOT EXISTS(SELECT 1 FROM entries WHERE holder = holders.id AND {_OPEN})",
            (before,),
        )
        self._db.execute("DELETE FROM budgets WHERE began_at < ?", (before,))
        purged = self._db.execute(
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE settled_at < ? LIMIT ?)",
            (before, _PURGED_AT_ONCE),
        )
        return bool(purged.rowcount == _PURGED_AT_ONCE)

    # -- an account's turn --------------------------------------------------------------------------------------------

    def take_turn(
        self,
        account: Account,
        entry: str,
        holder: str,
        now: float,
        *,
        slots: int | None,
        runs: int | None,
        window_s: float,
    ) -> Turn:
        """Stand in the queue, and take the slot and one run of the budget when it is this entry's turn."""
        who = (account.service, account.origin, account.account)
        self._db.execute(
            "INSERT OR IGNORE INTO turns(service, origin, account, entry, holder) VALUES(?, ?, ?, ?, ?)",
            (*who, entry, holder),
        )
        if slots is not None and self._before(who, entry) >= slots:
            return Turn(taken=False)
        turn = Turn(taken=True) if runs is None else self._spend(who, now, runs, window_s)
        if turn.taken:
            self._db.execute("UPDATE turns SET taken = 1 WHERE entry = ?", (entry,))
        return turn

    def _before(self, who: tuple[str, str, str], entry: str) -> int:
        ((number,),) = self._rows(
            f"SELECT count(*) FROM turns t JOIN holders h ON h.id = t.holder AND h.state = 'live' WHERE {_SAME}"
            " AND t.id < (SELECT id FROM turns WHERE entry = ?)",
            (*who, entry),
        )
        return int(number)

    def _spend(self, who: tuple[str, str, str], now: float, runs: int, window_s: float) -> Turn:
        began_at, used = self.budget(Account(*who), now)
        if used == 0 or not 0 <= now - began_at < window_s:  # below 0: the clock was set back
            began_at, used = now, 0
        if used >= runs:
            return Turn(taken=False, wait_s=began_at + window_s - now)
        self.note_budget(Account(*who), began_at, used + 1)
        return Turn(taken=True, last=used + 1 >= runs)

    def budget(self, account: Account, now: float) -> tuple[float, int]:
        """Return when an account's window began, and how many runs were used in it."""
        who = (account.service, account.origin, account.account)
        rows = self._rows(f"SELECT began_at, used FROM budgets WHERE {_SAME}", who)
        return rows[0] if rows else (now, 0)

    def note_budget(self, account: Account, began_at: float, used: int) -> None:
        """Note how many runs of an account's window were used."""
        self._db.execute(
            "INSERT INTO budgets(service, origin, account, began_at, used) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET began_at = excluded.began_at, used = excluded.used",
            (account.service, account.origin, account.account, began_at, used),
        )

    def end_turns(self, entries: Iterable[str]) -> None:
        """Leave the queue, or give the slots back."""
        self._db.executemany("DELETE FROM turns WHERE entry = ?", [(entry,) for entry in entries])

    def awaited_turns(self, holder: str) -> list[str]:
        """Return the entries of a holder that have a turn for which another live holder waits."""
        rows = self._rows(
            "SELECT entry FROM turns t WHERE holder = ? AND taken = 1 AND EXISTS(SELECT 1 FROM turns o JOIN holders h"
            " ON h.id = o.holder AND h.state = 'live' WHERE o.account = t.account AND o.origin = t.origin"
            " AND o.service = t.service AND o.id > t.id AND o.holder <> t.holder)",
            (holder,),
        )
        return [entry for (entry,) in rows]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _rows(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        return list(self._db.execute(sql, parameters))

    def _entries(self, where: str, parameters: tuple[object, ...]) -> list[Entry]:
        return [_entry(row) for row in self._rows(f"SELECT {_ENTRY} FROM entries e WHERE {where}", parameters)]


def _lost_id(account: Account, lost_at: float) -> str:
    """The same in every process, so that many of them leave one note."""
    name = f"{account.service}\0{account.origin}\0{account.account}"
    return f"lost-{int(lost_at)}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"


def _row(entry: Entry) -> tuple[object, ...]:
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


def _entry(row: tuple[Any, ...]) -> Entry:
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
