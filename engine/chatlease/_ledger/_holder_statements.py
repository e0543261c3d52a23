"""
The protocol as SQL: holders, which live, and then do not.

Rules that live here:

* A holder goes from live to dead (or gone) and never back: every renewal asks for ``state = 'live'``.
"""

from __future__ import annotations

from typing import NamedTuple

from chatlease.ledger import Holder

from ._sql import OPEN, Sql


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


class HolderStatements(Sql):
    """What is written and asked about holders."""

    def join(self, holder: str, now: float, *, lease: float, host: str, lock: str) -> None:
        """Make a holder live; one that is there already stays what it is."""
        self._db.execute(
            "INSERT INTO holders(id, state, lease_until, host, lock, started_at)"
            " VALUES(?, 'live', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
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

    def living(self, now: float) -> list[Holder]:
        """Return all live holders, the oldest first."""
        rows = self._rows(
            f"SELECT id, host, started_at, lease_until, (SELECT count(*) FROM entries WHERE holder = h.id AND {OPEN}),"
            " (SELECT count(*) FROM turns WHERE holder = h.id) FROM holders h WHERE h.state = 'live'"
            " ORDER BY started_at, id",
            (),
        )
        return [
            Holder(
                id=name,
                host=host.partition(" ")[0],
                began_at=began_at,
                lease_until=lease_until,
                entries=entries,
                turns=turns,
                now=now,
            )
            for name, host, began_at, lease_until, entries, turns in rows
        ]

    def bury(self, holder: str, now: float, lease_until: float | None = None) -> bool:
        """Declare a holder dead for ever; with ``lease_until`` only if its lease is still that."""
        same = f"SELECT 1 FROM holders WHERE id = ? AND state = 'live' AND lease_until = ?{self.FREE}"
        if lease_until is not None and not self._rows(same, (holder, lease_until)):
            return False
        return self._end(holder, "dead", now)

    def _end(self, holder: str, state: str, now: float) -> bool:
        changed = self._db.execute(
            "UPDATE holders SET state = ?, ended_at = ? WHERE id = ? AND state = 'live'", (state, now, holder)
        )
        if changed.rowcount != 1:
            return False
        self._db.execute("DELETE FROM turns WHERE holder = ?", (holder,))
        return True
