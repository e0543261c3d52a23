"""An account's turn among processes: the gate of `_gate`, once more, in a ledger that several processes share.

Rules that live here:

* The gate of this process comes first; only whoever has its slot stands in the ledger's queue, which serves processes
  in the order in which they came.
* A turn is the slot and one run of the account's budget at once. It is asked for again and again, because no process
  tells another that it is done; while it waits, holders that died are found out, for they hold slots.
* A session whose turn others wait for, and which nobody reads, is looked at, as within one process.
* Whoever gives up while the ledger is being asked gives the turn back only after its answer: the ledger may have
  granted it all the same, and a turn that nobody knows of would be held for as long as this process lives.
* A ledger that fails costs an account its fairness among processes, not its sessions: they go on by this process's
  gate.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from ._clock import Timer
from ._gate import busy, rate_limited
from ._interrupt import Deadline, ledger_is_late
from ._tasks import own_task
from .errors import LedgerError
from .ledger import Account, Ledger, Turn

if TYPE_CHECKING:
    from ._core import Core
    from ._engine import Engine

_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_REAP_EVERY = 4


class Turns:
    """
    The turns that sessions of one engine have in its ledger.

    Args:
        engine: Whose.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: dict[str, Core] = {}
        self._last: set[str] = set()
        self._asking: dict[str, asyncio.Task[Turn]] = {}
        self._timer: Timer | None = None
        self._looking: asyncio.Task[None] | None = None

    async def take(self, session: Core) -> None:
        """
        Wait for the session's turn.

        Raises:
            Busy: It did not come within ``gate``.
            RateLimited: The budget is used up for longer than ``gate``.
        """
        ledger, can = self._engine.ledger, session.adapter.capabilities
        if ledger is None or not ledger.shared or (can.runs_per_account is None and can.rate_budget is None):
            return
        self._held[session.id] = session
        try:
            await self._wait(session, ledger)
        except LedgerError as error:
            session.trace("session.gate.alone", error=type(error).__name__)
        self._watch()

    def end(self, session: Core) -> None:
        """Give the turn back, or leave the queue; nothing where there is none."""
        ledger = self._engine.ledger
        if self._held.pop(session.id, None) is None or ledger is None:
            return
        self._last.discard(session.id)
        name, asking = session.id, self._asking.get(session.id)
        if asking is None:
            ledger.end_turn(name)
        else:
            asking.add_done_callback(lambda _: ledger.end_turn(name))

    def was_last(self, session: Core) -> bool:
        """Say whether the session's turn took the last run of the account's budget."""
        return session.id in self._last

    def close(self) -> None:
        """Look at nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._looking is not None:
            self._looking.cancel()

    async def _wait(self, session: Core, ledger: Ledger) -> None:
        ends, tries = session.clock.now() + session.deadlines.gate, 0
        while not (turn := await self._ask(session, ledger)).taken:
            left = ends - session.clock.now()
            if turn.wait_s > left:
                raise rate_limited(turn.wait_s)
            if left <= 0:
                raise busy(session.deadlines.gate)
            if not tries:
                session.trace_waiting("turn")
            pause = turn.wait_s or min(_PAUSE_S * 2**tries, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311
            await session.clock.sleep(min(pause, left))
            tries += 1
            if tries % _REAP_EVERY == 0:
                await self._reap(session, ledger)
        if turn.last:
            self._last.add(session.id)

    async def _reap(self, session: Core, ledger: Ledger) -> None:
        with Deadline(session.clock, session.deadlines.call, ledger_is_late):
            await ledger.reap()

    async def _ask(self, session: Core, ledger: Ledger) -> Turn:
        turn = _at_hand(session, ledger)
        if turn is not None:
            return turn
        asking = self._asking[session.id] = own_task(_take(session, ledger), "chatlease turn", session.loop)
        asking.add_done_callback(lambda done: self._answered(session.id, done))
        with Deadline(session.clock, session.deadlines.call, ledger_is_late):
            await asyncio.wait({asking})
        return asking.result()

    def _answered(self, name: str, asking: asyncio.Task[Turn]) -> None:
        self._asking.pop(name, None)
        if not asking.cancelled():
            asking.exception()  # whoever asked may have given up; then nobody else would look at it

    # -- sessions of ours that others wait for ------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._timer is None and not self._engine.keeper.closing:
            self._timer = self._engine.clock.call_later(self._engine.deadlines.poll, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._held and not self._engine.keeper.closing:
            self._looking = self._engine.keeper.own(self._look_at_awaited(), "chatlease turns")

    async def _look_at_awaited(self) -> None:
        try:
            awaited = await self._awaited()
        except LedgerError:
            awaited = []
        for session in awaited:
            await session.look()
        if self._held:
            self._watch()

    async def _awaited(self) -> list[Core]:
        assert self._engine.ledger is not None
        with Deadline(self._engine.clock, self._engine.deadlines.call, ledger_is_late):
            names = await self._engine.ledger.awaited_turns()
        return [self._held[name] for name in names if name in self._held]


def _at_hand(session: Core, ledger: Ledger) -> Turn | None:
    if session.adapter.capabilities.runs_per_account != 1:
        return None
    runs, window_s = _budget(session)
    return ledger.turn_at_hand(_account(session), session.id, runs=runs, window_s=window_s)


async def _take(session: Core, ledger: Ledger) -> Turn:
    runs, window_s = _budget(session)
    slots = session.adapter.capabilities.runs_per_account
    return await ledger.take_turn(_account(session), session.id, slots=slots, runs=runs, window_s=window_s)


def _account(session: Core) -> Account:
    return Account(session.adapter.service, session.adapter.origin, session.call.login.account)


def _budget(session: Core) -> tuple[int | None, float]:
    rate = session.adapter.capabilities.rate_budget
    return (None, 0.0) if rate is None else (rate.runs, rate.window_s)
