"""One path, played: a real session of a real engine over the user's adapter, driven move by move to its end.

Rules that live here:

* Every move has a task of its own, the caller's; what it sees is judged only for the last move of a path.
* After the last move the session is closed as a bot would close it; then nothing goes wrong any more, and what was left
  to the ledger is swept. What is at the service after that is deleted by the adapter itself, before the next path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from chatlease import Answer, Deadlines, Engine, MemoryLedger, Session
from chatlease._gate import _gates
from chatlease._lifecycle import Trigger
from chatlease.adapter import Adapter, Call, Credential
from chatlease.errors import ChatleaseError
from chatlease.events import RunStatus
from chatlease.ledger import Entry
from chatlease.testing.manual_clock import ManualClock
from chatlease.testing.traces import CapturedTrace

from ._between import Between
from ._calls import Calls
from ._faults import FAULTS, Fault
from ._moves import ASK, BOTH, READ_ON, READ_ONE, Move, Path, Standing

__all__ = ["Played", "Scene", "play"]

_SWEEPS = 4
_LOOKS = 10
_PAUSE_S = 0.005


@dataclass(frozen=True)
class Scene:
    """
    What all paths have in common; see `explore`.

    Attributes:
        faults: Every fault there is: those between engine and adapter, and the service's own.
        arms: How the service itself is told to fail, by name of the fault.
    """

    make: Callable[[], Adapter]
    credential: Credential | None
    chats: Callable[[], Iterable[str]] | None
    harm: Callable[[], int]
    arms: Mapping[str, Callable[[str], object]]
    model: str
    prompt: str
    deadlines: Deadlines
    clock: ManualClock
    patience_s: float

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Every fault there is: those between engine and adapter, and the service's own."""
        own = {name: Fault(f"the service itself: {name}", "arm") for name in self.arms}
        return {**FAULTS, **own}


@dataclass
class Played:
    """
    What became of one path.

    Attributes:
        path: The path.
        before: Where the session stood before the last move.
        after: Where it stood after it.
        allowed: What the table allowed then; empty when the session was over.
        calls: The adapter's calls of the last move.
        outcome: What the caller of the last move saw; ``None`` for a good end.
        hit: The fault of the last move happened.
        injected: What that fault raised.
        cancelled_in_time: The caller was still there when it was cancelled.
        waited_s: How long the caller went on after it was cancelled, by the clock.
        trace: Of the whole session.
        entries: What the ledger held when the engine had given up.
        unswept: What it still held after the sweeps, and should not.
        existed: What existed at the service when the engine had given up.
        made: The chats that were created, by their keys.
        told: Those keys whose chat the engine was told of.
        harm: How often a deletion did harm.
        open_streams: Streams that were never closed.
        turn_held: The account's turn was not given back.
        over: The session came to its end, and the adapter to its own.
        broken: The laws that were broken while it was played: (law, how).
    """

    path: Path
    before: Standing | None = None
    after: Standing | None = None
    allowed: frozenset[Trigger] = frozenset()
    calls: tuple[str, ...] = ()
    outcome: BaseException | None = None
    hit: bool = False
    injected: Exception | None = None
    cancelled_in_time: bool = False
    waited_s: float = 0.0
    trace: CapturedTrace = field(default_factory=CapturedTrace)
    entries: tuple[Entry, ...] = ()
    unswept: tuple[Entry, ...] = ()
    existed: frozenset[str] = frozenset()
    made: Mapping[str, str] = field(default_factory=dict[str, str])
    told: frozenset[str] = frozenset()
    harm: int = 0
    open_streams: int = 0
    turn_held: bool = False
    over: bool = False
    broken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


class _Player:
    """Plays one path."""

    def __init__(self, scene: Scene, path: Path, number: int) -> None:
        self.scene = scene
        self.played = Played(path)
        self.calls = Calls(scene.clock, scene.patience_s, self._note, scene.faults, scene.arms)
        self.calls.close = self.close_from_elsewhere
        self.between = Between(scene.make(), scene.credential, self.calls, scene.clock, scene.patience_s)
        self.account = f"explored-{number}"
        self.ledger = MemoryLedger(scene.clock)
        self.engine = Engine(
            self.between,
            ledger=self.ledger,
            sweep=None,
            deadlines=scene.deadlines,
            clock=scene.clock,
            hooks=[self.played.trace.append],
        )
        self.session: Session | None = None
        self.closers: list[asyncio.Task[None]] = []
        self.turn = 0
        self.cancelled_at: float | None = None

    def _note(self, law: str, how: str) -> None:
        self.played.broken.append((law, how))

    async def play(self) -> None:
        """Play the path, and put the service in order again."""
        harm_before, before = self.scene.harm(), await self.existing()
        try:
            async with self.engine:
                await self._drive()
                await self._give_back()
                await self._take_stock(before)
                await self._sweep()
            self.played.harm = self.scene.harm() - harm_before
        finally:
            await self._tidy(before)
            await self.between.aclose()
            self.played.over = self.played.over and not self.between.endless

    # -- the moves ----------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        self.session = self.engine.session(account=self.account, model=self.scene.model or None)
        for move in self.played.path:
            self.played.before = self.standing()
            await self._make(move)
        self.played.calls, self.played.hit = tuple(self.calls.names), self.calls.hit
        self.played.injected = self.calls.injected
        self.played.after, self.played.allowed = self.standing(), self._session.allowed

    @property
    def _session(self) -> Session:
        assert self.session is not None
        return self.session

    def standing(self) -> Standing:
        """Return where the session stands."""
        now = self._session
        turn = min(max(self.turn, 1), 2)
        return Standing(now.state, now.create, now.run, now.token_given, now.in_doubt, turn)

    async def _make(self, move: Move) -> None:
        """Make a move in a task of its own, and note what its caller saw."""
        self.calls.begin(move)
        caller = asyncio.get_running_loop().create_task(self._do(move.name), name="the caller")
        self.calls.cancel = lambda: self._cancel(caller)
        await asyncio.wait({caller})
        ended = self.scene.clock.now()
        self.played.cancelled_in_time = self.cancelled_at is not None
        self.played.waited_s = 0.0 if self.cancelled_at is None else ended - self.cancelled_at
        self.cancelled_at = None
        self.played.outcome = asyncio.CancelledError() if caller.cancelled() else caller.exception()
        for closer in self.closers:
            await asyncio.wait({closer})

    def _cancel(self, caller: asyncio.Task[None]) -> None:
        if caller.cancel() and self.cancelled_at is None:
            self.cancelled_at = self.scene.clock.now()

    async def _do(self, name: str) -> None:
        own = {ASK: self._ask, BOTH: self._both, READ_ONE: self._read_one, READ_ON: self._read_on}
        if name in own:
            await own[name]()
        elif name == Trigger.SEND_PROMPT.value:
            self.turn += 1
            await self._session.send_prompt(self.scene.prompt)
        else:
            step: Callable[[], Awaitable[object]] = getattr(self._session, name)
            await step()

    async def _ask(self) -> None:
        answer = self.engine.ask(self.scene.prompt, account=self.account, model=self.scene.model or None)
        self.session = answer.session
        async with answer:
            await answer.text()

    async def _both(self) -> None:
        """Two chats; only one run at a time, because some services allow no more."""
        model = self.scene.model or None
        first = self.engine.session(account=f"{self.account}-too", model=model, prompt=self.scene.prompt)
        second = self.session = self.engine.session(account=self.account, model=model, prompt=self.scene.prompt)
        async with first, second:
            for _ in range(3):
                await first.step()
                await second.step()
            for session in (first, second):
                await session.queue_assistant()
                await session.open_stream()
                await _answer(session).drain()
            await first.delete_chat()
            await second.delete_chat()

    async def _read_one(self) -> None:
        async for _ in _answer(self._session):
            break

    async def _read_on(self) -> None:
        await _answer(self._session).drain()

    def close_from_elsewhere(self) -> None:
        """Close the session from another task."""
        self.closers.append(asyncio.get_running_loop().create_task(self._session.aclose()))

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _give_back(self) -> None:
        session = self._session
        with contextlib.suppress(ChatleaseError):
            await session.aclose()
        await session.wait_closed()
        self.calls.mend()
        if self.calls.late_until:
            await self.scene.clock.sleep(self.calls.late_until - self.scene.clock.now() + 0.001)
        for late in self.calls.late:
            await asyncio.wait({late})
        await self.scene.clock.settle()

    async def _take_stock(self, before: frozenset[str] | None) -> None:
        played = self.played
        played.entries = tuple(await self.ledger.open_entries())
        played.made, played.told = dict(self.between.made), frozenset(self.between.told)
        now = await self.existing()
        believed = frozenset(self.between.made.values()) - self.between.deleted
        played.existed = believed if now is None or before is None else now - before
        played.open_streams = sum(not stream.closed for stream in self.between.streams)
        gate = _gates.get((self.between.origin, self.account))
        played.turn_held = gate is not None and not gate.idle(float("inf"))
        played.over = self._session.over

    async def existing(self) -> frozenset[str] | None:
        """Return what exists at the service now, as far as anybody can tell."""
        scene = self.scene
        if scene.chats is not None:
            return frozenset(map(str, scene.chats()))
        if not self.between.capabilities.listing:
            return None
        if scene.credential is None:
            return None
        with scene.clock.hold():
            return frozenset(each.chat for each in await self.between.listed(self._call()))

    async def _sweep(self) -> None:
        """What the ledger keeps, a sweep has to be able to delete."""
        due = await self._sweepable()
        for _ in range(_SWEEPS):
            if not due:
                break
            await self.engine.sweep()
            due = await self._sweepable()
            if due:
                await self.scene.clock.sleep(max(due[0].next_try_at - self.scene.clock.wall(), 0.0) + 0.001)
        self.played.unswept = tuple(due)

    async def _sweepable(self) -> list[Entry]:
        """Return the entries whose chats exist, and whose ids the ledger knows."""
        existing = await self.existing()
        ids = self.played.existed if existing is None else existing
        gone = self.between.deleted if existing is None else frozenset[str]()
        entries = await self.ledger.open_entries()
        return [entry for entry in entries if entry.chat in ids and entry.chat not in gone]

    async def _tidy(self, before: frozenset[str] | None) -> None:
        """Delete what is left, so that every path finds the service as the first one did."""
        now = await self.existing()
        believed = frozenset(self.between.made.values()) - self.between.deleted
        left = believed if now is None or before is None else now - before
        with self.scene.clock.hold():
            for chat in sorted(left):
                await self._delete(chat)

    async def _delete(self, chat: str) -> None:
        adapter, call = self.between.adapter, self._call()
        with contextlib.suppress(Exception):
            if adapter.capabilities.stopping:
                await adapter.stop_run(call, chat, None)
            for _ in range(_LOOKS):
                reading = await adapter.read_answer(call, chat, None, None)
                if reading.status not in {RunStatus.PENDING, RunStatus.GOING}:
                    break
                await asyncio.sleep(_PAUSE_S)
        with contextlib.suppress(Exception):
            await adapter.delete_chat(call, chat)

    def _call(self) -> Call:
        return Call(self.between.login(), self.scene.deadlines)


def _answer(session: Session) -> Answer:
    assert session.answer is not None
    return session.answer


async def play(scene: Scene, path: Path, number: int) -> Played:
    """
    Play a path to its end.

    Args:
        scene: What all paths have in common.
        path: The moves.
        number: Of this path; every one has an account of its own, so that none waits for another's turn.

    Returns:
        What became of it; with ``over`` false where it came to no end within some patiences of real time.
    """
    player = _Player(scene, path, number)
    playing = asyncio.get_running_loop().create_task(player.play(), name="exploring")
    await asyncio.wait({playing}, timeout=6 * scene.patience_s)
    if not playing.done():
        player.played.broken.append(("every wait has an end", "the session came to no end"))
        player.played.over = False
        playing.cancel()
        await asyncio.wait({playing}, timeout=scene.patience_s)
        return player.played
    playing.result()
    return player.played
