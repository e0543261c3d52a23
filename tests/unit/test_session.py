"""A session, driven step by step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatlease import Engine, State, Trigger
from chatlease.errors import (
    CleanupFailed,
    NotAuthenticated,
    Rejected,
    SessionClosed,
    StepInFlight,
    TransitionNotAllowed,
    Unavailable,
    UsageError,
)
from chatlease.events import Batch, Failed, Final, Pending, PluginStep, Token
from chatlease.testing import FakeService, Fault, ManualClock, capture_trace

HAPPY = [
    (Trigger.READY_COOKIES, State.NEW, State.COOKIES_READY),
    (Trigger.CREATE_CHAT, State.COOKIES_READY, State.CHAT_CREATED),
    (Trigger.SEND_PROMPT, State.CHAT_CREATED, State.PROMPT_SENT),
    (Trigger.QUEUE_ASSISTANT, State.PROMPT_SENT, State.ASSISTANT_QUEUED),
    (Trigger.OPEN_STREAM, State.ASSISTANT_QUEUED, State.STREAMING),
    (Trigger.DELETE_CHAT, State.STREAMING, State.DELETED),
]


async def test_step_walks_the_happy_path_and_then_the_session_is_closed(engine: Engine, service: FakeService) -> None:
    session = engine.session(prompt="Hi there")
    steps = [await session.step() for _ in HAPPY]
    assert [(step.trigger, step.source, step.dest) for step in steps] == HAPPY
    assert [step.http_status for step in steps] == [None, 200, 200, 200, 200, 200]
    assert not service.chats
    with pytest.raises(SessionClosed):
        await session.step()


async def test_every_state_says_what_it_allows(engine: Engine) -> None:
    session = engine.session(prompt="Hi")
    seen = {session.state: session.allowed}
    for _ in HAPPY:
        await session.step()
        seen[session.state] = session.allowed
    assert seen == {
        State.NEW: {Trigger.READY_COOKIES, Trigger.ABANDON},
        State.COOKIES_READY: {Trigger.CREATE_CHAT, Trigger.ABANDON},
        State.CHAT_CREATED: {Trigger.SEND_PROMPT, Trigger.DELETE_CHAT},
        State.PROMPT_SENT: {Trigger.QUEUE_ASSISTANT, Trigger.DELETE_CHAT},
        State.ASSISTANT_QUEUED: {Trigger.OPEN_STREAM, Trigger.STOP_RUN, Trigger.DELETE_CHAT},
        State.STREAMING: {Trigger.STOP_RUN, Trigger.DELETE_CHAT},
        State.DELETED: set(),
    }


async def test_a_step_that_the_table_does_not_have_changes_nothing(engine: Engine, service: FakeService) -> None:
    async with engine.session() as session:
        await session.ready_cookies()
        with pytest.raises(TransitionNotAllowed) as caught:
            await session.send_prompt("too early")
        assert (caught.value.trigger, caught.value.state) == ("send_prompt", "cookies-ready")
        assert caught.value.allowed == ("abandon", "create_chat")
        assert session.state is State.COOKIES_READY
        assert service.calls["send_prompt"] == 0


async def test_a_refused_step_leaves_the_state_and_may_be_tried_again(engine: Engine, service: FakeService) -> None:
    service.fail("create_chat", Rejected("no", status=400))
    async with engine.session() as session:
        await session.ready_cookies()
        with pytest.raises(Rejected):
            await session.create_chat()
        assert session.state is State.COOKIES_READY
        step = await session.create_chat()
        assert step.dest is State.CHAT_CREATED


async def test_after_a_lost_reply_nothing_but_cleanup_is_allowed(engine: Engine, service: FakeService) -> None:
    service.fail("send_prompt", Fault(Unavailable("cut"), when="after"))
    async with engine.session() as session:
        await session.ready_cookies()
        await session.create_chat()
        with pytest.raises(Unavailable):
            await session.send_prompt("Hi")
        assert session.allowed == {Trigger.DELETE_CHAT}
        with pytest.raises(TransitionNotAllowed):
            await session.send_prompt("Hi")
    assert not service.chats


async def test_a_call_that_never_left_is_repeated_even_a_create(engine: Engine, service: FakeService) -> None:
    service.fail("create_chat", *[Unavailable("refused", sent=False)] * 2)
    assert await engine.ask("one two").text() == "one two"
    assert service.calls["create_chat"] == 3


async def test_a_lost_create_reply_ends_orphaned_with_one_open_entry(engine: Engine, service: FakeService) -> None:
    service.fail("create_chat", Fault(Unavailable("cut"), when="after"))
    session = engine.session()
    await session.ready_cookies()
    with pytest.raises(Unavailable):
        await session.create_chat()
    await session.aclose()
    assert session.state is State.ORPHANED
    assert engine.ledger is not None
    [entry] = await engine.ledger.open_entries()
    assert (entry.id, entry.chat, entry.orphaned) == (session.id, None, True)
    [chat] = service.chats.values()
    assert chat.key == entry.id
    service.chats.clear()


@pytest.mark.parametrize(("status", "may_exist"), [(408, True), (409, True), (425, True), (429, True), (400, False)])
async def test_a_create_that_some_4xx_answer_may_have_had_its_effect(
    engine: Engine, service: FakeService, status: int, *, may_exist: bool
) -> None:
    """Law 1: only a certain refusal lets the ledger forget; a chat may stand behind a time-out or a conflict."""
    service.fail("create_chat", Rejected("no", status=status))
    with pytest.raises(Rejected):
        await engine.ask("x").text()
    assert engine.ledger is not None
    assert len(await engine.ledger.open_entries()) == may_exist


async def test_a_second_step_in_flight_is_refused_and_the_first_goes_on(engine: Engine, service: FakeService) -> None:
    async with engine.session() as session:
        await session.ready_cookies()
        await session.create_chat()
        first = asyncio.ensure_future(session.send_prompt("Hi"))
        await asyncio.sleep(0)
        with pytest.raises(StepInFlight):
            await session.send_prompt("Hi again")
        assert (await first).dest is State.PROMPT_SENT
        assert service.calls["send_prompt"] == 1


async def test_a_close_from_elsewhere_ends_the_step_with_session_closed(engine: Engine, service: FakeService) -> None:
    service.fail("send_prompt", Fault(delay_s=float("inf")))
    session = engine.session()
    await session.ready_cookies()
    await session.create_chat()
    step = asyncio.ensure_future(session.send_prompt("Hi"))
    await asyncio.sleep(0)
    await session.aclose()
    with pytest.raises(SessionClosed):
        await step
    assert session.state is State.DELETED
    assert not service.chats


async def test_two_turns_use_one_chat_and_the_first_answer_is_the_second_prompts_parent(
    engine: Engine, service: FakeService
) -> None:
    async with engine.session() as session:
        assert await session.ask("one two").text() == "one two"
        assert await session.ask("three").text() == "three"
        [chat] = service.chats.values()
        assert len(chat.prompts) == 2
    assert service.calls["create_chat"] == service.calls["delete_chat"] == 1


async def test_a_half_read_turn_is_waited_for_before_the_next(engine: Engine, service: FakeService) -> None:
    async with engine.session() as session:
        async for token in session.ask("a b c"):
            assert token == "a "
            break
        assert await session.ask("d").text() == "d"
    assert service.lost_messages == 0


async def test_messages_are_rendered_and_one_message_is_its_text(engine: Engine) -> None:
    assert await engine.ask([{"role": "user", "content": "just this"}]).text() == "just this"
    several = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    assert await engine.ask(several).text() == "System: be kind\nUser: hi\nAssistant:"


async def test_a_prompt_that_cannot_be_encoded_is_refused_before_anything_is_sent(
    engine: Engine, service: FakeService
) -> None:
    with pytest.raises(UsageError) as caught:
        await engine.ask("secret \ud800 text").text()
    assert "secret" not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"
    assert service.calls.total() == 0


@pytest.mark.parametrize("wrong", [None, 5, ["hi"], [], [{"role": "user"}]])
async def test_what_is_no_prompt_is_a_usage_error_and_nothing_is_sent(
    engine: Engine, service: FakeService, wrong: Any
) -> None:
    with pytest.raises(UsageError):
        await engine.ask(wrong).text()
    assert service.calls.total() == 0


async def test_bare_cookies_are_a_credential_and_anything_else_is_a_usage_error(service: FakeService) -> None:
    async with Engine(service, credentials={"bot-1": {"session": "one"}}) as engine:
        async with engine.session(account="bot-1") as session:
            await session.ready_cookies()
            assert session.call.login.credential.cookies == {"session": "one"}
        wrong: Any = "a=b"
        with pytest.raises(UsageError, match="Credential"):
            engine.session(credential=wrong)
        with pytest.raises(UsageError, match="Deadlines"):
            engine.session(deadlines=wrong)


async def test_an_answer_is_lazy_and_iterated_once(engine: Engine, service: FakeService) -> None:
    answer = engine.ask("x")
    assert service.calls.total() == 0
    assert [token async for token in answer] == ["x"]
    with pytest.raises(UsageError):
        aiter(answer)
    assert await answer.text() == "x"


async def test_events_are_typed_and_carry_the_queue_position(clock: ManualClock) -> None:
    batches: list[Batch] = [(Pending(2, 3),), (PluginStep("looking", "search"), "a"), ("b", Final("ab"))]
    async with Engine(FakeService(batches=batches, clock=clock), clock=clock) as engine:
        events = [event async for event in engine.ask("x").events()]
    assert events == [Pending(2, 3), PluginStep("looking", "search"), Token("a"), Token("b"), Final("ab")]


async def test_tokens_before_a_failure_are_given_out_first(clock: ManualClock) -> None:
    failure = Unavailable("worker died", code="aborted_by_worker")
    service = FakeService(batches=[("a", "b", Failed(failure))], clock=clock)
    async with Engine(service, clock=clock) as engine:
        answer = aiter(engine.ask("x"))
        assert [await anext(answer), await anext(answer)] == ["a", "b"]
        with pytest.raises(Unavailable):
            await anext(answer)
    assert not service.chats


async def test_a_deletion_that_fails_does_not_withhold_the_last_tokens(clock: ManualClock) -> None:
    service = FakeService(batches=[("a", "b", Final("ab"))], clock=clock)
    service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 100)
    async with Engine(service, clock=clock, ledger=None) as engine:
        answer = aiter(engine.ask("x"))
        assert [await anext(answer), await anext(answer)] == ["a", "b"]
        assert service.calls["delete_chat"] == 0
        with pytest.raises(CleanupFailed):
            await anext(answer)
    assert service.chats


async def test_step_without_a_prompt_is_a_usage_error(engine: Engine) -> None:
    async with engine.session() as session:
        await session.step()
        await session.step()
        with pytest.raises(UsageError, match="no prompt"):
            await session.step()
        assert session.state is State.CHAT_CREATED


async def test_deleting_by_hand_while_a_run_goes_is_refused_where_it_harms(clock: ManualClock) -> None:
    service = FakeService(answer_s=3.0, clock=clock)
    async with Engine(service, clock=clock) as engine, engine.session() as session:
        for _ in range(2):
            await session.step()
        await session.send_prompt("a b c")
        await session.queue_assistant()
        with pytest.raises(UsageError, match="harm"):
            await session.delete_chat()
        await session.stop_run()
        assert session.state is State.STOPPED
        await session.delete_chat()
    assert service.lost_messages == 0


async def test_refused_credentials_are_asked_for_once_more_and_then_given_up(
    engine: Engine, service: FakeService
) -> None:
    service.accounts = set()
    with pytest.raises(NotAuthenticated):
        await engine.ask("x").text()
    assert service.calls["ready_cookies"] == 2
    assert service.calls["create_chat"] == 1


async def test_a_dropped_session_is_given_back_with_a_resource_warning(engine: Engine, service: FakeService) -> None:
    sessions = [engine.session()]
    await sessions[0].ready_cookies()
    await sessions[0].create_chat()
    with pytest.warns(ResourceWarning, match="never closed"):
        sessions.clear()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not service.chats


async def test_the_trace_tells_the_whole_path(engine: Engine) -> None:
    with capture_trace(engine) as trace:
        await engine.ask("a b").text()
    expected = ["new", "cookies-ready", "chat-created", "prompt-sent", "assistant-queued", "streaming", "deleted"]
    assert trace.path() == expected
    assert trace.names()[0] == "session.opened"
    assert {"session.gate.acquired", "session.stream.first_token", "session.closed"} <= set(trace.names())
    assert all(isinstance(event.line(), bytes) for event in trace)


async def test_adapters_are_told_to_hide_the_prompt_and_what_text_is_among_the_options(engine: Engine) -> None:
    async with engine.session(system_prompt="you are a secret agent", top_k=3) as session:
        await session.ready_cookies()
        await session.create_chat()
        await session.send_prompt("my secret")
        assert set(session.call.hide) == {"my secret", "you are a secret agent"}
