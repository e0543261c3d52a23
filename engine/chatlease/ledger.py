"""The ledger contract: what must be written down so that no chat is left, whatever happens to the process.

Rules that live here:

* The order of writes is the promise: `Ledger.intent` is durable before the first byte of ``create_chat`` leaves,
  `bound` before the first prompt, `settled` after the confirmed deletion (and nobody waits for it: losing it costs one
  more deletion of a chat that is gone).
* An entry is *open* until it is settled or absent. Chats at the service == open entries: the oracle of every test.
* Whoever may touch an entry's chat has a `Hold` on it: the session that made the entry, and after it whoever claimed
  it. Every write names its hold and has no effect once the entry has another holder or a higher epoch: the fence.
* A holder is one process with its `Lease`. A holder that was declared dead never lives again; its process takes a new
  one. An entry is only claimed when its holder is not alive, so a living session's chat is never deleted by a sweeper.
* A ledger holds names, ids, times and error codes; no cookie, no key, no prompt, no answer, no body of any reply.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

__all__ = [
    "Account",
    "Claim",
    "Counts",
    "Entry",
    "EntryState",
    "Hold",
    "Holder",
    "Known",
    "Lease",
    "Ledger",
    "Listener",
    "Turn",
]


class EntryState(enum.Enum):
    """
    What is known of an entry's chat.

    ``INTENT``: create may have been sent. ``BOUND``: the chat's id is known. ``SETTLED``: its deletion was confirmed.
    ``ABSENT``: it never came to be.
    """

    INTENT = "intent"
    BOUND = "bound"
    SETTLED = "settled"
    ABSENT = "absent"


class Account(msgspec.Struct, frozen=True, order=True):
    """
    A login at a server, by names alone.

    Attributes:
        service: `chatlease.adapter.Adapter.service`.
        origin: `chatlease.adapter.Adapter.origin`.
        account: Its name, or ``anon-`` and the fingerprint of the credential.
    """

    service: str
    origin: str
    account: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """
    One chat in the ledger. Times are seconds since the epoch by the ledger's clock.

    Attributes:
        id: The session's id; also the ``client_key`` handed to services that take one.
        service: `chatlease.adapter.Adapter.service`.
        origin: `chatlease.adapter.Adapter.origin`.
        account: Name of the login that creates the chat; only that login may delete it.
        state: See `EntryState`.
        chat: The chat's id at the service, once known: from the intent on where we choose it.
        orphaned: No session will use the chat any more; it waits for a sweeper, or has one.
        dead: A dead letter: given up but for one try a day; shown, never dropped.
        parked: Its account waits for a credential that works.
        attempts: Failed cleanup calls so far.
        error_code: Why the last of them failed, as a code.
        holder: Who holds it; empty for nobody.
        alive: The holder's process lives, as far as the ledger knows.
        intent_at: When it was made.
        create_deadline: From then on the create call can take effect no more.
        next_try_at: When a sweeper may try (again).
        orphaned_at: Since when it is orphaned; 0 while it is not.
    """

    id: str
    service: str
    origin: str
    account: str
    state: EntryState = EntryState.INTENT
    chat: str | None = None
    orphaned: bool = False
    dead: bool = False
    parked: bool = False
    attempts: int = 0
    error_code: str = ""
    holder: str = ""
    alive: bool = False
    intent_at: float = 0.0
    create_deadline: float = 0.0
    next_try_at: float = 0.0
    orphaned_at: float = 0.0

    @property
    def owner(self) -> Account:
        """The login that the chat belongs to."""
        return Account(self.service, self.origin, self.account)


class Lease:
    """
    How long a process may still use its chats, by its own monotonic clock.

    A process that was stopped for longer (SIGSTOP, a suspended machine) cannot know what sweepers did meanwhile. It
    compares no clock with anybody: it counts from the moment in which its last successful renewal was *sent*.

    Args:
        holder: Id of the holder whose lease it is.
        now: Monotonic time in seconds.
        length: Seconds from a renewal; ``inf`` for a ledger that only this process can see.
    """

    __slots__ = ("_length", "_lost", "_now", "_renewed", "holder")

    def __init__(self, holder: str, now: Callable[[], float], length: float) -> None:
        self.holder = holder
        self._now = now
        self._length = length
        self._renewed = now()
        self._lost = False

    def renew(self, sent_at: float) -> None:
        """Take a renewal that was sent then; one that comes too late changes nothing."""
        if not self.lost():
            self._renewed = sent_at

    def lose(self) -> None:
        """Take the news that the holder was declared dead."""
        self._lost = True

    def lost(self) -> bool:
        """Say whether the chats may not be used any more; once lost, always lost."""
        if not self._lost and self._now() - self._renewed > self._length:
            self._lost = True
        return self._lost


class Hold(msgspec.Struct, frozen=True, gc=False):
    """
    The right to touch an entry's chat; the ledger takes no write without one.

    Attributes:
        entry: The entry's id.
        lease: Of the process that holds it.
        epoch: How often the entry had been claimed when this hold was given.
    """

    entry: str
    lease: Lease
    epoch: int = 0


class Claim(msgspec.Struct, frozen=True):
    """
    An entry that a sweeper was given.

    Attributes:
        entry: As it is now.
        hold: For writing what became of it.
        at: When it was claimed, by the ledger's clock.
    """

    entry: Entry
    hold: Hold
    at: float


class Counts(msgspec.Struct, frozen=True):
    """
    How many entries are open, and what of them nobody holds.

    Attributes:
        open: All that are neither settled nor absent, those of living sessions too.
        orphaned: Those that no session will use any more.
        parked: Orphans whose account waits for a credential that works.
        dead: Dead letters.
    """

    open: int = 0
    orphaned: int = 0
    parked: int = 0
    dead: int = 0


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """
    A process that uses a ledger, and lives, as far as the ledger knows. Times are by the ledger's clock.

    Attributes:
        id: Its id.
        host: Name of its machine.
        began_at: Since when it uses the ledger, in seconds since the epoch.
        lease_until: Until when its lease runs; past it, it waits for somebody to find it dead.
        entries: How many open entries it holds.
        turns: How many accounts' turns it has, or waits for.
        now: The time at which that was so.
    """

    id: str
    host: str
    began_at: float
    lease_until: float
    entries: int
    turns: int
    now: float


class Known(msgspec.Struct, frozen=True):
    """
    What a ledger knows of an account, for telling lost chats from others.

    Attributes:
        chats: Ids of all its chats, settled ones too (for as long as they are kept).
        living_intents: When each create was begun whose session lives and whose chat's id is not known yet, by the
            ledger's clock.
        now: The ledger's clock.
    """

    chats: frozenset[str]
    living_intents: tuple[float, ...]
    now: float


class Turn(msgspec.Struct, frozen=True):
    """
    The answer to `Ledger.take_turn`.

    Attributes:
        taken: The slot and one run of the budget are ours.
        wait_s: Seconds until the budget's window ends, when it is used up; 0 when a slot is awaited.
        last: It was the last run of the budget.
    """

    taken: bool
    wait_s: float = 0.0
    last: bool = False


Listener = Callable[[str, Mapping[str, object]], object]
"""Told of what happens to the ledger itself: a name of the trace's closed set, and its keys. Called from any thread."""


class Ledger(Protocol):
    """
    Keeps the entries. Used from one event loop; every coroutine may be cancelled without losing what was accepted.

    Raises:
        LedgerUnavailable: From any coroutine below, when the write could not be made durable.
    """

    @property
    def lease_s(self) -> float:
        """Length of a holder's lease, in seconds."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may use it too."""
        ...

    async def open(self) -> None:
        """Make ready for use, as a living holder; called once by every engine, before anything else."""
        ...

    async def aclose(self) -> None:
        """Make everything durable and let go; may be called twice."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell this listener of what happens to the ledger; returns what makes it stop."""
        ...

    # -- what sessions write ------------------------------------------------------------------------------------------

    async def intent(self, entry: Entry) -> Hold:
        """Return once the entry is durable; only its id, its owner and its chat are taken from the argument."""
        ...

    async def bound(self, hold: Hold, chat: str) -> None:
        """
        Return once the chat's id is durable.

        Raises:
            LeaseLost: The entry is not ours any more; the chat must only be deleted.
        """
        ...

    def settled(self, hold: Hold) -> None:
        """Note that the deletion was confirmed; made durable in its own time."""
        ...

    def absent(self, hold: Hold) -> None:
        """Note that the chat certainly never came to be; made durable in its own time."""
        ...

    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        """
        Leave the chat to the sweepers; return once that is durable.

        Args:
            hold: Ours; it ends.
            attempts: Failed cleanup calls so far, in all.
            error_code: Why the last one failed.
            retry_in_s: No sweeper tries before.
            dead: From now on it is a dead letter.
        """
        ...

    # -- what sweepers do ---------------------------------------------------------------------------------------------

    async def open_entries(self) -> Sequence[Entry]:
        """Return the entries that are neither settled nor absent, oldest first."""
        ...

    async def counts(self) -> Counts:
        """Return how many entries are open."""
        ...

    async def reap(self) -> int:
        """Declare those holders dead that are, for ever; return how many."""
        ...

    async def due(self) -> Sequence[Account]:
        """Return the accounts that have entries to claim now and are not parked."""
        ...

    async def claim(self, accounts: Collection[Account], limit: int) -> Sequence[Claim]:
        """Take over entries of these accounts whose holder is not alive and whose time has come, oldest first."""
        ...

    async def known(self, account: Account) -> Known:
        """Return what is known of an account; asked *after* its chats were listed."""
        ...

    async def park(self, account: Account, *, seconds: float, error_code: str) -> bool:
        """Let an account's entries wait, for a probe after that time; True when it was not parked before."""
        ...

    async def unpark(self, account: Account) -> bool:
        """Let an account's entries be swept again; True when it was parked."""
        ...

    async def retry(self, entry: str) -> bool:
        """Make an entry due now, dead or parked as it may be; False when there is no such open entry."""
        ...

    async def forget(self, entry: str) -> bool:
        """Drop an open entry whose holder is not alive, although its chat may exist; False when there is none."""
        ...

    # -- an account's turn, shared by all processes that use this ledger ----------------------------------------------

    def turn_at_hand(self, account: Account, entry: str, *, runs: int | None, window_s: float) -> Turn | None:
        """
        Take a turn without waiting, as `take_turn` would with one slot, where this process has the account's place.

        A ledger may keep a place for its process after `end_turn`, until another process is found to wait for it.

        Returns:
            ``None`` when `take_turn` has to be asked.
        """
        ...

    async def take_turn(
        self, account: Account, entry: str, *, slots: int | None, runs: int | None, window_s: float
    ) -> Turn:
        """
        Stand in the account's queue (once per entry) and take the slot and one run of the budget when it is our turn.

        Args:
            account: Whose turn.
            entry: Who asks: a session's id.
            slots: How many may have a turn at once; ``None`` for any number.
            runs: How many runs a window has; ``None`` for any number.
            window_s: Length of the window, which begins with its first run.
        """
        ...

    def end_turn(self, entry: str) -> None:
        """Leave the queue, or give the slot back; made durable in its own time."""
        ...

    async def awaited_turns(self) -> Sequence[str]:
        """Return those entries of ours that have a turn for which another process waits."""
        ...
