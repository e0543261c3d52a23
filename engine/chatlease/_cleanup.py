"""Giving a chat back: once, in a task of the engine's, whatever happens to the caller.

Rules that live here:

* All closers share one task per session (`start`). It interrupts the step in flight (a create or a delete it awaits),
  then follows `cleanup_path`, trying again within the budget ``drain``, and ends in ``deleted`` or ``orphaned``.
* After an error or a cancellation the caller waits for at most ``grace``; then the engine goes on alone.
* Cleanup never hides its cause. The caller sees its own exception, with a note if the chat is left; only a caller
  without one sees `CleanupFailed`, and only where no ledger holds the chat (or the engine is strict).
* A chat whose lease was lost is left to the sweepers, unless they know only of its intent.
* A run that may be going is stopped first. Where it does not stop and deleting would do harm, the chat is handed over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._interrupt import Deadline
from ._lifecycle import FINAL, Create, State, Trigger, cleanup_path
from ._retry import retry_cleanup
from ._tasks import done_or_later
from .errors import ChatleaseError, CleanupFailed, ServiceError, UsageError

if TYPE_CHECKING:
    from ._core import Core


class BudgetSpent(Exception):
    """The time for giving this chat back is over, or deleting it now would do harm."""


def is_left(session: Core) -> bool:
    """Say whether a chat may exist that nobody is giving back."""
    created = session.create in {Create.CREATED, Create.UNKNOWN} or session.own_step is not None
    return created and not session.engine.forked and session.state not in FINAL and session.closing_task is None


def is_unended(session: Core) -> bool:
    """Say whether a session has begun, for whoever reads its trace, and nobody is ending it."""
    begun = session.opened_at is not None and not session.engine.forked
    return begun and session.state not in FINAL and session.closing_task is None


async def give_back(session: Core, cause: BaseException | None) -> None:
    """
    Close the session and wait for it: to the end, or for ``grace`` when there is a cause.

    Args:
        session: What to close; nothing happens if it is closed.
        cause: The exception that is under way in the caller, which must not be hidden.

    Raises:
        asyncio.CancelledError: The caller was cancelled while it waited.
        CleanupFailed: See the rules above.
    """
    if not _may_wait(session, cause):
        return
    task = start(session, cause)
    if task is None:
        return
    try:
        if not task.done():
            await session.wait(task, limit=None if cause is None else session.deadlines.grace)
    except asyncio.CancelledError as cancelled:
        _note(session, cancelled)
        raise
    if cause is not None:
        _note(session, cause)
    elif session.state is not State.DELETED and (session.engine.ledger is None or session.engine.strict_cleanup):
        raise CleanupFailed(session.chat, session.attempts, error=session.error_code)


def _may_wait(session: Core, cause: BaseException | None) -> bool:
    """Say whether the caller can wait for the cleanup; a coroutine that is being closed, for example, cannot."""
    task = session.closing_task
    if session.state in FINAL if task is None else task.done():
        return True
    if isinstance(cause, GeneratorExit):
        session.engine.keeper.adopt(session)
        return False
    try:
        session.engine.check_loop()
    except UsageError:
        if cause is None:
            raise
        return False
    return True


def start(session: Core, cause: BaseException | None = None) -> asyncio.Task[None] | None:
    """
    Begin to give the chat back, or return the task that does so already; ``None`` when it is done.

    Args:
        session: What to give back.
        cause: The exception that ended its user's block; for the trace.
    """
    if session.closing_task is None and session.state not in FINAL:
        name = None if cause is None else type(cause).__name__
        session.closing_task = session.engine.keeper.own(_clean_up(session, name), "chatlease cleanup")
    return session.closing_task


def _note(session: Core, error: BaseException) -> None:
    if session.state is State.DELETED:
        return
    chat = f"chat {session.chat}" if session.chat else "a chat that may exist, of unknown id,"
    note = f"chatlease: {chat} {_what_is_left(session)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _what_is_left(session: Core) -> str:
    if session.closing:
        return "is still being given back by the engine"
    if session.engine.ledger is not None:
        return "was not deleted; the ledger has an open entry for it"
    return "was not deleted, and no ledger holds it"


async def _clean_up(session: Core, cause: str | None) -> None:
    if session.opened_at is None:
        session.note_opened()
    reason = {} if cause is None else {"cause": cause}
    session.trace("session.cleanup.started", state=session.state.value, **reason)
    began = session.clock.now()
    budget = Deadline(session.clock, session.deadlines.drain, BudgetSpent, loop=session.loop)
    session.budget = budget
    session.engine.keeper.disown(session)
    try:
        with budget:
            if session.own_step is not None or session.scope is not None:
                await _quiesce(session)
            session.close_stream()
            if session.lost and session.bound:  # a sweeper may be at it already
                raise BudgetSpent  # noqa: TRY301  (the same end as the budget's)
            await _follow_path(session)
    except BudgetSpent:
        _failed(session)
    except Exception as error:  # noqa: BLE001  (whatever an adapter does wrong must not cost us the chat)
        _count(session, error)
        _failed(session)
    finally:
        session.budget = None
    if session.state not in FINAL:
        await _leave_to_ledger(session)
    if session.state in FINAL:
        name = "completed" if session.state is State.DELETED else "handed_over"
        elapsed_s = round(session.clock.now() - began, 6)
        session.trace(f"session.cleanup.{name}", elapsed_s=elapsed_s, attempts=session.attempts)


def _failed(session: Core) -> None:
    reason = {"error_code": session.error_code} if session.error_code else {}
    session.trace("session.cleanup.failed", attempts=session.attempts, **reason)


async def _leave_to_ledger(session: Core) -> None:
    try:
        await _hand_over(session)
    except Exception as error:  # noqa: BLE001  (the entry is open all the same; a sweeper takes it with our lease)
        _count(session, error)
        _failed(session)
        session.close_stream()
        session.end_turn()


async def _quiesce(session: Core) -> None:
    """Interrupt the step in flight, or await it where it must not be cut."""
    if session.own_step is not None:
        await asyncio.wait({session.own_step})
    if session.scope is not None:
        session.quiet = session.loop.create_future()
        session.scope.interrupt(session.closed_error())
        await session.quiet


async def _follow_path(session: Core) -> None:
    for trigger in cleanup_path(session.state, session.run, session.create):
        if trigger is Trigger.STOP_RUN:
            await _stop(session)
        elif trigger is Trigger.DELETE_CHAT:
            await _delete(session)
        else:
            await session.run_step(trigger)


async def _stop(session: Core) -> None:
    try:
        await session.run_step(Trigger.STOP_RUN)
    except ChatleaseError as error:
        _count(session, error)
        if session.adapter.capabilities.deletion_during_run == "harmful":
            raise BudgetSpent from None


async def _delete(session: Core) -> None:
    try:
        await session.run_step(Trigger.DELETE_CHAT)
    except ServiceError as error:
        failure = error
    else:
        return
    _count(session, failure)
    await _delete_again(session, failure)


async def _delete_again(session: Core, failure: ServiceError) -> None:
    async def delete() -> None:
        try:
            await session.run_step(Trigger.DELETE_CHAT)
        except ServiceError as error:
            _count(session, error)
            raise

    def retried(attempt: int, error: BaseException) -> None:
        session.trace_retry(Trigger.DELETE_CHAT, attempt, error)

    try:
        await retry_cleanup(delete, failure, session.clock, retried)
    except ServiceError:
        raise BudgetSpent from None


def _count(session: Core, error: Exception) -> None:
    session.attempts += 1
    session.error_code = getattr(error, "code", "") or type(error).__name__


async def _hand_over(session: Core) -> None:
    """Leave the chat to the ledger; a create that is still in flight has had its time and is cut."""
    if session.own_step is not None:
        session.own_step.cancel()
        await done_or_later(session.own_step, session.clock, session.deadlines.grace)
    if session.state in FINAL:
        return
    session.budget_spent = True
    for trigger in cleanup_path(session.state, session.run, session.create)[:1]:
        await session.run_step(Trigger.HAND_OVER if trigger is not Trigger.ABANDON else trigger)
