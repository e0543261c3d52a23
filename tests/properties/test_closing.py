"""A close from another task before every pass of the loop: law 8, and law 3 when several close at once."""

from __future__ import annotations

import pytest

from chatlease.errors import SessionClosed

from . import scenarios
from .schedules import Act, Make, Scenario, World, every_pass, heard, play, saw_cancellation, settled

SERVICES = [scenarios.quick, scenarios.slow, scenarios.stoppable, scenarios.silent, scenarios.hanging]
PAIRS = [
    *((scenario, make) for scenario in (scenarios.whole, scenarios.steps) for make in SERVICES),
    (scenarios.turns, scenarios.slow),
    (scenarios.half_read, scenarios.stoppable),
    (scenarios.skipping, scenarios.hanging),
]
CLOSES = [World.close_session, World.close_engine]


def saw_the_close(world: World) -> None:
    """The caller saw a good end or `SessionClosed`; those who closed saw nothing."""
    assert world.outcome is None or isinstance(world.outcome, SessionClosed), f"the caller saw {world.outcome!r}"
    assert [task.exception() for task in world.others] == [None] * len(world.others)
    settled(world)


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize(("scenario", "make"), PAIRS)
def test_a_close_from_elsewhere_is_session_closed_for_the_caller_never_a_cancellation(
    scenario: Scenario, make: Make, close: Act
) -> None:
    closed = 0
    with heard() as warned:
        for world in every_pass(close, scenario, make):
            closed += isinstance(world.outcome, SessionClosed)
            saw_the_close(world)
    assert closed > 5
    assert {each.category for each in warned} <= ({ResourceWarning} if close is World.close_engine else set())


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize(("scenario", "make"), [(scenarios.whole, scenarios.slow), (scenarios.steps, scenarios.quick)])
def test_a_close_and_a_cancellation_in_any_order_leave_the_caller_its_cancellation(
    scenario: Scenario, make: Make, close: Act
) -> None:
    with heard():
        for first, _ in enumerate(every_pass(close, scenario, make)):
            for world in every_pass(World.cancel, scenario, make, [(first, close)]):
                saw_cancellation(world)
                settled(world)
        for first, _ in enumerate(every_pass(World.cancel, scenario, make)):
            for world in every_pass(close, scenario, make, [(first, World.cancel)]):
                saw_cancellation(world)
                settled(world)


@pytest.mark.parametrize("make", [scenarios.quick, scenarios.slow])
def test_many_closers_at_once_share_one_cleanup(make: Make) -> None:
    def thrice(world: World) -> None:
        for _ in range(3):
            world.close_session()

    for world in every_pass(thrice, scenarios.turns, make):
        saw_the_close(world)
        assert world.service.calls["delete_chat"] <= 1


@pytest.mark.parametrize("scenario", [scenarios.broken_off, scenarios.abandoned])
@pytest.mark.parametrize("make", SERVICES)
def test_what_is_dropped_half_read_is_given_back_at_once_with_a_warning(make: Make, scenario: Scenario) -> None:
    with heard() as warned:
        world = play(scenario, make)
    assert world.outcome is None
    settled(world)
    [warning] = warned
    assert warning.category is ResourceWarning
    assert "dropped half read" in str(warning.message) or "never closed" in str(warning.message)
