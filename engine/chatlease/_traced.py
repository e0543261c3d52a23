"""What a session tells of itself; the words are in `_trace_events`.

Rules that live here:

* A line of a session says whose it is: engine, session, service, account, and the chat once it is known.
* Times are taken by the engine's clock, in seconds. What is waited for the account's turn is told twice: when it ends,
  and with the step ``queue_assistant`` that it was a part of.
* A step that is refused (`StepInFlight`, `SessionClosed`) is no step, and nothing is told of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._lifecycle import FINAL, State, Trigger
from ._step import Step, error_keys

if TYPE_CHECKING:
    from ._clock import Clock
    from ._engine import Engine
    from .adapter import Adapter, Call

_QUEUE_ASSISTANT = Trigger.QUEUE_ASSISTANT  # an attribute of an enum is looked up in Python; so is its `value`


class Traced:
    """
    The part of a session that tells.

    Attributes:
        opened_at: When its first step began, by the engine's clock; ``None`` before that.
        stream_opened_at: When the stream of its last answer was opened.
        waited_s: How long its last ``queue_assistant`` waited for the account's turn; ``None`` if it did not.
        whose: What its lines begin with; ``None`` when that has changed.
    """

    __slots__ = ("opened_at", "stream_opened_at", "waited_s", "whose")

    if TYPE_CHECKING:
        id: str
        engine: Engine
        adapter: Adapter
        account_name: str | None
        call: Call
        chat: str | None
        clock: Clock
        model: str
        state: State

    def __init__(self) -> None:
        self.opened_at: float | None = None
        self.stream_opened_at = 0.0
        self.waited_s: float | None = None
        self.whose: dict[str, Any] | None = None

    def trace(self, event: str, **keys: Any) -> None:
        """Send an event of this session, if anybody listens; what there is nothing to say of is left out."""
        tracer = self.engine.tracer
        if tracer.wants(event):
            tracer.emit(event, (self.whose or self._introduced()) | keys)

    def note_opened(self) -> None:
        """Note that the session's first step, or its cleanup, begins."""
        self.opened_at = self.clock.now()
        self.trace("session.opened", model=self.model)

    def trace_started(self, trigger: Trigger) -> None:
        """Tell that a step begins."""
        self.trace("session.transition.started", trigger=trigger._value_, source=self.state._value_)

    def trace_completed(self, step: Step) -> None:
        """Tell that a step is done, and whether it was the last one; called where somebody listens."""
        keys = (self.whose or self._introduced()) | {
            "trigger": step.trigger._value_,
            "source": step.source._value_,
            "dest": step.dest._value_,
            "elapsed_s": round(step.elapsed_s, 6),
        }
        self._add_made(keys, step.trigger)
        self.engine.tracer.emit("session.transition.completed", keys)
        if step.dest in FINAL:
            self.trace("session.closed", state=step.dest._value_, elapsed_s=self._since(self.opened_at))

    def trace_failed(self, trigger: Trigger, source: State, began: float, error: BaseException) -> None:
        """Tell that a step failed."""
        keys = {"trigger": trigger._value_, "source": source._value_, "elapsed_s": self._since(began)}
        self._add_made(keys, trigger)
        self.trace("session.transition.failed", **keys | error_keys(error))

    def trace_retry(self, trigger: Trigger, attempt: int, error: BaseException) -> None:
        """Tell that a call is made again."""
        self.trace("session.call.retried", trigger=trigger._value_, attempt=attempt, **error_keys(error))

    def trace_waiting(self, waits_for: str) -> None:
        """Tell that it is not yet the account's turn."""
        self.waited_s = 0.0
        self.trace("session.gate.waiting", waits_for=waits_for)

    def trace_acquired(self, began: float) -> None:
        """Tell that it is the account's turn."""
        if self.waited_s is not None or self.engine.tracer.wants("session.gate.acquired"):
            self.trace("session.gate.acquired", waited_s=self.note_waited(began))

    def note_waited(self, began: float) -> float:
        """Note the end of the wait for the account's turn, if there was one; returns how long it took."""
        waited_s = self._since(began)
        if self.waited_s is not None:
            self.waited_s = waited_s
        return waited_s

    def _introduced(self) -> dict[str, Any]:
        """Return whose lines these are."""
        self.whose = {"engine": self.engine.tracer.engine, "session": self.id, "service": self.adapter.service}
        account = self.call.login.account or self.account_name
        if account:
            self.whose["account"] = account
        if self.chat is not None:
            self.whose["chat"] = self.chat
        return self.whose

    def _add_made(self, keys: dict[str, Any], trigger: Trigger) -> None:
        """Add what is known of the requests of a step, and of the wait before them."""
        if self.call.http_request is not None:
            keys["http_request"] = self.call.http_request
        if self.call.http_status is not None:
            keys["http_status"] = self.call.http_status
        if trigger is _QUEUE_ASSISTANT and self.waited_s is not None:
            keys["waited_s"] = self.waited_s

    def _since(self, began: float | None) -> float:
        return 0.0 if began is None else round(self.clock.now() - began, 6)
