"""
A clock that moves only when a test says so, or by itself whenever nothing else is left to do.

Rules that live here:

* Nothing is left to do when the loop had nothing else ready to run in so many passes, one after the other. asyncio's
  own loops show what is ready; on any other one (uvloop) it is only that so many passes went by.
* A clock that looks is nothing to do: several of them on one loop do not keep each other waiting.
* Whoever polls without waiting is ready for ever; after very many passes time goes on in spite of it.
* Something real (a socket, a thread) cannot be seen by looking at the loop. Who waits for it holds the clock meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Self
from weakref import WeakKeyDictionary

__all__ = ["ManualClock"]

_PASSES = 60
"""More than one, because a socket or a thread may be about to give the loop something to do."""
_BUSY_PASSES = 20_000

_looks: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""How many clocks look in the next pass of a loop."""


class _Idleness:
    """Counts the passes of a loop until nothing else is left to do."""

    __slots__ = ("_enough", "_idle", "_passes")

    def __init__(self, enough: int = _PASSES) -> None:
        self._enough = enough
        self._idle = self._passes = 0

    def reached(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Count a pass, and say whether it was the last one that is needed."""
        others = len(getattr(loop, "_ready", ())) - _looks.get(loop, 0)
        self._idle = 0 if others > 0 else self._idle + 1
        self._passes += 1
        return self._idle >= self._enough or self._passes >= _BUSY_PASSES


class _Timer:
    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Make it not happen."""
        self.callback = None


class _Hold:
    """Keeps a clock from jumping, until it is released."""

    __slots__ = ("_clock",)

    def __init__(self, clock: ManualClock) -> None:
        self._clock: ManualClock | None = clock

    def release(self) -> None:
        """Let the clock jump again; no effect the second time."""
        clock, self._clock = self._clock, None
        if clock is not None:
            clock._let_go()  # noqa: SLF001  (the other half of `ManualClock.hold`)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ManualClock:
    """
    A `chatlease` clock under the test's control.

    Args:
        autojump: Jump to the next timer whenever the event loop has nothing else to do (counted in loop passes, not in
            time), so that a test of half an hour takes milliseconds. Only for programs without real I/O, or whose I/O
            holds the clock (`hold`).
        idle_passes: So many passes in which nothing else was ready mean that nothing is left to do. 60, because a
            socket or a thread may be about to give the loop something; where all of these hold the clock, 10 are
            enough.
        start: What `now` returns at first, in seconds.
        epoch: What `wall` returns when `now` is 0.
    """

    def __init__(
        self,
        *,
        autojump: bool = False,
        idle_passes: int = _PASSES,
        start: float = 1_000_000.0,
        epoch: float = 0.0,
    ) -> None:
        self._enough = idle_passes
        self._now = start
        self._epoch = epoch
        self._autojump = autojump
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()
        self._idleness: _Idleness | None = None
        self._holds = 0

    @property
    def autojump(self) -> bool:
        """Whether it jumps by itself."""
        return self._autojump

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
        self._begin_looking()
        return timer

    def hold(self) -> _Hold:
        """
        Keep the clock from jumping by itself while something real is waited for.

        A context manager, or an object with ``release()``. Holds add up; `advance` is not kept from moving the clock.
        """
        self._holds += 1
        return _Hold(self)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved that far; 0 lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()

        def wake() -> None:
            """End the wait, unless it was cancelled."""
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
        loop, idleness = asyncio.get_running_loop(), _Idleness(self._enough)
        while not idleness.reached(loop):
            _looks[loop] = _looks.get(loop, 0) + 1
            try:
                await asyncio.sleep(0)
            finally:
                _looks[loop] -= 1

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

    def _let_go(self) -> None:
        self._holds -= 1
        if self._idleness is not None:
            self._idleness = _Idleness(self._enough)
        elif self._next() is not None:
            self._begin_looking()

    def _begin_looking(self) -> None:
        if self._autojump and self._idleness is None and not self._holds:
            self._idleness = _Idleness(self._enough)
            self._look_soon(asyncio.get_running_loop())

    def _look_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        _looks[loop] = _looks.get(loop, 0) + 1
        loop.call_soon(self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        _looks[loop] -= 1
        if not self._holds and self._idleness is not None and self._idleness.reached(loop):
            self._idleness = _Idleness(self._enough)
            if self._next() is not None:
                self._jump()
        if self._holds or self._next() is None:
            self._idleness = None
        else:
            self._look_soon(loop)
