"""The spans of `chatlease.otel`: a tree per session, by the engine's clock, in the bot's trace and never in its way."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from chatlease import Engine, Session, State
from chatlease.adapter import AnswerStream, Call
from chatlease.errors import StreamStalled, Unavailable
from chatlease.events import Final, Pending, RunStatus
from chatlease.testing import FakeService, Fault, ManualClock

from .otel_kit import Telemetry, attributes_of, events_of, id_of, seconds

BEGINNING = ["ready_cookies", "create_chat", "send_prompt", "queue_assistant", "open_stream"]
SLOW = {"create_chat": 1.5, "send_prompt": 0.25, "queue_assistant": 0.5, "open_stream": 2.0, "delete_chat": 0.125}


@pytest.fixture
def told() -> Telemetry:
    return Telemetry()


def slow(service: FakeService) -> FakeService:
    """Have every step take its own time."""
    for step, delay_s in SLOW.items():
        service.fail(step, Fault(delay_s=delay_s))
    return service


async def to(state: State, session: Session) -> Session:
    """Take a session to a state, step by step."""
    while session.state is not state:
        await session.step()
    return session


def below(told: Telemetry, parent: ReadableSpan) -> list[str]:
    """Return the names of a span's children, in the order in which they began."""
    found = [span for span in told.spans() if span.parent is not None and span.parent.span_id == id_of(parent)]
    return [span.name for span in sorted(found, key=lambda span: (span.start_time or 0, span.end_time or 0))]


# -- a session --------------------------------------------------------------------------------------------------------


async def test_a_session_is_a_tree_of_its_steps_its_answer_and_its_cleanup(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(slow(FakeService(clock=clock)), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    assert told.tree() == [
        {
            "chatlease.session": [
                {"ready_cookies": []},
                {"create_chat": []},
                {"send_prompt": []},
                {"queue_assistant": []},
                {"chat fake-1": []},
                {"open_stream": []},
                {"chatlease.cleanup": [{"delete_chat": []}]},
            ]
        }
    ]


async def test_times_are_exactly_those_of_the_engines_clock(clock: ManualClock, told: Telemetry) -> None:
    start = clock.wall()
    async with Engine(slow(FakeService(clock=clock)), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    assert {span.name: seconds(span, start) for span in told.spans()} == {
        "chatlease.session": (0.0, 4.375),
        "ready_cookies": (0.0, 0.0),
        "create_chat": (0.0, 1.5),
        "send_prompt": (1.5, 1.75),
        "queue_assistant": (1.75, 2.25),
        "chat fake-1": (1.75, 4.25),  # from the request that queues it to its last token
        "open_stream": (2.25, 4.25),
        "chatlease.cleanup": (4.25, 4.375),
        "delete_chat": (4.25, 4.375),
    }
    assert events_of(told.span("chat fake-1"), start) == [("session.stream.first_token", 4.25)]


async def test_spans_say_where_as_whom_and_what_in_the_words_of_the_conventions(
    clock: ManualClock, told: Telemetry
) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        session = engine.session(account="bob", prompt="one two")
        await to(State.STREAMING, session)
        chat = session.chat
        await session.step()
    whose = {
        "chatlease.session": session.id,
        "chatlease.engine": engine.tracer.engine,
        "chatlease.service": "fake",
        "chatlease.account": "bob",
        "chatlease.chat": chat,
        "gen_ai.provider.name": "fake",
        "gen_ai.request.model": "fake-1",
        "gen_ai.conversation.id": chat,
    }
    assert attributes_of(told.span("chatlease.session")) == whose | {"chatlease.state": "deleted"}
    assert attributes_of(told.span("chat fake-1")) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "fake",
        "gen_ai.request.model": "fake-1",
        "gen_ai.conversation.id": chat,
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.0,
        "chatlease.complete": True,
        "chatlease.token_count": 2,
        "chatlease.polled": False,
    }
    assert attributes_of(told.span("create_chat")) == {
        "chatlease.trigger": "create_chat",
        "chatlease.source": "cookies-ready",
        "chatlease.dest": "chat-created",
        "http.response.status_code": 200,
    }


async def test_what_asks_the_service_is_a_client_span(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    internal = {span.name for span in told.spans() if span.kind is SpanKind.INTERNAL}
    assert internal == {"chatlease.session", "chatlease.cleanup", "ready_cookies"}
    assert {span.kind for span in told.spans()} == {SpanKind.INTERNAL, SpanKind.CLIENT}


async def test_a_session_of_several_turns_has_an_answer_for_each(clock: ManualClock, told: Telemetry) -> None:
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine,
        engine.session() as session,
    ):
        await session.ask("one two").text()
        await session.ask("three").text()
    assert [attributes_of(span)["chatlease.token_count"] for span in told.spans("chat fake-1")] == [2, 1]
    assert len(told.spans("chatlease.session")) == 1


async def test_an_answer_that_is_left_for_the_next_ends_when_it_is_stopped(clock: ManualClock, told: Telemetry) -> None:
    start = clock.wall()
    service = FakeService(clock=clock, answer_s=2.0)
    async with (
        Engine(service, clock=clock, hooks=[told.hook]) as engine,
        engine.session() as session,
    ):
        await anext(aiter(session.ask("one two")))
        await clock.advance(0.5)
        await session.ask("three").text()
    left, complete = told.spans("chat fake-1")
    assert [attributes_of(each)["chatlease.complete"] for each in (left, complete)] == [False, True]
    assert seconds(left, start) == (0.0, 0.5)
    assert seconds(told.span("stop_run"), start)[0] == 0.5


async def test_a_session_that_the_user_deletes_himself_has_no_cleanup(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        session = engine.session(prompt="one two")
        await to(State.DELETED, session)
        assert below(told, told.span("chatlease.session"))[-1] == "delete_chat"
    assert not told.spans("chatlease.cleanup")


async def test_sessions_at_the_same_time_are_trees_of_their_own(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await asyncio.gather(*(engine.ask("one two", account=account).text() for account in ("alice", "bob")))
    alice, bob = told.spans("chatlease.session")
    assert {attributes_of(each)["chatlease.account"] for each in (alice, bob)} == {"alice", "bob"}
    assert (
        sorted(below(told, alice))
        == sorted(below(told, bob))
        == sorted([*BEGINNING, "chat fake-1", "chatlease.cleanup"])
    )
    assert len({span.context.trace_id for span in told.spans() if span.context is not None}) == 2


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_step_that_failed_has_an_error_and_so_has_its_session(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock)
    service.fail("send_prompt", Fault(Unavailable("out of order", status=503), delay_s=2.0))
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        with pytest.raises(Unavailable):
            await engine.ask("one two").text()
    failed = told.span("send_prompt")
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes_of(failed) == {
        "chatlease.trigger": "send_prompt",
        "chatlease.source": "chat-created",
        "error.type": "Unavailable",
        "chatlease.error_code": "http-503",
        "http.response.status_code": 503,
    }
    session = told.span("chatlease.session")
    assert session.status.status_code is StatusCode.ERROR
    assert attributes_of(session)["error.type"] == "Unavailable"
    assert attributes_of(session)["chatlease.state"] == "deleted"
    assert told.span("chatlease.cleanup").status.status_code is StatusCode.UNSET


async def test_a_step_that_failed_and_then_succeeded_is_no_error_of_the_session(
    clock: ManualClock, told: Telemetry
) -> None:
    service = FakeService(clock=clock)
    service.fail("open_stream", Unavailable("out of order", status=503))
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        session = engine.session(prompt="one two")
        await to(State.ASSISTANT_QUEUED, session)
        with pytest.raises(Unavailable):
            await session.step()
        await to(State.DELETED, session)
    assert [span.status.status_code for span in told.spans("open_stream")] == [StatusCode.ERROR, StatusCode.UNSET]
    assert told.span("chatlease.session").status.status_code is StatusCode.UNSET
    assert told.span("chat fake-1").status.status_code is StatusCode.UNSET


async def test_an_answer_that_fails_while_it_is_read_is_an_error_of_the_answer(
    clock: ManualClock, told: Telemetry
) -> None:
    service = FakeService(clock=clock, batches=[("one ",), (Pending(0, 0),)], answer_s=1e6)
    start = clock.wall()
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        with pytest.raises(StreamStalled):
            await engine.ask("one two").text()
    answer, session = told.span("chat fake-1"), told.span("chatlease.session")
    assert answer.status.status_code is session.status.status_code is StatusCode.ERROR
    assert attributes_of(answer)["error.type"] == attributes_of(session)["error.type"] == "StreamStalled"
    assert attributes_of(answer)["chatlease.complete"] is False
    assert [name for name, _ in events_of(answer, start)][-1] == "session.stream.failed"


async def test_an_answer_that_the_bot_left_is_not_complete_and_no_error(clock: ManualClock, told: Telemetry) -> None:
    async with (
        Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine,
        engine.ask("one two") as answer,
    ):
        await anext(aiter(answer))
    left = told.span("chat fake-1")
    assert attributes_of(left)["chatlease.complete"] is False
    assert left.status.status_code is StatusCode.UNSET
    assert told.span("chatlease.session").status.status_code is StatusCode.UNSET


async def test_a_request_that_could_not_queue_an_answer_is_a_failed_answer(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock)
    service.fail("queue_assistant", Fault(Unavailable("out of order", status=503), delay_s=0.5))
    start = clock.wall()
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        with pytest.raises(Unavailable):
            await engine.ask("one two").text()
    answer = told.span("chat fake-1")
    assert (answer.status.status_code, seconds(answer, start)) == (StatusCode.ERROR, (0.0, 0.5))


async def test_a_chat_that_is_left_is_an_error_of_its_session_and_cleanup(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock)
    service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 999)
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    session, cleanup = told.span("chatlease.session"), told.span("chatlease.cleanup")
    assert session.status.status_code is cleanup.status.status_code is StatusCode.ERROR
    assert attributes_of(session)["chatlease.state"] == "orphaned"
    assert attributes_of(session)["error.type"] == attributes_of(cleanup)["error.type"] == "Unavailable"
    assert {*below(told, cleanup)} == {"delete_chat", "hand_over"}
    assert "session.cleanup.failed" in [event.name for event in cleanup.events]
    assert service.chats


async def test_retries_and_waits_for_the_accounts_turn_are_events(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock, answer_s=3.0)
    service.fail("send_prompt", Unavailable("no connection", sent=False))
    start = clock.wall()
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        first = engine.session(account="bob", prompt="one two")
        await to(State.ASSISTANT_QUEUED, first)
        second = engine.session(account="bob", prompt="three")
        await to(State.PROMPT_SENT, second)
        began = round(clock.wall() - start, 6)
        await second.queue_assistant()
        got = round(clock.wall() - start, 6)
        await second.aclose()
        await first.aclose()
    spans = {attributes_of(span)["chatlease.session"]: span for span in told.spans("chatlease.session")}
    [retried] = spans[first.id].events
    assert retried.name == "session.call.retried"
    assert dict(retried.attributes or {}) == {
        "chatlease.trigger": "send_prompt",
        "chatlease.attempt": 1,
        "error.type": "Unavailable",
    }
    assert events_of(spans[second.id], start)[:2] == [
        ("session.gate.waiting", began),
        ("session.gate.acquired", got),
    ]
    [_, queued] = told.spans("queue_assistant")
    assert attributes_of(queued)["chatlease.waited_s"] == pytest.approx(got - began)
    assert got > began
    answer = told.spans("chat fake-1")[0]
    assert seconds(answer, start)[0] == got, "waiting for one's turn is no part of an answer"


class Odd(FakeService):
    """Cancels the first run, as another program with the same login does."""

    opened = 0

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self.opened += 1
        if self.opened == 1:
            self.chats[chat].runs[-1].status = RunStatus.CANCELLED
            return None
        return await super().open_stream(call, chat, run)


async def test_an_answer_that_is_queued_again_is_one_answer(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(Odd(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    answer = told.span("chat fake-1")
    assert [event.name for event in answer.events] == [
        "session.stream.polling",
        "session.run.requeued",
        "session.stream.first_token",
    ]
    assert len(told.spans("queue_assistant")) == 2
    assert attributes_of(answer)["chatlease.complete"] is True


async def test_tokens_that_differ_from_the_final_text_are_an_event(clock: ManualClock, told: Telemetry) -> None:
    service = FakeService(clock=clock, batches=[("three ",), (Final("one two"),)])
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        await engine.ask("one two").text()
    [differs] = [each for each in told.span("chat fake-1").events if each.name == "session.stream.differs"]
    assert dict(differs.attributes or {}) == {"chatlease.given_length": 6, "chatlease.final_length": 7}


# -- the bot's own spans ----------------------------------------------------------------------------------------------


async def test_the_parent_is_the_bots_current_span(clock: ManualClock, told: Telemetry) -> None:
    bot = told.tracers.get_tracer("bot")

    async def handle(name: str) -> None:
        with bot.start_as_current_span(name):
            await engine.ask("one two", account=name).text()

    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await asyncio.gather(handle("alice"), handle("bob"))
    for name in ("alice", "bob"):
        handler = told.span(name)
        [session] = [
            each for each in told.spans("chatlease.session") if attributes_of(each)["chatlease.account"] == name
        ]
        assert session.parent is not None
        assert session.parent.span_id == id_of(handler)
    ids = {span.context.trace_id for span in told.spans() if span.context is not None}
    assert len(ids) == 2


async def test_nothing_leaks_into_the_bots_context(clock: ManualClock, told: Telemetry) -> None:
    """Neither while a session runs, nor after it, nor into tasks that the bot starts meanwhile."""
    bot = told.tracers.get_tracer("bot")
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        assert not trace.get_current_span().get_span_context().is_valid
        async for _ in engine.ask("one two"):
            assert not trace.get_current_span().get_span_context().is_valid
        with bot.start_as_current_span("handler") as handler:
            async with engine.session() as session:
                async for _ in session.ask("one two"):
                    assert trace.get_current_span() is handler
                    await asyncio.create_task(_work(bot))
            assert trace.get_current_span() is handler
    parents = {span.parent.span_id for span in told.spans("work") if span.parent is not None}
    assert parents == {handler.get_span_context().span_id}
    assert len(told.spans("work")) == 2


async def _work(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("work"):
        await asyncio.sleep(0)
