"""`ManualClock.hold`: a clock that jumps by itself waits for what is real."""

from __future__ import annotations

import asyncio

import pytest

from chatlease.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(autojump=True, start=0.0)


async def echoed() -> bytes:
    """Send a byte through a real socket, in some passes that are idle."""
    received = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"x")
        byte = bytes(await received)
        writer.close()
        await writer.wait_closed()
    return byte


async def idle(clock: ManualClock) -> None:
    """Let as many passes go by as would make a clock jump twice."""
    other = ManualClock()
    await other.settle()
    await other.settle()


async def test_it_does_not_jump_while_it_is_held_and_goes_on_afterwards(clock: ManualClock) -> None:
    sleeping = asyncio.create_task(clock.sleep(30))
    with clock.hold():
        await idle(clock)
        assert await echoed() == b"x"
        assert clock.now() == 0
    await sleeping
    assert clock.now() == 30


async def test_holds_add_up_and_each_is_released_once(clock: ManualClock) -> None:
    first, second = clock.hold(), clock.hold()
    sleeping = asyncio.create_task(clock.sleep(30))
    first.release()
    first.release()
    await idle(clock)
    assert clock.now() == 0
    second.release()
    await sleeping
    assert clock.now() == 30


async def test_a_hold_that_comes_and_goes_between_two_passes_starts_the_count_anew(clock: ManualClock) -> None:
    sleeping = asyncio.create_task(clock.sleep(30))
    for _ in range(200):
        with clock.hold():
            pass
        await asyncio.sleep(0)
    assert clock.now() == 0
    await sleeping


async def test_a_timer_that_is_set_while_the_clock_is_held_is_not_forgotten(clock: ManualClock) -> None:
    came = list[float]()
    with clock.hold():
        clock.call_later(5, lambda: came.append(clock.now()))
    await clock.sleep(10)
    assert came == [5]


async def test_a_clock_that_is_held_can_be_moved_by_hand(clock: ManualClock) -> None:
    with clock.hold():
        await clock.advance(7)
    assert clock.now() == 7
