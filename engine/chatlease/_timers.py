"""Timers that cost almost nothing to set and to cancel, because hardly any of them ever fires.

Every call to a service has a deadline, and nearly every one ends long before it. A timer of the event loop costs about
4 us to set and cancel, a dozen a session; here all timers of the same length stand in one queue, which is in order by
itself, and only the first of a queue has a timer of the loop. Measured (``tests/bench/README.md``): see there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ._clock import Clock, Timer

_SLACK_S = 1e-6
"""A timer of the loop may come this much early: its clock is coarser than ours."""


def _nothing() -> None:
    """Stand for a callback that was cancelled."""


class _Entry(msgspec.Struct, eq=False):  # a struct, because its constructor is no Python frame
    queue: dict[_Entry, None]
    due: float
    callback: Callable[[], object]

    def cancel(self) -> None:
        """Make it not happen; no effect when it has."""
        self.queue.pop(self, None)
        self.callback = _nothing  # it may lead back to whoever holds this timer: a cycle would wait for the collector


class _Queue:
    """The timers of one length, in the order in which they are due."""

    __slots__ = ("_clock", "_seconds", "entries", "timer")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self.entries: dict[_Entry, None] = {}
        self.timer: Timer | None = None

    def start(self) -> None:
        self.timer = self._clock.call_later(self._seconds, self._fire)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _fire(self) -> None:
        self.timer = None
        now = self._clock.now() + _SLACK_S
        while (first := next(iter(self.entries), None)) is not None and first.due <= now:
            callback = first.callback
            first.cancel()
            callback()
        if first is not None and self.timer is None:
            self.timer = self._clock.call_later(first.due - self._clock.now(), self._fire)


class Timers:
    """
    A clock on top of another, whose `call_later` is cheap for the lengths that it was told of.

    Args:
        clock: The one that everything else, and every other length, goes to.
        lengths: Lengths in seconds that are used again and again.
    """

    def __init__(self, clock: Clock, lengths: Iterable[float]) -> None:
        self.now = clock.now
        self.wall = clock.wall
        self.sleep = clock.sleep
        self._clock = clock
        self._queues = {seconds: _Queue(clock, seconds) for seconds in lengths}

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once, in the running event loop, after that time."""
        queue = self._queues.get(seconds)
        if queue is None:
            return self._clock.call_later(seconds, callback)
        entry = _Entry(queue.entries, self.now() + seconds, callback)
        queue.entries[entry] = None
        if queue.timer is None:
            queue.start()
        return entry

    def close(self) -> None:
        """Let go of the event loop's timers."""
        for queue in self._queues.values():
            queue.close()
