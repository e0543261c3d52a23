"""A service whose one call adds the prompt, queues the answer and is its stream."""

from __future__ import annotations

import asyncio

import pytest

from chatlease import Engine
from chatlease.adapter import AnswerStream, Call, Capabilities, RunOptions
from chatlease.testing import FakeService, ManualClock

AT_ONCE = Capabilities(listing=True, stopping=True)


class AllAtOnce(FakeService):
    """Its prompts have an id of our own and are sent with the run; the reply to that is the stream."""

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        self.calls["send_prompt"] += 1
        return f"prompt-{next(self._ids)}"

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        self._texts[prompt] = call.text
        run = await super().queue_assistant(call, chat, prompt, model, options)
        call.stream = await super().open_stream(call, chat, run)
        return run

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self.calls["open_stream"] += 1
        return call.take_stream()


@pytest.fixture
def service(clock: ManualClock) -> AllAtOnce:
    return AllAtOnce(clock=clock, capabilities=AT_ONCE)


async def test_the_prompt_goes_with_the_run_and_the_stream_comes_from_it(
    service: AllAtOnce, clock: ManualClock
) -> None:
    async with (
        Engine(service, ledger="memory", clock=clock, sweep=None) as engine,
        engine.session() as session,
    ):
        assert await session.ask("one two").text() == "one two"
        assert await session.ask("and three").text() == "and three"
    assert len(service.streams) == 2
    assert all(stream.closed for stream in service.streams)
    assert not service.chats


async def test_a_stream_that_nobody_opens_is_closed_with_the_session(service: AllAtOnce, clock: ManualClock) -> None:
    async with Engine(service, ledger="memory", clock=clock, sweep=None) as engine:
        session = engine.session()
        await session.ready_cookies()
        await session.create_chat()
        await session.send_prompt("one two")
        await session.queue_assistant()
        (stream,) = service.streams
        assert not stream.closed
        await session.aclose()
    assert stream.closed
    assert service.calls["stop_run"] == 1
    assert not service.chats


async def test_a_stream_that_came_while_its_caller_was_cancelled_is_closed(
    service: AllAtOnce, clock: ManualClock
) -> None:
    async with Engine(service, ledger="memory", clock=clock, sweep=None) as engine:
        session = engine.session()
        await session.ready_cookies()
        await session.create_chat()
        await session.send_prompt("one two")
        queueing = asyncio.create_task(session.queue_assistant())
        for _ in range(100):
            if service.streams:
                break
            await asyncio.sleep(0)
        queueing.cancel()
        await asyncio.wait({queueing})
        await session.aclose()
    (stream,) = service.streams
    assert stream.closed
    assert not service.chats
