"""The spans of one session: itself, its steps, its answers, its cleanup.

Rules that live here:

* A step's span is made when the step is over, with the times of its event. The session's, an answer's and the cleanup's
  are open meanwhile, and get what happens between steps as span events.
* An answer is one inference in the words of the GenAI conventions. It begins when its request is sent (what came before
  is waiting for the account's turn) and ends with its last token.
* A session's status is an error when its last step before the cleanup failed, or its chat is left.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from chatlease._lifecycle import State, Trigger

from . import _keys
from ._keys import Attributes, attributes

_ORPHANED = State.ORPHANED.value
_LOCAL = {trigger.value for trigger in (Trigger.READY_COOKIES, Trigger.ABANDON, Trigger.HAND_OVER)}
"""Steps that ask the service nothing, or nothing that is worth a client span."""


class Answer:
    """An answer that is under way: its span, and when its request was sent, in nanoseconds."""

    __slots__ = ("began", "span")

    def __init__(self, span: Span, began: int) -> None:
        self.span = span
        self.began = began


class SessionSpans:
    """
    One session's spans.

    Args:
        tracer: Makes them.
        keys: Of the first event that was heard of the session.
        state: That it is in.
        began: Nanoseconds.

    Attributes:
        context: In which measurements of the session are made.
        keys: Of the last event, which may know more than the first: the account, the chat.
        state: As in traces.
        error: Class of what the last step failed with, before the cleanup; empty if it did not fail.
        waiting: For the account's turn.
        turn_at: When its turn had come, until the answer is queued; nanoseconds.
        over_at: When its final state was reached; its cleanup may have more to tell.
    """

    __slots__ = (
        "_cleanup",
        "_cleanup_context",
        "_left_by",
        "_model",
        "_span",
        "_tracer",
        "answer",
        "began",
        "context",
        "error",
        "keys",
        "over_at",
        "state",
        "turn_at",
        "waiting",
    )

    def __init__(self, tracer: Tracer, keys: dict[str, Any], state: str, began: int) -> None:
        self._tracer = tracer
        self.keys = keys
        self.state = state
        self.began = began
        self._model = str(keys.get("model", ""))
        self._span = tracer.start_span("chatlease.session", attributes=self._described(), start_time=began)
        self.context = set_span_in_context(self._span)
        self._cleanup: Span | None = None
        self._cleanup_context: Context | None = None
        self._left_by = ""
        self.answer: Answer | None = None
        self.error = ""
        self.waiting = False
        self.turn_at = 0
        self.over_at = 0

    @property
    def cleaning(self) -> bool:
        """Whether the chat is being given back."""
        return self._cleanup is not None

    @property
    def inference(self) -> Attributes:
        """What the conventions want of everything about an answer."""
        found: Attributes = {_keys.OPERATION: "chat", _keys.PROVIDER: self.keys["service"]}
        if self._model:
            found[_keys.MODEL] = self._model
        return found

    # -- steps --------------------------------------------------------------------------------------------------------

    def step(self, keys: dict[str, Any], began: int, ended: int) -> None:
        """Make the span of a step that is over; it failed if there is an error among the keys."""
        trigger, error = keys["trigger"], str(keys.get("error", ""))
        span = self._tracer.start_span(
            trigger,
            self._cleanup_context or self.context,
            SpanKind.INTERNAL if trigger in _LOCAL else SpanKind.CLIENT,
            attributes(keys, _keys.INSIDE),
            start_time=began,
        )
        if error:
            span.set_status(StatusCode.ERROR)
        span.end(ended)
        if self.cleaning:
            self._left_by = error or self._left_by
        else:
            self.error = error

    def note(self, name: str, keys: dict[str, Any], at: int, *, of_answer: bool = False) -> None:
        """Add an event to the span that it belongs to."""
        span = self._cleanup or self._span
        if of_answer and self.answer is not None:
            span = self.answer.span
        span.add_event(name, attributes(keys, _keys.INSIDE), at)

    # -- answers ------------------------------------------------------------------------------------------------------

    def begin_answer(self, began: int) -> Answer:
        """Open the span of an answer; it is one, however often it has to be queued."""
        if self.answer is None:
            described = self.inference | {_keys.STREAM: True} | self._conversation()
            name = f"chat {self._model}" if self._model else "chat"
            span = self._tracer.start_span(name, self.context, SpanKind.CLIENT, described, start_time=began)
            self.answer = Answer(span, began)
        return self.answer

    def end_answer(self, at: int, *, complete: bool = False, error: str = "", **keys: Any) -> Answer | None:
        """Close the span of the answer, if there is one; returns it."""
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.span.set_attributes({_keys.COMPLETE: complete, **attributes(keys)})
            if error:
                _fail(answer.span, error)
            answer.span.end(max(at, answer.began))
        return answer

    # -- the end ------------------------------------------------------------------------------------------------------

    def begin_cleanup(self, keys: dict[str, Any], at: int) -> None:
        """Open the span below which the steps of the cleanup are."""
        described = attributes(keys, _keys.INSIDE)
        self._cleanup = self._tracer.start_span("chatlease.cleanup", self.context, attributes=described, start_time=at)
        self._cleanup_context = set_span_in_context(self._cleanup, self.context)

    def end_cleanup(self, keys: dict[str, Any], at: int) -> None:
        """Close it, if it is open."""
        cleanup, self._cleanup, self._cleanup_context = self._cleanup, None, None
        if cleanup is not None:
            cleanup.set_attributes(attributes(keys, _keys.INSIDE))
            if self.state == _ORPHANED:
                _fail(cleanup, self._left_by or _keys.OTHER)
            cleanup.end(at)

    def end(self) -> None:
        """Close the session's span: it is over."""
        error = self.error
        if self.state == _ORPHANED:
            error = self._left_by or error or _keys.OTHER
        self._close(max(self.over_at, self.began), {_keys.STATE: self.state}, error)

    def drop(self, at: int) -> None:
        """Close all that is open, of a session whose end was not heard of."""
        at = max(at, self.began)
        self.end_answer(at)
        self.end_cleanup({}, at)
        self._close(at, {_keys.STATE: self.state, _keys.UNFINISHED: True}, "")

    def _close(self, at: int, described: Attributes, error: str) -> None:
        self._span.set_attributes(self._described() | self._conversation() | described)
        if error:
            _fail(self._span, error)
        self._span.end(at)

    def _described(self) -> Attributes:
        known = {key: value for key, value in self.keys.items() if key in _keys.CONTEXT}
        return attributes(known) | {name: value for name, value in self.inference.items() if name != _keys.OPERATION}

    def _conversation(self) -> Attributes:
        chat = self.keys.get("chat")
        return {} if chat is None else {_keys.CONVERSATION: chat}


def _fail(span: Span, error: str) -> None:
    span.set_attribute(_keys.ERROR, error)
    span.set_status(StatusCode.ERROR)
