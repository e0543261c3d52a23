"""What tests of a ledger that several processes share get."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatlease._ledger import _schema
from chatlease._ledger._server_statements import ServerStatements
from chatlease._ledger._statements import Statements
from chatlease._ledger._stored import StoredLedger
from chatlease.testing import ManualClock
from tests import postgres

from .ledger_kit import OwnHandle, OwnServerHandle
from .peers import House


@pytest.fixture
def house(clock: ManualClock) -> House:
    """Their database, by the test's clock."""
    return House(clock)


@pytest.fixture(params=["sqlite", "postgres"])
def statements(request: pytest.FixtureRequest) -> Iterator[Statements]:
    """The protocol on a database of the test's own, with two live holders: ``mine`` and ``theirs``."""
    if request.param == "postgres":
        with postgres.begun(request.getfixturevalue("postgres_server")) as db:
            yield _with_holders(ServerStatements(db, 300.0))
    else:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            _schema.migrate(db)
            yield _with_holders(Statements(db, 300.0))


def _with_holders(found: Statements) -> Statements:
    for holder in ("mine", "theirs"):
        found.join(holder, 1000.0, lease=1e9, host="", lock="")
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def handle(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StoredLedger]:
    """Makes handles on one ledger, each as another process has it."""
    if request.param == "sqlite":
        return lambda: OwnHandle(tmp_path / "ledger")
    url = request.getfixturevalue("postgres_url")
    return lambda: OwnServerHandle(url)
