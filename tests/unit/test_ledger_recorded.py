"""Ledger files of earlier schemas still open, keep their entries, and are swept.

The files in ``tests/recorded/ledger`` were made by `record` with the migrations up to their version, and are never made
again: a released file is what it is. A new schema adds a file: ``python -m tests.unit.test_ledger_recorded VERSION``.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from chatlease import Engine, SqliteLedger
from chatlease._ledger._schema import MIGRATIONS, SCHEMA_VERSION, migrate
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Counts, EntryState
from chatlease.testing import FakeService
from chatlease.testing.fake_service import FakeChat
from tests.unit.ledger_kit import opened, rows

_FOLDER = Path(__file__).parents[1] / "recorded" / "ledger"
_ORIGIN = "fake://recorded"
_THEN = 1_760_000_000.0
_HORIZON_S = 300.0

_ENTRIES = (
    # id, state, chat, holder, attempts, error_code, orphaned
    ("0199c000-0000-7000-8000-000000000001", "bound", "chat-1", "dead-holder", 0, "", 0),
    ("0199c000-0000-7000-8000-000000000002", "intent", None, "dead-holder", 0, "", 0),
    ("0199c000-0000-7000-8000-000000000003", "bound", "chat-3", None, 2, "http-503", 1),
    ("0199c000-0000-7000-8000-000000000004", "settled", "chat-4", "dead-holder", 0, "", 0),
    ("0199c000-0000-7000-8000-000000000005", "absent", None, "dead-holder", 0, "", 0),
)


def record(path: Path, version: int) -> None:
    """Make a ledger file as the library of that schema would have left it when its process was killed."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA page_size=1024")
    db.execute("PRAGMA journal_mode=WAL")
    migrate(db, version)
    db.execute(
        "INSERT INTO holders(id, state, lease_until, host, lock, started_at, ended_at)"
        " VALUES('dead-holder', 'dead', ?, 'a-host', '', ?, ?)",
        (_THEN + 60.0, _THEN, _THEN + 90.0),
    )
    for number, (name, state, chat, holder, attempts, code, orphaned) in enumerate(_ENTRIES):
        at = _THEN + number
        closed = state in {"settled", "absent"}
        db.execute(
            "INSERT INTO entries(id, service, origin, account, state, orphaned, chat, holder, intent_at,"
            " create_deadline, next_try_at, attempts, error_code, orphaned_at, settled_at)"
            " VALUES(?, 'fake', ?, 'bot-7', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(name, _ORIGIN, state, orphaned, chat, holder, at, at + _HORIZON_S, at, attempts, code),
                *(at if orphaned else 0.0, at if closed else None),
            ),
        )
    if version >= 2:
        db.execute(
            "INSERT INTO turns(service, origin, account, entry, holder, taken) VALUES('fake', ?, 'bot-7', ?, ?, 1)",
            (_ORIGIN, _ENTRIES[0][0], "dead-holder"),
        )
        db.execute(
            "INSERT INTO budgets(service, origin, account, began_at, used) VALUES('fake', ?, 'bot-7', ?, 3)",
            (_ORIGIN, _THEN),
        )
    db.close()


@pytest.fixture(params=range(1, SCHEMA_VERSION + 1))
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a recorded file."""
    path = tmp_path / "ledger"
    shutil.copy(_FOLDER / f"schema-{request.param}.sqlite3", path)
    assert rows(path, "SELECT value FROM meta WHERE key = 'schema_version'") == [(str(request.param),)]
    return path


def test_every_schema_has_its_recorded_file() -> None:
    names = {each.name for each in _FOLDER.glob("schema-*")}
    assert names == {f"schema-{version}.sqlite3" for version in range(1, len(MIGRATIONS) + 1)}


async def test_an_old_file_is_brought_up_to_date_and_keeps_its_entries(recorded: Path) -> None:
    async with opened(SqliteLedger(recorded, keep=1e12)) as ledger:
        entries = await ledger.open_entries()
        counts = await ledger.counts()
    assert [(each.id, each.state, each.chat, each.attempts) for each in entries] == [
        (name, EntryState(state), chat, attempts)
        for name, state, chat, _, attempts, _, _ in _ENTRIES
        if state in {"intent", "bound"}
    ]
    assert counts == Counts(open=3, orphaned=3)
    assert rows(recorded, "SELECT value FROM meta WHERE key = 'schema_version'") == [(str(SCHEMA_VERSION),)]
    assert rows(recorded, "SELECT count(*) FROM entries") == [(len(_ENTRIES),)]
    assert rows(recorded, "PRAGMA integrity_check") == [("ok",)]


async def test_an_old_file_is_swept(recorded: Path) -> None:
    """Its bound chats are deleted, and the one whose create reply was lost is found by its key."""
    service = FakeService()
    service.origin = _ORIGIN
    service.chats = {
        "chat-1": FakeChat("bot-7", _ENTRIES[0][0], _THEN),
        "chat-2": FakeChat("bot-7", _ENTRIES[1][0], _THEN + 1),
        "chat-3": FakeChat("bot-7", _ENTRIES[2][0], _THEN + 2),
        "chat-of-a-person": FakeChat("bot-7", "another-key", _THEN, prompts=["theirs"]),
    }
    credentials = {"bot-7": {"login": "bot-7"}}
    async with Engine(service, ledger=SqliteLedger(recorded), credentials=credentials, sweep=None) as engine:
        assert engine.ledger is not None
        await engine.ledger.open()
        swept = await engine.sweep()
        assert (swept.claimed, swept.failed, swept.open) == (3, 0, 0)
        await engine.ask("still works", account="bot-7").text()
        await engine.ledger.aclose()
    assert service.chats.keys() == {"chat-of-a-person"}


def test_migrating_is_done_once_and_in_order(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "ledger", isolation_level=None)
    assert [migrate(db, version) for version in (1, 1, SCHEMA_VERSION, SCHEMA_VERSION)] == [0, 1, 1, SCHEMA_VERSION]
    db.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger"
    record(path, 1)
    db = sqlite3.connect(path, isolation_level=None)
    before = list(db.iterdump())
    monkeypatch.setattr("chatlease._ledger._schema.MIGRATIONS", (MIGRATIONS[0], ("CREATE TABLE more(id)", "NO SQL")))
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, 2)
    assert list(db.iterdump()) == before
    db.close()


async def test_a_file_with_nonsense_for_a_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    record(path, 1)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = 'soon' WHERE key = 'min_reader'")
    db.close()
    with pytest.raises(LedgerUnavailable):
        await SqliteLedger(path).open()


if __name__ == "__main__":
    record(_FOLDER / f"schema-{int(sys.argv[1])}.sqlite3", int(sys.argv[1]))
