"""A fault at every call of the service, alone and with a cancellation before every pass."""

from __future__ import annotations

import asyncio

import pytest

from chatlease.errors import ChatleaseError, Rejected, ServiceError, Unavailable
from chatlease.events import Batch, Failed, Final
from chatlease.testing import FakeService, Fault, ManualClock

from . import scenarios
from .schedules import FAR, Make, Scenario, World, every_pass, play, saw_cancellation, settled

STEPS = [
    "ready_cookies",
    "create_chat",
    "send_prompt",
    "queue_assistant",
    "open_stream",
    "read_answer",
    "stop_run",
    "delete_chat",
]
FAULTS = {
    "refused": Fault(Rejected("no", status=400)),
    "failed": Fault(Unavailable("out of order", status=503)),
    "unsent": Fault(Unavailable("no connection", sent=False)),
    "lost": Fault(Unavailable("the connection broke"), when="after"),
    "hangs": Fault(delay_s=float("inf")),
    "hangs-late": Fault(delay_s=float("inf"), when="after"),
}
MAY_BE_GONE = {"create_chat", "delete_chat"}
"""After a lost reply to these, an entry may be open for a chat that does not exist."""


def _faults(step: str, kind: str, times: int = 1) -> list[tuple[str, Fault]]:
    return [(step, FAULTS[kind])] * times


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_is_the_callers_own_error_and_leaves_no_chat(step: str, kind: str) -> None:
    hit = 0
    for make in (scenarios.quick, scenarios.stoppable, scenarios.silent):
        for scenario in (scenarios.whole, scenarios.turns, scenarios.half_read):
            world = play(scenario, make, faults=_faults(step, kind))
            assert world.outcome is None or isinstance(world.outcome, ServiceError)
            hit += not world.service.faults[step]
            settled(world, ghosts=step in MAY_BE_GONE)
    assert hit


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_and_a_cancellation_together_leave_no_chat(step: str, kind: str) -> None:
    for make, scenario in ((scenarios.slow, scenarios.whole), (scenarios.stoppable, scenarios.half_read)):
        for world in every_pass(World.cancel, scenario, make, faults=_faults(step, kind)):
            saw_cancellation(world)
            settled(world, ghosts=step in MAY_BE_GONE)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_and_a_close_from_elsewhere_together_leave_no_chat(step: str, kind: str) -> None:
    for world in every_pass(World.close_session, scenarios.whole, scenarios.slow, faults=_faults(step, kind)):
        assert world.outcome is None or isinstance(world.outcome, ChatleaseError)
        settled(world, ghosts=step in MAY_BE_GONE)


@pytest.mark.parametrize("kind", ["refused", "failed", "lost", "hangs"])
@pytest.mark.parametrize("scenario", [scenarios.whole, scenarios.turns])
def test_a_delete_that_never_succeeds_ends_in_one_orphaned_entry(scenario: Scenario, kind: str) -> None:
    for world in every_pass(World.cancel, scenario, scenarios.slow, faults=_faults("delete_chat", kind, times=FAR)):
        saw_cancellation(world)
        settled(world, ghosts=True)
        assert len(world.ledger.entries) <= 1


@pytest.mark.parametrize("kind", ["failed", "hangs"])
def test_a_run_that_cannot_be_stopped_is_handed_over_where_deleting_would_do_harm(kind: str) -> None:
    for world in every_pass(World.cancel, scenarios.whole, scenarios.endless, faults=_faults("read_answer", kind)):
        saw_cancellation(world)
        settled(world)


SCRIPTS: dict[str, list[Batch]] = {
    "failure before the first token": [(Failed(Unavailable("worker died")),)],
    "failure after a token": [("one ",), (Failed(Unavailable("worker died")),)],
    "failure with a token": [("one ", Failed(Unavailable("worker died")))],
    "end without final": [("one ",)],
    "nothing at all": [],
    "other text": [("three ",), (Final("one two"),)],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_however_a_stream_goes_wrong_no_chat_is_left(name: str) -> None:
    def make(clock: ManualClock) -> FakeService:
        return FakeService(clock=clock, batches=SCRIPTS[name], answer_s=7.0)

    for scenario in (scenarios.whole, scenarios.turns, scenarios.steps):
        world = play(scenario, make)
        assert world.outcome is None or isinstance(world.outcome, ServiceError)
        settled(world)
        for world in every_pass(World.cancel, scenario, make):
            saw_cancellation(world)
            settled(world)


def test_two_sessions_of_one_account_that_are_cancelled_one_by_one_leave_no_chat_and_no_turn() -> None:
    async def both(world: World) -> None:
        async def ask() -> str:
            return await world.engine.ask(scenarios.PROMPT).text()

        async with world.engine:
            first, second = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
            world.others += [first, second]
            await asyncio.wait(world.others)

    make: Make = scenarios.slow
    for which in (0, 1):

        def cancel_one(world: World, which: int = which) -> None:
            assert world.main is not None
            world.too_late = world.main.done()
            if world.others:
                world.others[which].cancel()

        for world in every_pass(cancel_one, both, make):
            victim, other = world.others[which], world.others[1 - which]
            assert other.result() == scenarios.PROMPT
            assert victim.cancelled() or victim.result() == scenarios.PROMPT
            assert world.service.cancelled_runs == 0
            settled(world)
