"""The real SDK of OpenTelemetry, in memory: what tests of `chatlease.otel` look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatlease.otel import OpenTelemetry

Tree: TypeAlias = dict[str, Any]
Labels: TypeAlias = frozenset[tuple[str, object]]


class Telemetry:
    """
    Providers whose spans and metrics stay in memory, and a hook that gives them some.

    Attributes:
        hook: For ``Engine(hooks=[...])``.
        exporter: Has the spans that have ended.
    """

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.hook = self.another_hook(**options)

    def another_hook(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(self.tracers, self.meters, **options)

    # -- spans --------------------------------------------------------------------------------------------------------

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if name in {None, span.name}]

    def span(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span

    def tree(self) -> list[Tree]:
        """Return the roots: each span's name, and its children's in the order of their beginnings."""
        return [{span.name: below} for span, below in self._below(None)]

    def _below(self, parent: int | None) -> list[tuple[ReadableSpan, list[Tree]]]:
        mine = [span for span in self.spans() if (span.parent.span_id if span.parent else None) == parent]
        mine.sort(key=lambda span: (span.start_time or 0, span.end_time or 0))
        return [(span, [{each.name: below} for each, below in self._below(id_of(span))]) for span in mine]

    # -- metrics ------------------------------------------------------------------------------------------------------

    def points(self) -> Iterator[tuple[str, NumberDataPoint | HistogramDataPoint]]:
        """Yield every point of every metric."""
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        assert isinstance(point, (NumberDataPoint, HistogramDataPoint))
                        yield metric.name, point

    def units(self) -> dict[str, str | None]:
        """Return the unit of every metric that has a point."""
        data = self._reader.get_metrics_data()
        found = [each for resource in data.resource_metrics for each in resource.scope_metrics] if data else []
        return {metric.name: metric.unit for scope in found for metric in scope.metrics}

    def metric(self, name: str) -> dict[Labels, float]:
        """Return a metric's values by attributes; of a histogram, the sums."""
        return {labels_of(point): value_of(point) for found, point in self.points() if found == name}

    def count(self, name: str) -> dict[Labels, int]:
        """Return how often a histogram was recorded, by attributes."""
        points = [(labels_of(point), point) for found, point in self.points() if found == name]
        return {labels: point.count for labels, point in points if isinstance(point, HistogramDataPoint)}


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def labels(**named: object) -> Labels:
    """Return attributes as `Telemetry.metric` has them; ``_`` stands for a dot, and all are ours but some."""
    return frozenset((_NAMES.get(name, f"chatlease.{name}"), value) for name, value in named.items())


_NAMES: Mapping[str, str] = {
    "error": "error.type",
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
}


def labels_of(point: NumberDataPoint | HistogramDataPoint) -> Labels:
    return frozenset((point.attributes or {}).items())


def value_of(point: NumberDataPoint | HistogramDataPoint) -> float:
    return point.value if isinstance(point, NumberDataPoint) else point.sum


def seconds(span: ReadableSpan, start: float) -> tuple[float, float]:
    """Return when a span began and ended, in seconds since the clock's start."""
    assert span.start_time is not None
    assert span.end_time is not None
    return _since(start, span.start_time), _since(start, span.end_time)


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def events_of(span: ReadableSpan, start: float) -> list[tuple[str, float]]:
    return [(event.name, _since(start, event.timestamp)) for event in span.events]


def _since(start: float, at: int) -> float:
    return round(at / 1e9 - start, 6)


def is_whole(told: Telemetry) -> bool:
    """Say whether all that was begun has ended, and every span lies within its parent, in time too."""
    spans = {id_of(span): span for span in told.spans()}
    assert len(spans) == len(told.spans())
    for span in spans.values():
        assert span.start_time is not None
        assert span.end_time is not None
        parent = span.parent and spans[span.parent.span_id]
        if parent:
            assert (parent.start_time or 0) <= span.start_time <= span.end_time <= (parent.end_time or 0)
    return not len(told.hook._sessions) and not any(told.metric("chatlease.sessions.open").values())
