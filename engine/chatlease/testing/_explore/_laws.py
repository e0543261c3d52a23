"""What holds after every path, whatever went wrong on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from chatlease import TraceEvent
from chatlease._lifecycle import CLEANUP, FINAL, TABLE, State, Trigger
from chatlease.errors import ChatleaseError, ServiceError, SessionClosed

from ._faults import READ, Fault, lost
from ._moves import ACLOSE, Move
from ._play import Played, Scene

__all__ = ["breaches"]

_ROWS = {(row.trigger.value, source.value, row.dest.value) for row in TABLE for source in row.sources}
_FINAL = {state.value for state in FINAL}
_TELLING = 4
"""Characters of a secret; a shorter one would be found anywhere."""
_STEPS_WITH_EFFECT = {"create_chat", "send_prompt", "queue_assistant"}


def breaches(scene: Scene, played: Played) -> Iterator[tuple[str, str]]:
    """Yield the laws that were broken on a path, and how."""
    yield from dict.fromkeys(played.broken)
    if not played.over:
        if not played.broken:
            yield "every wait has an end", "the session was closed and is not over"
        return
    yield from _nothing_left(scene, played)
    yield from _cause(scene, played)
    yield from _released(played)
    yield from _trace(played)
    yield from _secrets(scene, played)


def _last(scene: Scene, played: Played) -> tuple[Move, Fault | None]:
    move = played.path[-1]
    return move, scene.faults[move.fault] if played.hit else None


# -- no chat is left --------------------------------------------------------------------------------------------------


def _nothing_left(scene: Scene, played: Played) -> Iterator[tuple[str, str]]:
    faulty = any(move.fault for move in played.path)
    if _unknown(played):
        yield "no chat is left", "a chat exists at the service, and no open entry of the ledger stands for it"
    if played.entries and not faulty:
        yield "no chat is left", "nothing went wrong, and yet the ledger has an open entry"
    elif _ghosts(played) and not _doubtful(scene, played):
        yield "no chat is left", "the ledger has an open entry for a chat whose deletion was confirmed"
    for entry in played.entries:
        if not entry.orphaned:
            yield "no chat is left", "the session is over, and sweepers may not take its open entry"
        if entry.chat is None and entry.id in played.told:
            yield "no chat is left", "the ledger does not know the id of a chat that the engine was told of"
    for entry in played.unswept:
        yield "a sweep deletes what is left", f"sweeps failed on the chat of an open entry ({entry.error_code})"


def _unknown(played: Played) -> bool:
    """Say whether more chats exist than the open entries stand for; one may stand for a chat of unknown id."""
    named = {entry.chat for entry in played.entries}
    nameless = {entry.id for entry in played.entries if entry.chat is None}
    keys = {chat: key for key, chat in played.made.items()}
    unnamed = [keys.get(chat, "") for chat in played.existed if chat not in named]
    return any(key and key not in nameless for key in unnamed) or len(unnamed) > len(nameless)


def _ghosts(played: Played) -> bool:
    return any(entry.chat is not None and entry.chat not in played.existed for entry in played.entries)


def _doubtful(scene: Scene, played: Played) -> bool:
    """Say whether the reply to a create or to a deletion may have been lost."""
    faults = [(scene.faults[move.fault], move.call) for move in played.path if move.fault]
    return any(call in {"create_chat", "delete_chat"} or fault.lasting or fault.act == "arm" for fault, call in faults)


# -- the cause is not hidden ------------------------------------------------------------------------------------------


def _cause(scene: Scene, played: Played) -> Iterator[tuple[str, str]]:
    move, fault = _last(scene, played)
    seen = played.outcome
    if not _is_right(move, fault, played):
        where = f"{move.call} was hit by «{move.fault}»" if fault is not None else "nothing went wrong"
        yield "the caller sees the cause", f"in {move.name}, {where}, and the caller saw {_shown(seen)}"
    if _is_believed(move, fault, played):
        yield "doubt ends in cleanup", f"nobody knows what became of {move.name}, and further steps are allowed"
    if played.cancelled_in_time and played.waited_s > scene.deadlines.grace + 1e-6:
        yield "the caller sees the cause", f"cancelled, it waited {played.waited_s:g} s, which is more than grace"


def _is_believed(move: Move, fault: Fault | None, played: Played) -> bool:
    """Say whether a session goes on as if the outcome of its step were known."""
    if fault is None or played.outcome is None or move.call != move.name or move.name not in _STEPS_WITH_EFFECT:
        return False
    if fault.act == "cancel" and move.name == Trigger.CREATE_CHAT.value:
        return False  # it goes on, and its reply is known
    unknown = fault.where == "after" or fault.act in {"hang", "late"}
    return unknown and not played.allowed <= CLEANUP


def _is_right(move: Move, fault: Fault | None, played: Played) -> bool:
    seen = played.outcome
    if fault is not None and fault.act == "cancel":
        return isinstance(seen, asyncio.CancelledError) or (seen is None and not played.cancelled_in_time)
    if seen is None:
        return True
    if fault is None or move.name == ACLOSE:
        return False
    if fault.act == "close":
        return isinstance(seen, SessionClosed)
    if move.call == READ and fault.error is lost and seen is played.injected:
        return False  # a stream that is lost is no answer that is lost: it is looked at
    return seen is played.injected or (isinstance(seen, ServiceError) and _may_differ(move, fault))


def _may_differ(move: Move, fault: Fault) -> bool:
    """Say whether the engine may tell its own error: a deadline that passed, a run that did not come."""
    return fault.act != "raise" or fault.lasting or move.call != move.name


def _shown(error: BaseException | None) -> str:
    if error is None:
        return "a good end"
    code = getattr(error, "code", "")
    return f"{type(error).__name__}({code})" if code else type(error).__name__


# -- what is borrowed besides -----------------------------------------------------------------------------------------


def _released(played: Played) -> Iterator[tuple[str, str]]:
    if played.open_streams:
        yield "no stream is left open", "a stream that the adapter opened was never closed"
    if played.turn_held:
        yield "the account's turn is given back", "the session is over and still holds it"
    if played.harm:
        yield "no deletion does harm", f"harm() rose by {played.harm}: a chat was deleted while its run was going"


# -- the trace --------------------------------------------------------------------------------------------------------


def _trace(played: Played) -> Iterator[tuple[str, str]]:
    for session in played.trace.sessions():
        events = [event for event in played.trace.of(session) if event.event.startswith("session.")]
        problem = next(_problems(events), None)
        if problem is not None:
            yield "the trace tells the path", problem


def _problems(events: list[TraceEvent]) -> Iterator[str]:
    state = State.NEW.value
    closed = [event.keys["state"] for event in events if event.event == "session.closed"]
    for event in events:
        keys = event.keys
        if event.event == "session.transition.completed":
            if (keys["trigger"], keys["source"], keys["dest"]) not in _ROWS:
                yield f"{keys['trigger']} from {keys['source']} to {keys['dest']} is no row of the table"
            if keys["source"] != state:
                yield f"{keys['trigger']} began in {keys['source']}, but the session stood in {state}"
            state = keys["dest"]
        elif event.event == "session.transition.failed" and keys["source"] != state:
            yield f"{keys['trigger']} failed in {keys['source']}, but the session stood in {state}"
    if closed != [state] and (state in _FINAL or closed):
        yield f"session.closed was traced {len(closed)} times, for a session that ended {state}"
    if sum(event.event == "session.cleanup.started" for event in events) > 1:
        yield "one session was cleaned up twice"


# -- no secret is shown -----------------------------------------------------------------------------------------------


def _secrets(scene: Scene, played: Played) -> Iterator[tuple[str, str]]:
    credential = scene.credential
    hidden = [*(credential.secrets() if credential is not None else ()), scene.prompt]
    traced = "".join(repr((event.event, event.keys)) for event in played.trace)
    told = "".join(_told(played.outcome))
    for where, text in (("the trace", traced), ("the error that the caller saw", told)):
        if any(len(secret) >= _TELLING and secret in text for secret in hidden):
            yield "no secret is shown", f"{where} shows the login or the prompt"


def _told(error: BaseException | None, depth: int = 5) -> Iterator[str]:
    """Yield everything that an error says, and those behind it."""
    if error is None or not depth:
        return
    notes = getattr(error, "__notes__", ())
    yield f"{error!s} {error!r} {vars(error)!r} {notes!r}"
    if isinstance(error, ChatleaseError):
        yield error.hint
    yield from _told(error.__cause__, depth - 1)
    yield from _told(error.__context__, depth - 1)
