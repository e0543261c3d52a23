"""Law 6: the trace tells the whole path, in a closed set of words, and no secret is in anything that leaves."""

from __future__ import annotations

import io
import json
import logging
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from chatlease import Credential, Deadlines, Engine, MemoryLedger, Session, State, TraceEvent, TraceFile
from chatlease._trace import EVENTS, Tracer, get_logger
from chatlease.adapter import AnswerStream, Call
from chatlease.errors import ChatleaseError, NotAuthenticated, RunFailed, Unavailable
from chatlease.events import Batch, Failed, Final, Pending, RunStatus
from chatlease.testing import HANG, FakeService, Fault, ManualClock, capture_trace

from .card import PATH

COOKIE, KEY, PASSWORD = "planted-cookie-3f1a", "planted-key-7c2b", "planted-password-9d4e"
QUESTION, ANSWER = "planted-question-1b8c", "planted-answer-5e6f"
SECRETS = (COOKIE, KEY, PASSWORD, QUESTION, ANSWER)
CREDENTIAL = Credential(
    cookies={"login": COOKIE}, headers={"Authorization": f"Bearer {KEY}"}, proxy=f"http://me:{PASSWORD}@127.0.0.1:1"
)


# -- planted secrets --------------------------------------------------------------------------------------------------


def shown_by(error: BaseException) -> str:
    """Everything that an exception can tell: its text, attributes, notes, causes, and its formatted traceback."""
    seen: list[str] = []
    chain: list[BaseException | None] = [error]
    while chain:
        each = chain.pop()
        if each is None:
            continue
        seen += [str(each), repr(each), repr(vars(each)), repr(each.args), *getattr(each, "__notes__", [])]
        seen += traceback.format_exception(each, chain=False)
        chain += [each.__cause__, each.__context__]
    return "\n".join(seen)


Spoil = Callable[[FakeService], object]


def faults() -> Iterator[tuple[str, Spoil]]:
    """Ways in which a session goes wrong, each of which says something somewhere."""
    for step in ("create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat"):
        for name, fault in (
            ("failed", Fault(Unavailable("out of order", status=503))),
            ("lost", Fault(Unavailable("cut"), when="after")),
            ("unsent", Fault(Unavailable("no connection", sent=False))),
            ("refused", Fault(NotAuthenticated("no", status=401))),
            ("hangs", Fault(delay_s=float("inf"))),
        ):
            yield f"{step}-{name}", failing(step, fault)
    yield "stream-fails", lambda service: script(service, [(ANSWER, Failed(RunFailed("worker died")))])
    yield "stream-stalls", lambda service: script(service, [(ANSWER,), HANG])
    yield "stream-waits", lambda service: script(service, [(Pending(1, 1),), HANG])
    yield "stream-ends", lambda service: script(service, [(ANSWER[:5],)])
    yield "stream-differs", lambda service: script(service, [("something else",), (Final(ANSWER),)])
    yield "nothing", lambda service: None


def failing(step: str, fault: Fault) -> Spoil:
    return lambda service: service.fail(step, *[fault] * 99)


def script(service: FakeService, batches: list[Batch]) -> None:
    service._batches = batches
    service._answer_s = 50


@pytest.mark.parametrize(("name", "spoil"), [pytest.param(*each, id=each[0]) for each in faults()])
async def test_no_secret_is_in_any_log_trace_ledger_repr_or_error(  # noqa: PLR0917  (fixtures)
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    spoil: Spoil,
) -> None:
    caplog.set_level(logging.DEBUG)
    service, ledger, trace_file = FakeService(clock=clock, tokens=[ANSWER]), MemoryLedger(), TraceFile(tmp_path / "t")
    spoil(service)
    told: list[str] = []
    deadlines = Deadlines(drain=60, settle=20)
    engine = Engine(service, ledger=ledger, clock=clock, deadlines=deadlines, hooks=[trace_file])
    async with engine:
        with capture_trace(engine) as trace:
            answer = engine.ask(QUESTION, credential=CREDENTIAL)
            try:
                await answer.text()
            except ChatleaseError as error:
                told.append(shown_by(error))
            await answer.session.wait_closed()
        told += [repr(each) for each in (answer, answer.session, answer.session.call.login, engine, CREDENTIAL)]
    told += [repr(await ledger.open_entries()), *map(repr, trace), (tmp_path / "t").read_text()]
    told += [record.getMessage() + repr(vars(record)) + (record.exc_text or "") for record in caplog.records]
    told += capsys.readouterr()
    trace_file.close()
    everything = "\n".join(told)
    assert answer.session.over
    assert [secret for secret in SECRETS if secret in everything] == []
    assert "session.closed" in trace.names()
    assert name != "nothing" or not [event for event in trace if EVENTS[event.event] >= logging.WARNING]


# -- the words --------------------------------------------------------------------------------------------------------


async def test_the_trace_of_a_whole_session_tells_its_path(engine: Engine) -> None:
    with capture_trace(engine) as trace:
        await engine.ask("one two").text()
    assert trace.path() == PATH
    assert trace.names()[0] == "session.opened"
    assert {event.keys["session"] for event in trace} == {trace[0].keys["session"]}


async def test_every_state_of_a_trace_is_a_state_and_every_key_is_flat(engine: Engine, service: FakeService) -> None:
    service.fail("send_prompt", Unavailable("out of order", status=503))
    with capture_trace(engine) as trace, pytest.raises(Unavailable):
        await engine.ask("one two").text()
    states = {state.value for state in State}
    for event in trace:
        assert {event.keys[key] for key in ("source", "dest", "state") if key in event.keys} <= states
        assert all(isinstance(value, str | int | float | bool) for value in event.keys.values())
    [failed] = [event for event in trace if event.event == "session.transition.failed"]
    assert (failed.keys["error"], failed.keys["error_code"], failed.keys["http_status"]) == (
        "Unavailable",
        "http-503",
        503,
    )


def test_a_word_that_is_not_in_the_vocabulary_is_refused(clock: ManualClock) -> None:
    with pytest.raises(KeyError):
        Tracer(clock, []).wants("session.invented")
    with pytest.raises(KeyError):
        Tracer(clock, [lambda event: None]).emit("session.invented", {})


class Odd(FakeService):
    """Cancels the first run, and refuses the third stream."""

    opened = 0

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self.opened += 1
        if self.opened == 1:
            self.chats[chat].runs[-1].status = RunStatus.CANCELLED
        return None if self.opened in {1, 3} else await super().open_stream(call, chat, run)


async def test_every_word_of_the_vocabulary_is_used(clock: ManualClock) -> None:
    """A word that no session can say should not be in it."""
    service, said = Odd(clock=clock), set[str]()

    def hook(event: TraceEvent) -> None:
        said.add(event.event)

    def broken(event: TraceEvent) -> None:
        raise ValueError(event.event)

    async with Engine(service, clock=clock, hooks=[hook, broken]) as engine:
        await engine.ask("one two").text()
        service.fail("read_answer", Unavailable("out of order", status=502))
        await engine.ask("one two").text()
        service._batches = [("three ",), (Final("one two"),)]
        await engine.ask("one two").text()
        holder: Session = engine.session(prompt="one two")
        while holder.state is not State.ASSISTANT_QUEUED:
            await holder.step()
        await engine.ask("one two").text()
        service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 999)
        await holder.aclose()
    said.add("session.gate.alone")  # of a ledger that fails among processes: test_turns hears it
    assert {word for word in EVENTS if not word.startswith(("sweep.", "ledger."))} - said == set()


# -- the host's own ---------------------------------------------------------------------------------------------------


async def test_with_nothing_configured_nothing_is_printed(
    clock: ManualClock, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when a chat could not be deleted."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    service = FakeService(clock=clock)
    service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 999)
    async with Engine(service, clock=clock) as engine:
        await engine.ask("one two").text()
    assert capfd.readouterr() == ("", "")


async def test_the_hosts_logging_and_structlog_stay_as_they_were(clock: ManualClock) -> None:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level, loggers = list(root.handlers), root.level, logging.getLoggerClass()
    configured = structlog.is_configured()
    async with Engine(FakeService(clock=clock), clock=clock) as engine:
        await engine.ask("one two").text()
    assert (list(root.handlers), root.level, logging.getLoggerClass()) == (handlers, level, loggers)
    assert (structlog.get_config(), structlog.is_configured()) == (before, configured)
    assert logging.lastResort is not None


async def test_events_come_out_of_the_hosts_handlers_with_what_the_host_has_bound(clock: ManualClock) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s %(request)s %(name_)s %(trigger)s"))
    handler.addFilter(lambda record: record.getMessage() == "session.transition.completed")
    host = logging.getLogger("chatlease")
    host.addHandler(handler)
    level = host.level
    host.setLevel(logging.INFO)
    try:
        with structlog.contextvars.bound_contextvars(request="r-17", name="collides"):
            async with Engine(FakeService(clock=clock), clock=clock) as engine:
                await engine.ask("one two").text()
    finally:
        host.removeHandler(handler)
        host.setLevel(level)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "INFO session.transition.completed r-17 collides ready_cookies"
    assert len(lines) == 6


def test_the_public_logger_is_a_child_of_nothing_but_its_name() -> None:
    stdlib = logging.getLogger("chatlease")
    assert any(isinstance(handler, logging.NullHandler) for handler in stdlib.handlers)
    assert stdlib.propagate
    assert isinstance(get_logger("chatlease").bind(), structlog.stdlib.BoundLogger)


# -- hooks and files --------------------------------------------------------------------------------------------------


async def test_a_hook_that_raises_is_dropped_and_disturbs_nothing(clock: ManualClock) -> None:
    heard: list[TraceEvent] = []
    calls = 0

    def broken(event: TraceEvent) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(ANSWER)

    async with Engine(FakeService(clock=clock), clock=clock, hooks=[broken, heard.append]) as engine:
        assert await engine.ask("one two").text() == "one two"
    assert calls == 1
    [dropped] = [event for event in heard if event.event == "hook.dropped"]
    assert dropped.keys["error"] == "ValueError"
    assert ANSWER not in repr(heard)


async def test_a_trace_file_holds_every_event_one_object_a_line(clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    file = TraceFile(path)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[file]) as engine:
        with capture_trace(engine) as trace:
            await engine.ask("one two").text()
    file.close()
    file.close()
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == trace.names()
    assert {line["v"] for line in lines} == {1}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_removed_hook_hears_no_more(engine: Engine) -> None:
    heard: list[TraceEvent] = []
    remove = engine.tracer.add(heard.append)
    remove()
    remove()
    await engine.ask("one two").text()
    assert heard == []


def test_the_vocabulary_cannot_be_changed() -> None:
    assert isinstance(EVENTS, types.MappingProxyType)
    assert all(word.count(".") >= 1 and word == word.lower() for word in EVENTS)
