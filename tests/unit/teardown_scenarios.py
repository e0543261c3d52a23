"""
How programs end, one function each; run by ``test_teardown`` in interpreters of their own.

``python teardown_scenarios.py VARIANT NAME...`` runs each scenario to the end of its event loop and prints one JSON
object a line: ``left`` (chats at the service), ``open`` (entries in the ledger), ``lost`` (messages of other users),
``caller`` (what the one who read saw), ``warned``, ``passes`` (of the event loop). The service outlives the loop, so
that it can be asked afterwards. The delays here are real, and small: the end of a real loop is the subject.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from chatlease import Deadlines, Engine, Hook, MemoryLedger, TraceEvent
from chatlease.adapter import Call
from chatlease.testing import HANG, FakeService, Fault

CALL_S = 0.02
DEADLINES = Deadlines(grace=2.0, drain=4.0, poll=0.05, settle=1.0)
PROMPT = "one two"


class Service(FakeService):
    """Takes its time for every call, and stops streaming after a token; its runs end by themselves, soon."""

    def __init__(self) -> None:
        super().__init__(batches=[("one ",), HANG], answer_s=0.1)

    async def _begin(self, step: str, call: Call | None = None) -> Fault:
        await asyncio.sleep(CALL_S)
        return await super()._begin(step, call)


@dataclass
class World:
    """What outlives the event loop."""

    service: Service = field(default_factory=Service)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    caller: str = "nothing"
    passes: int = 0
    kept: list[object] = field(default_factory=list[object])

    def engine(self, *hooks: Hook) -> Engine:
        return Engine(self.service, ledger=self.ledger, deadlines=DEADLINES, hooks=hooks)

    async def opened(self) -> Engine:
        """An engine that nobody will close."""
        return await self.engine().__aenter__()

    @contextmanager
    def seen(self) -> Generator[None]:
        """Note what the caller saw."""
        try:
            yield
        except BaseException as error:
            self.caller = type(error).__name__
            raise
        else:
            self.caller = "a good end"

    async def read(self, engine: Engine) -> None:
        """Read an answer that does not end by itself."""
        with self.seen():
            async for _ in engine.ask(PROMPT):
                pass

    async def until(self, step: str) -> None:
        """Wait until the service was called so."""
        while not self.service.calls[step]:  # noqa: ASYNC110  (the service has no event for it, and needs none)
            await asyncio.sleep(0.005)


Scenario = Callable[[World], Coroutine[Any, Any, None]]


async def reading(world: World, engine: Engine) -> asyncio.Task[None]:
    """A task that is in the middle of its answer."""
    task = asyncio.create_task(world.read(engine))
    await world.until("open_stream")
    await asyncio.sleep(CALL_S * 2)
    return task


async def settle(*tasks: Awaitable[object]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


# -- cancellation ------------------------------------------------------------------------------------------------------


async def one_cancel(world: World) -> None:
    async with world.engine() as engine:
        task = await reading(world, engine)
        task.cancel()
        await settle(task)


async def double_cancel(world: World) -> None:
    engine = await world.opened()
    task = await reading(world, engine)
    task.cancel()
    await asyncio.sleep(CALL_S / 2)
    task.cancel()
    await settle(task)


async def many_cancels(world: World) -> None:
    engine = await world.opened()
    task = await reading(world, engine)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.001)


async def cancelled_while_creating(world: World) -> None:
    engine = await world.opened()
    task = asyncio.create_task(world.read(engine))
    await world.until("create_chat")
    task.cancel()
    await settle(task)


async def wait_for(world: World) -> None:
    engine = await world.opened()
    with world.seen():
        try:
            await asyncio.wait_for(world.read(engine), 0.2)
        finally:
            world.kept.append(engine.sessions)


async def timeout(world: World) -> None:
    engine = await world.opened()
    with world.seen():
        async with asyncio.timeout(0.2):
            async for _ in engine.ask(PROMPT):
                pass


async def sibling_fails(world: World) -> None:
    engine = await world.opened()

    async def fail() -> None:
        await world.until("open_stream")
        raise ZeroDivisionError

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.read(engine))
            tasks.create_task(fail())

    await settle(asyncio.ensure_future(group()))


# -- the end of the loop -----------------------------------------------------------------------------------------------


async def main_returns_while_reading(world: World) -> None:
    engine = await world.opened()
    world.kept.append(await reading(world, engine))


async def main_returns_with_cleanup_in_flight(world: World) -> None:
    engine = await world.opened()
    task = await reading(world, engine)
    task.cancel()
    await asyncio.sleep(CALL_S / 2)


async def engine_left_with_cleanup_in_flight(world: World) -> None:
    async with world.engine() as engine:
        task = await reading(world, engine)
        task.cancel()
        await asyncio.sleep(CALL_S / 2)


async def main_fails(world: World) -> None:
    with world.seen():
        async with world.engine() as engine:
            answer = engine.ask(PROMPT)
            await anext(aiter(answer))
            raise ZeroDivisionError


async def main_cancelled_twice_while_leaving_the_engine(world: World) -> None:
    async def main() -> None:
        with world.seen():
            async with world.engine() as engine:
                await engine.ask(PROMPT).text()

    task = asyncio.create_task(main())
    await world.until("open_stream")
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(CALL_S / 2)


async def bot_cancels_all_tasks(world: World) -> None:
    """What the shutdown routines of many bots do, inside the running loop."""
    engine = await world.opened()
    world.kept.append(await reading(world, engine))
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await settle(*others)


async def bot_cancels_all_tasks_while_creating(world: World) -> None:
    engine = await world.opened()
    task = asyncio.create_task(world.read(engine))
    await world.until("create_chat")
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    await settle(task)


async def many_sessions_at_exit(world: World, count: int = 300) -> None:
    async with world.engine() as engine:
        world.kept.extend(await asyncio.gather(*(_created(engine, number) for number in range(count))))
        world.caller = f"{len(world.service.chats)} chats"


async def many_sessions_at_exit_without_a_block(world: World, count: int = 300) -> None:
    engine = await world.opened()
    world.kept.extend(await asyncio.gather(*(_created(engine, number) for number in range(count))))
    world.caller = f"{len(world.service.chats)} chats"


async def _created(engine: Engine, number: int) -> object:
    session = engine.session(account=f"account-{number}")
    await session.ready_cookies()
    await session.create_chat()
    return session


# -- what is dropped ---------------------------------------------------------------------------------------------------


async def dropped_and_the_loop_lives_on(world: World) -> None:
    engine = await world.opened()
    async for _ in engine.ask(PROMPT):
        break
    world.caller = "a token"
    while world.service.chats:  # noqa: ASYNC110  (the service has no event for it, and needs none)
        await asyncio.sleep(0.01)


async def dropped_and_main_returns(world: World) -> None:
    engine = await world.opened()
    async for _ in engine.ask(PROMPT):
        world.caller = "a token"
        return


async def half_read_and_kept(world: World) -> None:
    """Never closed, and still referenced when the loop ends."""
    engine = await world.opened()
    answer = engine.ask(PROMPT)
    world.kept.append(answer)
    await anext(aiter(answer))
    world.caller = "a token"


async def consumer_cancelled_in_its_loop_body(world: World) -> None:
    """The answer is suspended nowhere, so nobody can throw into it; then main returns at once."""
    engine = await world.opened()
    in_body = asyncio.Event()

    async def consume() -> None:
        with world.seen():
            async for _ in engine.ask(PROMPT):
                in_body.set()
                await asyncio.sleep(100)

    task = asyncio.create_task(consume())
    await in_body.wait()
    task.cancel()
    await asyncio.sleep(0)


async def session_dropped(world: World) -> None:
    engine = await world.opened()
    await _created(engine, 1)
    world.caller = "a chat"


# -- anyio -------------------------------------------------------------------------------------------------------------


async def anyio_move_on_after(world: World) -> None:
    engine = await world.opened()
    with anyio.move_on_after(0.2) as scope:
        await world.read(engine)
    assert scope.cancelled_caught
    assert not world.service.chats, "the scope was left before the chat was given back"


async def anyio_scope_cancelled(world: World) -> None:
    engine = await world.opened()
    async with anyio.create_task_group() as group:
        group.start_soon(world.read, engine)
        await world.until("open_stream")
        group.cancel_scope.cancel()


async def anyio_scope_cancelled_while_creating(world: World) -> None:
    engine = await world.opened()
    async with anyio.create_task_group() as group:
        group.start_soon(world.read, engine)
        await world.until("create_chat")
        group.cancel_scope.cancel()


async def anyio_scope_around_the_engine(world: World) -> None:
    with anyio.move_on_after(0.2):
        async with world.engine() as engine:
            await world.read(engine)


# -- signals -----------------------------------------------------------------------------------------------------------


async def signalled(world: World) -> None:
    """Says ``ready`` in the middle of an answer, is then sent signals, and says when it begins to clean up."""
    async with world.engine(_say_closing) as engine:
        engine.install_signal_handlers()
        await _say_ready(world, engine)


async def signalled_without_handlers(world: World) -> None:
    async with world.engine() as engine:
        await _say_ready(world, engine)


async def signalled_twice(world: World) -> None:
    """Its service never deletes anything, so only the second signal ends it soon."""
    world.service.fail("delete_chat", *[Fault(delay_s=float("inf"))] * 100)
    await signalled(world)


def _say_closing(event: TraceEvent) -> None:
    if event.event == "session.cleanup.started":
        print("closing", flush=True)


async def _say_ready(world: World, engine: Engine) -> None:
    with world.seen():
        async for _ in engine.ask(PROMPT):
            print("ready", flush=True)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        one_cancel,
        double_cancel,
        many_cancels,
        cancelled_while_creating,
        wait_for,
        timeout,
        sibling_fails,
        main_returns_while_reading,
        main_returns_with_cleanup_in_flight,
        engine_left_with_cleanup_in_flight,
        main_fails,
        main_cancelled_twice_while_leaving_the_engine,
        bot_cancels_all_tasks,
        bot_cancels_all_tasks_while_creating,
        many_sessions_at_exit,
        many_sessions_at_exit_without_a_block,
        dropped_and_the_loop_lives_on,
        dropped_and_main_returns,
        half_read_and_kept,
        consumer_cancelled_in_its_loop_body,
        session_dropped,
        anyio_move_on_after,
        anyio_scope_cancelled,
        anyio_scope_cancelled_while_creating,
        anyio_scope_around_the_engine,
    )
}
SIGNALLED: dict[str, Scenario] = {
    scenario.__name__: scenario for scenario in (signalled, signalled_without_handlers, signalled_twice)
}


# -- running them ------------------------------------------------------------------------------------------------------


def _run_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def _run_eager(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12
        runner.run(main())


def _run_uvloop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _run_anyio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    anyio.run(main)


def _run_by_hand(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As bots did before `asyncio.run`: cancel what is left, wait for it, close."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(settle(*left))
        loop.close()


def _run_abruptly(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A loop that is closed over its tasks: nothing can be deleted, so the ledger must know."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


VARIANTS = {
    "abrupt": _run_abruptly,
    "asyncio": _run_asyncio,
    "eager": _run_eager,
    "uvloop": _run_uvloop,
    "anyio": _run_anyio,
    "by-hand": _run_by_hand,
}


def _count_passes(world: World) -> None:
    selector: Any = getattr(asyncio.get_running_loop(), "_selector", None)
    if selector is None:  # uvloop has none
        return
    select = selector.select

    def counting(timeout: float | None = None) -> object:
        world.passes += 1
        return select(timeout)

    selector.select = counting


def play(name: str, variant: str) -> dict[str, Any]:
    """Run a scenario to the end of its event loop, and ask the service and the ledger afterwards."""
    world, scenario = World(), (SCENARIOS | SIGNALLED)[name]

    async def main() -> None:
        _count_passes(world)
        await scenario(world)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            VARIANTS[variant](main)
        except (ZeroDivisionError, TimeoutError, asyncio.CancelledError, KeyboardInterrupt) as error:
            ended = type(error).__name__
        else:
            ended = "returned"
        open_entries = len(world.ledger.entries)
        world.kept.clear()
        gc.collect()
    return {
        "scenario": name,
        "ended": ended,
        "left": len(world.service.chats),
        "open": open_entries,
        "lost": world.service.lost_messages,
        "caller": world.caller,
        "warned": sorted({each.category.__name__ for each in caught}),
        "passes": world.passes,
    }


def main() -> None:
    variant, *names = sys.argv[1:]
    for name in names:
        print(json.dumps(play(name, variant)), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    main()
