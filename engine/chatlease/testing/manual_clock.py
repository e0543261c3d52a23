"""A clock that moves only when a test says so, or by itself whenever nothing else is left to do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

__all__ = ["ManualClock"]

_PASSES = 60
"""Loop passes in which everything that can run without time passing has run, for programs without real I/O."""


class _Timer:
    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Make it not happen."""
        self.callback = None


class ManualClock:
    """
    A `chatlease` clock under the test's control.

    Args:
        autojump: Jump to the next timer whenever the event loop has had nothing to do for a while (counted in loop
            passes, not in time), so that a test of half an hour takes milliseconds. Only for programs without real I/O.
        start: What `now` returns at first, in seconds.
        epoch: What `wall` returns when `now` is 0.
    """

    def __init__(self, *, autojump: bool = False, start: float = 1_000_000.0, epoch: float = 0.0) -> None:
        self._now = start
        self._epoch = epoch
        self._autojump = autojump
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()
        self._idle_passes = -1

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def wall(self) -> float:
        """Return the time since the epoch in seconds."""
        return self._epoch + self._now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> _Timer:
        """Call back when the clock has been moved that far."""
        timer = _Timer(self._now + max(seconds, 0.0), callback)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        if self._autojump:
            if self._idle_passes < 0:
                asyncio.get_running_loop().call_soon(self._pass)
            self._idle_passes = 0
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved that far; 0 lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_later(seconds, wake)
        try:
            await woken
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Move the clock, timer by timer, and let everything run that each of them sets off."""
        await self.advance_to(self._now + seconds)

    async def advance_to(self, until: float) -> None:
        """Move the clock to a value of `now`; a moment that has passed changes nothing."""
        await self.settle()
        while (at := self._next()) is not None and at <= until:
            self._jump()
            await self.settle()
        self._now = max(self._now, until)

    async def settle(self) -> None:
        """Let everything run that can run without time passing."""
        for _ in range(_PASSES):
            await asyncio.sleep(0)

    def _next(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _jump(self) -> None:
        at, _, timer = heapq.heappop(self._timers)
        self._now = max(self._now, at)
        callback, timer.callback = timer.callback, None
        if callback is not None:
            callback()

    def _pass(self) -> None:
        self._idle_passes += 1
        if self._idle_passes >= _PASSES:
            self._idle_passes = 0
            if self._next() is not None:
                self._jump()
        if self._next() is None:
            self._idle_passes = -1
        else:
            asyncio.get_running_loop().call_soon(self._pass)
