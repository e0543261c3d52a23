"""Sessions and engines that are used wrongly, forgotten, or forked."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from chatlease import Answer, Engine, MemoryLedger, Session, State
from chatlease.errors import (
    SessionClosed,
    StepInFlight,
    UsageError,
)
from chatlease.events import Final
from chatlease.testing import HANG, FakeService, ManualClock

from .closing import PROMPT, Ledger, opened, with_chat
from .paced import PacedService, collect

# -- misuse -----------------------------------------------------------------------------------------------------------


async def test_an_engine_is_entered_once_and_used_only_while_it_is_open(
    service: FakeService, clock: ManualClock
) -> None:
    engine = Engine(service, clock=clock)
    with pytest.raises(UsageError, match="not open"):
        engine.session()
    async with engine:
        with pytest.raises(UsageError, match="entered once"):
            await engine.__aenter__()
        session = engine.session()
    for use in (engine.session, lambda: engine.ask(PROMPT)):
        with pytest.raises(SessionClosed):
            use()
    with pytest.raises(UsageError):
        await session.ready_cookies()
    with pytest.raises(UsageError, match="entered once"):
        await engine.__aenter__()
    await engine.aclose()


async def test_another_loop_is_a_usage_error_and_the_session_lives_on(service: FakeService, clock: ManualClock) -> None:
    async with opened(service, clock, Ledger()) as engine:
        session = await with_chat(engine)
        answer = engine.ask(PROMPT)
        seen: list[BaseException] = []

        async def use(action: Callable[[], Coroutine[Any, Any, object]]) -> None:
            try:
                await action()
            except UsageError as error:
                seen.append(error)

        def elsewhere() -> None:
            for action in (session.send_prompt, session.aclose, session.step, answer.text, answer.aclose):
                asyncio.run(use(action))
            with pytest.raises(UsageError):
                engine.session()

        await asyncio.to_thread(elsewhere)
        assert len(seen) == 5
        assert not session.closed
        assert (await session.send_prompt()).dest is State.PROMPT_SENT
        await session.aclose()


async def test_a_half_read_answer_is_not_harmed_by_another_loop_or_a_second_reader(clock: ManualClock) -> None:
    paced = PacedService(clock, [("one ",), ("two",), (Final(PROMPT),)], every_s=1, answer_s=2)
    async with opened(paced, clock, Ledger()) as engine:
        answer = engine.ask(PROMPT)
        first = await anext(aiter(answer))

        def elsewhere() -> None:
            with pytest.raises(UsageError):
                asyncio.run(answer.text())

        await asyncio.to_thread(elsewhere)
        rest: list[str] = []
        reading = asyncio.create_task(_rest(answer, rest))
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(StepInFlight):
            await answer.text()
        await reading
        assert first + "".join(rest) == PROMPT


async def _rest(answer: Answer, given: list[str]) -> None:
    while True:
        try:
            given.append(await anext(answer))
        except StopAsyncIteration:
            return


async def test_asking_does_nothing_before_the_answer_is_iterated(service: FakeService, clock: ManualClock) -> None:
    async with opened(service, clock, Ledger()) as engine:
        answer = engine.ask(PROMPT)
        await clock.sleep(100)
        assert not service.calls
        await answer.aclose()
        assert not service.calls
        assert answer.session.state is State.DELETED
        with pytest.raises(UsageError):
            await collect(answer, [])
        dropped: Answer | None = engine.ask(PROMPT)
        assert dropped is not None
        dropped = None
        gc.collect()


async def test_an_answer_is_iterated_once(service: FakeService, clock: ManualClock) -> None:
    async with opened(service, clock, Ledger()) as engine:
        answer = engine.ask(PROMPT)
        given: list[str] = []
        await collect(answer, given)
        assert "".join(given) == PROMPT
        for again in (aiter, Answer.events):
            with pytest.raises(UsageError, match="iterated once"):
                again(answer)
        assert await answer.text() == PROMPT
        assert service.calls["create_chat"] == 1


# -- what is forgotten ------------------------------------------------------------------------------------------------


async def test_a_dropped_session_is_given_back_with_a_warning(service: FakeService, clock: ManualClock) -> None:
    async with opened(service, clock, Ledger()) as engine:
        session: Session | None = await with_chat(engine)
        assert session is not None
        with pytest.warns(ResourceWarning, match="never closed"):
            session = None
        await clock.settle()
        assert not service.chats


async def test_a_session_dropped_in_the_middle_of_its_answer_is_given_back(
    service: FakeService, clock: ManualClock
) -> None:
    service._batches = [("one ",), HANG]
    service._answer_s = 3
    async with opened(service, clock, Ledger()) as engine:
        answer: Answer | None = engine.ask(PROMPT)
        assert answer is not None
        assert await anext(aiter(answer)) == "one "
        with pytest.warns(ResourceWarning, match="dropped half read"):
            answer = None
        await clock.sleep(10)
        assert not service.chats


async def test_an_engine_that_is_closed_with_sessions_open_names_them(service: FakeService, clock: ManualClock) -> None:
    ledger = Ledger()
    engine = Engine(service, clock=clock, ledger=ledger)
    with pytest.warns(ResourceWarning, match="not closed") as caught:
        async with engine:
            session = await with_chat(engine)
    assert session.id in str(caught[0].message)
    assert session.state is State.DELETED
    assert not service.chats


async def test_what_is_closed_properly_warns_of_nothing(service: FakeService, clock: ManualClock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with opened(service, clock, Ledger()) as engine:
            assert await engine.ask(PROMPT).text() == PROMPT
            async with engine.session() as session:
                assert await session.ask(PROMPT).text() == PROMPT
            del session
            gc.collect()


async def test_a_finished_session_is_freed_without_the_garbage_collector(
    service: FakeService, clock: ManualClock
) -> None:
    async with opened(service, clock, Ledger()) as engine:
        gc.disable()
        try:
            for _ in range(5):
                assert await engine.ask(PROMPT).text() == PROMPT
            await clock.settle()
            assert len(engine.keeper._sessions) == 0
        finally:
            gc.enable()


async def test_a_coroutine_that_is_closed_from_outside_is_no_reason_to_await(clock: ManualClock) -> None:
    """What a loop that was stopped without cancelling its tasks does to them when they are collected."""
    service = FakeService(clock=clock, batches=[HANG], answer_s=1)
    async with opened(service, clock, Ledger()) as engine:
        answer = engine.ask(PROMPT)
        reading = answer.text()
        await asyncio.wait({asyncio.ensure_future(_drive(reading, 30))})
        reading.close()
        await answer.aclose()
        assert not service.chats


async def _drive(coroutine: Coroutine[Any, Any, object], passes: int) -> None:
    """Run a coroutine by hand for a while, and leave it where it is."""
    for _ in range(passes):
        future: asyncio.Future[object] | None = coroutine.send(None)
        if future is None:
            await asyncio.sleep(0)
            continue
        future._asyncio_future_blocking = False
        done, _ = await asyncio.wait({future}, timeout=0.01)
        if not done:
            return


# -- a fork -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_childs_sessions_are_closed_objects_that_send_nothing(clock: ManualClock) -> None:
    service = FakeService(clock=clock, tokens=["one ", "two"], answer_s=5)
    async with opened(service, clock, Ledger()) as engine:
        session = await with_chat(engine)
        answer = engine.ask(PROMPT)
        assert await anext(aiter(answer)) == "one "
        sent = dict(service.calls)

        async def use(action: Callable[[], Coroutine[Any, Any, object]]) -> str:
            try:
                await action()
            except BaseException as error:  # noqa: BLE001  (whatever it is, it is compared)
                return type(error).__name__
            return "nothing"

        async def block() -> None:
            async with session:
                pass

        async def in_child() -> list[str]:
            actions = (session.step, session.aclose, block, answer.text, answer.aclose, engine.aclose)
            seen = [await use(action) for action in actions]
            for _ in range(50):
                await asyncio.sleep(0)
            return seen

        def child() -> None:
            asyncio.events._set_running_loop(None)
            seen = asyncio.run(in_child())
            ours.send((seen, dict(service.calls) == sent, len(service.chats)))

        theirs, ours = multiprocessing.Pipe(duplex=False)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                child()
                code = 0
            finally:
                os._exit(code)
        ours.close()
        seen, nothing_sent, chats = await asyncio.to_thread(theirs.recv)
        await asyncio.to_thread(os.waitpid, process, 0)
        assert seen == ["SessionClosed"] * 6
        assert nothing_sent
        assert chats == 2
        assert not session.closed
        await answer.aclose()
        await session.aclose()
    assert not service.chats


def test_threads_do_not_share_an_engine() -> None:
    """`adopt` may come from any thread, by the garbage collector: the session is given back on its own loop."""
    service, ledger = FakeService(), MemoryLedger()

    async def main() -> None:
        async with Engine(service, ledger=ledger) as engine:
            session = engine.session()
            await session.ready_cookies()
            await session.create_chat()
            box = [session]
            del session
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thread = threading.Thread(target=box.clear)
                thread.start()
                await asyncio.to_thread(thread.join)
            while service.chats:  # noqa: ASYNC110  (the service has no event for it)
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert not service.chats
