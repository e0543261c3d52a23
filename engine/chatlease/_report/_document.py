"""What a page is told: one JSON document, made of the model of a trace.

Rules that live here:

* Rows are arrays, and `FIELDS` says once what stands where; names of states, steps and phases are numbers in `WORDS`,
  so a session takes a few hundred bytes. A name that is not in the table stands there as it is.
* A session's times count from its beginning, in seconds; those of all others from the epoch.
* Nothing is in it that the trace does not say, and the same trace gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from chatlease._lifecycle import State, Trigger
from chatlease._traces import EngineTrace, Line, SessionTrace, Status, StepTrace, SweepTrace

from ._phases import ORDER, WAITS, phases

VERSION = 1
"""Of the document; its only reader stands in the same page."""

Ending: TypeAlias = Literal["open", "deleted", "orphaned", "killed"]
"""How a session ended, as its own engine had it: ``killed`` when that one did not live to end it."""

WORDS: Sequence[str] = (*(state.value for state in State), *(trigger.value for trigger in Trigger), *WAITS)
_NUMBERS: Mapping[str, int] = MappingProxyType({word: number for number, word in enumerate(WORDS)})
_DIGITS = 6

Word: TypeAlias = int | str


class StepRow(msgspec.Struct, frozen=True, array_like=True):
    """A step; see `chatlease._traces.StepTrace`. ``at`` is when it began, after the session did."""

    trigger: Word
    source: Word
    dest: Word | None
    at: float
    elapsed_s: float
    http_status: int | None
    waited_s: float | None
    error: str | None
    error_code: str | None
    retries: int


class FailureRow(msgspec.Struct, frozen=True, array_like=True):
    """Something that went wrong; see `chatlease._traces.Failure`."""

    at: float
    error: str
    error_code: str
    trigger: Word


class PhaseRow(msgspec.Struct, frozen=True, array_like=True):
    """A part of a session's life; see `Phase`."""

    name: Word
    at: float
    seconds: float


class SweepRow(msgspec.Struct, frozen=True, array_like=True):
    """What was done about a chat that was left; see `chatlease._traces.SweepTrace`."""

    engine: str
    at: float
    outcome: str
    attempts: int
    error_code: str


class SessionRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A session; see `chatlease._traces.SessionTrace`. ``ended_at`` is when it was last known to be there."""

    id: str
    service: str
    account: str
    engine: str
    model: str
    chat: str
    begun: bool
    opened_at: float
    ended_at: float
    state: Word
    status: Status
    ending: Ending
    in_flight: Word | None
    gate_wait_s: float
    queued_s: float | None
    first_token_s: float | None
    token_count: int
    retries: int
    requeues: int
    polled: bool
    steps: list[StepRow]
    steps_left_out: int
    errors: list[FailureRow]
    errors_left_out: int
    phases: list[PhaseRow]
    swept: SweepRow | None


class EngineRow(msgspec.Struct, frozen=True, array_like=True):
    """An engine; see `chatlease._traces.EngineTrace`. It is ``dead`` when another one swept what it had not closed."""

    id: str
    pid: int | None
    host: str
    version: str
    ledger: str
    opened_at: float | None
    closed_at: float | None
    first_at: float
    last_at: float
    dead: bool


class FindRow(msgspec.Struct, frozen=True, array_like=True):
    """A chat that was found in a listing, and that no session knew; ``what`` is ``deleted`` or ``found``."""

    what: str
    at: float
    engine: str
    service: str
    account: str
    chat: str


class LatencyRow(msgspec.Struct, frozen=True, array_like=True):
    """How long something took, over all sessions, those too that are not shown; seconds."""

    name: Word
    count: int
    p50: float
    p90: float
    p99: float
    longest: float


class ErrorRow(msgspec.Struct, frozen=True, array_like=True):
    """How often something went wrong, over all sessions."""

    error: str
    error_code: str
    trigger: Word
    count: int
    last_at: float


class Sums(msgspec.Struct, kw_only=True):
    """
    How many there are.

    Attributes:
        sessions: All of them.
        shown: Those in the document.
        let_go: Those whose end was not awaited, because too many were open at once.
        broken: Lines that were passed over because they could not be read.
        newer: Lines that were passed over because they are of a later version of the format.
        lost: Lines that are missing, because the file could not be written then.
        by_status: Sessions by what became of their chats.
    """

    sessions: int = 0
    shown: int = 0
    let_go: int = 0
    broken: int = 0
    newer: int = 0
    lost: int = 0
    by_status: dict[str, int] = msgspec.field(default_factory=dict[str, int])


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that the page shows.

    Attributes:
        v: `VERSION`.
        fields: What stands where in the rows.
        words: What the numbers in the rows are.
        phases: All phases, in the order in which they are shown.
        files: Names of the trace files.
        first_at: When the trace begins.
        last_at: When it ends.
        sums: See `Sums`.
        engines: See `EngineRow`.
        sessions: Rows of `SessionRow`, oldest first, encoded.
        finds: See `FindRow`.
        latency: See `LatencyRow`; empty when all sessions are shown, which are then counted by the page itself.
        errors: See `ErrorRow`; empty like ``latency``.
    """

    v: int
    fields: dict[str, tuple[str, ...]]
    words: Sequence[str]
    phases: Sequence[Word]
    files: Sequence[str]
    first_at: float
    last_at: float
    sums: Sums
    engines: Sequence[EngineRow]
    sessions: Sequence[msgspec.Raw]
    finds: Sequence[FindRow]
    latency: Sequence[LatencyRow]
    errors: Sequence[ErrorRow]


FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: each.__struct_fields__
        for name, each in {
            "session": SessionRow,
            "step": StepRow,
            "failure": FailureRow,
            "phase": PhaseRow,
            "sweep": SweepRow,
            "engine": EngineRow,
            "find": FindRow,
            "latency": LatencyRow,
            "error": ErrorRow,
        }.items()
    }
)
PHASES: Sequence[Word] = tuple(_NUMBERS[name] for name in ORDER)


def word(text: str) -> Word:
    """Return the number of a word of the table, or the text itself."""
    return _NUMBERS.get(text, text)


def ending_of(session: SessionTrace, dead: Collection[str]) -> Ending:
    """
    Say how a session ended.

    Args:
        session: The session.
        dead: Ids of engines that are known to have ended without closing their sessions.
    """
    if session.state == State.DELETED.value:
        return "deleted"
    if session.closed_at is not None or session.handed_over:
        return "orphaned"
    killed = session.gone or session.swept is not None or session.engine in dead
    return "killed" if killed else "open"


def status_of(session: SessionTrace, ending: Ending) -> Status:
    """Say what became of a session's chat; one of a process that was killed is left, however fresh that is."""
    return "left" if ending == "killed" and session.chat and session.status == "open" else session.status


def session_row(session: SessionTrace, ending: Ending, ended_at: float, last_at: float) -> SessionRow:
    """
    Return a session as a row.

    Args:
        session: The session.
        ending: See `ending_of`.
        ended_at: When it ended, or was last known to be there.
        last_at: When the trace ends.
    """
    began = session.opened_at
    return SessionRow(
        id=session.id,
        service=session.service,
        account=session.account,
        engine=session.engine,
        model=session.model,
        chat=session.chat,
        begun=session.begun,
        opened_at=_rounded(began),
        ended_at=_rounded(ended_at),
        state=word(session.state),
        status=status_of(session, ending),
        ending=ending,
        in_flight=None if session.in_flight is None else word(session.in_flight),
        gate_wait_s=_rounded(session.gate_wait_s),
        queued_s=_rounded_or_none(session.queued_s),
        first_token_s=_rounded_or_none(session.first_token_s),
        token_count=session.token_count,
        retries=session.retries,
        requeues=session.requeues,
        polled=session.polled,
        steps=[_step_row(step, began) for step in session.steps],
        steps_left_out=session.steps_left_out,
        errors=[
            FailureRow(_rounded(each.at - began), each.error, each.error_code, word(each.trigger))
            for each in session.errors
        ],
        errors_left_out=session.errors_left_out,
        phases=[
            PhaseRow(word(each.name), _rounded(each.since - began), _rounded(each.until - each.since))
            for each in phases(session, ended_at, last_at)
        ],
        swept=_sweep_row(session.swept),
    )


def _step_row(step: StepTrace, began: float) -> StepRow:
    return StepRow(
        trigger=word(step.trigger),
        source=word(step.source),
        dest=None if step.dest is None else word(step.dest),
        at=_rounded(step.at - step.elapsed_s - began),
        elapsed_s=_rounded(step.elapsed_s),
        http_status=step.http_status,
        waited_s=_rounded_or_none(step.waited_s),
        error=step.error,
        error_code=step.error_code,
        retries=step.retries,
    )


def _sweep_row(swept: SweepTrace | None) -> SweepRow | None:
    if swept is None:
        return None
    return SweepRow(swept.engine, _rounded(swept.at), swept.outcome, swept.attempts, swept.error_code)


def engine_row(engine: EngineTrace, dead: Collection[str]) -> EngineRow:
    """Return an engine as a row."""
    return EngineRow(
        engine.id,
        engine.pid,
        engine.host,
        engine.version,
        engine.ledger,
        engine.opened_at,
        engine.closed_at,
        engine.first_at,
        engine.last_at,
        engine.id in dead,
    )


def find_row(line: Line) -> FindRow:
    """Return a line of ``sweep.candidate.*`` as a row."""
    what = line.event.rpartition(".")[2]
    return FindRow(what, line.at, line.engine, line.service or "", line.account or "", line.chat or "")


def _rounded(seconds: float) -> float:
    return round(seconds, _DIGITS)


def _rounded_or_none(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds)
