"""How a step in flight is interrupted: by a close from elsewhere, or by its deadline.

Rules that live here:

* A step runs in its caller's own task. Whoever interrupts it cancels that task and takes the cancellation back when the
  step ends, exactly as `asyncio.timeout` does; the caller sees the reason, never a CancelledError that it did not
  cause.
* A cancellation that came from outside as well wins: then the CancelledError goes through.
* A call of an adapter that ends cancelled although nobody cancelled its task was cut inside the adapter, whose own
  helper tasks `asyncio.run` cancels at teardown. That is a failure of the call; a cleanup must go on after it.
* Interrupting is only ever done from another task or a loop callback, so the task is suspended inside the block and the
  cancellation cannot leak past its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from ._clock import Clock, Timer
from .errors import LeaseLost, LedgerUnavailable, Unavailable

T = TypeVar("T")


class Interruptible(msgspec.Struct, eq=False, kw_only=True):  # a struct, because its constructor is no Python frame
    """
    A block of one task that others may interrupt with a reason.

    Attributes:
        loop: The running loop, where it is known: to ask for it costs a system call on CPython before 3.12.
    """

    loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[object] | None = None
    _cancelling: int = 0
    _reason: Exception | None = None

    def interrupt(self, reason: Exception) -> None:
        """End the block with this reason; the first one counts, and none after its end."""
        if self._task is not None and self._reason is None:
            self._reason = reason
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task(self.loop)
        assert task is not None, "a step runs in a task"
        self._cancelling = task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._reason is None or task is None:
            return
        cancelled_by_others = task.uncancel() > self._cancelling
        if isinstance(error, asyncio.CancelledError) and not cancelled_by_others:
            raise self._reason from None


class Deadline(Interruptible, eq=False):
    """
    A block that ends with an error when it takes too long.

    Attributes:
        clock: Whose time counts.
        seconds: From entering the block.
        expired: Makes the error.
    """

    clock: Clock
    seconds: float
    expired: Callable[[], Exception]
    _timer: Timer | None = None

    def __enter__(self) -> Self:
        self._timer = self.clock.call_later(self.seconds, self._expire)
        self._task = task = asyncio.current_task(self.loop)
        assert task is not None, "a step runs in a task"
        self._cancelling = task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        if self._reason is None:
            self._task = None
        else:
            super().__exit__(kind, error, traceback)

    def _expire(self) -> None:
        self.interrupt(self.expired())


def ledger_is_late() -> Exception:
    """Return the error for a ledger that does not answer."""
    return LedgerUnavailable("the ledger did not write in time")


def lease_lost() -> LeaseLost:
    """Return the error for a chat that this process may not use any more."""
    return LeaseLost("this process was stopped longer than its lease; the chat belongs to the sweepers now")


async def uncut(call: Awaitable[T]) -> T:
    """Await a call of an adapter; see the header for a cancellation from inside it."""
    try:
        return await call
    except asyncio.CancelledError:
        if is_cancelled():
            raise
    raise cut_inside()


def is_cancelled() -> bool:
    """Say whether somebody asked for the end of the running task."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def cut_inside() -> Unavailable:
    """Return the error for a call that was cut inside its adapter."""
    return Unavailable("the call was cancelled inside the adapter", code="cancelled-inside")
