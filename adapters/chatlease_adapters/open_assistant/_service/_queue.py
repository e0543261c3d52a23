"""The work queue: messages wait in it for a worker, and everyone can see how many are before them.

Rules that live here:

* Positions are two counters, one of what was put in and one of what was taken out; a message remembers the value of the
  first at its own entry. So a position is 0 as soon as the message was taken, whatever became of it.
* A position is forgotten after `expire` seconds (recorded: ``pending`` says 0 of 2 from then on).
* Whatever becomes of a message, it stays in the queue until a worker takes it: nothing is ever taken out of the middle.
"""

from __future__ import annotations

import asyncio
from collections import deque

from chatlease import Clock

from ._records import Message


class WorkQueue:
    """
    Messages in the order in which workers get them.

    Args:
        clock: The service's clock.
        limit: How many may wait; ``None`` for any number.
        expire: After how many seconds a position is forgotten.
    """

    def __init__(self, clock: Clock, limit: int | None, expire: float) -> None:
        self._clock = clock
        self._limit = limit
        self._expire = expire
        self._items: deque[Message] = deque()
        self._takers: deque[asyncio.Future[Message]] = deque()
        self._entered = 0
        self._taken = 0
        self._places: dict[str, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """No further message may be put in."""
        return self._limit is not None and len(self._items) >= self._limit

    def put(self, message: Message) -> None:
        """Add a message at the end, also when the queue is full; a free worker gets it at once."""
        self._entered += 1
        self._drop_old_places()
        self._places.pop(message.id, None)
        self._places[message.id] = (self._entered, self._clock.now() + self._expire)
        self._items.append(message)
        self._feed()

    async def take(self) -> Message:
        """Wait for a message; those who wait longest get theirs first."""
        taker: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        self._feed()
        try:
            return await taker
        except asyncio.CancelledError:
            self._give_back(taker)
            raise

    def lose(self) -> Message | None:
        """Take the next message and give it to nobody; ``None`` when none waits."""
        if not self._items:
            return None
        self._taken += 1
        return self._items.popleft()

    def place(self, message: Message) -> tuple[int, int]:
        """Return the message's position and the queue's length, as ``pending`` frames show them."""
        entered, expires = self._places.get(message.id, (0, 0.0))
        position = max(entered - self._taken, 0) if self._clock.now() < expires else 0
        return position, max(self._entered - self._taken, position)

    def _feed(self) -> None:
        while self._items and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                self._taken += 1
                taker.set_result(self._items.popleft())

    def _give_back(self, taker: asyncio.Future[Message]) -> None:
        if taker.done() and not taker.cancelled():
            self._taken -= 1
            self._items.appendleft(taker.result())
            self._feed()

    def _drop_old_places(self) -> None:
        now = self._clock.now()
        while self._places and next(iter(self._places.values()))[1] <= now:
            del self._places[next(iter(self._places))]
