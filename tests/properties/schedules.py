"""Deterministic schedules: a session run in virtual time, and interfered with between any two passes of its loop.

Rules that live here:

* A schedule is a scenario, the faults of its service, and what is done before which pass of the event loop. The same
  schedule gives the same run, always: nothing here waits for real time, and the clock jumps only when nothing is ready.
* `settled` is the oracle after every schedule: chats at the service == open entries in the ledger, by key; nothing in
  flight; every stream closed; the account's turn free; no other user's message lost; no task died unheard.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chatlease import Answer, Deadlines, Engine, MemoryLedger, Session, TraceEvent
from chatlease._gate import _gates
from chatlease.testing import FakeService, Fault, ManualClock

FAR = 5_000
"""More passes than any schedule here takes: a loop that spins is a failure, no hang."""


class Stuck(BaseException):
    """Nothing is ready, and no timer is left that could change that."""


class Passes(selectors.DefaultSelector):
    """Counts the passes of its loop, acts before those that it was told, and jumps the clock when nothing is ready."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.count = 0
        self.acts: dict[int, Callable[[], object]] = {}
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.count > FAR:
            raise Stuck("the loop spins")
        act = self.acts.pop(self.count, None)
        self.count += 1
        if act is not None:
            act()
        elif timeout is None or timeout > 0:
            self._jump()
        return super().select(0)

    def _jump(self) -> None:
        if self._clock._next() is None:
            raise Stuck("nothing is ready and no timer is left")
        self._clock._jump()


@dataclass
class World:
    """Everything that one schedule touches; an act or a scenario looks into it."""

    service: FakeService
    clock: ManualClock
    ledger: MemoryLedger
    passes: Passes
    loop: asyncio.AbstractEventLoop
    engine: Engine
    events: list[TraceEvent] = field(default_factory=list[TraceEvent])
    tokens: list[str] = field(default_factory=list[str])
    unheard: list[str] = field(default_factory=list[str])
    others: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])
    session: Session | None = None
    answer: Answer | None = None
    main: asyncio.Task[None] | None = None
    cancelled_at: float | None = None
    left_at: float | None = None
    cancels: int = 0
    too_late: bool = False

    def cancel(self) -> None:
        """Cancel the caller; counted where it was still there."""
        self._note_time()
        if self.main is not None and self.main.cancel():
            self.cancels += 1
            self.cancelled_at = self.clock.now() if self.cancelled_at is None else self.cancelled_at

    def close_session(self) -> None:
        """Close the session from another task."""
        self._note_time()
        if self.session is not None:
            self.others.append(self.loop.create_task(self.session.aclose()))

    def close_engine(self) -> None:
        """Close the engine from another task."""
        self._note_time()
        self.others.append(self.loop.create_task(self.engine.aclose()))

    def _note_time(self) -> None:
        assert self.main is not None
        self.too_late = self.main.done()

    @contextmanager
    def caller(self) -> Generator[None]:
        """Note when the caller got its session's end."""
        try:
            yield
        finally:
            self.left_at = self.clock.now()

    @property
    def outcome(self) -> BaseException | None:
        """What the caller saw: ``None`` for a good end."""
        assert self.main is not None
        return asyncio.CancelledError() if self.main.cancelled() else self.main.exception()


Scenario: TypeAlias = Callable[[World], Coroutine[Any, Any, None]]
Act: TypeAlias = Callable[[World], None]
Make: TypeAlias = Callable[[ManualClock], FakeService]
Faults: TypeAlias = Sequence[tuple[str, Fault]]


def play(
    scenario: Scenario,
    make: Make,
    acts: Sequence[tuple[int, Act]] = (),
    *,
    faults: Faults = (),
    deadlines: Deadlines | None = None,
) -> World:
    """Run a schedule to its end: the caller's, then the engine's."""
    clock = ManualClock()
    passes = Passes(clock)
    loop = asyncio.SelectorEventLoop(passes)
    service, ledger = make(clock), MemoryLedger()
    events: list[TraceEvent] = []
    engine = Engine(service, ledger=ledger, clock=clock, deadlines=deadlines, hooks=[events.append])
    world = World(service, clock, ledger, passes, loop, engine, events)
    for step, fault in faults:
        service.fail(step, fault)
    loop.set_exception_handler(lambda _loop, context: world.unheard.append(str(context)))
    world.main = loop.create_task(scenario(world))
    passes.acts = {at: _bound(act, world) for at, act in acts}
    try:
        loop.run_until_complete(asyncio.wait({world.main}))
        loop.run_until_complete(_end(world))
    finally:
        loop.close()
    return world


def _bound(act: Act, world: World) -> Callable[[], None]:
    return lambda: act(world)


async def _end(world: World) -> None:
    """Wait for what the caller left to the engine, and for those who closed it from elsewhere."""
    world.passes.acts.clear()
    keeper = world.engine.keeper._task
    await asyncio.sleep(0)  # a dropped session is adopted in the next pass
    if keeper is not None:
        await world.engine.aclose()
    if world.others:
        await asyncio.wait(world.others)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def every_pass(
    act: Act, scenario: Scenario, make: Make, before: Sequence[tuple[int, Act]] = (), *, faults: Faults = ()
) -> Iterator[World]:
    """Play the scenario again and again, acting before its first pass, its second, ... until the caller is done."""
    first = before[-1][0] + 1 if before else 0
    for at in range(first, FAR):
        world = play(scenario, make, [*before, (at, act)], faults=faults)
        if world.too_late:
            return
        yield world


def settled(world: World, *, ghosts: bool = False) -> None:
    """
    Hold the laws after a schedule.

    Args:
        world: Where it was played.
        ghosts: Entries may be open for chats that do not exist: a reply to create or delete was lost.
    """
    entries = {entry.id: entry for entry in world.ledger.entries}
    chats = {chat.key: name for name, chat in world.service.chats.items()}
    assert chats.keys() <= entries.keys(), "a chat was left that no ledger knows of"
    assert ghosts or chats.keys() == entries.keys(), "the ledger holds an entry without a chat"
    for key, name in chats.items():
        assert entries[key].chat in {None, name}
        assert entries[key].orphaned
    assert world.service.lost_messages == 0
    assert all(stream.closed for stream in world.service.streams), "a stream was leaked"
    assert not world.engine.keeper._tasks
    assert not world.engine.sessions
    assert world.unheard == []
    _turn_free(world)
    _cleaned_once(world)


def _turn_free(world: World) -> None:
    for (origin, _account), gate in _gates.items():
        if origin == world.service.origin:
            assert not gate._holders, "the account's turn was not given back"
            assert not gate._waiters


def _cleaned_once(world: World) -> None:
    started = [event.keys["session"] for event in world.events if event.event == "session.cleanup.started"]
    assert len(started) == len(set(started)), "two cleanups of one session"


def saw_cancellation(world: World) -> None:
    """The caller, if it was cancelled, saw exactly that, within ``grace``."""
    assert world.main is not None
    assert world.main.cancelled() == (world.cancels > 0), f"the caller saw {world.outcome!r}"
    if world.cancelled_at is not None and world.left_at is not None and world.left_at >= world.cancelled_at:
        assert world.left_at - world.cancelled_at <= world.engine.deadlines.grace + 1e-6, "the caller waited too long"


@contextmanager
def heard() -> Generator[list[warnings.WarningMessage]]:
    """Collect warnings (a ResourceWarning in a ``__del__`` is not raised anywhere) and let garbage speak."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
        gc.collect()
