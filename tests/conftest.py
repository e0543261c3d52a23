"""What every test gets: an environment without the user's settings, and no task left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chatlease import Engine
from chatlease.testing import FakeService, ManualClock
from tests import postgres


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("CHATLEASE_") and name != "CHATLEASE_PYTHONS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CHATLEASE_LEDGER", "memory")  # what is about the ledger on disk says so
    monkeypatch.setenv("CHATLEASE_SWEEP", "off")  # a sweep in the background would be one more actor in every schedule


@pytest.fixture
def clock() -> ManualClock:
    """A clock that jumps whenever nothing else is left to do."""
    return ManualClock(autojump=True)


@pytest.fixture
def service(clock: ManualClock) -> FakeService:
    """A service in memory, by that clock."""
    return FakeService(clock=clock)


@pytest.fixture
async def engine(service: FakeService, clock: ManualClock) -> AsyncIterator[Engine]:
    """An open engine on that service; the test fails if it leaves a chat that the ledger does not know of."""
    async with Engine(service, clock=clock) as engine:
        yield engine
    assert engine.ledger is not None
    known = {entry.chat for entry in await engine.ledger.open_entries()}
    assert service.chats.keys() <= known
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("chatlease")]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server's database; see `tests.postgres`."""
    try:
        with postgres.server() as url:
            yield url
    except postgres.NoServer as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def pooled_server(postgres_server: str) -> Iterator[str]:
    """The same behind a pooler that gives connections away by the transaction."""
    try:
        with postgres.pooled(postgres_server) as url:
            yield url
    except postgres.NoServer as reason:
        pytest.skip(str(reason))


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a schema of the test's own, which is not there yet."""
    with postgres.schema(postgres_server) as url:
        yield url


@pytest.fixture
def pooled_url(pooled_server: str) -> Iterator[str]:
    """The same behind a pooler."""
    with postgres.schema(pooled_server) as url:
        yield url
