"""What a trace says of a session, an engine, a sweep: plain data, for whoever shows it.

Rules that live here:

* All times are seconds since the epoch by the clock of whoever traced them; durations are seconds, never negative.
* What was not seen is not invented: a session whose beginning lies in an older file has `SessionTrace.begun` False, and
  a state that it was in for an unknown time has no duration.
* Lists are bounded (`LONGEST_LIST`): of longer ones the middle is left out, and counted.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from chatlease._lifecycle import State

UNKNOWN = "unknown"
"""The state of a session of which no step was seen."""

LONGEST_LIST = 500
"""So many steps and errors of one session are kept."""

Outcome: TypeAlias = Literal["deleted", "absent", "dead", "failed"]
Status: TypeAlias = Literal["open", "deleted", "left", "swept"]

_GIVEN_BACK = frozenset({"deleted", "absent"})


class Stay(msgspec.Struct, frozen=True, gc=False):
    """
    A time that a session was in a state.

    Attributes:
        state: As traces spell it.
        since: When it was reached; where that was not seen, when the session was first known to be in it.
        seconds: How long; ``None`` when it was not seen to be left.
    """

    state: str
    since: float
    seconds: float | None


class StepTrace(msgspec.Struct, frozen=True, gc=False):
    """
    A step that a session made, or failed to make.

    Attributes:
        trigger: Its name.
        source: The state it began in.
        dest: The state it led to; ``None`` when it failed.
        at: When it ended.
        elapsed_s: How long it took, waiting included.
        http_status: The service's last answer in it.
        waited_s: How long of it was waiting for the account's turn.
        error: Class of what it raised.
        error_code: Its machine word.
        retries: How often a call was repeated since the step before it ended; a deletion that is tried again is a step
            of its own each time.
    """

    trigger: str
    source: str
    dest: str | None
    at: float
    elapsed_s: float
    http_status: int | None = None
    waited_s: float | None = None
    error: str | None = None
    error_code: str | None = None
    retries: int = 0


class Failure(NamedTuple):
    """Something that went wrong in a session, whether or not it got over it."""

    at: float
    error: str
    error_code: str
    trigger: str = ""


class SweepTrace(msgspec.Struct, frozen=True, gc=False):
    """
    What the last sweep did about a session's chat.

    Attributes:
        engine: Id of the engine that swept.
        at: When.
        outcome: ``deleted``, ``absent`` (it never came to be), ``failed`` (it will be tried again), ``dead`` (a dead
            letter).
        attempts: How often it was tried in all, as far as is known.
        error_code: Why it failed.
    """

    engine: str
    at: float
    outcome: Outcome
    attempts: int
    error_code: str = ""


class SessionTrace(msgspec.Struct, gc=False, kw_only=True):
    """
    One session, as far as its trace was read.

    Attributes:
        id: The session's.
        service: Where; empty when not known.
        account: As whom; empty when not known.
        engine: Id of its engine; empty when not known.
        model: What it asks; empty when not known.
        chat: Its chat's id at the service; empty when it has none, or none is known.
        begun: Its beginning was seen.
        opened_at: When it was opened; where that was not seen, when it is known to have been there first.
        closed_at: When it reached a final state; ``None`` when it has not.
        last_at: When it was last heard of, sweeps left aside.
        state: Where it stands, as traces spell it, or `UNKNOWN`.
        steps: Oldest first.
        steps_left_out: How many are missing in the middle of `steps`.
        gate_wait_s: Waiting for the account's turn, all in all.
        queued_s: Waiting in the service's queue, all in all; ``None`` when the service told of no queue.
        first_token_s: From the opening of the first stream until its first token, waiting on the service only.
        token_count: Of all answers that came to their end.
        retries: Calls that were repeated.
        requeues: Answers that were queued again.
        errors: What went wrong, oldest first.
        errors_left_out: How many are missing in the middle of `errors`.
        handed_over: It was given up, and its chat left to the ledger.
        polled: An answer was looked at instead of streamed.
        swept: What the last sweep did about its chat.
        in_flight: The step that it was last seen to begin and not to end.
        closing_since: Its chat is being given back since then.
        cause: Class of the exception that ended the bot's block; empty when there was none.
        waiting_since: It waits for the account's turn since then.
        gone: It was not closed, and its engine is gone: closed, or silent while others went on.
    """

    id: str
    service: str = ""
    account: str = ""
    engine: str = ""
    model: str = ""
    chat: str = ""
    begun: bool = False
    opened_at: float
    closed_at: float | None = None
    last_at: float
    state: str = UNKNOWN
    steps: list[StepTrace] = msgspec.field(default_factory=list[StepTrace])
    steps_left_out: int = 0
    gate_wait_s: float = 0.0
    queued_s: float | None = None
    first_token_s: float | None = None
    token_count: int = 0
    retries: int = 0
    requeues: int = 0
    errors: list[Failure] = msgspec.field(default_factory=list[Failure])
    errors_left_out: int = 0
    handed_over: bool = False
    polled: bool = False
    swept: SweepTrace | None = None
    in_flight: str | None = None
    closing_since: float | None = None
    cause: str = ""
    waiting_since: float | None = None
    gone: bool = False

    @property
    def status(self) -> Status:
        """What became of its chat: ``left`` is one that nobody was seen to delete."""
        if self.swept is not None and self.swept.outcome in _GIVEN_BACK:
            return "swept"
        if self.state == State.DELETED.value:
            return "deleted"
        left = self.handed_over or self.gone or self.swept is not None or self.state == State.ORPHANED.value
        return "left" if left else "open"

    @property
    def leaked(self) -> bool:
        """Whether its chat is left: handed over, or never given back by an engine that is gone, and not swept since."""
        return self.status == "left"

    @property
    def elapsed_s(self) -> float:
        """How long it lived, or, while it does, until it was last heard of."""
        return max(0.0, (self.last_at if self.closed_at is None else self.closed_at) - self.opened_at)

    def stays(self) -> list[Stay]:
        """Return the times in each state, in order; the last one has no end."""
        found: list[Stay] = []
        now = State.NEW.value if self.begun else ""
        since = self.opened_at
        for step in self.steps:
            if step.dest is None:
                continue
            if step.source != now:  # what led here was not seen
                if now:
                    found.append(Stay(now, since, None))
                now, since = step.source, step.at - step.elapsed_s
            found.append(Stay(now, since, max(0.0, step.at - since)))
            now, since = step.dest, step.at
        return [*found, Stay(now or self.state, since, None)]


class EngineTrace(msgspec.Struct, gc=False, kw_only=True):
    """
    One engine, as far as its trace was read.

    Attributes:
        id: New for each engine.
        pid: Of its process; ``None`` when its opening was not seen, as for all that follows.
        host: Where that runs.
        version: Of chatlease.
        ledger: ``sqlite``, ``memory``, ``none``, or the class of another one.
        opened_at: When it was opened.
        closed_at: When it was closed.
        first_at: When it was first heard of.
        last_at: When it was last heard of.
    """

    id: str
    pid: int | None = None
    host: str = ""
    version: str = ""
    ledger: str = ""
    opened_at: float | None = None
    closed_at: float | None = None
    first_at: float
    last_at: float
