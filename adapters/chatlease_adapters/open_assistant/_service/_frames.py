"""The frames of one message: a single queue, emptied by reading, shared by all its event streams.

Rules that live here:

* A frame goes to the stream that has waited longest, and to no other (recorded: two streams share a message's tokens).
* A stream that waits for a frame in vain for `Tap.interval` goes to the end of the line; before its first frame it then
  says ``pending``, afterwards nothing.
* Frames that nobody read are forgotten `Frames.expire` seconds after the last one came.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections import deque
from dataclasses import dataclass

from chatlease import Clock, Timer

_EPSILON = 1e-6  # a timer may fire a rounding error before its time


@dataclass(frozen=True, slots=True)
class Frame:
    """
    One event of a stream.

    Attributes:
        kind: Its ``event_type``.
        data: The frame as it is written.
        last: The stream ends after it.
    """

    kind: str
    data: bytes
    last: bool = False


def frame(kind: str, last: bool = False, **fields: object) -> Frame:
    """Make a frame: ASCII JSON with blanks, ``data: JSON`` and CR LF twice (recorded in every stream)."""
    return Frame(kind, f"data: {json.dumps({'event_type': kind, **fields})}\r\n\r\n".encode("ascii"), last)


class Tick(enum.Enum):
    """What a stream has to say when there is no frame."""

    PENDING = "pending"
    PING = "ping"


class Frames:
    """The unread frames of a message and the streams that wait for them."""

    __slots__ = ("_expires", "_items", "_line")

    def __init__(self) -> None:
        self._items: deque[Frame] = deque()
        self._line: deque[Tap] = deque()
        self._expires = float("inf")

    def put(self, item: Frame, now: float, expire: float) -> None:
        """Add a frame; those before it live on for ``expire`` seconds, too."""
        self._forget(now)
        self._items.append(item)
        self._expires = now + expire
        self._feed()

    def join(self, tap: Tap, now: float) -> None:
        """Let a stream wait, at the end of the line."""
        self._forget(now)
        self._line.append(tap)
        self._feed()

    def leave(self, tap: Tap) -> None:
        """Take a stream out of the line, if it is in it."""
        if tap in self._line:
            self._line.remove(tap)

    def _forget(self, now: float) -> None:
        if now >= self._expires:
            self._items.clear()

    def _feed(self) -> None:
        while self._items and self._line:
            self._line.popleft().give(self._items.popleft())


class Tap:
    """
    One event stream's access to the frames of a message.

    Attributes:
        started: It was given a frame; no ``pending`` comes any more.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_frames",
        "_interval",
        "_pending_at",
        "_ping",
        "_ping_at",
        "_timer",
        "_waiter",
        "started",
    )

    def __init__(self, frames: Frames, clock: Clock, interval: float, ping: float) -> None:
        self.started = False
        self._frames = frames
        self._clock = clock
        self._interval = interval
        self._ping = ping
        self._pending_at = clock.now() + interval
        self._ping_at = clock.now() + ping
        self._timer: Timer | None = None
        self._waiter: asyncio.Future[Frame | None] | None = None
        self._closed = False

    async def next(self) -> Frame | Tick | None:
        """Wait for the next frame or for the next time to say something without one; ``None`` once it is closed."""
        while not self._closed:
            tick = self._due()
            if tick is not None:
                return tick
            got = await self._wait()
            if got is not None:
                self.started = True
                self._pending_at = self._clock.now() + self._interval
                return got
        return None

    def give(self, item: Frame) -> None:
        """Take a frame; called by `Frames` when this stream's turn has come."""
        assert self._waiter is not None
        self._waiter.set_result(item)

    def close(self) -> None:
        """Leave the line; `next` returns ``None``. May be called twice."""
        self._closed = True
        self._wake()
        self._disarm()

    def _due(self) -> Tick | None:
        now = self._clock.now() + _EPSILON
        if now >= self._ping_at:
            self._ping_at += self._ping
            return Tick.PING
        if now >= self._pending_at:
            self._pending_at = self._clock.now() + self._interval
            return None if self.started else Tick.PENDING
        return None

    async def _wait(self) -> Frame | None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._frames.join(self, self._clock.now())
        self._arm()
        try:
            return await self._waiter
        finally:
            self._frames.leave(self)
            self._waiter = None

    def _arm(self) -> None:
        if self._timer is None:
            due = min(self._ping_at, self._pending_at) - self._clock.now()
            self._timer = self._clock.call_later(due, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._clock.now() + _EPSILON >= min(self._ping_at, self._pending_at):
            self._wake()
        elif self._waiter is not None:
            self._arm()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._frames.leave(self)
            self._waiter.set_result(None)
