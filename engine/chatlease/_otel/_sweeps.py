"""What trace events say of sweeps and of the ledger, as spans and metrics.

Rules that live here:

* A sweep that found something to do, or failed, is a span, a trace of its own; what it did to each chat is a span event
  with the id of the session that left it. It cannot be linked to that session's trace: the session may be another
  process's, and the ledger has no trace ids.
* Sweeps of one engine never overlap, so what is heard between two ends belongs to the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import StatusCode, Tracer

from chatlease._trace import EVENTS, TraceEvent

from . import _keys
from ._instruments import Instruments
from ._keys import Attributes, attributes, nanoseconds
from ._sessions import Handlers
from ._watched import Watched

_NOTES = 128
"""As many events as a span of the SDK keeps by default."""
_ENDS = {"sweep.started", "sweep.completed", "sweep.failed"}
_OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "sweep.chat.deleted": "deleted",
        "sweep.candidate.deleted": "deleted",
        "sweep.chat.failed": "failed",
        "sweep.chat.dead": "dead",
        "sweep.entry.absent": "absent",
    }
)
_LEFT = ("open", "parked", "undeleted")
_COUNTS = ("reaped", "claimed", "swept", "absent", "failed", "dead")


class Sweeps:
    """
    The sweeps that are under way.

    Args:
        tracer: Makes the spans.
        metrics: What is recorded.
        watched: What is observed.

    Attributes:
        handlers: What to call for which event.
    """

    def __init__(self, tracer: Tracer, metrics: Instruments, watched: Watched) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._watched = watched
        self._notes: dict[str, list[tuple[str, int, Attributes]]] = {}
        self.handlers: Handlers = {
            **{name: self._note for name in EVENTS if name.startswith("sweep.") and name not in _ENDS},
            **{name: self._ledger for name in EVENTS if name.startswith("ledger.")},
            "sweep.completed": self._completed,
            "sweep.failed": self._failed,
        }

    def forget(self, engine: str) -> None:
        """Forget a sweep that will not end, because its engine has."""
        self._notes.pop(engine, None)

    def _note(self, event: TraceEvent) -> None:
        notes = self._notes.setdefault(event.keys.get("engine", ""), [])
        if len(notes) < _NOTES:
            notes.append((event.event, nanoseconds(event.at), attributes(event.keys)))
        outcome = _OUTCOMES.get(event.event)
        if outcome is not None:
            self._metrics.swept.add(1, {_keys.SERVICE: event.keys["service"], _keys.OUTCOME: outcome})

    def _completed(self, event: TraceEvent) -> None:
        keys = event.keys
        self._metrics.sweeps.add(1, {_keys.OUTCOME: "completed"})
        self._metrics.sweep.record(keys["elapsed_s"], context=Context())
        self._watched.left = {name: keys[name] for name in _LEFT}
        if any(keys[name] for name in _COUNTS):
            self._span(event, nanoseconds(event.at) - nanoseconds(keys["elapsed_s"]))
        self.forget(keys.get("engine", ""))

    def _failed(self, event: TraceEvent) -> None:
        self._metrics.sweeps.add(1, {_keys.OUTCOME: "failed"})
        notes = self._notes.get(event.keys.get("engine", ""))
        self._span(event, notes[0][1] if notes else nanoseconds(event.at))
        self.forget(event.keys.get("engine", ""))

    def _span(self, event: TraceEvent, began: int) -> None:
        # In an empty context: the current span is that of whoever opened the engine, long ago.
        described = _described(event.keys)
        span = self._tracer.start_span("chatlease.sweep", Context(), attributes=described, start_time=began)
        for name, at, found in self._notes.get(event.keys.get("engine", ""), ()):
            span.add_event(name, found, at)
        if "error" in event.keys:
            span.set_status(StatusCode.ERROR)
        span.end(max(nanoseconds(event.at), began))

    def _ledger(self, event: TraceEvent) -> None:
        self._metrics.ledger_events.add(1, {_keys.EVENT: event.event})


def _described(keys: Mapping[str, Any]) -> Attributes:
    counted = {f"chatlease.{name}": keys[name] for name in _COUNTS if name in keys}
    return counted | attributes({key: value for key, value in keys.items() if key in {"engine", "error"}})
