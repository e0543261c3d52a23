"""The local service answers every recorded request as the real one did."""

from __future__ import annotations

import pytest

from chatlease.testing import ManualClock
from tests.integration.scenarios.playing import Player
from tests.integration.scenarios.recording import load, names
from tests.integration.scenarios.table import SCENARIOS


@pytest.mark.parametrize("name", names())
async def test_the_service_behaves_as_recorded(name: str) -> None:
    """A recording for which nobody wrote a scenario fails here, too."""
    player = Player(load(name), SCENARIOS[name], ManualClock(start=0.0))
    await player.play()
    assert not player.service.open_streams


def test_every_scenario_has_its_recording() -> None:
    assert set(SCENARIOS) == set(names())
