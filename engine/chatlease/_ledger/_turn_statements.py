"""
The protocol as SQL: an account's queue, and the budget of its runs.

Rules that live here:

* Whoever stands in the queue is served in order; but a slot that somebody has is his, wherever he stands. (Where
  transactions run side by side, an earlier place may be seen later.)
* A budget is noted late where nobody else may have spent of it. Who could not write for so long that others may knows
  less than they do: a window that began earlier, or of which less was used, is not written over theirs. (One that
  begins in the future was noted before the clock was set back.)
* A turn is given by one transaction at a time for an account; where another one is at it, the answer is to ask again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chatlease.ledger import Account, Turn

from ._sql import SAME, Sql


class TurnStatements(Sql):
    """What is written and asked about accounts' turns."""

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
            "INSERT INTO turns(service, origin, account, entry, holder) VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*who, entry, holder),
        )
        if not self._alone(who):
            return Turn(taken=False)
        if slots is not None and self._before(who, entry) >= slots:
            return Turn(taken=False)
        turn = Turn(taken=True) if runs is None else self._spend(who, now, runs, window_s)
        if turn.taken:
            self._db.execute("UPDATE turns SET taken = 1 WHERE entry = ?", (entry,))
        return turn

    def _alone(self, who: tuple[str, str, str]) -> bool:  # noqa: ARG002  (see the server's)
        """Keep other transactions from giving the account's turns until ours ends; False when one of them does."""
        return True

    def _before(self, who: tuple[str, str, str], entry: str) -> int:
        ((number,),) = self._rows(
            f"SELECT count(*) FROM turns t JOIN holders h ON h.id = t.holder AND h.state = 'live' WHERE {SAME}"
            " AND entry <> ? AND (taken = 1 OR t.id < (SELECT id FROM turns WHERE entry = ?))",
            (*who, entry, entry),
        )
        return int(number)

    def _spend(self, who: tuple[str, str, str], now: float, runs: int, window_s: float) -> Turn:
        began_at, used = self.budget(Account(*who), now)
        if used == 0 or not 0 <= now - began_at < window_s:  # below 0: the clock was set back
            began_at, used = now, 0
        if used >= runs:
            return Turn(taken=False, wait_s=began_at + window_s - now)
        self.note_budgets({Account(*who): (began_at, used + 1)}, now)
        return Turn(taken=True, last=used + 1 >= runs)

    def budget(self, account: Account, now: float) -> tuple[float, int]:
        """Return when an account's window began, and how many runs were used in it."""
        who = (account.service, account.origin, account.account)
        rows = self._rows(f"SELECT began_at, used FROM budgets WHERE {SAME}", who)
        return rows[0] if rows else (now, 0)

    def note_budgets(self, budgets: Mapping[Account, tuple[float, int]], now: float) -> None:
        """Note when each account's window began, and how many runs of it were used; nothing that is known better."""
        self._db.executemany(
            "INSERT INTO budgets(service, origin, account, began_at, used) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT(service, origin, account) DO UPDATE SET began_at = excluded.began_at, used = excluded.used"
            " WHERE budgets.began_at > ? OR (excluded.began_at, excluded.used) >= (budgets.began_at, budgets.used)",
            [(each.service, each.origin, each.account, *spent, now) for each, spent in sorted(budgets.items())],
        )

    def keep_turn(self, account: Account, entry: str, holder: str) -> bool:
        """Have a slot that the ledger may have lost; returns whether nobody else has it, or came before."""
        who = (account.service, account.origin, account.account)
        self._db.execute(
            "INSERT INTO turns(service, origin, account, entry, holder, taken) VALUES(?, ?, ?, ?, ?, 1)"
            " ON CONFLICT(entry) DO UPDATE SET taken = 1",
            (*who, entry, holder),
        )
        return self._before(who, entry) == 0

    def end_turns(self, entries: Iterable[str]) -> None:
        """Leave the queue, or give the slots back."""
        self._db.executemany("DELETE FROM turns WHERE entry = ?", [(entry,) for entry in entries])

    def awaited_turns(self, holder: str) -> list[str]:
        """Return the entries of a holder that have a turn for which another live holder waits."""
        rows = self._rows(
            "SELECT entry FROM turns t WHERE holder = ? AND taken = 1 AND EXISTS(SELECT 1 FROM turns o JOIN holders h"
            " ON h.id = o.holder AND h.state = 'live' WHERE o.account = t.account AND o.origin = t.origin"
            " AND o.service = t.service AND o.taken = 0 AND o.holder <> t.holder)",
            (holder,),
        )
        return [entry for (entry,) in rows]
