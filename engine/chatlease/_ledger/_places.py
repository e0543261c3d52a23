"""Places in accounts' queues that this process keeps, so that a turn nobody else waits for costs no transaction.

Rules that live here:

* Where an account has one slot, the place in the ledger's queue is the process's, not a session's. Its sessions take
  turns on it, one at a time, as long as no other process waits for it; the budget is counted here meanwhile, and noted
  in the file along with whatever is written next.
* Twice a second, while there are places, the file is asked who waits. A place that is waited for gives no more turns;
  as soon as nobody uses it, it is left, and so is one that was not used for a second.
* What is noted about a place is written before it is left. A process that is killed forgets no more of a budget than
  what was spent since its last write.
* A file that lost our places is given them again, with what is known of their budgets.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from chatlease.ledger import Account, Turn

from ._statements import Statements

_LOOK_S = 0.5
_IDLE_S = 1.0


class _Place:
    __slots__ = ("began_at", "idle_at", "ticket", "used", "users", "wanted")

    def __init__(self, ticket: str, began_at: float, used: int, now: float) -> None:
        self.ticket = ticket
        self.began_at = began_at
        self.used = used
        self.users: set[str] = set()
        self.wanted = False
        self.idle_at = now

    def take(self, entry: str, runs: int | None, window_s: float, now: float) -> Turn:
        if runs is not None:
            if self.used == 0 or not 0 <= now - self.began_at < window_s:  # below 0: the clock was set back
                self.began_at, self.used = now, 0
            if self.used >= runs:
                return Turn(taken=False, wait_s=self.began_at + window_s - now)
            self.used += 1
        self.users.add(entry)
        return Turn(taken=True, last=runs is not None and self.used >= runs)

    def is_to_be_left(self, now: float) -> bool:
        return not self.users and (self.wanted or abs(now - self.idle_at) > _IDLE_S)


class Places:
    """The places of one holder; used by the event loops and by the writer thread."""

    def __init__(self) -> None:
        self._places: dict[Account, _Place] = {}
        self._accounts: dict[str, Account] = {}
        self._waiting: dict[Account, dict[str, str]] = {}
        self._fresh: dict[Account, _Place] = {}
        self._looked_at = 0.0
        self._guard = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._places)

    def take(self, account: Account, entry: str, runs: int | None, window_s: float, now: float) -> Turn | None:
        """Take a turn on a place that is ours; ``None`` when the file has to be asked."""
        with self._guard:
            place = self._places.get(account)
            if place is None or place.wanted or place.users:
                return None
            turn = place.take(entry, runs, window_s, now)
            if turn.taken:
                self._accounts[entry] = account
            return turn

    def own(
        self,
        statements: Statements,
        account: Account,
        entry: str,
        holder: str,
        now: float,
        *,
        runs: int | None,
        window_s: float,
    ) -> Turn:
        """Ask the file for the place, and take a turn on it; in a transaction of the writer's."""
        ticket = f"{holder} {account.service} {account.origin} {account.account}"
        free = statements.take_turn(account, ticket, holder, now, slots=1, runs=None, window_s=0.0).taken
        with self._guard:
            self._accounts[entry] = account
            self._waiting.setdefault(account, {})[entry] = ticket
            place = self._places.get(account)
            if place is not None and entry in place.users:  # a transaction is tried again
                self._waits_no_more(account, entry)
                statements.note_budgets({account: (place.began_at, place.used)}, now)
                return Turn(taken=True, last=runs is not None and place.used >= runs)
            if not free or (place is not None and (place.wanted or place.users)):
                return Turn(taken=False)
            if place is None:
                place = self._fresh[account] = _Place(ticket, *statements.budget(account, now), now)
                self._places[account] = place
            turn = place.take(entry, runs, window_s, now)
            if turn.taken:
                self._waits_no_more(account, entry)
                statements.note_budgets({account: (place.began_at, place.used)}, now)
            return turn

    def spent(self, account: Account) -> tuple[float, int]:
        """Return what to note of an account's budget."""
        with self._guard:
            place = self._places.get(account)
            return (0.0, 0) if place is None else (place.began_at, place.used)

    def end(self, entry: str, now: float) -> str | None:
        """End a turn; returns the ticket to be given up for it, empty when the place is kept, ``None`` for no place."""
        with self._guard:
            account = self._accounts.pop(entry, None)
            if account is None:
                return None
            ticket = self._waits_no_more(account, entry)
            place = self._places.get(account)
            if place is None:
                return "" if account in self._waiting else ticket
            if entry in place.users:
                place.users.discard(entry)
                place.idle_at = now
            if not place.is_to_be_left(now):
                return ""
            del self._places[account]
            return place.ticket

    def awaited(self, found: Collection[str], holder: str) -> list[str]:
        """Return the entries that have a turn for which another process waits, given what of ours the file names."""
        with self._guard:
            for place in self._places.values():
                place.wanted = place.wanted or place.ticket in found
            users = [entry for place in self._places.values() if place.wanted for entry in place.users]
        return [*users, *(each for each in found if not each.startswith(f"{holder} "))]

    def is_look_due(self, now: float) -> bool:
        """Say whether it is time to ask the file who waits."""
        return bool(self._places) and abs(now - self._looked_at) >= _LOOK_S

    def look(self, statements: Statements, holder: str, now: float) -> list[str]:
        """Ask the file who waits; returns the tickets of places that are left."""
        self._looked_at = now
        wanted = set(statements.awaited_turns(holder))
        with self._guard:
            for place in self._places.values():
                place.wanted = place.wanted or place.ticket in wanted
            return self._leave({account: p for account, p in self._places.items() if p.is_to_be_left(now)})

    def begin(self) -> None:
        """Take note that a transaction begins: the one before it, if it failed, gave us no place."""
        with self._guard:
            fresh, self._fresh = self._fresh, {}
            self._leave({account: p for account, p in fresh.items() if self._places.get(account) is p})

    def restore(self, statements: Statements, holder: str, now: float) -> None:
        """Write everything into a new file, or into an old copy; what somebody else has by now is left soon."""
        with self._guard:
            for account, place in self._places.items():
                alone = statements.keep_turn(account, place.ticket, holder)
                place.wanted = place.wanted or not alone
                statements.note_budgets({account: (place.began_at, place.used)}, now)

    def confirm(self) -> None:
        """Take note that what was written is durable."""
        self._fresh.clear()

    def undo(self) -> list[str]:
        """Take note that what was to be written was not; returns tickets that are to be given up, if they are there."""
        with self._guard:
            fresh, self._fresh = self._fresh, {}
            return self._leave({account: p for account, p in fresh.items() if self._places.get(account) is p})

    def clear(self) -> None:
        """Forget everything: the holder is another one, and has none of our tickets."""
        with self._guard:
            self._fresh.clear()
            self._places.clear()

    def _waits_no_more(self, account: Account, entry: str) -> str:
        waiting = self._waiting.get(account, {})
        ticket = waiting.pop(entry, "")
        if not waiting:
            self._waiting.pop(account, None)
        return ticket

    def _leave(self, places: Mapping[Account, _Place]) -> list[str]:
        for account in places:
            del self._places[account]
        return [place.ticket for place in places.values()]
