"""What a caller does with sessions, for schedules to interfere with; and the services that they meet."""

from __future__ import annotations

import asyncio

from chatlease import State
from chatlease.adapter import Capabilities
from chatlease.events import Batch, Final, Pending
from chatlease.testing import HANG, FakeService, ManualClock

from .schedules import World

PROMPT = "one two"


def quick(clock: ManualClock) -> FakeService:
    """Answers at once."""
    return FakeService(clock=clock)


def slow(clock: ManualClock) -> FakeService:
    """Lets one wait, and goes on for three seconds by itself when nobody reads."""
    return FakeService(clock=clock, pending=1, answer_s=3.0)


def stoppable(clock: ManualClock) -> FakeService:
    """Would go on for an hour, but can be told to stop."""
    able = Capabilities(client_key=True, stopping=True, deletion_during_run="harmful", runs_per_account=1)
    return FakeService(clock=clock, pending=1, answer_s=3600.0, capabilities=able)


def endless(clock: ManualClock) -> FakeService:
    """Goes on for longer than anyone waits, and cannot be stopped."""
    return FakeService(clock=clock, batches=_HANGS, answer_s=1e9)


def silent(clock: ManualClock) -> FakeService:
    """Ends its streams without a final event, so that the answer is polled."""
    return FakeService(clock=clock, batches=((Pending(1, 1),), ("one ",)), answer_s=12.0)


def hanging(clock: ManualClock) -> FakeService:
    """Stops streaming after a token; the answer is finished all the same, a little later."""
    return FakeService(clock=clock, batches=_HANGS, answer_s=12.0)


_HANGS: tuple[Batch, ...] = ((Pending(1, 1),), ("one ",), HANG, (Final(PROMPT),))


async def whole(world: World) -> None:
    """A whole session: opened, streamed, deleted."""
    async with world.engine as engine:
        world.answer = engine.ask(PROMPT)
        world.session = world.answer.session
        with world.caller():
            async for token in world.answer:
                world.tokens.append(token)


async def dropped(world: World) -> None:
    """A whole session whose caller is cancelled in the body of its loop too, where nobody closes the answer."""
    async with world.engine as engine:
        async for token in engine.ask(PROMPT):
            world.tokens.append(token)
            await asyncio.sleep(0)


async def half_read(world: World) -> None:
    """An answer that is left after its first token, and closed by a block."""
    async with world.engine as engine, engine.ask(PROMPT) as answer:
        world.session = answer.session
        with world.caller():
            async for token in answer:
                world.tokens.append(token)
                await asyncio.sleep(0)
                break


async def turns(world: World) -> None:
    """Two turns on one chat."""
    async with world.engine as engine:
        with world.caller():
            async with engine.session() as session:
                world.session = session
                for _ in range(2):
                    async for token in session.ask(PROMPT):
                        world.tokens.append(token)
                        await asyncio.sleep(0)


async def skipping(world: World) -> None:
    """A second turn while the first one's answer is still going."""
    async with world.engine as engine:
        with world.caller():
            async with engine.session() as session:
                world.session = session
                async for _ in session.ask(PROMPT):
                    break
                world.tokens.append(await session.ask(PROMPT).text())


async def steps(world: World) -> None:
    """One trigger after the other, by hand."""
    async with world.engine as engine:
        session = world.session = engine.session(prompt=PROMPT)
        try:
            while session.state is not State.DELETED:
                await session.step()
        finally:
            await session.aclose()


async def stopped(world: World) -> None:
    """A session that is stopped in the middle of its answer, by hand."""
    async with world.engine as engine:
        with world.caller():
            async with engine.session() as session:
                world.session = session
                await session.ready_cookies()
                await session.create_chat()
                await session.send_prompt(PROMPT)
                await session.queue_assistant()
                await session.stop_run()
                await session.delete_chat()


async def broken_off(world: World) -> None:
    """An answer that is left after its first token, and closed by nobody; the bot lives on."""
    async with world.engine as engine:
        async for token in engine.ask(PROMPT):
            world.tokens.append(token)
            break
        await world.clock.sleep(30)
        assert not world.service.chats


async def abandoned(world: World) -> None:
    """A session that is left in the middle of its answer, and closed by nobody; the bot lives on."""
    async with world.engine as engine:
        async for token in engine.session().ask(PROMPT):
            world.tokens.append(token)
            break
        await world.clock.sleep(30)
        assert not world.service.chats
