"""The ledger's protocol under every interleaving that Hypothesis can think of, in virtual time.

Rules that live here:

* The SQL is the ledger's own, on a database in memory, and so are the sweeper's rules (`match`, `ready_at`,
  `retry_in`), the watchdog (`Lease`) and the reaper. Only the service and the order of events are made up.
* A session and a sweep are programs that stop after every step that others could see. A step of anybody's may come
  between any two of them; any process may die, or be stopped and go on, at any of them.
* What always holds is written as invariants (I1, I3, I4, I5, and that every chat of ours has an open entry); what holds
  in the end (I2) is tried after each run, by a process that comes when all others are dead.
* Each law of the protocol is broken on purpose once, to show that the model notices: by a story that is told
  (`STORIES`), and by looking for one.

``CHATLEASE_MODEL=20000`` runs so many examples instead of the usual number, and other ones each time.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatlease._ledger import _schema
from chatlease._ledger._reaper import Reaper
from chatlease._ledger._server_statements import ServerStatements
from chatlease._ledger._statements import Statements, key
from chatlease._ledger._wire import Wire
from chatlease._sweep import Sweep, match, ready_at, retry_in
from chatlease.adapter import ChatListing
from chatlease.ledger import Account, Claim, EntryState, Hold, Known, Lease
from tests import postgres

LEASE, HORIZON = 60.0, 300.0
WATCHDOG = LEASE * 5 / 6
BEAT = LEASE / 4
SWEEP = Sweep()
BOT = Account("fake", "fake://", "bot")
Story: TypeAlias = list[tuple[Any, ...]]
Steps: TypeAlias = Generator[None, None, None]
NUMBERED = st.integers(0, 11)

EXAMPLES = int(os.environ.get("CHATLEASE_MODEL", "0"))
USUAL = settings(
    max_examples=EXAMPLES or 300,
    stateful_step_count=50,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
HUNT = settings(
    USUAL, max_examples=EXAMPLES or 500, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
)


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Chat:
    """A chat at the service; its key is its session's id, empty for somebody else's."""

    key: str
    created_at: float
    empty: bool = True


@dataclass
class Service:
    """
    Chats, creates that take effect late, and replies that can be had by whoever sent the create.

    Attributes:
        made: The chat of every create that took effect.
        late: Creates on their way: when, and of which session.
        fails: So many of the next deletions fail.
    """

    chats: dict[str, Chat] = field(default_factory=dict[str, Chat])
    made: dict[str, str] = field(default_factory=dict[str, str])
    late: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    fails: int = 0
    ids: Any = field(default_factory=lambda: itertools.count(1))

    def create(self, name: str, at: float) -> None:
        chat = f"chat-{next(self.ids)}"
        self.chats[chat] = Chat(name, at)
        if name:
            self.made[name] = chat

    def take_effect(self, now: float) -> None:
        """Let those creates happen whose time has come."""
        for at, name in sorted(self.late):
            if at <= now:
                self.late.remove((at, name))
                self.create(name, at)

    def listing(self, *, by_key: bool, tells_time: bool) -> list[ChatListing]:
        return [
            ChatListing(
                name,
                datetime.fromtimestamp(chat.created_at, UTC) if tells_time else None,
                chat.empty,
                (chat.key or None) if by_key else None,
            )
            for name, chat in self.chats.items()
        ]


@dataclass(eq=False)
class Process:
    """One that uses the ledger."""

    lease: Lease
    reaper: Reaper
    alive: bool = True
    awake: bool = True
    sweep: Steps | None = None


@dataclass(eq=False)
class Session:
    """
    A session, and what it will do.

    Attributes:
        active: It means to go on using its chat.
        steps: What is left of its program.
    """

    id: str
    process: Process
    delay: float
    reply_lost: bool
    prompts: int
    hold: Hold | None = None
    active: bool = True
    steps: Steps | None = None

    def lost(self) -> bool:
        """What the watchdog says."""
        return self.hold is not None and self.hold.lease.lost()


class Protocol(RuleBasedStateMachine):
    """The protocol; subclasses break one of its laws each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.db = self.database()
        self.sql = self.statements()
        self.service = Service()
        self.processes: list[Process] = []
        self.sessions: dict[str, Session] = {}
        self.foreign: set[str] = set()
        self.epochs: dict[str, int] = {}
        self.dead: set[str] = set()
        self.ids = itertools.count(1)
        self.by_key = self.tells_time = True

    @initialize(tells=st.sampled_from(["key", "time", "nothing"]))
    def begin_world(self, tells: str) -> None:
        """A service that gives back our keys, or only says when a chat was made, or not even that."""
        self.by_key, self.tells_time = tells == "key", tells == "time"
        for _ in range(2):
            self.start_process()

    # -- where it is kept ---------------------------------------------------------------------------------------------

    def database(self) -> Any:
        """A database of its own, with the ledger's tables in it."""
        found = sqlite3.connect(":memory:", isolation_level=None)
        _schema.migrate(found)
        return found

    def let_go(self) -> None:
        """Leave nothing of it."""
        self.db.close()

    # -- what a mutant may change -------------------------------------------------------------------------------------

    def statements(self) -> Statements:
        return Statements(self.db, HORIZON)

    def intend(self, session: Session) -> None:
        self.write_intent(session)

    def bind(self, session: Session, chat: str) -> bool:
        """Bind as the store does: never in the name of a holder that is dead."""
        assert session.hold is not None
        if not self.sql.lives(session.hold.lease.holder):
            return False
        return not self.sql.bind([(chat, *key(session.hold))])

    def may_use(self, session: Session) -> bool:
        return not session.lost()

    def wait_of(self, claim: Claim) -> float:
        """How long a lost create is not looked for."""
        return 0.0 if self.by_key else ready_at(SWEEP, claim.entry, LEASE) - claim.at

    def wait_for_effect(self, claim: Claim) -> float:
        """How long a lost create that was not found may still take effect."""
        return claim.entry.create_deadline - claim.at

    def know(self) -> Known:
        return self.sql.known(BOT, self.now)

    def look(self) -> Generator[None, None, tuple[list[ChatListing], Known]]:
        listing = self.listing()
        yield
        return listing, self.know()

    def give_back(self, process: Process, claim: Claim) -> Steps:
        assert claim.entry.chat is not None
        try:
            self.delete(claim.entry.chat, process)
        except ConnectionError:
            self.hand_on(process, claim, retry_in(SWEEP, claim.entry.attempts + 1), claim.entry.attempts + 1)
            return
        yield
        self.settle(process, claim.hold)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def live(self, session: Session) -> Steps:
        """A session's program."""
        self.intend(session)
        yield
        if not self.may_use(session):
            self.leave(session)
            return
        latest = HORIZON - 1 if session.hold is None else self.intent_at(session) + HORIZON
        self.service.late.append((min(self.now + session.delay, latest), session.id))
        self.service.take_effect(self.now)
        yield
        while session.id not in self.service.made:
            yield
        if session.reply_lost:
            self.leave(session)
            return
        yield from self.use(session, self.service.made[session.id])

    def use(self, session: Session, chat: str) -> Steps:
        self.write(session.process)
        if not self.bind(session, chat):
            session.active = False  # it gives the chat back itself: sweepers know only of the intent
            yield
            self.service.chats.pop(chat, None)
            yield
            self.settle(session.process, session.hold)
            return
        for _ in range(session.prompts):
            yield
            if not self.may_use(session):
                self.leave(session)
                return
            self.request(session, chat).empty = False
        yield
        if not self.may_use(session):
            self.leave(session)
            return
        self.request(session, chat)
        del self.service.chats[chat]
        session.active = False
        yield
        self.settle(session.process, session.hold)

    def request(self, session: Session, chat: str) -> Chat:
        """I1: no request of a living owner meets a chat that another has deleted."""
        if chat not in self.service.chats:
            raise Broken(f"{session.id} uses {chat}, which another has deleted")
        return self.service.chats[chat]

    def leave(self, session: Session) -> None:
        session.active = False
        self.write(session.process)
        if session.hold is not None:
            self.sql.hand_over(key(session.hold), self.now, attempts=0, error_code="", retry_in_s=0.0, dead=False)

    def write_intent(self, session: Session) -> None:
        self.write(session.process)
        lease = session.process.lease
        self.sql.intend([(session.id, BOT.service, BOT.origin, BOT.account, None, lease.holder, self.now)])
        session.hold = Hold(session.id, lease)

    def intent_at(self, session: Session) -> float:
        ((at,),) = self.db.execute("SELECT intent_at FROM entries WHERE id = ?", (session.id,))
        return float(at)

    # -- sweepers -----------------------------------------------------------------------------------------------------

    def sweep_once(self, process: Process) -> Steps:
        """A sweep's program, as in `_account_sweep` and `_lost_creates`."""
        self.write(process)
        process.reaper.reap(self.sql, self.now, process.lease)
        yield
        self.write(process)
        claims = self.sql.claim(process.lease, self.now, self.sql.due(self.now), 10)
        yield
        for claim in claims:
            if claim.entry.state is EntryState.BOUND:
                yield from self.give_back(process, claim)
                yield
        lost = [claim for claim in claims if claim.entry.state is EntryState.INTENT]
        for claim in lost:
            if self.wait_of(claim) > 0:
                self.hand_on(process, claim, self.wait_of(claim))
        ready = [claim for claim in lost if self.wait_of(claim) <= 0]
        if ready:
            yield from self.reconcile(process, ready)

    def reconcile(self, process: Process, claims: list[Claim]) -> Steps:
        listing, known = yield from self.look()
        yield
        intents = [claim.entry for claim in claims]
        found = match(listing, intents, known, skew=SWEEP.skew, by_key=self.by_key)
        left = [claim for claim in claims if claim.entry.id not in found.by_key]
        try:
            for claim in claims:
                if claim.entry.id in found.by_key:
                    self.delete(found.by_key[claim.entry.id].chat, process)
                    yield
                    self.settle(process, claim.hold)
            for chat in found.ours:
                self.delete(chat, process)
                yield
        except ConnectionError:
            for claim in claims:
                self.hand_on(process, claim, retry_in(SWEEP, claim.entry.attempts + 1), claim.entry.attempts + 1)
            return
        for claim in left:
            if found.ambiguous:
                self.hand_on(process, claim, SWEEP.first_retry)
            elif self.wait_for_effect(claim) > 0:
                self.hand_on(process, claim, self.wait_for_effect(claim))
            else:
                self.write(process)
                self.sql.miss(self.now, [key(claim.hold)])
            yield

    def listing(self) -> list[ChatListing]:
        return self.service.listing(by_key=self.by_key, tells_time=self.tells_time)

    def delete(self, chat: str, process: Process) -> bool:
        """Delete a chat in a sweep; nobody may be using it, and everybody may be about to."""
        if self.service.fails:
            self.service.fails -= 1
            raise ConnectionError
        found = self.service.chats.get(chat)
        owner = self.sessions.get(found.key) if found is not None else None
        if owner is not None and owner.active and owner.process.alive and not owner.lost():
            raise Broken(f"{chat} was deleted under its living session")
        return self.service.chats.pop(chat, None) is not None

    def settle(self, process: Process, hold: Hold | None) -> None:
        self.write(process)
        if hold is not None:
            self.sql.settle(self.now, [key(hold)])

    def hand_on(self, process: Process, claim: Claim, seconds: float, attempts: int = 0) -> None:
        self.write(process)
        self.sql.hand_over(key(claim.hold), self.now, attempts=attempts, error_code="", retry_in_s=seconds, dead=False)

    # -- processes ----------------------------------------------------------------------------------------------------

    def write(self, process: Process) -> None:
        """Before everything that it writes, a process looks whether it still is who it was."""
        if process.lease.lost() or not self.sql.lives(process.lease.holder):
            process.lease.lose()
            self.sql.bury(process.lease.holder, self.now)
            process.lease = self.join()

    def join(self) -> Lease:
        lease = Lease(f"holder-{next(self.ids)}", lambda: self.now, WATCHDOG)
        self.sql.join(lease.holder, self.now, lease=LEASE, host="", lock="")
        return lease

    def beat(self, process: Process) -> None:
        self.write(process)
        if self.sql.renew(process.lease.holder, self.now, LEASE):
            process.lease.renew(self.now)

    def pick(self, number: int) -> Process:
        awake = [process for process in self.processes if process.alive and process.awake]
        return awake[number % len(awake)]

    def alive(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def some_awake(self) -> bool:
        return any(process.awake for process in self.alive())

    def some_session(self) -> bool:
        return bool(self.going())

    def going(self) -> list[Session]:
        return [
            session
            for session in self.sessions.values()
            if session.steps is not None and session.process.alive and session.process.awake
        ]

    # -- rules --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.alive()) < 3)
    @rule()
    def start_process(self) -> None:
        self.processes.append(Process(self.join(), Reaper(Path("/nowhere"), LEASE, lambda: self.now)))

    @precondition(some_awake)
    @rule(
        number=NUMBERED,
        delay=st.sampled_from([0.0, 0.0, 0.0, 20.0, 290.0]),
        reply_lost=st.booleans(),
        prompts=st.integers(0, 2),
        steps=st.integers(1, 6),
    )
    def begin_session(self, number: int, delay: float, reply_lost: bool, prompts: int, steps: int) -> None:
        session = Session(f"session-{next(self.ids)}", self.pick(number), delay, reply_lost, prompts)
        session.steps = self.live(session)
        self.sessions[session.id] = session
        self.run(session, steps)

    @precondition(some_session)
    @rule(number=NUMBERED, steps=st.integers(1, 6))
    def go_on_with_session(self, number: int, steps: int) -> None:
        going = self.going()
        self.run(going[number % len(going)], steps)

    @precondition(some_awake)
    @rule(number=NUMBERED, steps=st.integers(1, 12))
    def sweep(self, number: int, steps: int) -> None:
        process = self.pick(number)
        if process.sweep is None:
            process.sweep = self.sweep_once(process)
        if ended(process.sweep, steps):
            process.sweep = None

    @precondition(some_awake)
    @rule(number=NUMBERED)
    def crash(self, number: int) -> None:
        self.end(self.pick(number))

    @precondition(some_awake)
    @rule(number=NUMBERED)
    def stop(self, number: int) -> None:
        self.pick(number).awake = False

    @precondition(lambda self: any(not process.awake for process in self.alive()))
    @rule()
    def go_on(self) -> None:
        next(process for process in self.alive() if not process.awake).awake = True

    @rule(
        seconds=st.sampled_from([1.0, 30.0, 55.0, 130.0, 320.0, 1000.0]), beating=st.sampled_from([True, True, False])
    )
    def advance(self, seconds: float, beating: bool) -> None:
        """Time passes; processes that are awake beat, or are too busy to."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + BEAT, until)
            self.service.take_effect(self.now)
            for process in self.alive():
                if beating and process.awake:
                    self.beat(process)

    @rule(empty=st.booleans())
    def create_by_hand(self, empty: bool) -> None:
        """Somebody uses the account too. An empty chat is only told from ours by our key, and holds nothing."""
        self.service.create("", self.now)
        name = next(reversed(self.service.chats))
        self.service.chats[name].empty = empty and self.by_key
        self.foreign.add(name)

    @rule()
    def break_deletion(self) -> None:
        self.service.fails = 1

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def every_chat_of_ours_has_an_open_entry(self) -> None:
        entries = {entry.id for entry in self.sql.open_entries()}
        left = [chat.key for chat in self.service.chats.values() if chat.key and chat.key not in entries]
        late = [name for _, name in self.service.late if name not in entries]
        if left or late:
            raise Broken(f"nobody knows of {left}, {late}")

    @invariant()
    def epochs_only_grow(self) -> None:
        """I3."""
        for name, epoch in self.db.execute("SELECT id, epoch FROM entries"):
            if epoch < self.epochs.get(name, 0):
                raise Broken(f"the epoch of {name} went back")
            self.epochs[name] = epoch

    @invariant()
    def the_dead_stay_dead(self) -> None:
        """I4."""
        states = dict(list(self.db.execute("SELECT id, state FROM holders")))
        if any(states.get(holder) == "live" for holder in self.dead):
            raise Broken("a dead holder lives again")
        self.dead |= {holder for holder, state in states.items() if state != "live"}

    @invariant()
    def what_is_not_ours_is_not_touched(self) -> None:
        """I5."""
        if not self.foreign <= self.service.chats.keys():
            raise Broken("somebody else's chat was deleted")

    # -- what holds in the end ----------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """I2: once all are dead, one who comes later finds everything."""
        for process in self.alive():
            self.end(process)
        self.start_process()
        self.service.fails = 0
        for _ in range(60):
            self.advance(100.0, beating=True)
            assert ended(self.sweep_once(self.processes[-1]), 10_000)
            self.every_chat_of_ours_has_an_open_entry()
            if not self.sql.open_entries():
                break
        left = self.service.chats.keys() - self.foreign
        entries = self.sql.open_entries()
        self.let_go()
        if left or entries or self.service.late:
            raise Broken(f"{left} and {entries} are left in the end")

    # -- inside -------------------------------------------------------------------------------------------------------

    def run(self, session: Session, steps: int) -> None:
        assert session.steps is not None
        if ended(session.steps, steps):
            session.steps = None

    def end(self, process: Process) -> None:
        process.alive = False
        process.sweep = None
        for session in self.sessions.values():
            if session.process is process:
                session.steps = None


def ended(program: Steps, steps: int) -> bool:
    """Do so many steps of a program; say whether it ended."""
    for _ in range(steps):
        try:
            next(program)
        except StopIteration:
            return True
    return False


def test_the_protocol_holds() -> None:
    run_state_machine_as_test(Protocol, settings=USUAL)


# -- the protocol's laws, each broken once ----------------------------------------------------------------------------


class NoIntent(Protocol):
    """The entry is written only when the reply is there."""

    def intend(self, session: Session) -> None:
        pass

    def bind(self, session: Session, chat: str) -> bool:
        self.write_intent(session)
        return super().bind(session, chat)


class NoCreateDeadline(Protocol):
    """What a listing does not show does not exist."""

    def wait_of(self, claim: Claim) -> float:
        return 0.0

    def wait_for_effect(self, claim: Claim) -> float:
        return 0.0


class NoLivingIntents(Protocol):
    """An empty chat that the ledger does not know is taken, whoever may be waiting for its id."""

    def know(self) -> Known:
        known = super().know()
        return Known(known.chats, (), known.now)


class KnownBeforeListed(Protocol):
    """The ledger is read first, the listing made after it."""

    def look(self) -> Generator[None, None, tuple[list[ChatListing], Known]]:
        known = self.know()
        yield
        return self.listing(), known


class Reviving(Protocol):
    """A heartbeat asks nobody whether its holder is dead."""

    def beat(self, process: Process) -> None:
        self.db.execute(
            "UPDATE holders SET state = 'live', lease_until = ? WHERE id = ?", (self.now + LEASE, process.lease.holder)
        )
        process.lease.renew(self.now)


class GoneIsFailure(Protocol):
    """A chat that is gone already is tried again and again."""

    def give_back(self, process: Process, claim: Claim) -> Steps:
        if claim.entry.chat not in self.service.chats:
            self.hand_on(process, claim, SWEEP.first_retry)
            return
        yield from super().give_back(process, claim)


class SettledFirst(Protocol):
    """The entry is settled before its chat is deleted."""

    def give_back(self, process: Process, claim: Claim) -> Steps:
        self.settle(process, claim.hold)
        yield
        yield from super().give_back(process, claim)


class NoWatchdog(Protocol):
    """A process that was stopped goes on as if nothing had happened."""

    def may_use(self, session: Session) -> bool:
        return True


class _ClaimingFromTheLiving(Statements):
    def claim(self, lease: Lease, now: float, accounts: Any, limit: int) -> list[Claim]:
        rows = self._rows("SELECT id FROM entries WHERE state IN ('intent', 'bound') AND next_try_at <= ?", (now,))
        found = [name for (name,) in rows[:limit]]
        for name in found:
            self._db.execute("UPDATE entries SET holder = NULL WHERE id = ?", (name,))
        return [claim for name in found for claim in self._take(name, lease, now)]

    def due(self, now: float) -> list[Account]:
        return [BOT]


class ClaimingFromTheLiving(Protocol):
    """Entries are claimed whether or not their holder lives."""

    def statements(self) -> Statements:
        return _ClaimingFromTheLiving(self.db, HORIZON)


DIES: Story = [("begin_session", 0, 0.0, False, 1, 3), ("crash", 0), ("sweep", 0, 30), ("advance", 70.0, True)]
STORIES: dict[type[Protocol], Story] = {
    NoIntent: [("begin_world", "key"), ("begin_session", 0, 0.0, False, 0, 2)],
    NoCreateDeadline: [
        ("begin_world", "key"),
        ("begin_session", 0, 290.0, False, 0, 2),
        ("crash", 0),
        ("sweep", 0, 30),
        ("advance", 70.0, True),
        ("sweep", 0, 30),
    ],
    NoLivingIntents: [
        ("begin_world", "time"),
        ("begin_session", 0, 0.0, True, 0, 6),
        ("begin_session", 1, 0.0, False, 1, 2),
        ("advance", 1000.0, True),
        ("sweep", 0, 30),
    ],
    KnownBeforeListed: [
        ("begin_world", "nothing"),
        ("begin_session", 0, 0.0, True, 0, 6),
        ("advance", 1000.0, True),
        ("sweep", 0, 3),
        ("begin_session", 1, 0.0, False, 1, 2),
        ("sweep", 0, 30),
    ],
    Reviving: [
        ("begin_world", "key"),
        ("stop", 0),
        ("sweep", 0, 30),
        ("advance", 70.0, True),
        ("sweep", 0, 30),
        ("go_on",),
        ("advance", 30.0, True),
    ],
    GoneIsFailure: [("begin_world", "key"), ("begin_session", 0, 0.0, False, 0, 4), ("crash", 0)],
    SettledFirst: [("begin_world", "key"), *DIES, ("sweep", 0, 3)],
    NoWatchdog: [
        ("begin_world", "key"),
        ("begin_session", 0, 0.0, False, 1, 3),
        ("stop", 0),
        ("sweep", 0, 30),
        ("advance", 70.0, True),
        ("sweep", 0, 30),
        ("go_on",),
        ("go_on_with_session", 0, 1),
    ],
    ClaimingFromTheLiving: [("begin_world", "key"), ("begin_session", 0, 0.0, False, 1, 3), ("sweep", 1, 30)],
}
"""How each break does harm, in the shortest words."""

FOUND_SOON = (NoIntent, NoCreateDeadline, Reviving, GoneIsFailure, SettledFirst, ClaimingFromTheLiving)
"""Those whose story is short enough to be found by itself in a moment."""


def tell(protocol: type[Protocol], story: Story) -> None:
    """Play a story to its end, looking at everything after each step."""
    world = protocol()
    for name, *arguments in story:
        getattr(world, name)(*arguments)
        world.every_chat_of_ours_has_an_open_entry()
        world.epochs_only_grow()
        world.the_dead_stay_dead()
        world.what_is_not_ours_is_not_touched()
    world.teardown()


@pytest.mark.parametrize("broken", STORIES, ids=lambda broken: broken.__name__)
def test_the_harm_of_each_break_is_noticed_and_the_protocol_does_none(broken: type[Protocol]) -> None:
    tell(Protocol, STORIES[broken])
    with pytest.raises(Broken):
        tell(broken, STORIES[broken])


@pytest.mark.parametrize("broken", FOUND_SOON, ids=lambda broken: broken.__name__)
def test_breaks_are_found_by_looking(broken: type[Protocol]) -> None:
    with pytest.raises(Broken):
        run_state_machine_as_test(broken, settings=HUNT)


# -- the same on a server ---------------------------------------------------------------------------------------------


class OnServer(Protocol):
    """The protocol as PostgreSQL is asked, one world after the other in a transaction of which nothing remains."""

    wire: Wire

    def database(self) -> Any:
        self.wire.run("SAVEPOINT world")
        return self.wire

    def statements(self) -> Statements:
        return ServerStatements(self.db, HORIZON)

    def let_go(self) -> None:
        self.wire.run("ROLLBACK TO SAVEPOINT world; RELEASE SAVEPOINT world")


@pytest.fixture
def _wired(postgres_server: str) -> Iterator[None]:
    with postgres.begun(postgres_server) as wire:
        OnServer.wire = wire
        yield
        del OnServer.wire


@pytest.mark.slow
@pytest.mark.usefixtures("_wired")
def test_the_protocol_keeps_its_laws_on_a_server() -> None:
    """Fewer worlds than above: what differs is the statements, not the order of events."""
    run_state_machine_as_test(OnServer, settings=settings(USUAL, max_examples=EXAMPLES or 60))


@pytest.mark.parametrize("broken", STORIES, ids=lambda broken: broken.__name__)
@pytest.mark.usefixtures("_wired")
def test_the_harm_of_each_break_is_noticed_on_a_server_too(broken: type[Protocol]) -> None:
    tell(OnServer, STORIES[broken])
    with pytest.raises(Broken):
        tell(_mixed(broken), STORIES[broken])


def _mixed(broken: type[Protocol]) -> type[Protocol]:
    class Mixed(broken, OnServer):  # type: ignore[misc, valid-type]
        """That break, on a server."""

    return Mixed
