"""What `chatlease.otel` holds: spans of sessions that are open, and only so many, and none for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from chatlease import Engine, State
from chatlease.errors import ChatleaseError, NotAuthenticated, Unavailable
from chatlease.testing import FakeService, Fault, ManualClock, capture_trace

from .otel_kit import Telemetry, attributes_of, is_whole, seconds
from .test_otel_spans import to


@pytest.fixture
def told() -> Telemetry:
    return Telemetry()


async def test_no_more_sessions_are_held_than_the_limit(clock: ManualClock) -> None:
    told = Telemetry(max_open=3)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        sessions = [engine.session(account=f"bot-{number}") for number in range(5)]
        for session in sessions:
            await session.ready_cookies()
            assert len(told.hook._sessions) <= 3
        dropped = told.spans("chatlease.session")
        assert [attributes_of(span)["chatlease.account"] for span in dropped] == ["bot-0", "bot-1"]
        assert all(attributes_of(span)["chatlease.unfinished"] is True for span in dropped)
        assert sum(told.metric("chatlease.sessions.open").values()) == 3
        await sessions[0].abandon()  # what it does now is a span again
    again = [span for span in told.spans("chatlease.session") if attributes_of(span)["chatlease.account"] == "bot-0"]
    assert [attributes_of(span)["chatlease.state"] for span in again] == ["cookies-ready", "deleted"]
    assert sum(told.metric("chatlease.sessions.opened").values()) == 5
    assert sum(told.metric("chatlease.sessions.closed").values()) == 5
    assert len(told.hook._sessions) == 0


async def test_a_session_that_its_user_dropped_is_ended_at_once(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        await engine.session(account="bob").ready_cookies()  # garbage at once, and there is nothing to give back
        await clock.settle()
        ended = attributes_of(told.span("chatlease.session"))
        assert (ended["chatlease.state"], "chatlease.unfinished" in ended) == ("deleted", False)
        assert len(told.hook._sessions) == 0


async def test_a_session_whose_end_is_not_heard_of_is_ended_with_its_engine(
    clock: ManualClock, told: Telemetry
) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        keys = {"engine": engine.tracer.engine, "service": "fake", "session": "one", "model": "m"}
        engine.tracer.emit("session.opened", keys)
        await clock.advance(7.0)
        assert not told.spans("chatlease.session")
    assert attributes_of(told.span("chatlease.session"))["chatlease.unfinished"] is True
    assert len(told.hook._sessions) == 0


async def test_closing_the_hook_ends_what_is_open_and_it_hears_no_more(clock: ManualClock, told: Telemetry) -> None:
    start = clock.wall()
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        session = engine.session(prompt="one two")
        await to(State.STREAMING, session)
        await clock.advance(5.0)
        told.hook.close()
        told.hook.close()
        ended = told.spans()
        assert {span.name for span in ended[-2:]} == {"chatlease.session", "chat fake-1"}
        assert seconds(told.span("chatlease.session"), start) == (0.0, 0.0), "nothing was heard later"
        await session.aclose()
    assert told.spans() == ended


async def test_engines_may_share_a_hook(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as first:
        session = first.session()
        await session.ready_cookies()
        async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as second:
            await second.ask("one two").text()
        assert len(told.hook._sessions) == 1, "the other engine's session goes on"
    engines = [attributes_of(span)["chatlease.engine"] for span in told.spans("chatlease.session")]
    assert engines == [second.tracer.engine, first.tracer.engine]


async def test_a_session_that_was_never_used_is_a_session_too(clock: ManualClock, told: Telemetry) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine, engine.session():
        pass
    assert told.tree() == [{"chatlease.session": [{"chatlease.cleanup": [{"abandon": []}]}]}]


# -- whatever happens -------------------------------------------------------------------------------------------------

STEPS = ("ready_cookies", "create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat")
FAULTS = {
    "once": [Fault(Unavailable("out of order", status=503))],
    "always": [Fault(Unavailable("out of order", status=503))] * 999,
    "lost": [Fault(Unavailable("cut"), when="after")],
    "unsent": [Fault(Unavailable("no connection", sent=False))],
    "refused": [Fault(NotAuthenticated("no", status=401))] * 2,
    "foreign": [Fault(ValueError("a bug"))],
    "hangs": [Fault(delay_s=float("inf"))],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
async def test_the_tree_is_whole_whatever_goes_wrong(
    clock: ManualClock, told: Telemetry, step: str, fault: str
) -> None:
    service = FakeService(clock=clock, pending=1, answer_s=1.0)
    service.fail(step, *FAULTS[fault])
    async with Engine(service, clock=clock, hooks=[told.hook]) as engine:
        with capture_trace(engine) as trace, contextlib.suppress(ChatleaseError, ValueError):
            await engine.ask("one two").text()
    assert is_whole(told)
    assert "hook.dropped" not in trace.names()
    assert len(told.spans("chatlease.session")) == 1
    assert sum(told.metric("chatlease.sessions.closed").values()) == 1


@pytest.mark.parametrize("passes", range(0, 60, 2))
async def test_the_tree_is_whole_whenever_the_bot_gives_up(clock: ManualClock, told: Telemetry, passes: int) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        asking = asyncio.create_task(engine.ask("one two").text())
        for _ in range(passes):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
    assert is_whole(told)
    closed = sum(told.metric("chatlease.sessions.closed").values())
    assert sum(told.metric("chatlease.sessions.opened").values()) == closed == len(told.spans("chatlease.session"))


@pytest.mark.parametrize("passes", range(20))
async def test_a_session_is_one_whenever_it_is_closed_while_it_is_deleted(
    clock: ManualClock, told: Telemetry, passes: int
) -> None:
    """Its cleanup may begin when somebody else's deletion is already over."""
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[told.hook]) as engine:
        session = await to(State.CHAT_CREATED, engine.session(prompt="one two"))
        deleting = asyncio.create_task(session.delete_chat())
        for _ in range(passes):
            await asyncio.sleep(0)
        await session.aclose()
        await asyncio.wait({deleting})
        deleting.exception()
    assert is_whole(told)
    assert len(told.spans("chatlease.session")) == 1
