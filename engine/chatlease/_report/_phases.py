"""Where a session's time went: its states one after the other, and the waits that are cut out of them.

Rules that live here:

* A phase is a state by its name, or one of `WAITS`: the account's turn, the service until the first token, giving the
  chat back, and a chat that is left. Phases do not overlap, and follow one another.
* What was not seen is not filled: a time of unknown length has no phase.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from chatlease._lifecycle import CLEANUP, FINAL, State, Trigger
from chatlease._traces import SessionTrace, StepTrace

TURN, FIRST_TOKEN, GIVING_BACK, LEFT = "turn", "first-token", "giving-back", "left"
WAITS = (TURN, FIRST_TOKEN, GIVING_BACK, LEFT)

_FINAL = frozenset(state.value for state in FINAL)
_CLEANUP = frozenset(trigger.value for trigger in CLEANUP)


class Phase(msgspec.Struct, frozen=True, array_like=True):
    """
    A part of a session's life.

    Attributes:
        name: Of a state, or of `WAITS`.
        since: When it began, in seconds since the epoch.
        until: When it ended.
    """

    name: str
    since: float
    until: float


def phases(session: SessionTrace, ends: float, until: float) -> list[Phase]:
    """
    Return the parts of a session's life, in order.

    Args:
        session: The session.
        ends: When it ended, or was last known to be there.
        until: When the trace ends: so long is a chat left that nobody was seen to sweep.
    """
    found = [*_states(session, ends)]
    for wait in _waits(session, ends):
        found = [*_cut_out(found, wait)]
    return found if session.status in {"open", "deleted"} else [*found, *_left(session, ends, until)]


def _states(session: SessionTrace, ends: float) -> Iterator[Phase]:
    stays = session.stays()
    for stay in stays:
        if stay.seconds is not None:
            yield Phase(stay.state, stay.since, stay.since + stay.seconds)
        elif stay is stays[-1] and stay.state not in _FINAL and ends > stay.since:
            yield Phase(stay.state, stay.since, ends)


def _waits(session: SessionTrace, ends: float) -> Iterator[Phase]:
    for step in session.steps:
        if step.waited_s:
            yield Phase(TURN, _began(step), _began(step) + step.waited_s)
    if session.waiting_since is not None:
        yield Phase(TURN, session.waiting_since, ends)
    opened = next((step.at for step in session.steps if step.trigger == Trigger.OPEN_STREAM.value and step.dest), None)
    if opened is not None and session.first_token_s:
        yield Phase(FIRST_TOKEN, opened, opened + session.first_token_s)
    given_back_since = _given_back_since(session)
    if given_back_since is not None:
        yield Phase(GIVING_BACK, given_back_since, ends)


def _given_back_since(session: SessionTrace) -> float | None:
    """Return when the last steps began that were all cleanup; a run that was stopped to ask again is none."""
    since: float | None = None
    for step in reversed(session.steps):
        if step.trigger not in _CLEANUP:
            break
        since = _began(step)
    return since


def _began(step: StepTrace) -> float:
    return step.at - step.elapsed_s


def _cut_out(found: list[Phase], wait: Phase) -> Iterator[Phase]:
    """Yield the phases with a wait in the place of what it covers."""
    for phase in found:
        since, until = max(phase.since, wait.since), min(phase.until, wait.until)
        if since >= until:
            yield phase
            continue
        if phase.since < since:
            yield Phase(phase.name, phase.since, since)
        yield Phase(wait.name, since, until)
        if until < phase.until:
            yield Phase(phase.name, until, phase.until)


def _left(session: SessionTrace, ends: float, until: float) -> Iterator[Phase]:
    swept = session.swept
    over = until if swept is None or session.status != "swept" else swept.at
    if over > ends:
        yield Phase(LEFT, ends, over)


ORDER = (
    State.NEW.value,
    State.COOKIES_READY.value,
    State.CHAT_CREATED.value,
    State.PROMPT_SENT.value,
    TURN,
    State.ASSISTANT_QUEUED.value,
    FIRST_TOKEN,
    State.STREAMING.value,
    State.STOPPED.value,
    GIVING_BACK,
    LEFT,
)
"""All phases, in the order in which they are shown."""
