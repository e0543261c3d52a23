"""What each trigger does: one function a step, between the state machine and the adapter.

Rules that live here:

* A function here makes the adapter's call of its step and notes what became of it in the session's facts; the state
  itself is the machine's.
* After an outcome that nobody knows (the reply was lost, the call was cut) the facts say so, and the table then allows
  nothing but cleanup. An outcome is known to be a refusal only when no byte left, when the service answered 4xx other
  than 408, 409, 425 and 429, when it said that it is too busy to take the run (`Busy`), or when the adapter refused to
  send it (`UsageError`).
* Every call has its deadline here. Retries happen only where no byte left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _failpoints
from ._gate import Gate, gate_of, rate_limited
from ._interrupt import Deadline, cut_inside, is_cancelled, lease_lost, ledger_is_late, uncut
from ._lifecycle import Create, Run, Trigger
from ._retry import retry_unsent
from .adapter import Call
from .errors import (
    Busy,
    LedgerError,
    NotAuthenticated,
    RateLimited,
    ServiceError,
    StreamStalled,
    Unavailable,
    UsageError,
)
from .events import Reading, RunStatus
from .ledger import Entry, Ledger

if TYPE_CHECKING:
    from ._core import Core

T = TypeVar("T")

_UNCLEAR = frozenset({408, 409, 425, 429})
_GOING = frozenset({RunStatus.PENDING, RunStatus.GOING})
_LOOKS_IN_VAIN = 3


def refused(error: BaseException) -> bool:
    """Say whether the failed call certainly had no effect."""
    if not isinstance(error, ServiceError):
        return isinstance(error, UsageError)
    status = error.status or 0
    refusal = 400 <= status < 500 and status not in _UNCLEAR  # noqa: PLR2004  (HTTP's client errors)
    return refusal or not error.sent or isinstance(error, (Busy, NotAuthenticated))


async def within(session: Core, seconds: float, step: str, call: Awaitable[T]) -> T:
    """Await a call of the adapter for at most that long."""
    with Deadline(session.clock, seconds, lambda: _late(step, seconds)):
        return await uncut(call)


def _late(step: str, seconds: float) -> Exception:
    return Unavailable(f"{step}: the service did not answer within {seconds:g} s", code="deadline-call")


def _not_open(seconds: float) -> Exception:
    return StreamStalled("first_event", seconds, f"the stream did not open within {seconds:g} s")


async def ask_service(session: Core, trigger: Trigger, call: Callable[[Call], Awaitable[T]]) -> T:
    """
    Make an adapter call of a step: within its deadline, again where it never left, once more with fresh credentials.

    Args:
        session: Whose call.
        trigger: Which step.
        call: Starts the adapter's coroutine.
    """
    try:
        return await _attempt(session, trigger, call)
    except ServiceError as error:
        failure = error
    return await _ask_again(session, trigger, call, failure)


async def _attempt(session: Core, trigger: Trigger, call: Callable[[Call], Awaitable[T]]) -> T:
    deadlines = session.deadlines
    if trigger is _OPEN_STREAM:
        seconds, late = deadlines.first_event, lambda: _not_open(deadlines.first_event)
    else:
        seconds, late = deadlines.call, lambda: _late(trigger.value, deadlines.call)
    if (
        session.hold is not None and session.lost and trigger is not _DELETE_CHAT
    ):  # found out while a turn, or a retry, was waited for
        raise lease_lost()
    try:
        with Deadline(session.clock, seconds, late, loop=session.loop):
            return await call(session.call)  # `uncut`, but for its frame
    except asyncio.CancelledError:
        if is_cancelled():
            raise
    raise cut_inside()


# An attribute of an enum is looked up in Python; these are in the way of every call.
_OPEN_STREAM, _DELETE_CHAT = Trigger.OPEN_STREAM, Trigger.DELETE_CHAT


async def _ask_again(session: Core, trigger: Trigger, call: Callable[[Call], Awaitable[T]], failure: ServiceError) -> T:
    """Make a call again that failed, where that makes sense."""

    async def attempt() -> T:
        session.call.http_request = session.call.http_status = None
        return await _attempt(session, trigger, call)

    def retried(number: int, error: BaseException) -> None:
        session.trace_retry(trigger, number, error)

    try:
        return await retry_unsent(attempt, failure, session.clock, retried)
    except NotAuthenticated as error:
        refusal = error
    if not await session.engine.logins.renew(session):
        raise refusal
    retried(1, refusal)
    await _intend_again(session)
    return await attempt()


async def _intend_again(session: Core) -> None:
    """A chat is written down with the login that creates it, which may have become another one."""
    ledger, hold = session.engine.ledger, session.hold
    if session.create is Create.CREATED or ledger is None or hold is None:
        return
    ledger.absent(hold)
    await _intend(session, ledger)


async def _intend(session: Core, ledger: Ledger) -> None:
    with Deadline(session.clock, session.deadlines.call, ledger_is_late, loop=session.loop):
        session.hold = await ledger.intent(_entry(session))


async def ready_cookies(session: Core) -> None:
    """Find the credentials of the session's account."""
    logins = session.engine.logins
    login = logins.brought(session)
    if login is None:
        login = await within(session, session.deadlines.call, Trigger.READY_COOKIES.value, logins.find(session))
    session.log_in(login)


async def create_chat(session: Core) -> None:
    """Create the chat; the ledger knows of it before the first byte leaves."""
    adapter, ledger = session.adapter, session.engine.ledger
    if ledger is not None:
        await _intend(session, ledger)
    _failpoints.reach("create_chat.intended")
    if session.lost and ledger is not None and session.hold is not None:
        # Sent now, it could take effect long after its deadline, when nobody looks for it any more.
        ledger.absent(session.hold)
        raise lease_lost()
    try:
        chat = await ask_service(session, Trigger.CREATE_CHAT, lambda call: adapter.create_chat(call, session.id))
    except BaseException as error:
        session.create = Create.UNKNOWN
        if refused(error):
            session.create = Create.REFUSED
            if ledger is not None and session.hold is not None:
                ledger.absent(session.hold)
        raise
    session.create, session.chat, session.whose = Create.CREATED, chat, None


def _entry(session: Core) -> Entry:
    adapter = session.adapter
    account = session.call.login.account
    chat = session.id if adapter.capabilities.client_id else None
    return Entry(id=session.id, service=adapter.service, origin=adapter.origin, account=account, chat=chat)


async def send_prompt(session: Core, text: str) -> None:
    """Add the prompt to the chat."""
    adapter, chat, parent = session.adapter, session.known_chat, session.parent
    session.call.hide = (text, *[each for each in session.options.values() if isinstance(each, str)])
    session.call.text = text
    try:
        prompt = await ask_service(
            session, Trigger.SEND_PROMPT, lambda call: adapter.send_prompt(call, chat, text, parent)
        )
    except BaseException as error:
        session.in_doubt = not refused(error)
        raise
    session.prompt, session.run_id, session.run = prompt, None, Run.NONE
    session.token_given = False


async def queue_assistant(session: Core) -> None:
    """Take the account's turn and queue an answer."""
    await take_turn(session)
    adapter, chat, prompt = session.adapter, session.known_chat, session.known_prompt
    try:
        run = await ask_service(
            session,
            Trigger.QUEUE_ASSISTANT,
            lambda call: adapter.queue_assistant(call, chat, prompt, session.model, session.options),
        )
    except BaseException as error:
        if refused(error):
            session.end_turn()
            raise
        session.run = Run.UNKNOWN
        session.in_doubt = True
        session.failed_run, session.run_id = session.run_id, None  # it is the new run that may be going
        if isinstance(error, Unavailable) and error.status is not None and session.at_rate_limit():
            raise _refused_at_limit(error.status) from error
        raise
    session.run_id, session.run = run, Run.GOING


def _refused_at_limit(status: int) -> RateLimited:
    # Recorded: the refusal at the limit is a plain 500 (wire/open-assistant/rate-limit-site, exchange 23).
    return RateLimited(
        "the service failed at the account's rate limit, which is how it refuses", status=status, code="rate-limit"
    )


async def take_turn(session: Core) -> None:
    """Wait for a slot of the account and take one run of its budget; gives the slot back when there is none."""
    clock = session.clock
    began, session.waited_s = clock.now(), None
    gate = gate_of(session.adapter.origin, session.call.login.account, session.adapter.capabilities, began)
    try:
        if not gate.try_acquire(session):
            session.trace_waiting("slot")
            await gate.acquire(session, clock, session.deadlines)
        session.gate = gate
        await _take_budget(session, gate)
        await session.engine.turns.take(session)
    except BaseException:
        session.note_waited(began)
        session.end_turn()
        raise
    session.trace_acquired(began)


async def _take_budget(session: Core, gate: Gate) -> None:
    left = session.deadlines.gate
    while wait := gate.budget.take(session.clock.now()):
        if wait > left:
            raise rate_limited(wait)
        session.trace_waiting("budget")
        left -= wait
        await session.clock.sleep(wait)


async def open_stream(session: Core) -> None:
    """Open the answer's stream, or begin to poll where the service refuses it as finished."""
    adapter, chat, run = session.adapter, session.known_chat, session.known_run
    session.stream = await ask_service(session, Trigger.OPEN_STREAM, lambda call: adapter.open_stream(call, chat, run))
    session.stream_opened_at = session.clock.now()


async def stop_run(session: Core) -> None:
    """
    Have the run stopped, or wait for its end, within ``settle``.

    Raises:
        StreamStalled: It is still going.
    """
    session.close_stream()
    seconds = session.deadlines.settle

    def late() -> Exception:
        return StreamStalled("settle", seconds, f"the run was not over within {seconds:g} s")

    with Deadline(session.clock, seconds, late):
        await _ask_to_stop(session)
        reading = await _until_over(session)
    session.note(reading)
    session.end_turn()


async def _ask_to_stop(session: Core) -> None:
    if session.adapter.capabilities.stopping:
        await uncut(session.adapter.stop_run(session.call, session.known_chat, session.run_id))


async def _until_over(session: Core) -> Reading:
    """
    Look until the run is over; a look that fails is as good as none, until the deadline.

    A request to queue it that was cut may still be on its way: that there is no run is believed at the third look, some
    three quarters of a second after the first, and a run that comes late is stopped like any other.
    """
    interval, absences, failures = min(0.25, session.deadlines.poll), 0, 0
    while True:
        try:
            reading = _of_this_run(session, await look(session))
        except Unavailable as error:
            failures += 1
            session.trace_retry(Trigger.STOP_RUN, failures, error)
        else:
            is_late = absences > 0 and reading.status in _GOING
            absences += reading.status is RunStatus.ABSENT
            if _is_over(session, reading, absences):
                return reading
            if is_late:
                absences = 0
                await _ask_to_stop(session)
        await session.clock.sleep(interval)
        interval = min(interval * 2, session.deadlines.poll)


def _of_this_run(session: Core, reading: Reading) -> Reading:
    """Of a run that was queued again and whose id was lost, the one before it, which failed, says nothing."""
    is_before = session.failed_run is not None and reading.run == session.failed_run
    return Reading(RunStatus.ABSENT) if is_before else reading


def _is_over(session: Core, reading: Reading, absences: int) -> bool:
    if reading.status is RunStatus.ABSENT:
        return session.run is not Run.UNKNOWN or absences >= _LOOKS_IN_VAIN
    return reading.status not in _GOING


async def look(session: Core, call: Call | None = None) -> Reading:
    """Read the answer without the stream."""
    if session.lost:
        raise lease_lost()
    adapter, chat, prompt = session.adapter, session.known_chat, session.known_prompt
    reading = adapter.read_answer(call or session.call, chat, prompt, session.run_id)
    return await within(session, session.deadlines.call, "read_answer", reading)


async def delete_chat(session: Core) -> None:
    """Delete the chat, and let the ledger forget it."""
    session.close_stream()
    adapter, chat = session.adapter, session.known_chat
    await ask_service(session, Trigger.DELETE_CHAT, lambda call: adapter.delete_chat(call, chat))
    if session.engine.ledger is not None and session.hold is not None:
        session.engine.ledger.settled(session.hold)
    session.end_turn()


async def abandon(session: Core) -> None:
    """Nothing was created, so there is nothing to give back."""


async def hand_over(session: Core) -> None:
    """Leave the chat to the ledger's sweepers."""
    session.close_stream()
    session.end_turn()
    ledger, hold = session.engine.ledger, session.hold
    if ledger is None or hold is None:
        return
    session.engine.sweeper.remember(session)
    with Deadline(session.clock, session.deadlines.grace, ledger_is_late):  # a stuck disk must not keep the loop alive
        if session.chat is not None and not session.bound:
            with contextlib.suppress(LedgerError):  # nobody holds the entry any more, whether its chat is known or not
                await ledger.bound(hold, session.chat)
        await ledger.hand_over(hold, attempts=session.attempts, error_code=session.error_code)


EFFECTS: Mapping[Trigger, Callable[..., Coroutine[Any, Any, Any]]] = MappingProxyType(
    {
        Trigger.READY_COOKIES: ready_cookies,
        Trigger.CREATE_CHAT: create_chat,
        Trigger.SEND_PROMPT: send_prompt,
        Trigger.QUEUE_ASSISTANT: queue_assistant,
        Trigger.OPEN_STREAM: open_stream,
        Trigger.STOP_RUN: stop_run,
        Trigger.DELETE_CHAT: delete_chat,
        Trigger.ABANDON: abandon,
        Trigger.HAND_OVER: hand_over,
    }
)
"""The step functions by trigger; a test holds that none is missing."""
