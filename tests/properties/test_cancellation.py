"""A cancellation at every pass of the loop, and a second one at every later pass: law 1, law 2, law 3, law 4."""

from __future__ import annotations

import pytest

from . import scenarios
from .schedules import Make, Scenario, World, every_pass, heard, play, saw_cancellation, settled

SERVICES = [scenarios.quick, scenarios.slow, scenarios.stoppable, scenarios.silent, scenarios.hanging]
SCENARIOS = [scenarios.whole, scenarios.turns, scenarios.steps]


cancel = World.cancel


@pytest.mark.parametrize("make", SERVICES)
@pytest.mark.parametrize("scenario", [*SCENARIOS, scenarios.half_read, scenarios.skipping, scenarios.stopped])
def test_a_cancellation_before_any_pass_is_seen_by_its_caller_and_leaves_no_chat(
    scenario: Scenario, make: Make
) -> None:
    schedules = 0
    for world in every_pass(cancel, scenario, make):
        schedules += 1
        saw_cancellation(world)
        settled(world)
    assert schedules > 10


@pytest.mark.parametrize(
    ("scenario", "make"),
    [
        (scenarios.whole, scenarios.quick),
        (scenarios.whole, scenarios.slow),
        (scenarios.steps, scenarios.quick),
        (scenarios.turns, scenarios.slow),
    ],
)
def test_a_second_cancellation_changes_nothing(scenario: Scenario, make: Make) -> None:
    schedules = 0
    for first, _ in enumerate(every_pass(cancel, scenario, make)):
        for world in every_pass(cancel, scenario, make, [(first, cancel)]):
            schedules += 1
            saw_cancellation(world)
            settled(world)
    assert schedules > 100


@pytest.mark.parametrize("make", [scenarios.quick, scenarios.slow])
def test_an_answer_that_nobody_closes_is_given_back_whenever_its_reader_is_cancelled(make: Make) -> None:
    with heard() as warned:
        for world in every_pass(cancel, scenarios.dropped, make):
            saw_cancellation(world)
            settled(world)
    assert {each.category for each in warned} == {ResourceWarning}
    assert all("half read" in str(each.message) for each in warned)


def test_nothing_goes_wrong_where_nobody_interferes() -> None:
    for make in SERVICES:
        for scenario in SCENARIOS:
            world = play(scenario, make)
            assert world.outcome is None
            settled(world)
            assert "".join(world.tokens) in {"", scenarios.PROMPT, scenarios.PROMPT * 2}
