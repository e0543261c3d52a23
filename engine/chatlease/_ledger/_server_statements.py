"""The protocol as SQL where several transactions run side by side: what PostgreSQL is asked beyond what SQLite is.

Rules that live here:

* Every transaction begins with a write to our holder's row, and so has it to itself: whoever would declare us dead
  meanwhile leaves us alone (it is at work, so it lives), and of two transactions of ours, one of them over a connection
  that was lost, the second waits for the end of the first.
* That write counts our transactions. From the number the next one sees whether the last one was made durable, when
  nobody could say so, and whether the server has lost any that were.
* The time is the server's, read in the same statement: ``clock_timestamp()``, not the transaction's beginning.
* What is about to be changed by several processes is locked first, and what another one has in hand is passed over,
  never waited for. What was found is looked at again by the statement that changes it: it sees what others committed.
"""

from __future__ import annotations

from typing import NamedTuple

from ._statements import Statements

_NOW = "coalesce(?::float8, extract(epoch FROM clock_timestamp())::float8)"
_NEWS_S = 3600.0


class Entered(NamedTuple):
    """
    What the first statement of a transaction says.

    Attributes:
        state: ``live``, ``dead`` or ``gone``: our holder's.
        number: Of this transaction, among our holder's.
        now: The time.
    """

    state: str
    number: int
    now: float


class ServerStatements(Statements):
    """The protocol on a connection to PostgreSQL."""

    FREE = " FOR UPDATE SKIP LOCKED"

    def enter(self, holder: str, at: float | None) -> Entered | None:
        """
        Begin a transaction of a holder's; ``None`` when the server knows nothing of it.

        Args:
            holder: Ours.
            at: The time, for tests; ``None`` for the server's.
        """
        rows = self._rows(
            f"UPDATE holders SET writes = writes + 1 WHERE id = ?2 RETURNING state, writes, {_NOW.replace('?', '?1')}",
            (at, holder),
        )
        return Entered(*rows[0]) if rows else None

    def time(self, at: float | None) -> float:
        """Return the time; see `enter`."""
        ((now,),) = self._rows(f"SELECT {_NOW}", (at,))
        return float(now)

    def note_loss(self, now: float) -> None:
        """See `Statements`; a server may lose something more than once."""
        self._db.execute(
            "INSERT INTO meta(key, value) VALUES('lost_at', ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value"
            " WHERE meta.value::float8 < excluded.value::float8 - ?::float8",
            (repr(now), _NEWS_S),
        )

    def _alone(self, who: tuple[str, str, str]) -> bool:
        ((alone,),) = self._rows(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ?, 0))", ("\n".join(who),)
        )
        return bool(alone)
