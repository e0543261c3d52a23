"""OpenTelemetry: a hook that makes spans and metrics of what sessions and sweeps tell.

Needs the extra ``chatlease[otel]``, which is OpenTelemetry's API alone; what is recorded goes where the program's own
SDK sends it, and nowhere without one.

Rules that live here:

* Names are those of OpenTelemetry's semantic conventions 1.41.1 where they have one. Their part on generative AI
  (``gen_ai.*``) has the status Development: it may change, and ours then changes with it, in a minor version of ours.
  What is ours alone is below ``chatlease.``; ``engine/README.md`` lists both.
* No text of a prompt or an answer, no credential: there is none in a trace event. Accounts are names or fingerprints.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ._trace import TraceEvent

try:
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import TracerProvider, get_tracer
except ImportError:
    raise ImportError(
        "chatlease.otel needs the OpenTelemetry API: install chatlease[otel]", name="opentelemetry"
    ) from None

from ._otel._instruments import Instruments
from ._otel._keys import SCHEMA_URL
from ._otel._sessions import Sessions
from ._otel._sweeps import Sweeps
from ._otel._watched import watched_by
from .errors import UsageError

__all__ = ["OpenTelemetry"]


class OpenTelemetry:
    """
    A hook for ``Engine(hooks=[...])``: a span per session, with a child per step and per answer, and metrics.

    The parent of a session's span is the span that is current in the task that makes its first step: the bot's own, if
    it has one. Ours is never made current, so that nothing of the bot becomes its child. Times are the engine's, from
    the events, not the SDK's.

    One hook may serve several engines, of one event loop. It is called in the session's own task, so have the SDK
    export in batches (`BatchSpanProcessor`). What an exporter does wrong the SDK keeps to itself; what a span processor
    raises drops the hook, as any hook that raises is dropped, and disturbs no session; it closes itself before.

    Args:
        tracer_provider: Of the spans; the global one if left out, also if that is set later.
        meter_provider: Of the metrics; likewise.
        account: Make the account an attribute of metrics, too: one more time series per account. Spans always have it.
        max_open: So many sessions are held at most, a few KiB each. When there are more, the span of the oldest is
            ended as ``chatlease.unfinished``, and what it does later becomes another span.

    Raises:
        UsageError: ``max_open`` is less than 1.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        account: bool = False,
        max_open: int = 10_000,
    ) -> None:
        if max_open < 1:
            raise UsageError("max_open is the number of sessions that are held, at least 1")
        tracer = get_tracer("chatlease", _version(), tracer_provider, SCHEMA_URL)
        watched = watched_by(meter_provider)
        metrics = Instruments(get_meter("chatlease", _version(), meter_provider, SCHEMA_URL), watched)
        self._sessions = Sessions(tracer, metrics, watched, limit=max_open, account=account)
        self._sweeps = Sweeps(tracer, metrics, watched)
        self._handlers = {**self._sweeps.handlers, **self._sessions.handlers}

    def __call__(self, event: TraceEvent) -> None:
        """
        Take an event in; called by the engine.

        What a span processor raises comes out, and nothing is heard any more: the hook has closed itself.
        """
        try:
            self._take(event)
        except Exception:
            self.close()  # it will be dropped, and must not show for ever what it does not hear the end of
            raise

    def _take(self, event: TraceEvent) -> None:
        handler = self._handlers.get(event.event)
        if handler is not None:
            handler(event)
        if event.event == "engine.closed":
            self._sweeps.forget(event.keys["engine"])

    def close(self) -> None:
        """
        End the spans that are still open, as ``chatlease.unfinished``, at the time of the last event.

        May be called twice; nothing is heard any more afterwards. When the engine has closed there are none left, so
        this is for hooks that are taken away while it runs. The providers are the program's, and stay open.
        """
        self._handlers = {}
        self._sessions.drop_all()


def _version() -> str:
    try:
        return version("chatlease")
    except PackageNotFoundError:  # a folder on the path, never installed
        return ""
