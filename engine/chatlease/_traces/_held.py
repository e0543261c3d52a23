"""A session while it is gathered, and what its lines say of it."""

from __future__ import annotations

from collections.abc import Mapping

from chatlease._lifecycle import State, Trigger

from ._lines import Line
from ._sessions import Outcome, SessionTrace, StepTrace, SweepTrace

_WORDS: Mapping[str, str] = {each.value: each.value for each in (*State, *Trigger)}
"""One object for each of the usual words: a string of its own in every step would be a third of what is held."""


class Held(SessionTrace, gc=False, kw_only=True):
    """A session, and what is remembered until its step in flight has ended."""

    retried: int = 0
    turn_s: float = 0.0


def word(text: str) -> str:
    """Return a word, as the one object that there is of the usual ones."""
    return _WORDS.get(text, text)


def made(session: Held, line: Line) -> StepTrace:
    """Return the step, made or failed, that a line tells of."""
    return StepTrace(
        trigger=word(line.trigger or ""),
        source=word(line.source or ""),
        dest=None if line.dest is None else word(line.dest),
        at=line.at,
        elapsed_s=max(0.0, line.elapsed_s or 0.0),
        http_status=line.http_status,
        waited_s=line.waited_s,
        error=line.error,
        error_code=line.error_code,
        retries=session.retried,
    )


def is_told(session: Held, line: Line) -> bool:
    """Say whether the error of a retry is the one that the last step failed with, as a deletion's is."""
    last = session.steps[-1] if session.steps else None
    return (
        last is not None
        and last.dest is None
        and (last.trigger, last.error, last.error_code) == (line.trigger, line.error, line.error_code)
    )


def end_step(session: Held, waited_s: float | None) -> None:
    """Note that no step is in flight; and the wait for a turn, as far as it was not told of before."""
    session.in_flight = session.waiting_since = None
    session.gate_wait_s += max(0.0, (waited_s or 0.0) - session.turn_s)
    session.turn_s, session.retried = 0.0, 0


def swept_by(session: Held, line: Line, outcome: Outcome) -> SweepTrace:
    """Return what a sweep did, as a line tells it; a try more where it does not say how many there were."""
    before = 0 if session.swept is None else session.swept.attempts
    attempts = before + 1 if line.attempts is None else line.attempts
    return SweepTrace(line.engine, line.at, outcome, attempts, line.error_code or "")
