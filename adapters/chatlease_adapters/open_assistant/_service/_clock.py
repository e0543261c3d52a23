"""Time, as the service sees it, so that tests can move it by hand.

Rules that live here:

* Nothing in the service waits or measures but by a `Clock`; only this file imports `time`.
* The protocol has the shape of the engine's, so that a clock made for the one drives the other as well.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

_TURNS = 25  # turns of the event loop: enough for a frame to go from a worker through a socket to its reader


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Make it not happen; no effect when it has."""
        ...


class Clock(Protocol):
    """What the service needs of a clock; all times in seconds."""

    def now(self) -> float:
        """Return the monotonic time; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Return the time since the epoch, for the dates that the service writes."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once, in the running event loop, after that time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class RealClock:
    """The machine's clock and the running event loop's timers."""

    def now(self) -> float:
        """Return the monotonic time."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the time since the epoch."""
        return time.time()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back by the running loop's timer."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """Wait by the running loop's timer."""
        await asyncio.sleep(seconds)


class _ManualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        if self.callback is not None:
            self.callback()


class ManualClock:
    """
    A clock that stands still until it is moved, so that a test of two minutes takes none.

    Sockets are real even then: `advance` gives the event loop some turns after every timer, in which what the timer set
    off is read, written and read at the other end.

    Args:
        start: What `now` returns at first.
        epoch: What `wall` returns when `now` is 0.
    """

    def __init__(self, start: float = 0.0, epoch: float = 1_795_219_200.0) -> None:
        self._now = start
        self._epoch = epoch
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Return the time it was moved to."""
        return self._now

    def wall(self) -> float:
        """Return the epoch it was given, plus `now`."""
        return self._epoch + self._now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back when the clock is moved that far."""
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (self._now + max(seconds, 0.0), next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock is moved that far; not at all when there is nothing to wait for."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: _finish(done))
        try:
            await done
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Move the clock, letting everything happen that falls due on the way, in order."""
        await self.advance_to(self._now + seconds)

    async def advance_to(self, moment: float) -> None:
        """Move the clock to a value of `now`; a moment that has passed changes nothing."""
        await self.settle()
        while self._timers and self._timers[0][0] <= moment:
            due, _, timer = heapq.heappop(self._timers)
            if timer.callback is None:
                continue
            self._now = max(self._now, due)
            timer.fire()
            await self.settle()
        self._now = max(self._now, moment)

    async def settle(self) -> None:
        """Let the event loop do what is ready to be done; the clock stands still."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
