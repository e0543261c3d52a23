"""What all schedules share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of sessions go wrong here on purpose; pytest would keep what they log."""
    caplog.set_level(logging.CRITICAL, logger="chatlease")
