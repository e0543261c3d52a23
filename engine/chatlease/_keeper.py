"""Who stands for the engine's own tasks when the loop ends: the keeper.

Rules that live here:

* The keeper is the one task of an engine that `asyncio.all_tasks` knows. It sleeps until the engine closes, or until it
  is cancelled, which means that the loop (or the bot) is about to end. Then it has every session given back, waits for
  all of the engine's tasks, closes the engine's parts, and only then ends.
* Sessions are only weakly held. One that its user dropped is adopted, which holds it until its cleanup does.
* Once somebody is in a hurry (the engine's caller was cancelled or failed, the loop ends), no cleanup has more than
  ``grace`` left; what is not deleted by then is handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from . import _cleanup
from ._cleanup import BudgetSpent
from ._clock import Clock
from ._tasks import own_task, wait_patiently

if TYPE_CHECKING:
    from ._core import Core

T = TypeVar("T")


class Keeper:
    """
    The sessions and the tasks of one engine.

    Args:
        clock: Whose time counts.
        grace: Seconds that cleanups have once somebody is in a hurry.
        stop_work: Ends what the engine does on its own account, before the sessions are given back.
        close_parts: Closes what else the engine owns, at the very end.

    Attributes:
        closing: The engine takes no new sessions.
    """

    def __init__(
        self,
        clock: Clock,
        grace: float,
        stop_work: Callable[[], object],
        close_parts: Callable[[], Awaitable[None]],
    ) -> None:
        self.closing = False
        self._clock = clock
        self._grace = grace
        self._stop_work = stop_work
        self._close_parts = close_parts
        self._hurried = False
        self._released = asyncio.Event()
        self._sessions: weakref.WeakSet[Core] = weakref.WeakSet()
        self._adopted: set[Core] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def sessions(self) -> tuple[Core, ...]:
        """The sessions that are not over."""
        return tuple(session for session in self._sessions if not session.over)

    def start(self) -> None:
        """Begin to keep, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep(), name="chatlease engine")

    def add(self, session: Core) -> None:
        """Know of a session."""
        self._sessions.add(session)

    def own(
        self, coroutine: Coroutine[Any, Any, T], name: str, ended: Callable[[asyncio.Task[T]], object] | None = None
    ) -> asyncio.Task[T]:
        """
        Run a coroutine in a task of the engine's, which nobody else can cancel.

        Args:
            coroutine: What to run.
            name: Of the task.
            ended: Called when it has ended; for everybody at once, since each callback is a turn of the loop's own.
        """
        assert self._loop is not None
        task = own_task(coroutine, name, self._loop)
        self._tasks.add(task)

        def forget(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if ended is not None:
                ended(task)

        task.add_done_callback(forget)
        return task

    def adopt(self, session: Core) -> None:
        """Give back a session that its user dropped; may be called from any thread, by the garbage collector."""
        if self._loop is None:
            return
        self._adopted.add(session)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the ledger keeps the chat
            self._loop.call_soon_threadsafe(_cleanup.start, session)

    def disown(self, session: Core) -> None:
        """Let go of an adopted session: its cleanup holds it now."""
        if session in self._adopted:
            self._adopted.discard(session)
            self._sessions.add(session)  # the garbage collector may have taken it out

    def release(self) -> None:
        """Let the engine close; may be called from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing to wait for
                self._loop.call_soon_threadsafe(self._released.set)

    def hurry(self) -> None:
        """The loop, or the bot, is about to end: no cleanup takes longer than ``grace`` from now."""
        self.closing = True
        self._start_cleanups()
        if not self._hurried:
            self._hurried = True
            self._clock.call_later(self._grace, self._spend_budgets)

    async def closed(self) -> None:
        """Release the keeper and wait until everything is given back and closed."""
        self.closing = True
        self.release()
        if self._task is not None:
            await wait_patiently(self._task, self._clock, grace=self._grace, on_cancel=self.hurry)

    async def _keep(self) -> None:
        """Stand for the engine's own tasks; end when they have, and cancelled only then."""
        cancelled: asyncio.CancelledError | None = None
        try:
            await self._released.wait()
        except asyncio.CancelledError as error:
            cancelled = error
            self.hurry()
        self.closing = True
        self._stop_work()
        while self._start_cleanups() or self._tasks:
            try:
                await asyncio.wait(set(self._tasks))
            except asyncio.CancelledError as error:
                cancelled = error
                self.hurry()
        await self._close_parts()
        if cancelled is not None:
            raise cancelled

    def _start_cleanups(self) -> bool:
        everyone = {*self._sessions, *tuple(self._adopted)}
        started = [_cleanup.start(session) for session in everyone if not session.over]
        return any(task is not None and not task.done() for task in started)

    def _spend_budgets(self) -> None:
        for session in tuple(self._sessions):
            if session.budget is not None:
                session.budget.interrupt(BudgetSpent())
