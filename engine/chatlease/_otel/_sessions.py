"""What trace events say of sessions, as spans and metrics.

Rules that live here:

* A session is open from its first event to its last, which is that of its cleanup where it has one. What is heard of a
  session that is not open (it was begun before the hook listened, or dropped because there were too many) opens it.
* There are never more open than the limit: the oldest is then closed, marked as unfinished. So are those of an engine
  that closes, and all of them when the hook does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TypeAlias

from opentelemetry.trace import Tracer

from chatlease._lifecycle import FINAL, State, Trigger
from chatlease._trace import TraceEvent

from . import _keys
from ._instruments import Instruments
from ._keys import Attributes, nanoseconds
from ._spans import SessionSpans
from ._watched import Watched

Handlers: TypeAlias = Mapping[str, Callable[[TraceEvent], object]]

_FINAL = {state.value for state in FINAL}
_QUEUE_ASSISTANT = Trigger.QUEUE_ASSISTANT.value
_ENDS_ANSWER = {
    trigger.value for trigger in (Trigger.SEND_PROMPT, Trigger.STOP_RUN, Trigger.DELETE_CHAT, Trigger.HAND_OVER)
}


class Sessions:
    """
    The sessions that are open.

    Args:
        tracer: Makes the spans.
        metrics: What is recorded.
        watched: What is observed.
        limit: So many are open at most.
        account: Whether the account is an attribute of metrics.

    Attributes:
        handlers: What to call for which event.
    """

    def __init__(self, tracer: Tracer, metrics: Instruments, watched: Watched, *, limit: int, account: bool) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._watched = watched
        self._limit = limit
        self._account = account
        self._open: dict[str, SessionSpans] = {}
        self._last_at = 0
        watched.sessions.add(self)
        self.handlers: Handlers = {
            "engine.closed": self._engine_closed,
            "session.opened": self._opened,
            "session.transition.completed": self._completed,
            "session.transition.failed": self._failed,
            "session.call.retried": self._retried,
            "session.gate.waiting": self._waiting,
            "session.gate.acquired": self._acquired,
            "session.gate.alone": self._note,
            "session.run.requeued": self._requeued,
            "session.stream.first_token": self._first_token,
            "session.stream.polling": self._note_of_answer,
            "session.stream.differs": self._note_of_answer,
            "session.stream.ended": self._answered,
            "session.stream.failed": self._answer_failed,
            "session.cleanup.started": self._cleanup_started,
            "session.cleanup.failed": self._note,
            "session.cleanup.completed": self._cleanup_ended,
            "session.cleanup.handed_over": self._cleanup_ended,
            "session.closed": self._closed,
        }

    def __len__(self) -> int:
        return len(self._open)

    def states(self) -> Iterator[tuple[str, str]]:
        """Yield service and state of each open session; may be called in any thread."""
        for session in list(self._open.values()):
            yield session.keys["service"], session.state

    def drop_all(self) -> None:
        """Close every span that is open, at the time of the last event; one that cannot be closed holds up no other."""
        for name in tuple(self._open):
            with suppress(Exception):  # a span processor's own
                self._drop(name)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _opened(self, event: TraceEvent) -> None:
        self._begin(event, State.NEW.value)

    def _begin(self, event: TraceEvent, state: str) -> SessionSpans:
        while len(self._open) >= self._limit:
            self._drop(next(iter(self._open)))
        began = nanoseconds(event.at - event.keys.get("elapsed_s", 0.0))
        session = self._open[event.keys["session"]] = SessionSpans(self._tracer, event.keys, state, began)
        if state == State.NEW.value:
            self._metrics.opened.add(1, self._labels(event))
        self._watched.services.add(event.keys["service"])
        return session

    def _find(self, event: TraceEvent) -> tuple[SessionSpans | None, int]:
        """Return the session of an event, if it is open, and the event's time."""
        self._last_at = nanoseconds(event.at)
        session = self._open.get(event.keys["session"])
        if session is not None:
            session.keys = event.keys
        return session, self._last_at

    def _find_or_begin(self, event: TraceEvent, state: str) -> tuple[SessionSpans, int]:
        session, at = self._find(event)
        return (session or self._begin(event, state)), at

    def _closed(self, event: TraceEvent) -> None:
        keys, labels = event.keys, self._labels(event)
        self._metrics.closed.add(1, labels | {_keys.STATE: keys["state"]})
        if keys["state"] == State.ORPHANED.value:
            self._metrics.left.add(1, labels)
        session, at = self._find(event)
        if session is None:
            return
        self._metrics.session.record(keys["elapsed_s"], labels | {_keys.STATE: keys["state"]}, session.context)
        session.over_at = at
        if not session.cleaning:
            self._end(keys["session"], session)

    def _end(self, name: str, session: SessionSpans) -> None:
        del self._open[name]
        session.end_answer(session.over_at)
        session.end()

    def _drop(self, name: str) -> None:
        session = self._open.pop(name)
        session.drop(self._last_at)

    def _engine_closed(self, event: TraceEvent) -> None:
        self._last_at = nanoseconds(event.at)
        engine = event.keys["engine"]
        for name in [name for name, session in self._open.items() if session.keys.get("engine") == engine]:
            self._drop(name)

    def _labels(self, event: TraceEvent) -> Attributes:
        labels: Attributes = {_keys.SERVICE: event.keys["service"]}
        if self._account and "account" in event.keys:
            labels[_keys.ACCOUNT] = event.keys["account"]
        return labels

    # -- steps --------------------------------------------------------------------------------------------------------

    def _completed(self, event: TraceEvent) -> None:
        keys = event.keys
        session, at = self._find_or_begin(event, keys["source"])
        began = self._step(session, event, at)
        session.state = keys["dest"]
        if keys["trigger"] == _QUEUE_ASSISTANT:
            self._begin_answer(session, began)
        elif keys["trigger"] in _ENDS_ANSWER:
            session.end_answer(began)

    def _failed(self, event: TraceEvent) -> None:
        keys = event.keys
        session, at = self._find_or_begin(event, keys["source"])
        began = self._step(session, event, at)
        which = {_keys.TRIGGER: keys["trigger"], _keys.ERROR: keys["error"]}
        self._metrics.errors.add(1, self._labels(event) | which)
        if keys["trigger"] == _QUEUE_ASSISTANT:
            if not session.waiting:  # else nothing was asked of the service
                self._begin_answer(session, began)
                self._fail_answer(session, at)
            session.waiting = False

    def _step(self, session: SessionSpans, event: TraceEvent, at: int) -> int:
        """Record a step that is over; returns when it began."""
        keys = event.keys
        began = at - nanoseconds(keys["elapsed_s"])
        session.step(keys, began, at)
        labels = self._labels(event) | {_keys.TRIGGER: keys["trigger"]}
        if "error" in keys:
            labels[_keys.ERROR] = keys["error"]
        self._metrics.step.record(keys["elapsed_s"], labels, session.context)
        return began

    def _retried(self, event: TraceEvent) -> None:
        self._metrics.retries.add(1, self._labels(event) | {_keys.TRIGGER: event.keys["trigger"]})
        self._note(event)

    def _waiting(self, event: TraceEvent) -> None:
        session, _ = self._find(event)
        if session is not None:
            session.waiting = True
        self._note(event)

    def _acquired(self, event: TraceEvent) -> None:
        session, at = self._find(event)
        if session is None:
            return
        session.turn_at = at
        self._metrics.gate.record(event.keys["waited_s"], self._labels(event), session.context)
        if session.waiting:
            session.waiting = False
            self._note(event)

    def _note(self, event: TraceEvent, *, of_answer: bool = False) -> None:
        session, at = self._find(event)
        if session is not None:
            session.note(event.event, event.keys, at, of_answer=of_answer)

    # -- answers ------------------------------------------------------------------------------------------------------

    def _begin_answer(self, session: SessionSpans, began: int) -> None:
        session.begin_answer(max(began, session.turn_at))
        session.turn_at = 0

    def _first_token(self, event: TraceEvent) -> None:
        session, at = self._find(event)
        if session is None or session.answer is None:
            return
        waited = max(at - session.answer.began, 0) / 1e9
        session.answer.span.set_attribute(_keys.FIRST_CHUNK, waited)
        session.note(event.event, event.keys, at, of_answer=True)
        self._metrics.first_chunk.record(waited, self._inference(session), session.context)

    def _answered(self, event: TraceEvent) -> None:
        keys = event.keys
        self._metrics.tokens.add(keys["token_count"], self._labels(event))
        session, at = self._find(event)
        if session is None:
            return
        answer = session.end_answer(at, complete=True, token_count=keys["token_count"], polled=keys["polled"])
        if answer is not None:
            self._metrics.answer.record(max(at - answer.began, 0) / 1e9, self._inference(session), session.context)

    def _answer_failed(self, event: TraceEvent) -> None:
        error = event.keys["error"]
        self._metrics.errors.add(1, self._labels(event) | {_keys.TRIGGER: "read_answer", _keys.ERROR: error})
        self._note_of_answer(event)
        session, at = self._find(event)
        if session is not None:
            session.error = error
            self._fail_answer(session, at)

    def _fail_answer(self, session: SessionSpans, at: int) -> None:
        """End an answer that is not complete; an error only if something failed: it may just have been left."""
        answer = session.end_answer(at, error=session.error)
        if answer is not None and session.error:
            labels = self._inference(session) | {_keys.ERROR: session.error}
            self._metrics.answer.record(max(at - answer.began, 0) / 1e9, labels, session.context)

    def _requeued(self, event: TraceEvent) -> None:
        self._metrics.requeues.add(1, self._labels(event))
        self._note_of_answer(event)

    def _note_of_answer(self, event: TraceEvent) -> None:
        self._note(event, of_answer=True)

    def _inference(self, session: SessionSpans) -> Attributes:
        labels = session.inference
        if _keys.MODEL in labels:
            labels[_keys.MODEL] = self._metrics.model(str(labels[_keys.MODEL]))
        return labels

    # -- the cleanup --------------------------------------------------------------------------------------------------

    def _cleanup_started(self, event: TraceEvent) -> None:
        state = event.keys["state"]
        if state in _FINAL and event.keys["session"] not in self._open:  # somebody else's deletion was quicker
            return
        session, at = self._find_or_begin(event, state)
        self._fail_answer(session, at)
        session.begin_cleanup(event.keys, at)

    def _cleanup_ended(self, event: TraceEvent) -> None:
        session, at = self._find(event)
        if session is None:
            return
        session.end_cleanup(event.keys, at)
        if session.over_at:
            self._end(event.keys["session"], session)
