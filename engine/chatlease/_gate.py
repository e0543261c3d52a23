"""An account's turn: how many of its runs may wait or go at once, and how many it may queue in a while.

Rules that live here:

* On Open-Assistant an account has *one* pending message: a second session's ``queue_assistant`` silently cancels the
  first's, whose stream then says ``pending`` for ever. So a slot is taken in ``queue_assistant`` and given back when
  the run is seen to be no longer pending.
* Slots are handed on in the order in which they were asked for. A waiter that is cancelled in the moment in which it is
  served hands its slot on.
* A consumer that holds a slot and does not read starves nobody: those who wait look at its run themselves
  (`Holder.look`), once per ``poll``.
* Gates are shared by all engines of the process, whatever their loops and threads, by (origin, account).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Protocol

from ._clock import Clock
from ._interrupt import Deadline
from ._tasks import done_or_later
from .adapter import Capabilities, Deadlines, RateBudget
from .errors import Busy, RateLimited


class Holder(Protocol):
    """A session, as its gate sees it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the session lives on."""
        ...

    async def look(self) -> None:
        """If nobody reads the answer, see whether the run still waits, and give the slot back if not."""
        ...


class Budget:
    """
    How many runs are left in the service's window, which begins with its first run.

    Recorded: ``wire/open-assistant/rate-limit-*``: refused calls count, the window is 660 s from the first call.
    """

    def __init__(self, rate: RateBudget | None) -> None:
        self._rate = rate
        self._began = 0.0
        self._used = 0

    def take(self, now: float) -> float:
        """Take one run and return 0, or return the seconds until the window ends."""
        if self._rate is None:
            return 0.0
        if self._used == 0 or now - self._began >= self._rate.window_s:
            self._began, self._used = now, 0
        if self._used >= self._rate.runs:
            return self._began + self._rate.window_s - now
        self._used += 1
        return 0.0

    def at_limit(self) -> bool:
        """Say whether the last run taken was the last of its window."""
        return self._rate is not None and self._used >= self._rate.runs

    def fresh(self, now: float) -> bool:
        """Say whether nothing would be forgotten with this budget."""
        return self._rate is None or self._used == 0 or now - self._began >= self._rate.window_s


class _Waiter:
    __slots__ = ("future", "holder", "loop")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> bool:
        """Serve the waiter; False when its loop is gone."""
        try:
            self.loop.call_soon_threadsafe(_resolve, self.future)
        except RuntimeError:
            return False
        return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Gate:
    """The slots and the budget of one account at one service."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.budget = Budget(capabilities.rate_budget)
        self.touched = 0.0
        self._slots = capabilities.runs_per_account
        self._holders: list[Holder] = []
        self._waiters: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    def try_acquire(self, holder: Holder) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        with self._lock:
            if self._waiters or not self._has_slot():
                return False
            self._holders.append(holder)
            return True

    async def acquire(self, holder: Holder, clock: Clock, deadlines: Deadlines) -> None:
        """
        Wait for a slot.

        Raises:
            Busy: The ``gate`` deadline passed.
        """
        waiter = _Waiter(holder)
        with self._lock:
            self._waiters.append(waiter)
        self._hand_on()
        try:
            with Deadline(clock, deadlines.gate, lambda: busy(deadlines.gate)):
                await self._wait(waiter, clock, deadlines.poll)
        except BaseException:
            self._leave(waiter)
            raise

    def release(self, holder: Holder) -> None:
        """Give the slot back, to the next who waits."""
        with self._lock:
            if holder in self._holders:
                self._holders.remove(holder)
        self._hand_on()

    def idle(self, now: float) -> bool:
        """Say whether the gate may be forgotten: whoever was just given it has had time to use it."""
        quiet = now - self.touched > _QUIET_S
        return quiet and not self._holders and not self._waiters and self.budget.fresh(now)

    async def _wait(self, waiter: _Waiter, clock: Clock, poll: float) -> None:
        while not waiter.future.done():
            await done_or_later(waiter.future, clock, poll)
            if not waiter.future.done():
                await self._look(waiter.loop)

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._hand_on()
        for holder in tuple(self._holders):
            if holder.loop is loop:
                await holder.look()

    def _hand_on(self) -> None:
        with self._lock:
            while self._waiters and self._has_slot():
                waiter = self._waiters.popleft()
                if waiter.wake():
                    self._holders.append(waiter.holder)

    def _has_slot(self) -> bool:
        """Say whether a slot is free; one whose holder's loop was closed under it is."""
        if self._slots is not None and len(self._holders) >= self._slots:
            self._holders = [holder for holder in self._holders if not holder.loop.is_closed()]
        return self._slots is None or len(self._holders) < self._slots

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return
        self.release(waiter.holder)


def busy(seconds: float) -> Busy:
    """Return the error for a slot that stayed taken."""
    return Busy(f"the account's running slot stayed taken for {seconds:g} s", code="deadline-gate", sent=False)


def rate_limited(seconds: float) -> RateLimited:
    """Return the error for a budget that is used up."""
    return RateLimited(
        f"the account has queued as many answers as the service allows; its window ends in {seconds:.0f} s",
        code="rate-budget",
        sent=False,
        retry_after_s=seconds,
    )


_gates: dict[tuple[str, str], Gate] = {}
_gates_lock = threading.Lock()
_PRUNE_FROM = 1024
_QUIET_S = 60.0
_prune_at = _PRUNE_FROM


def gate_of(origin: str, account: str, capabilities: Capabilities, now: float) -> Gate:
    """Return the process-wide gate of an account; those that hold nothing are forgotten as the number grows."""
    key = (origin, account)
    with _gates_lock:
        gate = _gates.get(key)
        if gate is None:
            _prune(now)
            gate = _gates[key] = Gate(capabilities)
        gate.touched = now
        return gate


def _prune(now: float) -> None:
    global _prune_at  # noqa: PLW0603  (doubling keeps the cost per session constant)
    if len(_gates) >= _prune_at:
        for key in [key for key, gate in _gates.items() if gate.idle(now)]:
            del _gates[key]
        _prune_at = max(_PRUNE_FROM, 2 * len(_gates))
