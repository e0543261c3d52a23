"""THE file: what a session may do, and what it must do to leave no chat behind.

Rules that live here:

* Rule 1: everything that decides which step may follow which stands in `TABLE`. No other file assigns a state, and no
  transition is written anywhere else.
* Rule 2: this file knows neither `transitions` nor asyncio nor a service. It imports the standard library alone, so
  that the machine, the diagrams, the failpoints and the tests can all be generated from it.
* Rule 3: one word per step. A trigger's value is the name of the `Session` method, of the adapter method, of the
  failpoint and of the trace key of that step.
* Rule 4: besides the state, exactly two facts are read by guards: `Create` (what became of the create call) and `Run`
  (what the service does with the queued answer). Both exist because a reply can be lost: after a lost reply the facts
  say ``unknown``, and ``unknown`` always has a way to a final state.

How to read it. A row says: in one of these states, if the guard holds, this trigger leads there, and fires that call. A
call that fails leaves the state at its source. `cleanup_path` says for every combination of state and facts which
triggers give the chat back; the tests walk the whole product.

Why `stopped` is a state of its own: deleting a chat does not stop its run. On Open-Assistant the server then loses the
message of *another* user (``wire/open-assistant/README.md``, Deletion), on others the model generates on, unseen. So a
run that may be going is stopped, or waited for, before the chat is deleted.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol


class State(enum.Enum):
    """Where a session stands; ``value`` is the spelling in traces and diagrams."""

    __hash__ = object.__hash__  # a member is one object; Enum's own hash is a call in Python, some 30 a session

    NEW = "new"
    COOKIES_READY = "cookies-ready"
    CHAT_CREATED = "chat-created"
    PROMPT_SENT = "prompt-sent"
    ASSISTANT_QUEUED = "assistant-queued"
    STREAMING = "streaming"
    STOPPED = "stopped"
    DELETED = "deleted"
    ORPHANED = "orphaned"


class Trigger(enum.Enum):
    """A step; ``value`` is its one name everywhere."""

    __hash__ = object.__hash__

    READY_COOKIES = "ready_cookies"
    CREATE_CHAT = "create_chat"
    SEND_PROMPT = "send_prompt"
    QUEUE_ASSISTANT = "queue_assistant"
    OPEN_STREAM = "open_stream"
    STOP_RUN = "stop_run"
    DELETE_CHAT = "delete_chat"
    ABANDON = "abandon"
    HAND_OVER = "hand_over"


class Create(enum.Enum):
    """
    What became of the create call.

    ``REFUSED``: certainly nothing exists. ``UNKNOWN``: the reply was lost or unreadable; a chat may exist.
    """

    __hash__ = object.__hash__

    NOT_SENT = "not-sent"
    REFUSED = "refused"
    CREATED = "created"
    UNKNOWN = "unknown"


class Run(enum.Enum):
    """
    What the service does with the last queued answer.

    ``UNKNOWN``: the reply to the queueing call was lost, so a run may be going.
    """

    __hash__ = object.__hash__

    NONE = "none"
    UNKNOWN = "unknown"
    GOING = "going"
    ANSWERED = "answered"
    FAILED = "failed"


class HasFacts(Protocol):
    """
    All that a guard may look at; a session is one, `Facts` is one without a session.

    Attributes:
        create: See `Create`.
        run: See `Run`.
        token_given: A token of the current answer has reached the caller, so the answer cannot begin anew.
        budget_spent: The engine's time for this session's cleanup is over, or deleting now would do harm.
        in_doubt: A call other than create ended with an unknown outcome; only cleanup may follow.
    """

    @property
    def create(self) -> Create: ...
    @property
    def run(self) -> Run: ...
    @property
    def token_given(self) -> bool: ...
    @property
    def budget_spent(self) -> bool: ...
    @property
    def in_doubt(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """`HasFacts` as plain data."""

    create: Create = Create.NOT_SENT
    run: Run = Run.NONE
    token_given: bool = False
    budget_spent: bool = False
    in_doubt: bool = False


Guard = Callable[[HasFacts], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row of the table.

    Attributes:
        trigger: The step.
        sources: The states that it may start from.
        dest: The state that it leads to when its call succeeds.
        guard: What must hold besides the state; ``None`` for nothing.
        when: The guard in words, for diagrams.
        call: Name of the adapter's coroutine, or ``None`` for a step without a call.
        cleanup: The step gives the chat back, so it stays allowed when the session is in doubt or closing.
    """

    trigger: Trigger
    sources: frozenset[State]
    dest: State
    guard: Guard | None = None
    when: str = ""
    call: str | None = None
    cleanup: bool = False


def _row(
    trigger: Trigger, *sources: State, to: State, when: str = "", guard: Guard | None = None, call: bool = True
) -> Row:
    cleanup = trigger in CLEANUP
    return Row(trigger, frozenset(sources), to, guard, when, trigger.value if call else None, cleanup)


FINAL: frozenset[State] = frozenset({State.DELETED, State.ORPHANED})
"""States that nothing leads out of."""

CLEANUP: frozenset[Trigger] = frozenset({Trigger.STOP_RUN, Trigger.DELETE_CHAT, Trigger.ABANDON, Trigger.HAND_OVER})
"""Steps that give the chat back."""

WITH_CHAT: frozenset[State] = frozenset(
    {State.CHAT_CREATED, State.PROMPT_SENT, State.ASSISTANT_QUEUED, State.STREAMING, State.STOPPED}
)
"""States in which a chat of ours exists at the service."""

_MAYBE_CREATED = frozenset({Create.UNKNOWN, Create.CREATED})
_MAYBE_RUNNING = frozenset({Run.GOING, Run.UNKNOWN})

TABLE: tuple[Row, ...] = (
    _row(Trigger.READY_COOKIES, State.NEW, to=State.COOKIES_READY),
    _row(
        Trigger.CREATE_CHAT,
        State.COOKIES_READY,
        to=State.CHAT_CREATED,
        when="create not sent or refused",
        guard=lambda facts: facts.create in {Create.NOT_SENT, Create.REFUSED},
    ),
    _row(Trigger.SEND_PROMPT, State.CHAT_CREATED, to=State.PROMPT_SENT),
    _row(
        Trigger.SEND_PROMPT,
        State.STREAMING,
        State.STOPPED,
        to=State.PROMPT_SENT,
        when="run answered",
        guard=lambda facts: facts.run is Run.ANSWERED,
    ),
    _row(
        Trigger.QUEUE_ASSISTANT,
        State.PROMPT_SENT,
        to=State.ASSISTANT_QUEUED,
        when="run not unknown",
        guard=lambda facts: facts.run is not Run.UNKNOWN,
    ),
    _row(
        Trigger.QUEUE_ASSISTANT,
        State.ASSISTANT_QUEUED,
        State.STREAMING,
        to=State.ASSISTANT_QUEUED,
        when="run failed, no token given out",
        guard=lambda facts: facts.run is Run.FAILED and not facts.token_given,
    ),
    _row(Trigger.OPEN_STREAM, State.ASSISTANT_QUEUED, to=State.STREAMING),
    _row(
        Trigger.STOP_RUN,
        State.PROMPT_SENT,
        to=State.STOPPED,
        when="run unknown",
        guard=lambda facts: facts.run is Run.UNKNOWN,
    ),
    _row(
        Trigger.STOP_RUN,
        State.ASSISTANT_QUEUED,
        State.STREAMING,
        to=State.STOPPED,
        when="run going or unknown",
        guard=lambda facts: facts.run in _MAYBE_RUNNING,
    ),
    _row(Trigger.DELETE_CHAT, *WITH_CHAT, to=State.DELETED),
    _row(Trigger.ABANDON, State.NEW, to=State.DELETED, call=False),
    _row(
        Trigger.ABANDON,
        State.COOKIES_READY,
        to=State.DELETED,
        when="create not sent or refused",
        guard=lambda facts: facts.create in {Create.NOT_SENT, Create.REFUSED},
        call=False,
    ),
    _row(
        Trigger.HAND_OVER,
        State.COOKIES_READY,
        to=State.ORPHANED,
        when="create unknown, or cut at its end",
        guard=lambda facts: facts.create in _MAYBE_CREATED,
        call=False,
    ),
    _row(
        Trigger.HAND_OVER,
        *WITH_CHAT,
        to=State.ORPHANED,
        when="cleanup budget spent",
        guard=lambda facts: facts.budget_spent,
        call=False,
    ),
)
"""The lifecycle: the only place where transitions are written."""

HAPPY_PATH: Mapping[State, Trigger] = MappingProxyType(
    {
        State.NEW: Trigger.READY_COOKIES,
        State.COOKIES_READY: Trigger.CREATE_CHAT,
        State.CHAT_CREATED: Trigger.SEND_PROMPT,
        State.PROMPT_SENT: Trigger.QUEUE_ASSISTANT,
        State.ASSISTANT_QUEUED: Trigger.OPEN_STREAM,
        State.STREAMING: Trigger.DELETE_CHAT,
        State.STOPPED: Trigger.DELETE_CHAT,
    }
)
"""What `Session.step` fires in each state."""


def _by_state() -> Mapping[State, tuple[Row, ...]]:
    return MappingProxyType({state: tuple(row for row in TABLE if state in row.sources) for state in State})


ROWS: Mapping[State, tuple[Row, ...]] = _by_state()
"""The table by source state."""


def holds(row: Row, facts: HasFacts) -> bool:
    """Say whether a row's guard lets it fire."""
    if facts.in_doubt and not row.cleanup:
        return False
    return row.guard is None or row.guard(facts)


def allowed(state: State, facts: HasFacts) -> frozenset[Trigger]:
    """Return the triggers that may fire now."""
    return frozenset(row.trigger for row in ROWS[state] if holds(row, facts))


@functools.cache  # so many arguments as states and facts
def cleanup_path(state: State, run: Run, create: Create) -> tuple[Trigger, ...]:
    """
    Return the triggers that give the chat back from here, in order.

    Pure and total. Empty in a final state. The last trigger always leads to a final state; where one of them fails, the
    engine tries it again within its budget and then fires ``hand_over``.

    Args:
        state: Where the session stands.
        run: What the service does with the last queued answer.
        create: What became of the create call.

    Returns:
        The path, ``()`` in a final state.
    """
    if state in FINAL:
        return ()
    if state is State.COOKIES_READY and create in _MAYBE_CREATED:
        return (Trigger.HAND_OVER,)
    if state not in WITH_CHAT:
        return (Trigger.ABANDON,)
    if may_stop(state, run):
        return (Trigger.STOP_RUN, Trigger.DELETE_CHAT)
    return (Trigger.DELETE_CHAT,)


@functools.cache
def may_stop(state: State, run: Run) -> bool:
    """Say whether there may be a run to be stopped."""
    facts = Facts(create=Create.CREATED, run=run)
    return any(row.trigger is Trigger.STOP_RUN and holds(row, facts) for row in ROWS[state])
