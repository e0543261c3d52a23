"""Workers are killed over the real server: no thread is left, no run goes on, no living owner is hurt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.harness import Run
from tests.crash.schedule import mixed, stops
from tests.langgraph.server import why_not

SEED = 20260103

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked, and killed by signals"),
    pytest.mark.slow,
]


@pytest.mark.timeout(400)
async def test_300_kills_leave_no_thread_and_no_run(tmp_path: Path) -> None:
    """One in five at a failpoint; lost replies, late creates and lost leases among it all, and no thread was listed."""
    verdict = await Run(SEED, mixed(SEED, 300), stops(SEED, 300), tmp_path, service="langgraph").verdict()
    print(f"\n{verdict.table()}\n")
    for text in verdict.unexpected[:3]:
        print(text)
    assert not [*verdict.broken()]
    assert not verdict.never_seen(failpoints=())
    assert verdict.kills == 300
    assert (verdict.left, verdict.running) == (0, 0)
