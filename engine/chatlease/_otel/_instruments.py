"""The metrics: their names, units and buckets.

Rules that live here:

* No id is an attribute of a metric. The account is one only where it is asked for. Names of models are free text of
  the program, so after so many of them the rest is ``_OTHER``.
* What can be looked up when metrics are collected costs a session nothing: that is observed (`_watched`). The rest is
  recorded as it happens.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import Counter, Histogram, Meter

from ._keys import OTHER
from ._watched import Watched

_MODELS = 100

_SECONDS: Sequence[float] = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' own for `gen_ai.client.operation.duration`."""
_LONG_SECONDS: Sequence[float] = (*_SECONDS, 163.84, 327.68, 655.36, 1310.72, 2621.44, 5242.88)
"""For sessions, which may have many turns."""


class Instruments:
    """
    Every metric of the hook.

    Args:
        meter: Makes them.
        watched: What is observed.
    """

    def __init__(self, meter: Meter, watched: Watched) -> None:
        self._meter = meter
        self._models: set[str] = set()
        self.opened = self._counter("chatlease.sessions.opened", "{session}", "Sessions whose first step has begun.")
        self.closed = self._counter("chatlease.sessions.closed", "{session}", "Sessions that are over, by final state.")
        self.session = self._seconds("chatlease.session.duration", "Life of a session.", _LONG_SECONDS)
        self.step = self._seconds("chatlease.step.duration", "Duration of a step, failed ones too.")
        self.gate = self._seconds("chatlease.gate.wait", "Time that a session waited for its account's turn.")
        self.answer = self._seconds(
            "gen_ai.client.operation.duration", "An answer, from the request that queues it to its end."
        )
        self.first_chunk = self._seconds(
            "gen_ai.client.operation.time_to_first_chunk", "From the request that queues an answer to its first token."
        )
        self.tokens = self._counter("chatlease.tokens", "{token}", "Tokens of complete answers, as streamed.")
        self.errors = self._counter("chatlease.errors", "{error}", "Steps that failed.")
        self.retries = self._counter("chatlease.retries", "{call}", "Calls that were made again.")
        self.requeues = self._counter("chatlease.requeues", "{answer}", "Answers queued again, cancelled by others.")
        self.left = self._counter("chatlease.chats.left", "{chat}", "Chats left to the ledger's sweepers.")
        self.swept = self._counter("chatlease.sweep.chats", "{chat}", "What sweeps did, by outcome.")
        self.sweeps = self._counter("chatlease.sweeps", "{sweep}", "Sweeps, by outcome.")
        self.sweep = self._seconds("chatlease.sweep.duration", "Duration of a sweep.", _LONG_SECONDS)
        self.ledger_events = self._counter("chatlease.ledger.events", "{event}", "What happened to the ledger itself.")
        meter.create_observable_up_down_counter(
            "chatlease.sessions.open", [watched.open], unit="{session}", description="Open sessions, by state."
        )
        self._gauge("chatlease.ledger.open", watched, "Open entries at the last sweep.")
        self._gauge("chatlease.ledger.parked", watched, "Of these, those that wait for a login that works.")
        self._gauge("chatlease.ledger.undeleted", watched, "Of these, dead letters.")

    def model(self, name: str) -> str:
        """Return the name of a model as an attribute of a metric."""
        if name in self._models:
            return name
        if len(self._models) >= _MODELS:
            return OTHER
        self._models.add(name)
        return name

    def _counter(self, name: str, unit: str, description: str) -> Counter:
        return self._meter.create_counter(name, unit=unit, description=description)

    def _gauge(self, name: str, watched: Watched, description: str) -> None:
        count = watched.count(name.rpartition(".")[2])
        self._meter.create_observable_gauge(name, [count], unit="{entry}", description=description)

    def _seconds(self, name: str, description: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return self._meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=buckets
        )
