"""
The protocol as SQL: what sweepers ask and write, and whoever looks at the ledger.

Rules that live here:

* An entry is claimed only when its time has come and its holder is not live; claiming raises the epoch.
"""

from __future__ import annotations

from collections.abc import Collection

from chatlease.ledger import Account, Claim, Counts, Entry, Hold, Known, Lease

from ._holder_statements import HolderStatements
from ._sql import HELD, OPEN, PARKED, SAME


class SweepStatements(HolderStatements):
    """What is written and asked about entries that nobody holds."""

    def open_entries(self) -> list[Entry]:
        """Return the entries that are neither settled nor absent, oldest first."""
        return self._entries(f"{OPEN} ORDER BY intent_at, id", ())

    def counts(self) -> Counts:
        """Return how many entries are open."""
        ((number, orphaned, waiting, dead),) = self._rows(
            "SELECT count(*), count(*) FILTER (WHERE gone), count(*) FILTER (WHERE gone AND parked),"
            f" count(*) FILTER (WHERE dead = 1) FROM (SELECT orphaned = 1 OR NOT {HELD} AS gone, {PARKED}) AS parked,"
            f" dead FROM entries e WHERE {OPEN}) AS open",
            (),
        )
        return Counts(number, orphaned, waiting, dead)

    def due(self, now: float) -> list[Account]:
        """Return the accounts that have entries to claim, and are not parked (or due for a probe)."""
        rows = self._rows(
            f"SELECT DISTINCT service, origin, account FROM entries e WHERE {OPEN} AND next_try_at <= ?"
            f" AND NOT {HELD} AND NOT {PARKED} AND p.until > ?) ORDER BY service, origin, account",
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
                f"SELECT id FROM entries e WHERE {OPEN} AND next_try_at <= ? AND {SAME} AND NOT {HELD}"
                f" ORDER BY next_try_at LIMIT ?{self.FREE}",
                (now, each.service, each.origin, each.account, limit - len(found)),
            )
            found += [name for (name,) in rows]
        return [claim for name in found for claim in self._take(name, lease, now)]

    def _take(self, name: str, lease: Lease, now: float) -> list[Claim]:
        """Take over an entry, unless it has another holder since it was found."""
        taken = self._db.execute(
            "UPDATE entries AS e SET holder = ?, orphaned = 1, epoch = epoch + 1,"
            " orphaned_at = CASE orphaned_at WHEN 0 THEN ? ELSE orphaned_at END"
            f" WHERE id = ? AND {OPEN} AND NOT {HELD}",
            (lease.holder, now, name),
        )
        if taken.rowcount != 1:
            return []
        ((epoch,),) = self._rows("SELECT epoch FROM entries WHERE id = ?", (name,))
        (entry,) = self._entries("id = ?", (name,))
        return [Claim(entry, Hold(name, lease, epoch), now)]

    def known(self, account: Account, now: float) -> Known:
        """Return what is known of an account."""
        who = (account.service, account.origin, account.account)
        chats = self._rows(f"SELECT chat FROM entries WHERE {SAME} AND chat IS NOT NULL", who)
        living = self._rows(
            f"SELECT intent_at FROM entries e WHERE {SAME} AND state = 'intent' AND orphaned = 0 AND {HELD}",
            who,
        )
        return Known(frozenset(chat for (chat,) in chats), tuple(at for (at,) in living), now)

    def park(self, account: Account, until: float, error_code: str) -> bool:
        """Let an account wait; True when it was not parked."""
        who = (account.service, account.origin, account.account)
        had = self._rows(f"SELECT 1 FROM parked WHERE {SAME}", who)
        self._db.execute(
            "INSERT INTO parked(service, origin, account, until, error_code) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT(service, origin, account) DO UPDATE SET until = excluded.until,"
            " error_code = excluded.error_code",
            (*who, until, error_code),
        )
        return not had

    def unpark(self, account: Account) -> bool:
        """Let an account be swept again; True when it was parked."""
        who = (account.service, account.origin, account.account)
        return bool(self._db.execute(f"DELETE FROM parked WHERE {SAME}", who).rowcount)

    def retry(self, entry: str, now: float) -> bool:
        """Make an open entry due now, and its account too."""
        rows = self._rows(f"SELECT service, origin, account FROM entries WHERE id = ? AND {OPEN}", (entry,))
        for who in rows:
            self.unpark(Account(*who))
            self._db.execute("UPDATE entries SET next_try_at = ?, dead = 0, attempts = 0 WHERE id = ?", (now, entry))
        return bool(rows)

    def forget(self, entry: str, now: float) -> bool:
        """Drop an open entry that no living process holds."""
        changed = self._db.execute(
            "UPDATE entries AS e SET state = 'absent', settled_at = ?, error_code = 'forgotten', epoch = epoch + 1"
            f" WHERE id = ? AND {OPEN} AND NOT {HELD}",
            (now, entry),
        )
        return bool(changed.rowcount)
