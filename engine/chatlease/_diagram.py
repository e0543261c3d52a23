"""The lifecycle table as pictures: pure functions from the table, and from a trace, to text.

Rules that live here:

* Every state and every transition comes from `TABLE`; nothing is drawn that is not in it. What the table does not hold
  (ledger writes, trace events besides the transition's own) stands in `LEDGER_WRITES` and `TRACE_EVENTS`, which a test
  compares with what sessions do.
* The same input gives the same bytes: no times, no ids, no versions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from ._lifecycle import FINAL, TABLE, WITH_CHAT, Row, State, Trigger
from ._trace import TraceEvent

LEDGER_WRITES: Mapping[Trigger, Sequence[str]] = MappingProxyType(
    {
        Trigger.CREATE_CHAT: ("intent", "bound", "absent"),
        Trigger.DELETE_CHAT: ("settled",),
        Trigger.HAND_OVER: ("hand_over",),
    }
)
"""What each step may write into the ledger, in order."""

_WHEN = {
    "intent": "`intent`, before the request",
    "bound": "`bound`, after its reply",
    "absent": "`absent` instead, when refused",
    "settled": "`settled`, after its reply",
    "hand_over": "`hand_over`",
}

TRACE_EVENTS: Mapping[Trigger, Sequence[str]] = MappingProxyType(
    {
        Trigger.READY_COOKIES: ("session.opened", "session.credentials.cached"),
        Trigger.QUEUE_ASSISTANT: ("session.gate.waiting", "session.gate.acquired"),
        Trigger.OPEN_STREAM: ("session.stream.first_token", "session.gate.released", "session.stream.ended"),
        Trigger.DELETE_CHAT: ("session.closed",),
        Trigger.ABANDON: ("session.closed",),
        Trigger.HAND_OVER: ("session.closed",),
    }
)
"""What a step may trace besides its own ``session.transition.*``; for ``open_stream``, what the stream then traces."""

_TRANSITION = "session.transition.completed"


# -- the state machine ------------------------------------------------------------------------------------------------


def lifecycle() -> str:
    """Return the state machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    direction TB"]
    lines += [f"    {_declared(state)}" for state in State if state not in WITH_CHAT]
    # Once declared outside, a state cannot be drawn inside the box any more.
    lines += ['    state "has a chat" as has_chat {']
    lines += [f"        {_declared(state)}" for state in State if state in WITH_CHAT]
    lines += ["    }"]
    lines += ["    [*] --> new", *(f"    {edge}" for row in TABLE for edge in _edges(row))]
    lines += [f"    {_name(state)} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines) + "\n"


def _declared(state: State) -> str:
    return f'state "{state.value}" as {_name(state)}'


def _edges(row: Row) -> Iterator[str]:
    label = f"{row.trigger.value} [{row.when}]" if row.when else row.trigger.value
    # One arrow from the box instead of one from each state in it.
    sources = ["has_chat"] if row.sources == WITH_CHAT else [_name(state) for state in State if state in row.sources]
    for source in sources:
        yield f"{source} --> {_name(row.dest)}: {label}"


def _name(state: State) -> str:
    return state.value.replace("-", "_")


# -- the calls --------------------------------------------------------------------------------------------------------


def calls() -> str:
    """Return the table of calls in Markdown: transition, request, ledger writes, trace events."""
    header = ("Step", "Transition", "Request", "Ledger", "Trace")
    rows = [header, ("---",) * len(header), *(_cells(trigger) for trigger in Trigger)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def _cells(trigger: Trigger) -> tuple[str, ...]:
    rows = [row for row in TABLE if row.trigger is trigger]
    writes = [_WHEN[write] for write in LEDGER_WRITES.get(trigger, ())]
    events = [f"`{event}`" for event in (_TRANSITION, *TRACE_EVENTS.get(trigger, ()))]
    return (
        f"`{trigger.value}`",
        "<br>".join(_transition(row) for row in rows),
        f"`{rows[0].call}`" if rows[0].call else "none",
        "<br>".join(writes) or "none",
        "<br>".join(events),
    )


def _transition(row: Row) -> str:
    if row.sources == WITH_CHAT:
        sources = "every state that has a chat"
    else:
        sources = ", ".join(state.value for state in State if state in row.sources)
    guard = f" [{row.when}]" if row.when else ""
    return f"{sources}{guard} → {row.dest.value}"


# -- a session --------------------------------------------------------------------------------------------------------


def sequence(events: Iterable[TraceEvent]) -> str:
    """
    Return one session as a Mermaid sequence diagram, drawn from its trace.

    Args:
        events: The trace; of several sessions in it the first one is drawn. Ids and times are left out.
    """
    lines = ["sequenceDiagram"]
    lines += [f"    participant {name}" for name in ("Bot", "Session", "Ledger", "Service")]
    turn = False
    for event in _first_session(events):
        if event.event == "session.gate.acquired":
            turn = True  # told before the step that it is a part of
        else:
            lines += [f"    {line}" for line in _messages(event, turn=turn)]
            turn = False
    return "\n".join(lines) + "\n"


def _first_session(events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
    session: object = None
    for event in events:
        session = session or event.keys.get("session")
        if session is not None and event.keys.get("session") == session:
            yield event


_TRIGGERS = {each.value: each for each in Trigger}


def _messages(event: TraceEvent, *, turn: bool) -> Iterator[str]:
    """Draw an event; those of DEBUG add nothing."""
    match event.event:
        case "session.opened":
            yield f"Note over Session: {State.NEW.value}"
        case "session.transition.completed":
            yield from _step(event, _made, turn=turn)
        case "session.transition.failed":
            yield from _step(event, _failed, turn=turn)
        case "session.stream.first_token":
            yield "Service--)Session: tokens"
            yield "Session--)Bot: tokens"
        case "session.stream.polling":
            yield "Session->>Service: read_answer, until it is there"
        case "session.stream.ended":
            yield "Service--)Session: final text"
        case "session.closed":
            yield "Session-->>Bot: done"
        case _:
            return


def _step(event: TraceEvent, drawn: Callable[[TraceEvent, Trigger], Iterator[str]], *, turn: bool) -> Iterator[str]:
    """Draw a step; one that this version does not know is passed over, as readers of traces do."""
    trigger = _TRIGGERS.get(event.keys.get("trigger", ""))
    if trigger is not None:
        yield from _asked(trigger, turn=turn)
        yield from drawn(event, trigger)


def _asked(trigger: Trigger, *, turn: bool) -> Iterator[str]:
    yield f"Bot->>Session: {trigger.value}"
    if turn:
        yield "Note over Session: the account's turn"
    if "intent" in LEDGER_WRITES.get(trigger, ()):
        yield "Session->>Ledger: intent"


def _made(event: TraceEvent, trigger: Trigger) -> Iterator[str]:
    if _calls_service(trigger):
        yield f"Session->>Service: {trigger.value}"
        yield f"Service-->>Session: {event.keys.get('http_status', 'done')}"
    for write in LEDGER_WRITES.get(trigger, ()):
        if write not in {"intent", "absent"}:
            yield f"Session->>Ledger: {write}"
    yield f"Note over Session: {_said(event, 'dest')}"


def _failed(event: TraceEvent, trigger: Trigger) -> Iterator[str]:
    if _calls_service(trigger):
        yield f"Session->>Service: {trigger.value}"
        yield f"Service--xSession: {event.keys.get('http_status', _said(event, 'error'))}"
    else:
        yield f"Note over Session: {_said(event, 'error')}"


def _said(event: TraceEvent, key: str) -> str:
    """Return a state or a class; a question mark for what is none, which could end a line of the diagram."""
    name = event.keys.get(key, "")
    return name if name.replace("-", "_").isidentifier() else "?"


def _calls_service(trigger: Trigger) -> bool:
    # Credentials come from this machine, although the adapter is asked for them.
    return trigger is not Trigger.READY_COOKIES and any(row.call for row in TABLE if row.trigger is trigger)


# -- embedding --------------------------------------------------------------------------------------------------------


def fenced(diagram: str) -> str:
    """Return a Mermaid diagram as a block that Markdown viewers draw."""
    return f"```mermaid\n{diagram}```\n"


_BLOCK = re.compile(r"(<!-- diagram:(?P<name>\w+) -->\n).*?(<!-- /diagram -->)", re.DOTALL)


def embed(text: str, blocks: Mapping[str, str]) -> str:
    """
    Return a Markdown text with what stands between its diagram markers drawn anew.

    A block begins with a line ``<!-- diagram:NAME -->`` and ends with ``<!-- /diagram -->``.

    Args:
        text: The text.
        blocks: What belongs between the markers, by name.

    Raises:
        KeyError: A marker names no diagram.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{blocks[found['name']]}{found[3]}", text)


def embedded(text: str) -> Sequence[str]:
    """Return the names of the diagrams that a Markdown text has markers for, in order."""
    return [found["name"] for found in _BLOCK.finditer(text)]
