"""A run that failed is queued again, and the reply to that is lost: the new run counts, and not the one before it."""

from __future__ import annotations

import pytest

from chatlease import Engine, Session
from chatlease.errors import RunFailed, Unavailable
from chatlease.events import Failed, Final, RunStatus
from chatlease.testing import FakeService, Fault, ManualClock, assert_path, capture_trace

LOST = Unavailable("the connection broke")


@pytest.fixture
def service(clock: ManualClock) -> FakeService:
    """Its first run fails at once, a second one would go on for three seconds."""
    return FakeService(clock=clock, batches=((Failed(RunFailed("worker died")),), (Final("one"),)), answer_s=3.0)


async def failed_once(session: Session) -> None:
    await session.ready_cookies()
    await session.create_chat()
    await session.send_prompt("one")
    await session.queue_assistant()
    await session.open_stream()
    assert session.answer is not None
    with pytest.raises(RunFailed):
        await session.answer.text()


async def test_the_chat_is_not_deleted_before_the_new_run_is_over(
    engine: Engine, service: FakeService, clock: ManualClock
) -> None:
    with capture_trace(engine) as trace:
        async with engine.session() as session:
            await failed_once(session)
            service.fail("queue_assistant", Fault(LOST, when="after"))
            with pytest.raises(Unavailable):
                await session.queue_assistant()
            [chat] = service.chats.values()
            assert [run.status_at(clock.now()) for run in chat.runs] == [RunStatus.FAILED, RunStatus.GOING]
            began = clock.now()
        assert clock.now() - began >= 3.0
    assert service.lost_messages == 0
    assert_path(trace, ..., "streaming", "stopped", "deleted")


async def test_a_new_run_that_comes_late_is_waited_for_although_the_one_before_it_is_over(
    engine: Engine, service: FakeService, clock: ManualClock
) -> None:
    async with engine.session() as session:
        await failed_once(session)
        service.fail("queue_assistant", Fault(LOST, when="late", delay_s=0.5))
        with pytest.raises(Unavailable):
            await session.queue_assistant()
        [chat] = service.chats.values()
        assert len(chat.runs) == 1
        began = clock.now()
    assert len(chat.runs) == 2
    assert clock.now() - began >= 3.5
    assert service.lost_messages == 0
