"""Law 6: the trace tells the whole path, in a closed set of words, and no secret is in anything that leaves."""

from __future__ import annotations

import io
import logging
import traceback
import types
from pathlib import Path
from typing import Any

import pytest
import structlog

from chatlease import Credential, Deadlines, Engine, MemoryLedger, State, TraceEvent, TraceFile
from chatlease._trace import EVENTS, Tracer, get_logger
from chatlease.errors import ChatleaseError, Unavailable
from chatlease.testing import FakeService, ManualClock, capture_trace

from .card import PATH
from .spoiled import ANSWER, Spoil, faults

COOKIE, KEY, PASSWORD = "planted-cookie-3f1a", "planted-key-7c2b", "planted-password-9d4e"
QUESTION = "planted-question-1b8c"
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
    service, ledger = FakeService(clock=clock, tokens=[ANSWER]), MemoryLedger()
    trace_file = TraceFile(tmp_path / "t", level=logging.DEBUG)
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


class Leveled:
    """A hook with a level."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.heard: list[str] = []

    def __call__(self, event: TraceEvent) -> None:
        self.heard.append(event.event)


async def test_a_hook_gets_the_events_of_its_level_and_above(clock: ManualClock, service: FakeService) -> None:
    service.fail("send_prompt", Unavailable("out of order", status=503))
    hooks = {level: Leveled(level) for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL)}
    async with Engine(service, clock=clock, hooks=hooks.values()) as engine:
        with capture_trace(engine) as trace, pytest.raises(Unavailable):
            await engine.ask("one two").text()
    told = ["engine.opened", *trace.names(), "engine.closed"]
    for level, hook in hooks.items():
        assert hook.heard == [name for name in told if EVENTS[name] >= level]
    assert hooks[logging.WARNING].heard == ["session.transition.failed"]
    assert set(hooks[logging.INFO].heard) < set(hooks[logging.DEBUG].heard)


async def test_nothing_is_built_for_events_that_nobody_listens_to(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    emit = Tracer.emit

    def spy(tracer: Tracer, event: str, keys: dict[str, Any]) -> None:
        built.append(event)
        emit(tracer, event, keys)

    monkeypatch.setattr(Tracer, "emit", spy)
    hook = Leveled(logging.INFO)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[hook]) as engine:
        await engine.ask("one two").text()
    assert built == hook.heard
    built.clear()
    async with Engine(FakeService(clock=clock), clock=clock) as engine:
        await engine.ask("one two").text()
    assert built == []


async def test_a_hook_that_is_taken_away_while_an_event_is_told_is_not_called_for_it(engine: Engine) -> None:
    heard: list[TraceEvent] = []
    remove = engine.tracer.add(lambda _event: remove_other())
    remove_other = engine.tracer.add(heard.append)
    await engine.ask("one two").text()
    remove()
    assert heard == []


async def test_the_same_hook_given_twice_is_called_twice_and_taken_away_once(engine: Engine) -> None:
    heard: list[TraceEvent] = []
    engine.tracer.add(heard.append)
    engine.tracer.add(heard.append)()
    session = engine.session()
    await session.abandon()
    assert [event.event for event in heard].count("session.opened") == 1


def test_a_level_of_the_log_that_is_changed_later_counts(clock: ManualClock) -> None:
    tracer, host = Tracer(clock, []), logging.getLogger("chatlease")
    before = host.level
    try:
        for level in (logging.CRITICAL, logging.DEBUG, logging.ERROR):
            host.setLevel(level)
            assert tracer.wants("session.closed") is (level <= logging.INFO)
    finally:
        host.setLevel(before)


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
