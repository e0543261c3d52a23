"""How long an engine takes to close, at most; the time-outs of supervisors in engine/README.md leave it that."""

from __future__ import annotations

import asyncio
import re
import warnings

import pytest

from chatlease import Deadlines, Engine, MemoryLedger
from chatlease.adapter import Capabilities
from chatlease.testing import HANG, FakeService, Fault, ManualClock
from tests.pages import table, text_of

from .kit import FRAMEWORKS, PAGE

FOREVER = [Fault(delay_s=float("inf"))] * 100
SHORT = Deadlines(grace=2, drain=10)


class Stuck(FakeService):
    """A service that never deletes anything, and whose adapter never closes."""

    async def aclose(self) -> None:
        await asyncio.Event().wait()


class StuckLedger(MemoryLedger):
    """A ledger that never closes."""

    async def aclose(self) -> None:
        await asyncio.Event().wait()


def at_most(way: str, deadlines: Deadlines, adapters: int = 1) -> float:
    """Compute what the page's table says."""
    [cell] = [cell for how, cell, *_ in table(PAGE, "How long it takes to stop") if how.startswith(way)]
    terms = {"drain": deadlines.drain, "grace": deadlines.grace, "adapters": adapters}
    return float(eval(cell.strip("`").replace("\u00d7", "*"), {}, terms))


async def time_to_close(step: str, deadlines: Deadlines, *, cancel: bool, adapters: int) -> float:
    """Close an engine in the middle of a step, with everything stuck from there on; returns the seconds it took."""
    clock = ManualClock(autojump=True)
    safe = Capabilities(client_key=True, listing=True, deletion_during_run="safe")
    services = [Stuck(batches=[("one ",), HANG], capabilities=safe, clock=clock) for _ in range(adapters)]
    services[0].fail("delete_chat", *FOREVER)
    services[0].fail(step, *FOREVER)
    engine = await Engine(*services, ledger=StuckLedger(clock), deadlines=deadlines, clock=clock).__aenter__()
    engine._owns_ledger = True
    reading = asyncio.create_task(engine.ask("Hi").text())
    while not services[0].calls[step]:  # noqa: ASYNC110  (the service has no event for it, and needs none)
        await asyncio.sleep(0)
    began = clock.now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the session that is open, and the parts that do not close
        closing = asyncio.create_task(engine.aclose())
        if cancel:
            await asyncio.sleep(0)
            closing.cancel()
        assert engine.keeper._task is not None
        await asyncio.gather(closing, reading, engine.keeper._task, return_exceptions=True)
    return clock.now() - began


@pytest.mark.parametrize("deadlines", [Deadlines(), SHORT], ids=["default", "short"])
@pytest.mark.parametrize("adapters", [1, 2])
@pytest.mark.parametrize(("way", "cancel"), [("left in good order", False), ("cancelled", True)])
async def test_with_everything_stuck_closing_takes_what_the_table_says(
    way: str, cancel: bool, adapters: int, deadlines: Deadlines
) -> None:
    took = await time_to_close("open_stream", deadlines, cancel=cancel, adapters=adapters)
    assert took == pytest.approx(at_most(way, deadlines, adapters))


@pytest.mark.parametrize(("way", "cancel"), [("left in good order", False), ("cancelled", True)])
async def test_a_create_that_never_returns_makes_it_no_longer(way: str, cancel: bool) -> None:
    assert await time_to_close("create_chat", Deadlines(), cancel=cancel, adapters=1) <= at_most(way, Deadlines())


def test_the_defaults_are_as_computed() -> None:
    printed = {how: float(cell) for how, _, cell in table(PAGE, "How long it takes to stop")}
    assert printed == {how: at_most(how, Deadlines()) for how in printed}


def test_supervisors_wait_for_framework_farewell_and_engine() -> None:
    """Ten seconds are what python-telegram-bot's two last calls may take; the other two take less."""
    needed = 10 + farewell() + at_most("left", Deadlines())
    [systemd] = re.findall(r"^TimeoutStopSec=(\d+)$", text_of(PAGE), re.MULTILINE)
    [kubernetes] = re.findall(r"^ +terminationGracePeriodSeconds: (\d+)$", text_of(PAGE), re.MULTILINE)
    assert f"10 + {farewell()} + {at_most('left', Deadlines()):g} = {needed:g} seconds" in prose()
    assert systemd == kubernetes
    assert needed < int(systemd) <= needed + 10


def test_the_short_way_to_stop_fits_into_what_kubernetes_gives_unasked() -> None:
    shorter = 4
    needed = 10 + shorter + at_most("left", SHORT)
    assert f"`Deadlines(grace=2, drain=10)` and `FAREWELL_S = {shorter}` need {needed:g}" in prose()
    assert needed <= 30


def farewell() -> int:
    """Return the bots' `FAREWELL_S`, which is the same in all of them."""
    [seconds] = {
        each for bot in FRAMEWORKS for each in re.findall(r"^FAREWELL_S = (\d+)\.0", bot.program, re.MULTILINE)
    }
    return int(seconds)


def prose() -> str:
    """Return the page with its lines joined."""
    return " ".join(text_of(PAGE).split())
