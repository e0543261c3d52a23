"""The only file that imports `time`: everything that waits or measures does it by a clock that tests can replace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Make it not happen; no effect when it has."""
        ...


class Clock(Protocol):
    """
    Time, as the engine sees it.

    `chatlease.testing.ManualClock` is the one that tests move by hand.
    """

    def now(self) -> float:
        """Return seconds of a monotonic clock; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, for people to read."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once, in the running event loop, after that time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    # The functions themselves: asked thirty times a session, a method around them is a frame each time.
    now = staticmethod(time.monotonic)
    """Return the monotonic time in seconds."""
    wall = staticmethod(time.time)
    """Return the time since the epoch in seconds."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back by the running loop's timer."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """Wait by the running loop's timer."""
        await asyncio.sleep(seconds)
