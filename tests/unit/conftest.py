"""What tests of a ledger that several processes share get."""

from __future__ import annotations

import sqlite3

import pytest

from chatlease._ledger import _schema
from chatlease._ledger._statements import Statements
from chatlease.testing import ManualClock

from .peers import House


@pytest.fixture
def house(clock: ManualClock) -> House:
    """Their database, by the test's clock."""
    return House(clock)


@pytest.fixture
def statements() -> Statements:
    """The protocol on a database of the test's own, with two live holders: ``mine`` and ``theirs``."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _schema.migrate(db)
    found = Statements(db, 300.0)
    for holder in ("mine", "theirs"):
        found.join(holder, 1000.0, lease=1e9, host="", lock="")
    return found
