"""The engine's own tasks: what a caller's cancellation, and the end of the loop, must not cut.

Rules that live here:

* Creating and deleting a chat run in tasks of the engine's. No caller, TaskGroup or cancel scope is their parent, and
  they are taken out of `asyncio.all_tasks`, because `asyncio.run` cancels everything it finds there at teardown, and so
  do the shutdown routines of many bots: a create cut in the middle is a chat that nobody knows of.
  (`asyncio._unregister_task` is the documented hook for extending asyncio.)
* In their place one task, the *keeper*, stands in `asyncio.all_tasks`. When it is cancelled, the loop is about to end:
  it has every session given back, waits for that, and only then ends; `asyncio.run` waits for it without limit, so it
  must end by itself: every wait of a cleanup has a deadline.
* Whoever waits for such a task waits patiently: a cancellation is remembered, the wait goes on for at most ``grace``,
  and then the cancellation is raised. Under a level-triggered cancel scope (anyio), where every await raises again, the
  rest of the wait is shielded, or given up at once rather than spun; a shield around all of it would hide the scope.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from ._clock import Clock

T = TypeVar("T")

_PASSES = 3
"""Cancellations in this many waits without any time between them come from a level-triggered scope, not a person."""


def own_task(coroutine: Coroutine[Any, Any, T], name: str, loop: asyncio.AbstractEventLoop) -> asyncio.Task[T]:
    """Start a task that only the returned reference can cancel."""
    task: asyncio.Task[T] = asyncio.Task(coroutine, loop=loop, name=name)
    asyncio._unregister_task(task)  # noqa: SLF001  (documented for those who extend asyncio; see the header)
    return task


async def wait_patiently(
    task: asyncio.Future[Any],
    clock: Clock,
    *,
    grace: float,
    limit: float | None = None,
    on_cancel: Callable[[], object] = lambda: None,
) -> None:
    """
    Wait for a task of the engine's; never cancels it, and says nothing of its result.

    Args:
        task: What to wait for.
        clock: Whose time counts.
        grace: Seconds to go on waiting after the caller was cancelled.
        limit: Seconds to wait at most; ``None`` to wait for the end.
        on_cancel: Called when the caller is cancelled, each time.

    Raises:
        asyncio.CancelledError: The caller was cancelled; raised once the task has ended or ``grace`` is over.
    """
    ends = None if limit is None else clock.now() + limit
    try:
        await done_or_later(task, clock, limit)
    except asyncio.CancelledError as error:
        cancelled = error
    else:
        return
    on_cancel()
    given = clock.now() + grace
    with _shielded():
        await _outlast(task, clock, given if ends is None else min(ends, given), on_cancel)
    raise cancelled


async def _outlast(task: asyncio.Future[Any], clock: Clock, ends: float, on_cancel: Callable[[], object]) -> None:
    """Wait on, until that time at most, whoever cancels again."""
    passes = 0
    while not task.done() and clock.now() < ends and passes < _PASSES:
        began = clock.now()
        try:
            await done_or_later(task, clock, ends - began)
        except asyncio.CancelledError:
            on_cancel()
            passes = passes + 1 if clock.now() - began < 0.001 else 0  # noqa: PLR2004  (1 ms)


async def done_or_later(task: asyncio.Future[Any], clock: Clock, seconds: float | None) -> None:
    """Wait for the future, at most that long (``None``: for its end); never cancels it."""
    if task.done():
        return
    waiter = task.get_loop().create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = None if seconds is None else clock.call_later(max(seconds, 0), wake)
    task.add_done_callback(wake)
    try:
        await waiter
    finally:
        task.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


def _shielded() -> AbstractContextManager[object]:
    # Only a program that has anyio loaded can be inside one of its scopes.
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
