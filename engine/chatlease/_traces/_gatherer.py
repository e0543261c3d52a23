"""Gathers the lines of a trace into sessions, which are given out as they end.

Rules that live here:

* Held are only sessions that are open, and those whose chat is left: `HELD` of them at most (or as many as asked for),
  with `ITEMS` steps and errors each on average. Beyond that the oldest are let go of as they are, and counted: how they
  ended is then not known.
* Lines may come from several engines, interleaved, and begin anywhere: a session whose beginning was not seen is
  gathered from where it was. Clocks may go backwards.
* What is heard of a session after a sweep gave its chat back (its process was stopped, and goes on) changes nothing.
* An engine is gone when it was closed, or heard of nothing for `QUIET_S` while other lines went on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from chatlease._lifecycle import FINAL, State

from ._held import Held, end_step, is_told, made, swept_by, word
from ._lines import Line
from ._sessions import LONGEST_LIST, EngineTrace, Failure, Outcome, SessionTrace

HELD = 5_000
"""Sessions that are held at the same time; some ten megabytes."""

ITEMS = 8
"""Steps and errors of a session that is held, on average: more of one leave room for fewer sessions."""

QUIET_S = 900.0
"""Longer than the longest answer takes by default: an engine that works on something says something meanwhile."""

_ENGINES = 5_000
_ENDED = 5_000
"""So many swept sessions are remembered by their id."""

_FINAL = frozenset(state.value for state in FINAL)
_OUTCOMES: Mapping[str, Outcome] = {
    "sweep.chat.deleted": "deleted",
    "sweep.entry.absent": "absent",
    "sweep.chat.failed": "failed",
    "sweep.chat.dead": "dead",
}
_T = TypeVar("_T")
_NOTHING: Sequence[SessionTrace] = ()


class Gatherer:
    """
    Gathers lines into sessions.

    Args:
        in_order: No line comes before one of something that happened earlier. Else a sweep may be heard of before the
            session that left the chat, and is kept for it.
        hold: So many sessions at most, at two kilobytes each.

    Attributes:
        let_go: Sessions that were given out before their end was seen, because too many were open.
        lost: Lines that are missing, because the file could not be written.
        engines: By id; the newest few thousands.
        first_at: When the first line was traced; 0 before it.
        last_at: When the last line was traced.
    """

    def __init__(self, *, in_order: bool = True, hold: int = HELD) -> None:
        self.let_go = 0
        self.lost = 0
        self.engines: dict[str, EngineTrace] = {}
        self.first_at = 0.0
        self.last_at = 0.0
        self._in_order = in_order
        self._hold = hold
        self._held: dict[str, Held] = {}
        self._items = 0
        self._ended: dict[str, None] = {}

    @property
    def held(self) -> Collection[SessionTrace]:
        """The sessions that are open, and those whose chat is left; oldest first, and still changing."""
        return self._held.values()

    def feed(self, line: Line) -> Sequence[SessionTrace]:
        """Take a line in; returns the sessions that end with it, or that are let go of."""
        self.last_at = line.at
        engine = self.engines.get(line.engine)
        if engine is None:
            engine = self._met(line)
        engine.last_at = line.at
        take = _TAKERS.get(line.event)
        if take is None:
            return _NOTHING
        return take(self, line)

    def left_by(self, line: Line) -> Sequence[SessionTrace]:
        """Return the session that ended with the line just fed, and is held on to because its chat is left."""
        session = self._held.get(line.session or "") if line.event == "session.closed" else None
        return _NOTHING if session is None else (session,)

    def rest(self) -> Iterator[SessionTrace]:
        """Give out, oldest first, all that is held: what is open, and what is left, when the trace ends."""
        held, self._held = self._held, {}
        self._items = 0
        for session in held.values():
            yield self.judged(session)

    def judged(self, session: SessionTrace) -> SessionTrace:
        """Note of an open session whether its engine is gone by now; returns it."""
        session.gone = session.closed_at is None and self._is_gone(session.engine)
        return session

    # -- engines ------------------------------------------------------------------------------------------------------

    def _met(self, line: Line) -> EngineTrace:
        self.first_at = self.first_at or line.at
        if len(self.engines) >= _ENGINES:
            _drop_oldest(self.engines)
        engine = self.engines[line.engine] = EngineTrace(id=line.engine, first_at=line.at, last_at=line.at)
        return engine

    def engine_opened(self, line: Line) -> Sequence[SessionTrace]:
        """Take in who an engine is."""
        engine = self.engines[line.engine]
        engine.opened_at, engine.pid = line.at, line.pid
        engine.host, engine.version, engine.ledger = line.host or "", line.version or "", line.ledger or ""
        return _NOTHING

    def engine_closed(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that an engine is gone."""
        self.engines[line.engine].closed_at = line.at
        return _NOTHING

    def lines_lost(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that lines are missing, because the file could not be written."""
        self.lost += line.count or 0
        return _NOTHING

    def _is_gone(self, engine: str) -> bool:
        found = self.engines.get(engine)
        return found is not None and (found.closed_at is not None or self.last_at - found.last_at > QUIET_S)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def opened(self, line: Line) -> Sequence[SessionTrace]:
        """Take in a session's beginning."""
        session = self._of(line)
        if session is None:
            return _NOTHING
        session.begun, session.opened_at, session.model = True, line.at, line.model or ""
        if session.state not in _FINAL:
            session.state = State.NEW.value
        return self._within_bounds()

    def step_started(self, line: Line) -> Sequence[SessionTrace]:
        """Take in which step is in flight; only traces of level DEBUG say so."""
        session = self._of(line)
        if session is None or line.trigger is None:
            return _NOTHING
        session.in_flight = word(line.trigger)
        if line.source is not None:
            session.state = word(line.source)
        return self._within_bounds()

    def step_ended(self, line: Line) -> Sequence[SessionTrace]:
        """Take in a step, made or failed."""
        session = self._of(line)
        if session is None or line.trigger is None:
            return _NOTHING
        step = made(session, line)
        if not session.steps and not session.begun:
            session.opened_at = min(session.opened_at, step.at - step.elapsed_s)
        session.steps_left_out += self._keep(session.steps, step)
        session.state = step.dest or step.source or session.state
        session.account = line.account or session.account
        if step.dest is None:
            self._fail(session, line)
        end_step(session, step.waited_s)
        return self._within_bounds()

    def retried(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that a call is repeated."""
        session = self._of(line)
        if session is None:
            return _NOTHING
        session.retries += 1
        session.retried += 1
        return self._within_bounds() if is_told(session, line) else self.failed(line)

    def failed(self, line: Line) -> Sequence[SessionTrace]:
        """Take in an error that ends no step."""
        session = self._of(line)
        if session is not None and (line.error or line.error_code):
            self._fail(session, line)
        return self._within_bounds()

    def polled(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that the answer is looked at instead of streamed."""
        session = self._of(line)
        if session is not None:
            session.polled = True
        return self.failed(line)

    def waiting(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that the account's turn is waited for."""
        session = self._of(line)
        if session is not None:
            session.waiting_since = line.at
        return self._within_bounds()

    def acquired(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that the account's turn has come."""
        session = self._of(line)
        if session is None:
            return _NOTHING
        seen = 0.0 if session.waiting_since is None else max(0.0, line.at - session.waiting_since)
        waited = seen if line.waited_s is None else line.waited_s
        session.waiting_since = None
        session.turn_s += waited
        session.gate_wait_s += waited
        return _NOTHING

    def requeued(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that the answer is queued again."""
        session = self._of(line)
        if session is not None:
            session.requeues += 1
        return self._within_bounds()

    def first_token(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that an answer begins."""
        session = self._of(line)
        if session is None:
            return _NOTHING
        if session.first_token_s is None:
            session.first_token_s = line.waited_s
        if line.queued_s is not None:
            session.queued_s = (session.queued_s or 0.0) + line.queued_s
        return self._within_bounds()

    def stream_ended(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that an answer is complete."""
        session = self._of(line)
        if session is not None:
            session.token_count += line.token_count or 0
            session.polled = session.polled or bool(line.polled)
        return self._within_bounds()

    def cleanup_started(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that the chat is being given back, and why."""
        session = self._of(line)
        if session is not None:
            session.closing_since, session.cause = line.at, line.cause or ""
        return self._within_bounds()

    def handed_over(self, line: Line) -> Sequence[SessionTrace]:
        """Take in that a chat is left; it comes behind the session's end, so it begins none."""
        session = self._held.get(line.session or "")
        if session is not None:
            session.handed_over = True
        return _NOTHING

    def cleanup_failed(self, line: Line) -> Sequence[SessionTrace]:
        """Take in why a chat is left; it begins no session."""
        return self.failed(line) if line.session in self._held else _NOTHING

    def closed(self, line: Line) -> Sequence[SessionTrace]:
        """Take in a session's end; one whose chat is left is held on to."""
        session = self._of(line)
        if session is None:
            return _NOTHING
        session.closed_at, session.state = line.at, word(line.state or session.state)
        session.in_flight = session.waiting_since = None
        if not session.begun and line.elapsed_s is not None:
            session.opened_at = line.at - line.elapsed_s
        session.handed_over = session.handed_over or session.state == State.ORPHANED.value
        if session.handed_over and session.status != "swept":
            return self._within_bounds()
        return self._end(session)

    def swept(self, line: Line) -> Sequence[SessionTrace]:
        """Take in what a sweep did about a session's chat."""
        name = line.session
        if name is None or name in self._ended:
            return _NOTHING
        session = self._held.get(name)
        met = session is not None and bool(session.engine)  # by a line of its own, not only by another sweep's
        if session is None:
            session = self._held[name] = Held(id=name, opened_at=line.at, last_at=line.at)
            session.service, session.account = line.service or "", line.account or ""
        session.chat = line.chat or session.chat
        if session.swept is None or line.at >= session.swept.at:  # files may be read one after the other
            session.swept = swept_by(session, line, _OUTCOMES[line.event])
        if session.status == "swept" and (met or self._in_order):
            return self._end(session)
        return self._within_bounds()

    # -- what is held -------------------------------------------------------------------------------------------------

    def _of(self, line: Line) -> Held | None:
        """Return the session of a line; ``None`` for a line without one, or of one that is over."""
        name = line.session
        if name is None:
            return None
        session = self._held.get(name)
        if session is None:
            if name in self._ended:
                return None
            session = self._held[name] = Held(id=name, opened_at=line.at, last_at=line.at)
        if not session.engine:
            session.engine = line.engine
            session.service, session.account = line.service or "", line.account or ""
        if line.chat is not None:
            session.chat = line.chat
        session.last_at = line.at
        return session

    def _end(self, session: Held) -> Sequence[SessionTrace]:
        """Give out a session that is over; what one that was swept still says is not listened to."""
        del self._held[session.id]
        self._items -= len(session.steps) + len(session.errors)
        if session.swept is not None:
            self._ended[session.id] = None
            if len(self._ended) > _ENDED:
                _drop_oldest(self._ended)
        return (session,)

    def _within_bounds(self) -> Sequence[SessionTrace]:
        """Give out the oldest sessions where too much is held."""
        if len(self._held) <= self._hold and self._items <= self._hold * ITEMS:
            return _NOTHING
        oldest = list(islice(self._held.values(), max(1, len(self._held) // 50)))
        for session in oldest:
            del self._held[session.id]
            self._items -= len(session.steps) + len(session.errors)
            self.judged(session)
        self.let_go += len(oldest)
        return oldest

    def _fail(self, session: Held, line: Line) -> None:
        failure = Failure(line.at, line.error or "", line.error_code or "", word(line.trigger or ""))
        session.errors_left_out += self._keep(session.errors, failure)

    def _keep(self, items: list[_T], item: _T) -> int:
        """Append to a bounded list; returns how many were left out for it."""
        items.append(item)
        if len(items) <= LONGEST_LIST:
            self._items += 1
            return 0
        del items[LONGEST_LIST // 2]
        return 1


def _drop_oldest(items: dict[str, _T]) -> None:
    for name in list(islice(items, max(1, len(items) // 10))):
        del items[name]


_TAKERS: Mapping[str, Callable[[Gatherer, Line], Sequence[SessionTrace]]] = {
    "engine.opened": Gatherer.engine_opened,
    "engine.closed": Gatherer.engine_closed,
    "trace.lost": Gatherer.lines_lost,
    "session.opened": Gatherer.opened,
    "session.transition.started": Gatherer.step_started,
    "session.transition.completed": Gatherer.step_ended,
    "session.transition.failed": Gatherer.step_ended,
    "session.call.retried": Gatherer.retried,
    "session.gate.waiting": Gatherer.waiting,
    "session.gate.acquired": Gatherer.acquired,
    "session.gate.alone": Gatherer.failed,
    "session.run.requeued": Gatherer.requeued,
    "session.stream.first_token": Gatherer.first_token,
    "session.stream.polling": Gatherer.polled,
    "session.stream.ended": Gatherer.stream_ended,
    "session.stream.failed": Gatherer.failed,
    "session.cleanup.started": Gatherer.cleanup_started,
    "session.cleanup.failed": Gatherer.cleanup_failed,
    "session.cleanup.handed_over": Gatherer.handed_over,
    "session.closed": Gatherer.closed,
    **dict.fromkeys(_OUTCOMES, Gatherer.swept),
}
"""What each event does; the others say nothing about a session's way, or come again in one of these."""
