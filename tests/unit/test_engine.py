"""The engine: services, accounts, where and when it may be used, what it reads from the environment, whom it tells."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from chatlease import (
    Credential,
    Deadlines,
    Engine,
    Hook,
    MemoryLedger,
    Session,
    SqliteLedger,
    State,
    TraceEvent,
    TraceFile,
)
from chatlease.adapter import CredentialProvider
from chatlease.errors import CleanupFailed, NotAuthenticated, Rejected, SessionClosed, Unavailable, UsageError
from chatlease.testing import FakeService, ManualClock, capture_trace

ALICE = Credential(cookies={"login": "alice-secret"})
BOB = Credential(headers={"Authorization": "Bearer bob-secret"})


class Other(FakeService):
    """A second kind of service."""

    service = "other"
    model = "other-1"


async def opened(session: Session) -> Session:
    """Take a session to the point where its chat exists."""
    await session.ready_cookies()
    await session.create_chat()
    return session


def account_of(service: FakeService) -> str:
    """Return who made the only chat."""
    [chat] = service.chats.values()
    return chat.account


# --------------------------------------------------------------------------------------------------- several services


async def test_the_first_service_is_the_default_and_others_are_chosen_by_name(clock: ManualClock) -> None:
    first, second = FakeService(clock=clock, tokens=["first"]), Other(clock=clock, tokens=["second"])
    async with Engine(first, second, clock=clock) as engine:
        assert await engine.ask("x").text() == "first"
        assert await engine.ask("x", service="other").text() == "second"
        assert engine.session(service="other").model == "other-1"
        assert engine.session(service="other", model="").model == "other-1"
        assert engine.session(service="other", model="another").model == "another"
    assert (first.calls["create_chat"], second.calls["create_chat"]) == (1, 1)


async def test_two_servers_of_one_kind_are_told_apart_by_their_origin(clock: ManualClock) -> None:
    first, second = FakeService(clock=clock, tokens=["1"]), FakeService(clock=clock, tokens=["2"])
    async with Engine(first, second, clock=clock) as engine:
        assert await engine.ask("x", service=f"fake@{second.origin}").text() == "2"


async def test_an_unknown_service_is_a_usage_error_that_names_those_there_are(clock: ManualClock) -> None:
    async with Engine(FakeService(clock=clock), Other(clock=clock), clock=clock) as engine:
        with pytest.raises(UsageError, match=r"'nobody'.*fake, other"):
            engine.session(service="nobody")


def test_an_engine_without_a_service_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least one adapter"):
        Engine()


async def test_leaving_the_engine_closes_every_adapter(clock: ManualClock) -> None:
    services = [FakeService(clock=clock), Other(clock=clock)]
    async with Engine(*services, clock=clock):
        assert [service.closed for service in services] == [False, False]
    assert [service.closed for service in services] == [True, True]


async def test_sessions_are_those_that_are_not_over(engine: Engine) -> None:
    first, second = await opened(engine.session()), engine.session()
    assert set(engine.sessions) == {first, second}
    await first.aclose()
    assert set(engine.sessions) == {second}
    await second.aclose()
    assert not engine.sessions


async def test_deadlines_of_a_session_go_before_the_engines(clock: ManualClock) -> None:
    async with Engine(FakeService(clock=clock), deadlines=Deadlines(call=7), clock=clock) as engine:
        assert engine.session().deadlines.call == 7
        assert engine.session(deadlines=Deadlines(call=3)).deadlines.call == 3


# --------------------------------------------------------------------------------------------------------------- models


async def test_models_asks_the_service_with_the_accounts_login_and_creates_nothing(
    engine: Engine, service: FakeService
) -> None:
    assert await engine.models(credential=ALICE) == ("fake-1",)
    assert service.calls == Counter(models=1)
    assert not engine.sessions


async def test_models_asks_once_more_for_a_credential_that_the_service_refuses(clock: ManualClock) -> None:
    service, given = FakeService(clock=clock), iter([ALICE, BOB])
    service.fail("models", NotAuthenticated("expired", status=401))
    async with Engine(service, credentials=lambda _service, _account: next(given), clock=clock) as engine:
        assert await engine.models(account="x") == ("fake-1",)
        service.accounts = set()
        with pytest.raises(NotAuthenticated):
            await engine.models(credential=ALICE)


async def test_models_has_a_deadline(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, clock=clock, deadlines=Deadlines(call=4)) as engine:
        service.models = _never  # type: ignore[method-assign]  # a service that does not answer
        began = clock.now()
        with pytest.raises(Unavailable):
            await engine.models()
        assert clock.now() - began == 4


async def _never(call: object) -> tuple[str, ...]:
    await asyncio.get_running_loop().create_future()
    return ()


# ---------------------------------------------------------------------------------------------------------- credentials


def _function(service: str, account: str, /) -> Credential | None:
    return {("fake", "alice"): ALICE}.get((service, account))


@pytest.mark.parametrize("credentials", [{"alice": ALICE}, _function], ids=["mapping", "function"])
async def test_a_named_account_has_the_engines_credential_and_any_other_the_adapters(
    credentials: Mapping[str, Credential] | CredentialProvider, clock: ManualClock
) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, credentials=credentials, clock=clock) as engine:
        alice = await opened(engine.session(account="alice"))
        assert (alice.call.login.account, alice.call.login.credential) == ("alice", ALICE)
        assert service.calls["ready_cookies"] == 0
        carol = await opened(engine.session(account="carol"))
        assert carol.call.login.credential == Credential(cookies={"login": "carol"})
        assert service.calls["ready_cookies"] == 1
        assert [chat.account for chat in service.chats.values()] == ["alice", "carol"]
        await alice.aclose()
        await carol.aclose()


async def test_a_credential_without_a_name_is_named_by_its_fingerprint(engine: Engine, service: FakeService) -> None:
    async with await opened(engine.session(credential=BOB)):
        assert account_of(service) == BOB.fingerprint()


async def test_a_credential_with_a_name_has_that_name(engine: Engine, service: FakeService) -> None:
    async with await opened(engine.session(credential=BOB, account="bob")):
        assert account_of(service) == "bob"


async def test_credentials_are_looked_for_once_per_account(engine: Engine, service: FakeService) -> None:
    with capture_trace(engine) as trace:
        for account in ("alice", "alice", "bob"):
            await engine.ask("x", account=account).text()
    assert service.calls["ready_cookies"] == 2
    assert trace.names().count("session.credentials.cached") == 1


async def test_a_refused_credential_is_asked_for_once_more_and_the_new_one_used(clock: ManualClock) -> None:
    service, given = FakeService(clock=clock), iter([ALICE, BOB])
    service.fail("create_chat", NotAuthenticated("expired", status=401))
    async with Engine(service, credentials=lambda _service, _account: next(given), clock=clock) as engine:
        async with await opened(engine.session(account="x")) as session:
            assert session.call.login.credential == BOB
        assert next(given, None) is None
        await engine.ask("again", account="x").text()


async def test_a_credential_given_to_a_session_is_not_asked_for_again(engine: Engine, service: FakeService) -> None:
    service.accounts = set()
    with pytest.raises(NotAuthenticated):
        await engine.ask("x", credential=ALICE).text()
    assert (service.calls["ready_cookies"], service.calls["create_chat"]) == (0, 1)


# ------------------------------------------------------------------------------------------------- when, and from where

USES: dict[str, Callable[[Engine], object]] = {
    "session": lambda engine: engine.session(),
    "ask": lambda engine: engine.ask("x"),
    "install_signal_handlers": lambda engine: engine.install_signal_handlers(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_an_engine_that_is_not_entered_says_how_to_enter_it(use: Callable[[Engine], object]) -> None:
    with pytest.raises(UsageError, match="not open") as caught:
        use(Engine(FakeService()))
    assert "async with" in caught.value.hint


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_another_thread_is_refused(use: Callable[[Engine], object], engine: Engine) -> None:
    with pytest.raises(UsageError, match="event loop that it was entered on"):
        await asyncio.to_thread(use, engine)


LATE: dict[str, Callable[[Session], Coroutine[Any, Any, object]]] = {
    "ready_cookies": lambda session: session.ready_cookies(),
    "step": lambda session: session.step(),
    "aclose": lambda session: session.aclose(),
    "ask": lambda session: session.ask("x").text(),
    "engine.models": lambda session: session.engine.models(),
    "engine.aclose": lambda session: session.engine.aclose(),
}


@pytest.mark.parametrize("use", LATE.values(), ids=LATE)
async def test_another_loop_is_refused_and_nothing_is_sent(
    use: Callable[[Session], Coroutine[Any, Any, object]], engine: Engine, service: FakeService
) -> None:
    session = engine.session()
    with pytest.raises(UsageError, match="event loop that it was entered on"):
        await asyncio.to_thread(asyncio.run, use(session))
    assert not service.calls
    assert await session.ask("still works").text() == "still works"
    await session.aclose()


async def test_an_engine_is_entered_once(clock: ManualClock) -> None:
    engine = Engine(FakeService(clock=clock), clock=clock)
    async with engine:
        with pytest.raises(UsageError, match="entered once"):
            await engine.__aenter__()
    with pytest.raises(UsageError, match="entered once"):
        await engine.__aenter__()


async def test_after_closing_nothing_is_opened(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, clock=clock) as engine:
        unused = engine.session()
    for use in (engine.session, lambda: engine.ask("x")):
        with pytest.raises(SessionClosed, match="closed"):
            use()
    with pytest.raises(SessionClosed):
        await engine.models()
    with pytest.raises(SessionClosed):
        await unused.ready_cookies()
    assert not service.calls


async def test_closing_twice_or_before_entering_does_nothing(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    engine = Engine(service, clock=clock)
    await engine.aclose()
    assert not service.closed
    async with engine:
        await engine.aclose()
        await engine.aclose()
    assert service.closed


async def test_an_option_that_the_service_does_not_take_is_refused_before_anything_is_sent(
    engine: Engine, service: FakeService
) -> None:
    with pytest.raises(UsageError, match="top_kk"):
        engine.session(top_kk=3)  # type: ignore[call-arg]  # a mistake, on purpose
    with pytest.raises(UsageError, match="top_kk"):
        engine.ask("x", top_kk=3)  # type: ignore[call-arg]  # a mistake, on purpose
    assert not service.calls
    assert not engine.sessions


# ---------------------------------------------------------------------------------------------------------- environment


def test_the_ledger_is_a_file_in_the_users_state_folder_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", "")
    ledger = Engine(FakeService()).ledger
    assert isinstance(ledger, SqliteLedger)
    assert ledger.path == tmp_path / "state" / "chatlease" / "ledger.sqlite3"
    assert not ledger.path.exists()
    monkeypatch.setenv("CHATLEASE_LEDGER", f"sqlite:///{tmp_path}/mine")
    ledger = Engine(FakeService()).ledger
    assert isinstance(ledger, SqliteLedger)
    assert ledger.path == tmp_path / "mine"
    monkeypatch.setenv("CHATLEASE_LEDGER", "memory")
    assert isinstance(Engine(FakeService()).ledger, MemoryLedger)


def test_the_environment_can_do_without_a_ledger_and_the_program_goes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", "none")
    ledger = MemoryLedger()
    assert Engine(FakeService()).ledger is None
    assert Engine(FakeService(), ledger=ledger).ledger is ledger
    assert isinstance(Engine(FakeService(), ledger="memory").ledger, MemoryLedger)


def test_a_ledger_that_nobody_knows_is_a_usage_error_that_does_not_show_what_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", "mysql://user:secret@host")
    with pytest.raises(UsageError, match="ledger") as caught:
        Engine(FakeService())
    assert '"memory"' in caught.value.hint
    assert "secret" not in str(caught.value) + caught.value.hint


async def test_the_environment_names_a_trace_file_that_only_its_owner_can_read(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trace.jsonl"
    monkeypatch.setenv("CHATLEASE_TRACE", str(path))
    async with Engine(FakeService(clock=clock), clock=clock) as engine:
        await engine.ask("x").text()
    assert lines(path)[-1]["event"] == "engine.closed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# ----------------------------------------------------------------------------------------------------- without a ledger


async def test_without_a_ledger_a_chat_that_cannot_be_deleted_is_the_callers_to_know(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, ledger=None, clock=clock) as engine:
        assert await engine.ask("one two").text() == "one two"
        session = await opened(engine.session())
        service.fail("delete_chat", Rejected("no", status=400))
        with pytest.raises(CleanupFailed) as caught:
            await session.aclose()
        assert (caught.value.chat, caught.value.attempts) == (session.chat, 1)
        assert session.state is State.ORPHANED


async def test_without_a_ledger_the_callers_own_error_stays_and_notes_the_chat(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, ledger=None, clock=clock) as engine:
        session = await opened(engine.session())
        service.fail("delete_chat", Rejected("no", status=400))
        with pytest.raises(LookupError) as caught:
            await _fail_in(session)
        assert caught.value.__notes__ == [f"chatlease: chat {session.chat} was not deleted, and no ledger holds it"]


async def _fail_in(session: Session) -> None:
    async with session:
        raise LookupError


async def test_a_strict_engine_raises_although_the_ledger_holds_the_chat(clock: ManualClock) -> None:
    service, ledger = FakeService(clock=clock), MemoryLedger()
    async with Engine(service, ledger=ledger, strict_cleanup=True, clock=clock) as engine:
        session = await opened(engine.session())
        service.fail("delete_chat", Rejected("no", status=400))
        with pytest.raises(CleanupFailed):
            await session.aclose()
    [entry] = await ledger.open_entries()
    assert (entry.chat, entry.orphaned, entry.attempts, entry.error_code) == (session.chat, True, 1, "http-400")


# ---------------------------------------------------------------------------------------------------------------- hooks


class Broken:
    """A hook that fails at its first event, or at another's."""

    def __init__(self, event: str = "session.opened") -> None:
        self.event = event
        self.calls = 0

    def __call__(self, event: TraceEvent) -> None:
        self.calls += 1
        if event.event == self.event:
            raise LookupError("a text that may be secret")


async def test_every_hook_gets_every_event(clock: ManualClock) -> None:
    first: list[TraceEvent] = []
    second: list[TraceEvent] = []
    async with Engine(FakeService(clock=clock), hooks=[first.append, second.append], clock=clock) as engine:
        await engine.ask("x").text()
    assert first == second
    names = [event.event for event in first]
    assert names[:3] == ["engine.opened", "session.opened", "session.transition.started"]
    assert names[-2:] == ["session.cleanup.completed", "engine.closed"]
    assert all(event.keys["session"] == first[1].keys["session"] for event in first[1:-1])
    assert {event.keys["engine"] for event in first} == {engine.tracer.engine}
    assert [event.at for event in first] == sorted(event.at for event in first)


async def test_a_hook_that_raises_is_dropped_with_a_trace_and_disturbs_nobody(clock: ManualClock) -> None:
    seen: list[TraceEvent] = []
    broken = Broken()
    async with Engine(FakeService(clock=clock), hooks=[broken, seen.append], clock=clock) as engine:
        assert await engine.ask("one two").text() == "one two"
    assert broken.calls == 2
    [dropped] = [event.keys for event in seen if event.event == "hook.dropped"]
    assert dropped == {"engine": engine.tracer.engine, "hook": "Broken", "error": "LookupError"}
    assert seen[-1].event == "engine.closed"


async def test_a_hook_that_raises_at_the_news_of_anothers_dropping_is_dropped_too(clock: ManualClock) -> None:
    seen: list[TraceEvent] = []
    hooks: list[Hook] = [Broken(), Broken("hook.dropped"), seen.append]
    async with Engine(FakeService(clock=clock), hooks=hooks, clock=clock) as engine:
        assert await engine.ask("one two").text() == "one two"
    assert [event.event for event in seen].count("hook.dropped") == 2


async def test_two_hooks_that_raise_at_the_same_event_disturb_nobody(clock: ManualClock) -> None:
    seen: list[TraceEvent] = []

    def always(event: TraceEvent) -> None:
        raise LookupError

    async with Engine(FakeService(clock=clock), hooks=[always, always, Broken(), seen.append], clock=clock) as engine:
        assert await engine.ask("one two").text() == "one two"
    assert [event.event for event in seen].count("hook.dropped") == 3


# ----------------------------------------------------------------------------------------------------------- trace file


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the events of a trace file."""
    return [cast("dict[str, Any]", json.loads(line)) for line in path.read_text().splitlines()]


def redrawn(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Redraw every session's path from nothing but the lines of a trace file."""
    paths: dict[str, list[str]] = {}
    for event in events:
        if event["event"] == "session.opened":
            paths[event["session"]] = ["new"]
        elif event["event"] == "session.transition.completed":
            path = paths[event["session"]]
            assert event["source"] == path[-1]
            path.append(event["dest"])
    return paths


async def test_from_a_trace_file_the_path_of_every_session_can_be_redrawn(clock: ManualClock, tmp_path: Path) -> None:
    service, file = FakeService(clock=clock), TraceFile(tmp_path / "trace.jsonl")
    async with Engine(service, hooks=[file], clock=clock) as engine:
        sessions = [engine.session(account=f"bot-{number}") for number in range(4)]
        walked: dict[str, list[str]] = {session.id: [session.state.value] for session in sessions}
        await asyncio.gather(*(_walk(session, walked[session.id]) for session in sessions[:2]))
        await opened(sessions[2])
        await sessions[2].aclose()
        walked[sessions[2].id] += ["cookies-ready", "chat-created", "deleted"]
        await opened(sessions[3])
        service.fail("delete_chat", Rejected("no", status=400))
        await sessions[3].aclose()
        walked[sessions[3].id] += ["cookies-ready", "chat-created", "orphaned"]
    file.close()
    file.close()
    events = lines(tmp_path / "trace.jsonl")
    assert redrawn(events) == walked
    assert {event["v"] for event in events} == {1}
    service.chats.clear()


async def _walk(session: Session, path: list[str]) -> None:
    async with session:
        for prompt in ("Hi", "And again"):
            if session.state is State.NEW:
                path += [(await session.step()).dest.value, (await session.step()).dest.value]
            path.append((await session.send_prompt(prompt)).dest.value)
            path += [(await session.step()).dest.value, (await session.step()).dest.value]
            assert session.answer is not None
            assert await session.answer.text() == prompt
        path.append((await session.step()).dest.value)


async def test_a_failed_step_is_in_the_trace_with_its_class_and_code_and_no_text(
    clock: ManualClock, tmp_path: Path
) -> None:
    service, file = FakeService(clock=clock), TraceFile(tmp_path / "trace.jsonl")
    service.fail("send_prompt", Rejected("a text of the service's", status=422))
    async with Engine(service, hooks=[file], clock=clock) as engine:
        with pytest.raises(Rejected):
            await engine.ask("a prompt of the user's").text()
    file.close()
    [failed] = [event for event in lines(tmp_path / "trace.jsonl") if event["event"] == "session.transition.failed"]
    del failed["at"], failed["session"], failed["account"]
    assert failed == {
        "v": 1,
        "event": "session.transition.failed",
        "engine": engine.tracer.engine,
        "service": "fake",
        "chat": "chat-1",
        "trigger": "send_prompt",
        "source": "chat-created",
        "elapsed_s": 0.0,
        "http_status": 422,
        "error": "Rejected",
        "error_code": "http-422",
    }
    assert "text of the" not in (tmp_path / "trace.jsonl").read_text()


async def test_a_trace_file_grows_line_by_line_and_keeps_what_was_there(clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"v":1,"at":0,"event":"from before"}\n')
    file = TraceFile(path)
    async with Engine(FakeService(clock=clock), hooks=[file], clock=clock) as engine:
        session = engine.session()
        await session.ready_cookies()
        await asyncio.sleep(0)  # lines are written at the end of a pass
        assert [event["event"] for event in lines(path)] == [
            *("from before", "engine.opened", "session.opened", "session.transition.completed")
        ]
        await session.aclose()
    file.close()


def test_a_trace_file_accepts_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    TraceFile(os.path.join("~", "trace.jsonl")).close()  # noqa: PTH118  (as users write it)
    assert (tmp_path / "trace.jsonl").exists()
