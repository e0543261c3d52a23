"""Workers are killed, at every failpoint and at random, and no chat is left, no living owner is hurt."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.crash.harness import Run
from tests.crash.nemesis import Nemesis, nemesis
from tests.crash.schedule import Life, at_failpoints, at_random, mixed, stops
from tests.crash.verdict import Verdict

SEED = 20260102

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked, and killed by signals")


async def _run(lives: Sequence[Life], folder: Path, server: Nemesis | None = None) -> Verdict:
    verdict = await Run(SEED, lives, stops(SEED, len(lives)), folder, nemesis=server).verdict()
    print(f"\n{verdict.table()}\n")
    for text in verdict.unexpected[:3]:
        print(text)
    return verdict


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_200_kills_at_failpoints_leave_no_chat_and_hurt_no_owner(tmp_path: Path) -> None:
    """Every failpoint several times, those of the sweeper among them; see `Verdict.broken` for the oracle."""
    verdict = await _run(at_failpoints(SEED, 200), tmp_path)
    assert not [*verdict.broken()]
    assert not verdict.never_seen()
    assert verdict.kills == 200
    assert verdict.failpoints.total() >= 150


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_300_kills_at_random_moments_leave_no_chat_and_hurt_no_owner(tmp_path: Path) -> None:
    """And all that makes it hard was there: lost replies, late creates, ambiguous candidates, lost leases."""
    verdict = await _run(at_random(SEED, 300), tmp_path)
    assert not [*verdict.broken()]
    assert not verdict.never_seen(failpoints=())
    assert verdict.kills == 300


@pytest.fixture
def tormented(postgres_server: str) -> Iterator[Nemesis]:
    """A server that workers share, and what happens to it; one of our own, if none is named."""
    assert postgres_server
    with nemesis() as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_150_kills_with_ledgers_on_a_server_that_fails_leave_no_chat_and_hurt_no_owner(
    tmp_path: Path, tormented: Nemesis
) -> None:
    """Its sessions end, its ways are cut, and it crashes; a worker hit too hard says that its lease is lost."""
    verdict = await _run(mixed(SEED, 150), tmp_path, tormented)
    assert not [*verdict.broken()]
    assert verdict.kills == 150
    assert verdict.faults.total() >= 5


def test_a_seed_replays_its_schedule() -> None:
    assert mixed(7, 500) == mixed(7, 500)
    assert mixed(7, 500) != mixed(8, 500)
    assert stops(7, 500) == stops(7, 500)
