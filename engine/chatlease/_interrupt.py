"""How a step in flight is interrupted: by a close from elsewhere, or by its deadline.

Rules that live here:

* A step runs in its caller's own task. Whoever interrupts it cancels that task and takes the cancellation back when the
  step ends, exactly as `asyncio.timeout` does; the caller sees the reason, never a CancelledError that it did not
  cause.
* A cancellation that came from outside as well wins: then the CancelledError goes through.
* Interrupting is only ever done from another task or a loop callback, so the task is suspended inside the block and the
  cancellation cannot leak past its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ._clock import Clock, Timer
from .errors import LeaseLost, LedgerUnavailable


class Interruptible:
    """
    A block of one task that others may interrupt with a reason.

    Args:
        loop: The running loop, where it is known: to ask for it costs a system call on CPython before 3.12.
    """

    __slots__ = ("_cancelling", "_loop", "_reason", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._reason: Exception | None = None

    def interrupt(self, reason: Exception) -> None:
        """End the block with this reason; the first one counts, and none after its end."""
        if self._task is not None and self._reason is None:
            self._reason = reason
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None, "a step runs in a task"
        self._task = task
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


class Deadline(Interruptible):
    """
    A block that ends with an error when it takes too long.

    Args:
        clock: Whose time counts.
        seconds: From entering the block.
        expired: Makes the error.
        loop: As for `Interruptible`.
    """

    __slots__ = ("_clock", "_expired", "_seconds", "_timer")

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        expired: Callable[[], Exception],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop
        self._task = None
        self._cancelling = 0
        self._reason = None
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._timer: Timer | None = None

    def __enter__(self) -> Self:
        self._timer = self._clock.call_later(self._seconds, self._expire)
        self._task = task = asyncio.current_task(self._loop)
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
        self.interrupt(self._expired())


def ledger_is_late() -> Exception:
    """Return the error for a ledger that does not answer."""
    return LedgerUnavailable("the ledger did not write in time")


def lease_lost() -> LeaseLost:
    """Return the error for a chat that this process may not use any more."""
    return LeaseLost("this process was stopped longer than its lease; the chat belongs to the sweepers now")
