"""
The public API as users type it. Never run: mypy and pyright read it in ``make check``.

Rules that live here:

* ``assert_type`` holds what a user's editor shows; a change here is a change for every typed bot.
* What must be an error has a ``type: ignore`` with its code, and a checker that finds nothing to ignore complains: mypy
  by ``warn_unused_ignores`` (part of strict), pyright by the comment below.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, assert_never, assert_type

from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from chatlease import (
    Answer,
    ChatleaseError,
    Credential,
    Deadlines,
    Engine,
    MemoryLedger,
    Messages,
    Session,
    State,
    Step,
    TraceEvent,
    TraceFile,
    Trigger,
    format_prompt,
)
from chatlease.adapter import Adapter, AnswerStream, Call, Capabilities, CredentialProvider, RateBudget, RunOptions
from chatlease.errors import CleanupFailed, NotAuthenticated, ServiceError, StreamStalled, TransitionNotAllowed
from chatlease.events import Batch, Event, Failed, Final, Pending, PluginStep, Reading, Token
from chatlease.ledger import Entry, Ledger
from chatlease.otel import OpenTelemetry
from chatlease.testing import (
    CapturedTrace,
    Exploration,
    FakeService,
    ManualClock,
    assert_nothing_left,
    assert_path,
    capture_trace,
    check_adapter,
    explore,
    read_trace,
)
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import Service, running
from chatlease_adapters.provider import AsyncResult, Completion
from chatlease_adapters.provider import Messages as ProviderMessages
from chatlease_adapters.provider import OpenAssistant as Provider

# ----------------------------------------------------------------------------------------------------------- the engine


def logins(service: str, account: str) -> Credential | None:
    return Credential(cookies={"session": account}) if service == "open-assistant" else None


def hook(event: TraceEvent) -> None:
    assert_type(event.event, str)
    assert_type(event.at, float)
    assert_type(event.keys, dict[str, Any])
    assert_type(event.line(), bytes)


async def engines() -> None:
    adapter = OpenAssistant(url="http://127.0.0.1:8080", cookies={"session": "any"})
    Engine(adapter, FakeService())
    Engine(adapter, ledger="memory", deadlines=Deadlines(answer=120), credentials={"alice": Credential()})
    Engine(
        adapter,
        ledger=MemoryLedger(),
        credentials=logins,
        hooks=[hook, TraceFile("trace.jsonl", level=10, max_bytes=None, keep=3)],
    )
    Engine(adapter, ledger=None, strict_cleanup=True, clock=ManualClock())
    Engine("http://127.0.0.1:8080")  # type: ignore[arg-type]  # an address is no adapter
    telemetry = OpenTelemetry(account=True, max_open=100)
    Engine(adapter, hooks=[telemetry, OpenTelemetry(get_tracer_provider(), get_meter_provider())])
    assert_type(telemetry.close(), None)
    Engine(adapter, hooks=[print, 3])  # type: ignore[list-item]  # a number is no hook
    async with Engine(adapter) as engine:
        assert_type(engine, Engine)
        assert_type(engine.sessions, tuple[Session, ...])
        assert_type(await engine.models(account="alice"), Sequence[str])
        assert_type(engine.install_signal_handlers(), None)


# --------------------------------------------------------------------------------------------------------------- asking


async def asking(engine: Engine) -> None:
    answer = engine.ask("Hello", service="open-assistant", account="alice", model="OA_SFT_Llama_30B_6")
    assert_type(answer, Answer)
    async for token in answer:
        assert_type(token, str)
    assert_type(await answer.text(), str)
    assert_type(answer.final, Final | None)
    assert_type(answer.session, Session)
    assert_type(await answer.aclose(), None)
    async with engine.ask([{"role": "user", "content": "Hello"}]) as entered:
        assert_type(entered, Answer)
    engine.ask(b"Hello")  # type: ignore[arg-type]  # a prompt is text
    await answer  # type: ignore[misc]  # an answer is iterated; its text() is awaited


async def events(answer: Answer) -> None:
    assert_type(answer.events(), AsyncIterator[Event])
    async for event in answer.events():
        match event:
            case Token(text):
                assert_type(text, str)
            case Pending(position=position, size=size):
                assert_type((position, size), tuple[int, int])
            case PluginStep(thought=thought, action=action):
                assert_type((thought, action), tuple[str, str])
            case Final():
                assert_type(event.text, str)
            case Failed():
                assert_type(event.error, ServiceError)
            case _:
                assert_never(event)


async def options(engine: Engine) -> None:
    engine.ask("Hello", top_k=10, top_p=0.9, typical_p=None, temperature=0.7, repetition_penalty=1.2)
    engine.ask("Hello", max_new_tokens=100, system_prompt="Be brief.", user_profile=None, plugins=[{"url": "x"}])
    engine.ask("Hello", user_response_instructions="In French.", used_plugin=None, sampling={"seed": 3})
    engine.ask("Hello", top_kk=10)  # type: ignore[call-arg]  # no such option
    engine.ask("Hello", top_k="many")  # type: ignore[arg-type]  # a number
    engine.session(max_new_tokens=None)  # type: ignore[arg-type]  # the only one that has to be a number
    given: RunOptions = {"top_k": 10}
    engine.session(**given)


# ------------------------------------------------------------------------------------------------------------- sessions


async def sessions(engine: Engine) -> None:
    async with engine.session(model="OA_SFT_Llama_30B_6", prompt="Hi", deadlines=Deadlines(), top_k=10) as session:
        assert_type(session, Session)
        assert_type(session.ask("Hello"), Answer)
        assert_type(await session.ask().text(), str)
        assert_type(session.answer, Answer | None)
        assert_type(session.id, str)
        assert_type(session.chat, str | None)
        assert_type(session.state, State)
        assert_type(session.allowed, frozenset[Trigger])
        assert_type(session.closing, bool)
        assert_type((session.service, session.account), tuple[str, str | None])
        assert_type(session.age_s, float)
        assert_type(session.in_flight, Trigger | None)
        session.account = "bob"  # type: ignore[misc]  # chosen when the session is made


async def steps(session: Session) -> None:
    step = await session.step()
    assert_type(step, Step)
    assert_type(step.trigger, Trigger)
    assert_type((step.source, step.dest), tuple[State, State])
    assert_type((step.elapsed_s, step.http_status), tuple[float, int | None])
    assert_type(await session.ready_cookies(), Step)
    assert_type(await session.create_chat(), Step)
    assert_type(await session.send_prompt("Hi"), Step)
    assert_type(await session.send_prompt([{"role": "user", "content": "Hi"}]), Step)
    assert_type(await session.queue_assistant(), Step)
    assert_type(await session.open_stream(), Step)
    assert_type(await session.stop_run(), Step)
    assert_type(await session.delete_chat(), Step)
    assert_type(await session.abandon(), Step)
    assert_type(await session.hand_over(), Step)
    assert_type(await session.aclose(), None)
    assert_type(await session.wait_closed(), None)
    await session.cancel_chat()  # type: ignore[attr-defined]  # no row of the table
    session.create_chat()  # type: ignore[unused-coroutine]  # a forgotten await


def prompts(messages: Messages) -> None:
    assert_type(format_prompt(messages), str)
    format_prompt("Hello")  # type: ignore[arg-type]  # messages, no text


# --------------------------------------------------------------------------------------------------------------- errors


async def errors(engine: Engine) -> None:
    try:
        await engine.ask("Hello").text()
    except NotAuthenticated as error:
        assert_type((error.status, error.code, error.sent), tuple[int | None, str, bool])
    except StreamStalled as error:
        assert_type(error.deadline, str)
    except ServiceError as error:
        assert_type(error.retry_after_s, float | None)
    except TransitionNotAllowed as error:
        assert_type(error.allowed, tuple[str, ...])
    except CleanupFailed as error:
        assert_type((error.chat, error.attempts), tuple[str | None, int])
    except ChatleaseError as error:
        assert_type(error.hint, str)


# ----------------------------------------------------------------------------------------------- writing for the engine


class Stream:
    """The least that an adapter's stream has."""

    async def read(self) -> Batch:
        return ["a token", Pending(1, 2), Final("a token")]

    def close(self) -> None: ...


def contracts(service: FakeService, adapter: OpenAssistant, ledger: MemoryLedger) -> None:
    """What is given to the engine keeps its protocols."""
    adapters: list[Adapter] = [service, adapter]
    ledgers: list[Ledger] = [ledger]
    streams: list[AnswerStream] = [Stream()]
    sources: list[CredentialProvider] = [logins]
    no_adapter: Adapter = Stream()  # type: ignore[assignment]  # on purpose
    del adapters, ledgers, streams, sources, no_adapter


def values(call: Call, credential: Credential) -> None:
    Capabilities(deletion_during_run="harmful", runs_per_account=1, rate_budget=RateBudget(runs=20, window_s=660))
    Capabilities(deletion_during_run="perhaps")  # type: ignore[arg-type]  # safe or harmful
    assert_type(call.login.credential, Credential)
    assert_type(call.http_status, int | None)
    assert_type(credential.cookies, Mapping[str, str])
    assert_type(credential.fingerprint(), str)
    credential.proxy = "http://proxy.example"  # type: ignore[misc]  # frozen
    Deadlines(answr=3)  # type: ignore[call-arg]  # no such deadline


async def testing(engine: Engine, ledger: Ledger, adapter: Adapter, call: Call) -> None:
    with capture_trace(engine) as trace:
        assert_type(trace, CapturedTrace)
        assert_type(trace.path(), list[str])
    assert_type(await ledger.open_entries(), Sequence[Entry])
    assert_type(await adapter.read_answer(call, "chat", "prompt", None), Reading)
    assert_type(await check_adapter(FakeService, credential=Credential()), None)
    assert_path(trace, "cookies-ready", ..., State.DELETED)
    assert_path("trace.jsonl", ..., "deleted", session=engine.session())
    assert_path(trace, 3)  # type: ignore[arg-type]  # a number is no state
    assert_type(read_trace("trace.jsonl"), CapturedTrace)
    assert_type(await assert_nothing_left(engine, FakeService().chats), None)
    assert_type(await explore(FakeService, chats=lambda: ["chat-1"], breaking={"drop": print}), Exploration)
    async with running(workers=2) as service:
        assert_type(service, Service)
        assert_type(service.url, str)


# ------------------------------------------------------------------------------------------------- the seeds' interface


async def provider() -> None:
    messages = ProviderMessages([{"role": "user", "content": "Hello"}])
    result = Provider.create_async_generator("", messages, proxy=None, cookies={"session": "any"}, top_k=10)
    same = assert_type(result, AsyncResult)
    async for token in same:
        assert_type(token, str)
    assert_type(await Provider.create_async("", messages), str)
    assert_type(Provider.create_completion("", messages), Completion)
