"""Several processes on one ledger, in one event loop and in virtual time: for tests of what they do to each other."""

from __future__ import annotations

import itertools
import sqlite3
from collections import deque
from collections.abc import Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from chatlease import Engine, MemoryLedger, Sweep, TraceEvent
from chatlease._gate import Gate
from chatlease._ledger import _schema
from chatlease._ledger._statements import Statements
from chatlease.adapter import Capabilities
from chatlease.ledger import Entry
from chatlease.testing import FakeService, ManualClock
from chatlease.testing.fake_service import FakeRun

HORIZON = 300.0
LEASE = 60.0
MARGIN = Sweep().margin
T = TypeVar("T")
_ids = itertools.count(1)


class House:
    """The database that they share: the same SQL as on disk."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _schema.migrate(self.db)
        self.statements = Statements(self.db, HORIZON)
        self.killed: set[str] = set()

    def process(self) -> Process:
        """Start one."""
        return Process(self)

    def entries(self) -> list[Entry]:
        """What is open."""
        return self.statements.open_entries()

    def states(self) -> dict[str, str]:
        """The state of every entry, ended ones too."""
        return dict(self.db.execute("SELECT id, state FROM entries").fetchall())

    def codes(self) -> set[str]:
        """Why the open entries' last tries failed."""
        return {entry.error_code for entry in self.entries()}


class Process(MemoryLedger):
    """One process's handle on the ledger, with a holder of its own."""

    shared = True

    def __init__(self, house: House) -> None:
        super().__init__(house.clock, horizon=HORIZON)
        self._statements = house.statements
        self.house = house
        self.holder = self._lease.holder
        house.statements.join(self.holder, self._now(), lease=LEASE, host="", lock="")

    def kill(self) -> None:
        """End the process; the others find out when they reap."""
        self.house.killed.add(self.holder)

    async def reap(self) -> int:
        buried = sum(self._sql.bury(holder, self._now()) for holder in self.house.killed)
        self.house.killed.clear()
        return buried

    async def awaited_turns(self) -> Sequence[str]:
        return self._sql.awaited_turns(self.holder)


@dataclass
class Left:
    """A chat that a process left, and its entry."""

    entry: str
    chat: str | None


async def leave(
    house: House, service: FakeService, account: str = "bot", *, create: bool = True, bind: bool = True
) -> Left:
    """
    Have a process leave a chat behind and die.

    Args:
        house: Where the entry is.
        service: Where the chat is.
        account: Whose.
        create: The chat came to be.
        bind: Its id came back.
    """
    process = house.process()
    entry = Entry(id=f"session-{next(_ids)}", service=service.service, origin=service.origin, account=account)
    hold = await process.intent(entry)
    chat = service.plant(account, key=entry.id) if create else None
    if bind and chat is not None:
        service.chats[chat].prompts.append("prompt")
        await process.bound(hold, chat)
    process.kill()
    return Left(entry.id, chat)


async def leave_many(number: int, house: House, service: FakeService, account: str = "bot", **how: bool) -> list[Left]:
    """Have so many processes do so."""
    return [await leave(house, service, account, **how) for _ in range(number)]


def run_on(service: FakeService, left: Left, seconds: float) -> None:
    """Let a run go on in a chat for so long."""
    assert left.chat is not None
    ends_at = service.clock.now() + seconds
    service.chats[left.chat].runs.append(FakeRun(f"run-{next(_ids)}", "prompt", "text", deque(), ends_at))


class Watched(Engine):
    """An engine with all its events."""

    def __init__(self, *services: Any, events: list[TraceEvent] | None = None, **options: Any) -> None:
        self.events = [] if events is None else events
        super().__init__(*services, hooks=[self.events.append], **options)

    def told(self, name: str) -> list[dict[str, Any]]:
        """The keys of every event of that name, but for the engine's own."""
        keys = [event.keys for event in self.events if event.event == name]
        return [{key: value for key, value in each.items() if key != "engine"} for each in keys]


def engine_of(service: Any, house: House, **options: Any) -> Watched:
    """Return an engine in a process of its own, that sweeps when it is told to."""
    options = {"sweep": None, "ledger": house.process(), "clock": house.clock} | options
    return Watched(service, **options)


_here: ContextVar[str] = ContextVar("_here", default="")
_gates: dict[tuple[str, str, str], Gate] = {}


def own_gate(origin: str, account: str, capabilities: Capabilities, now: float) -> Gate:
    """In the place of `gate_of`, whose gates a whole process shares: one for each of our "processes"."""
    return _gates.setdefault((_here.get(), origin, account), Gate(capabilities))


async def apart(name: str, work: Coroutine[Any, Any, T]) -> T:
    """Do something as the process of that name, as far as gates are concerned."""
    _here.set(name)
    return await work
