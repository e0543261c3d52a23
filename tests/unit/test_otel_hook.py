"""`chatlease.otel` as a guest: sweeps as traces of their own, no secret in anything, and its failures hurt nobody."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from chatlease import Credential, Engine, Sweep
from chatlease._otel import _keys, _sweeps
from chatlease._otel._instruments import Instruments
from chatlease._otel._watched import Watched
from chatlease._trace_events import KEYS
from chatlease.errors import ChatleaseError, RunFailed, Unavailable, UsageError
from chatlease.events import Failed
from chatlease.otel import OpenTelemetry
from chatlease.testing import FakeService, Fault, ManualClock, MemoryLedger, capture_trace
from tests.pages import table

from .otel_kit import Telemetry, attributes_of, events_of, seconds
from .test_otel_metrics import entries


@pytest.fixture
def told() -> Telemetry:
    return Telemetry()


# -- sweeps -----------------------------------------------------------------------------------------------------------


async def test_a_sweep_that_did_something_is_a_trace_of_its_own(clock: ManualClock, told: Telemetry) -> None:
    ledger, service = MemoryLedger(clock=clock), FakeService(clock=clock)
    await ledger.open()
    start = clock.wall()
    bot = told.tracers.get_tracer("bot")
    with bot.start_as_current_span("start-up"):
        async with Engine(service, clock=clock, ledger=ledger, hooks=[told.hook]) as engine:
            await entries(ledger, service, "alice")
            service.fail("delete_chat", Fault(delay_s=3.0))
            await engine.sweep()
    sweep = told.span("chatlease.sweep")
    assert sweep.parent is None
    assert seconds(sweep, start) == (0.0, 3.0)
    assert attributes_of(sweep) == {
        "chatlease.engine": engine.tracer.engine,
        "chatlease.reaped": 0,
        "chatlease.claimed": 1,
        "chatlease.swept": 1,
        "chatlease.absent": 0,
        "chatlease.failed": 0,
        "chatlease.dead": 0,
    }
    assert events_of(sweep, start) == [("sweep.chat.deleted", 3.0)]
    told_of = dict(sweep.events[0].attributes or {})
    assert (told_of["chatlease.session"], told_of["chatlease.account"]) == ("id-alice", "alice")
    assert told_of["chatlease.chat"] == "chat-alice"


async def test_a_sweep_that_had_nothing_to_do_is_no_span(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.sweep()
    assert not told.spans()


async def test_a_sweep_that_failed_is_an_error_with_what_it_did_before(clock: ManualClock, told: Telemetry) -> None:
    start = clock.wall()
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        engine.tracer.tell("sweep.holder.reaped", count=2)
        await clock.advance(4.0)
        engine.tracer.tell("sweep.failed", error="LedgerUnavailable")
        engine.tracer.tell("sweep.failed", error="LedgerUnavailable")
    first, second = told.spans("chatlease.sweep")
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert attributes_of(first)["error.type"] == "LedgerUnavailable"
    assert (seconds(first, start), seconds(second, start)) == ((0.0, 4.0), (4.0, 4.0))
    assert (events_of(first, start), events_of(second, start)) == ([("sweep.holder.reaped", 0.0)], [])


async def test_what_is_kept_of_a_sweep_is_bounded_and_ends_with_its_engine(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        for _ in range(1000):
            engine.tracer.tell("sweep.holder.reaped", count=1)
        [notes] = told.hook._sweeps._notes.values()
        assert len(notes) == 128
    assert not told.hook._sweeps._notes


async def test_sweeps_of_several_engines_are_told_apart(clock: ManualClock, told: Telemetry) -> None:
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as first,
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as second,
    ):
        first.tracer.tell("sweep.holder.reaped", count=1)
        second.tracer.tell("sweep.failed", error="LedgerUnavailable")
        first.tracer.tell("sweep.failed", error="LedgerUnavailable")
    assert [len(span.events) for span in told.spans("chatlease.sweep")] == [0, 1]


# -- no secret --------------------------------------------------------------------------------------------------------

SECRETS = (
    "planted-cookie-3f1a",
    "planted-key-7c2b",
    "planted-password-9d4e",
    "planted-question-1b8c",
    "planted-answer-5e6f",
)
COOKIE, KEY, PASSWORD, QUESTION, ANSWER = SECRETS
CREDENTIAL = Credential(
    cookies={"login": COOKIE}, headers={"Authorization": f"Bearer {KEY}"}, proxy=f"http://me:{PASSWORD}@127.0.0.1:1"
)


Spoil = Callable[[FakeService], object]


def failing(step: str, fault: Fault) -> Spoil:
    return lambda service: service.fail(step, *[fault] * 99)


def spoils() -> Iterator[tuple[str, Spoil]]:
    """Ways in which a session says something about itself."""
    yield "nothing", lambda service: None
    for step in ("create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat"):
        for word, fault in (
            ("failed", Fault(Unavailable(f"it said {ANSWER} to {QUESTION} with {COOKIE}", status=503))),
            ("foreign", Fault(ValueError(f"{ANSWER} {QUESTION} {COOKIE} {KEY}"))),
            ("unsent", Fault(Unavailable(PASSWORD, sent=False))),
        ):
            yield f"{step}-{word}", failing(step, fault)
    yield "stream", lambda service: setattr(service, "_batches", [(ANSWER, Failed(RunFailed(ANSWER)))])


def everything(told: Telemetry) -> str:
    """Return all that an exporter could send."""
    return "\n".join([*(span.to_json() for span in told.spans()), *map(repr, told.points())])


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in spoils()])
async def test_no_secret_is_in_anything_that_is_exported(clock: ManualClock, told: Telemetry, spoil: Spoil) -> None:
    service = FakeService(clock=clock, tokens=[ANSWER])
    spoil(service)
    async with Engine(service, clock=clock, hooks=[told.hook], ledger="memory", sweep=Sweep(every=5)) as engine:
        with contextlib.suppress(ChatleaseError, ValueError):
            await engine.ask(QUESTION, credential=CREDENTIAL).text()
        await engine.sweep()
    shown = everything(told)
    assert CREDENTIAL.fingerprint() in shown
    assert [secret for secret in SECRETS if secret in shown] == []


async def test_a_key_that_is_not_known_is_not_sent(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        keys = {"engine": engine.tracer.engine, "service": "fake", "session": "one", "model": "m", "text": ANSWER}
        engine.tracer.emit("session.opened", keys)
        engine.tracer.emit("session.gate.alone", keys | {"error": "OSError"})
    assert "OSError" in everything(told)
    assert ANSWER not in everything(told)


# -- what goes wrong with telemetry -----------------------------------------------------------------------------------


class Broken(SpanExporter):
    """Cannot reach its collector."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ConnectionError


class Rude(SpanProcessor):
    """Raises into whoever ends a span."""

    def on_end(self, span: ReadableSpan) -> None:
        raise LookupError


def given_to(processor: SpanProcessor) -> OpenTelemetry:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(processor)
    return OpenTelemetry(tracers, MeterProvider(shutdown_on_exit=False))


async def test_an_exporter_that_raises_disturbs_nobody(clock: ManualClock) -> None:
    hook = given_to(SimpleSpanProcessor(Broken()))
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[hook]) as engine:
        with capture_trace(engine) as trace:
            assert await engine.ask("one two").text() == "one two"
    assert "hook.dropped" not in trace.names()
    assert len(hook._sessions) == 0


async def test_a_span_processor_that_raises_has_the_hook_dropped_and_disturbs_no_session(clock: ManualClock) -> None:
    hook = given_to(Rude())
    async with Engine(service := FakeService(clock=clock), clock=clock, hooks=[hook]) as engine:
        with capture_trace(engine) as trace:
            assert await engine.ask("one two").text() == "one two"
    [dropped] = [event for event in trace if event.event == "hook.dropped"]
    assert (dropped.keys["hook"], dropped.keys["error"]) == ("OpenTelemetry", "LookupError")
    assert not service.chats


async def test_a_hook_that_is_dropped_holds_and_shows_no_session_any_more(clock: ManualClock, told: Telemetry) -> None:
    told.tracers.add_span_processor(Rude())
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine,
        engine.session() as one,
        engine.session() as other,
    ):
        with capture_trace(engine) as trace:
            await one.ready_cookies()
            await other.ready_cookies()
        assert "hook.dropped" in trace.names()
        assert set(told.metric("chatlease.sessions.open").values()) == {0}
        assert not hook_sessions(told)


async def test_what_a_span_processor_raises_keeps_no_other_span_open(clock: ManualClock, told: Telemetry) -> None:
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine,
        engine.session() as one,
        engine.session() as other,
    ):
        await one.ready_cookies()
        await other.ready_cookies()
        assert sum(told.metric("chatlease.sessions.open").values()) == 2
        told.tracers.add_span_processor(Rude())
        with capture_trace(engine) as trace:
            await one.create_chat()
        assert "hook.dropped" in trace.names()
        assert set(told.metric("chatlease.sessions.open").values()) == {0}
        assert len(told.spans("chatlease.session")) == 2


async def test_providers_that_are_shut_down_disturb_nobody(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        with capture_trace(engine) as trace:
            async for _ in engine.ask("one two"):
                told.tracers.shutdown()
                told.meters.shutdown()
            assert await engine.ask("one two").text() == "one two"
    assert "hook.dropped" not in trace.names()
    assert len(hook_sessions(told)) == 0


def hook_sessions(told: Telemetry) -> Sequence[object]:
    return tuple(told.hook._sessions._open)


async def test_without_an_sdk_it_is_silent(clock: ManualClock) -> None:
    """The API's own providers do nothing; nobody has set others in this process."""
    hook = OpenTelemetry()
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[hook]) as engine:
        assert await engine.ask("one two").text() == "one two"
        assert not engine.sessions
    hook.close()


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="max_open"):
        OpenTelemetry(max_open=0)


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import chatlease; import chatlease.otel"
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert "chatlease[otel]" in done.stderr
    assert "During handling" not in done.stderr


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = "engine/README.md"


class Heard(dict[str, tuple[str, str]]):
    """A meter that keeps the names, kinds and units of its instruments."""

    def __getattr__(self, create: str) -> Callable[..., None]:
        kind = create.removeprefix("create_").replace("up_down", "up-down").replace("_", " ")

        def note(name: str, *_: object, unit: str, description: str, **__: object) -> None:
            assert description.endswith(".")
            self[name] = (kind, unit)

        return note


def test_the_table_of_metrics_is_the_code() -> None:
    heard = Heard()
    Instruments(heard, Watched())  # type: ignore[arg-type]  # as much of a meter as it takes
    printed = {row[0].strip("`"): (row[1], row[2].strip("`")) for row in table(PAGE, "Metrics")}
    assert printed == heard


def test_every_attribute_is_in_the_table_and_no_other_one() -> None:
    printed = set(re.findall(r"`([a-z]\w*\.[\w.]+)`", "".join(cells for _, cells in table(PAGE, "Attributes"))))
    named = {value for name, value in vars(_keys).items() if name.isupper() and isinstance(value, str)}
    counts = {f"chatlease.{name}" for name in _sweeps._COUNTS}
    assert printed == (named | counts | set(_keys.ATTRIBUTES.values())) - {_keys.SCHEMA_URL, _keys.OTHER}


def test_every_key_that_becomes_an_attribute_is_one_that_a_trace_can_have() -> None:
    assert _keys.ATTRIBUTES.keys() <= KEYS.keys()
