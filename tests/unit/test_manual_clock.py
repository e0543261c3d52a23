"""The clock of `chatlease.testing`: when it moves by itself, and that it waits for everything that can run."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from chatlease.testing import ManualClock, manual_clock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(autojump=True)


async def passes(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_half_an_hour_takes_no_time(clock: ManualClock) -> None:
    began, real = clock.now(), time.monotonic()
    await clock.sleep(1800)
    assert clock.now() == began + 1800
    assert time.monotonic() - real < 5


async def test_it_does_not_jump_while_anything_is_ready_however_long_that_takes(clock: ManualClock) -> None:
    began, at = clock.now(), list[float]()

    async def work() -> None:
        await passes(2000)
        at.append(clock.now())

    working = asyncio.create_task(work())
    await clock.sleep(1)
    assert working.done()
    assert at == [began]


async def test_several_clocks_on_one_loop_do_not_wait_for_each_other(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manual_clock, "_BUSY_PASSES", 10**9)
    clocks = [clock, *(ManualClock(autojump=True, start=0.0) for _ in range(3))]
    began = clock.now()
    async with asyncio.timeout(20):
        await asyncio.gather(*(each.sleep(10 + number) for number, each in enumerate(clocks)))
        assert [each.now() for each in clocks] == [began + 10, 11, 12, 13]
        clock.call_later(1, list)
        await asyncio.gather(*(ManualClock().advance(10) for _ in range(3)))


async def test_time_goes_on_in_spite_of_somebody_who_polls(clock: ManualClock) -> None:
    came = list[bool]()
    clock.call_later(5, lambda: came.append(True))
    async with asyncio.timeout(20):
        while not came:  # noqa: ASYNC110  (that is what is tested)
            await asyncio.sleep(0)


async def test_an_advance_lets_everything_run_that_a_timer_sets_off() -> None:
    clock, done = ManualClock(), list[float]()

    async def work() -> None:
        await clock.sleep(1)
        await passes(2000)
        done.append(clock.now())

    working = asyncio.create_task(work())
    began = clock.now()
    clock.call_later(2, lambda: done.append(clock.now()))
    await clock.advance(2)
    assert done == [began + 1, began + 2]
    assert working.done()


def test_a_loop_that_does_not_show_what_is_ready_has_so_many_passes() -> None:
    async def main() -> float:
        clock = ManualClock(autojump=True, start=0.0)
        await clock.sleep(1800)
        await clock.advance(10)
        return clock.now()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 1810


async def test_a_clock_may_be_used_again_when_it_has_stood_still(clock: ManualClock) -> None:
    for _ in range(3):
        await clock.sleep(1)
        await passes(200)
