"""The ledger's own failures: new chats are refused, running sessions finish, notes are kept, and nothing is silent."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from chatlease import Credential, Deadlines, Engine, SqliteLedger
from chatlease._ledger import _connection
from chatlease.errors import LedgerUnavailable, Unavailable
from chatlease.testing import FakeService
from tests.unit.ledger_kit import (
    Faults,
    bot_on,
    faults,
    files_of,
    new_entry,
    opened,
    rows,
    store_of,
    until,
)

__all__ = ["faults"]


# -- what may pass ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte; skipped, visibly, where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_refuses_new_chats_and_lets_go_of_the_others(small_disk: Path) -> None:
    async with bot_on(small_disk / "ledger") as bot:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:  # the last bytes, one page at a time
            for size in (65536, 4096, 512):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017
        failure = await bot.refuses()
        assert "full" in str(failure) or "disk" in str(failure)
        await bot.finishes()
        assert bot.heard[0] == "ledger.failed"
        filler.unlink()
        await bot.works()
        assert bot.heard[-1] == "ledger.recovered"


async def test_a_full_file_is_the_same(tmp_path: Path, faults: Faults) -> None:
    """SQLite's own limit, which needs no privileges."""
    async with bot_on(tmp_path / "ledger") as bot:
        (db,) = faults.connections
        ((pages,),) = db.execute("PRAGMA page_count")
        db.execute(f"PRAGMA max_page_count={pages}")
        texts: list[str] = []
        for _ in range(300):
            try:
                await bot.ledger.intent(new_entry())
            except LedgerUnavailable as failure:
                texts.append(str(failure))
                if len(texts) > 2:
                    break
        assert texts
        assert all("the disk is full" in text for text in texts)
        await bot.finishes()
        db.execute("PRAGMA max_page_count=1000000")
        await bot.works()
        assert bot.heard[0] == "ledger.failed"
        assert bot.heard[-1] == "ledger.recovered"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SQLITE_FULL", "the disk is full"),
        ("SQLITE_READONLY", "it is read-only"),
        ("SQLITE_READONLY_DBMOVED", "it is read-only"),
        ("SQLITE_IOERR_WRITE", "the disk fails"),
        ("SQLITE_CANTOPEN", "it cannot be opened"),
        ("SQLITE_BUSY", "another process keeps it locked"),
        ("SQLITE_PROTOCOL", "protocol"),
    ],
)
async def test_whatever_sqlite_says_at_the_commit_the_promise_holds(
    tmp_path: Path, faults: Faults, name: str, text: str
) -> None:
    """New chats are refused; notes are kept in memory, and written as soon as anything can be written."""
    async with bot_on(tmp_path / "ledger") as bot:
        with faults.failing(name):
            assert text in str(await bot.refuses())
            await bot.finishes()
            assert bot.heard == ["ledger.failed"]
            states = rows(tmp_path / "ledger", "SELECT state, count(*) FROM entries GROUP BY state")
            assert dict(states) == {"bound": 1}
        await bot.works()
        assert bot.heard == ["ledger.failed", "ledger.recovered"]
        assert rows(tmp_path / "ledger", "SELECT count(*) FROM entries WHERE state <> 'settled'") == [(0,)]


async def test_a_chat_whose_id_cannot_be_noted_is_deleted_at_once(tmp_path: Path, faults: Faults) -> None:
    async with bot_on(tmp_path / "ledger") as bot:
        with faults.failing("SQLITE_FULL", on="UPDATE entries SET chat"):
            with pytest.raises(LedgerUnavailable):
                await bot.engine.ask("unbound").text()
            assert bot.service.calls["create_chat"] == 2
            assert len(bot.service.chats) == 1
        await bot.finishes()


async def test_a_chat_that_is_left_while_the_ledger_fails_is_noted_later(tmp_path: Path, faults: Faults) -> None:
    """Handed over, with the id that could not be noted either: kept in memory, without any hurry, and written then."""
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)) as ledger:
        hold = await ledger.intent(new_entry())
        with faults.failing("SQLITE_FULL"):
            with pytest.raises(LedgerUnavailable):
                await ledger.bound(hold, "chat-left")
            with pytest.raises(LedgerUnavailable):
                await ledger.hand_over(hold, attempts=2, error_code="http-500")
            store = store_of(ledger)
            await until(lambda: store._writer.name == "SLEEPS")
            tries = len(faults.seen)
            await asyncio.sleep(0.4)  # longer than a note waits: the writer must not spin
            assert len(faults.seen) == tries
        store.pulse()

        async def noted() -> bool:
            (entry,) = await ledger.open_entries()
            return (entry.chat, entry.alive, entry.attempts) == ("chat-left", False, 2)

        await until(noted)


@pytest.mark.parametrize("end", ["settled", "absent"])
async def test_a_chat_that_ends_while_the_ledger_fails_is_noted_later(
    tmp_path: Path, faults: Faults, end: Literal["settled", "absent"]
) -> None:
    """Else it would be held, and then looked for, for nothing."""
    async with opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        hold = await ledger.intent(new_entry())
        with faults.failing("SQLITE_FULL"):
            getattr(ledger, end)(hold)
            with pytest.raises(LedgerUnavailable):
                await ledger.intent(new_entry())
        await ledger.intent(new_entry())
        assert hold.entry not in {each.id for each in await ledger.open_entries()}


async def test_who_comes_while_hopeless_notes_are_tried_is_answered(tmp_path: Path, faults: Faults) -> None:
    """An intent that arrives in the very moment in which the writer gives its notes up for now."""
    async with asyncio.timeout(30), opened(SqliteLedger(tmp_path / "ledger", lease=4000.0)) as ledger:
        for _ in range(100):
            hold = await ledger.intent(new_entry())
            with faults.failing("SQLITE_FULL"):
                ledger.settled(hold)
                with pytest.raises(LedgerUnavailable):
                    await ledger.intent(new_entry())
        await ledger.intent(new_entry())


async def test_a_ledger_that_another_process_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "BUSY_S", 0.2)
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert "another process keeps it locked" in str(await bot.refuses())
        await bot.finishes()
        other.execute("ROLLBACK")
        other.close()
        await bot.works()
        assert bot.heard == ["ledger.failed", "ledger.recovered"]
        assert bot.news.events[0][1] == {"error_code": "busy"}


async def test_a_place_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    """Below a file; for root, too."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="cannot be written") as caught:
        async with Engine(FakeService(), ledger=SqliteLedger(tmp_path / "file" / "ledger")):
            pass
    assert "CHATLEASE_LEDGER" in caught.value.hint
    with pytest.raises(LedgerUnavailable, match="cannot be written: Is a directory"):
        await SqliteLedger(tmp_path).open()


async def test_a_file_that_becomes_read_only_is_written_again_when_it_can_be(tmp_path: Path, faults: Faults) -> None:
    async with bot_on(tmp_path / "ledger") as bot:
        faults.connections[0].execute("PRAGMA query_only=1")
        assert "it is read-only" in str(await bot.refuses())
        await bot.finishes()  # the connection was let go of: the next one can write
        await bot.works()
        assert bot.heard[:2] == ["ledger.failed", "ledger.recovered"]


# -- a newer library's file -------------------------------------------------------------------------------------------


async def test_a_file_that_needs_a_newer_library_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)) as ledger:
        await ledger.intent(new_entry())
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'min_reader')")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA journal_mode=DELETE")  # whatever it is, it is left as it is
    db.close()
    before = path.read_bytes()
    with pytest.raises(LedgerUnavailable, match="reader of version 99") as caught:
        async with Engine(FakeService(), ledger=SqliteLedger(path)):
            pass
    assert "Upgrade" in caught.value.hint
    assert path.read_bytes() == before
    assert files_of(path) == [path]


async def test_a_file_that_a_newer_library_has_added_to_is_used(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)):
        pass
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    db.execute("ALTER TABLE entries ADD COLUMN mood TEXT")
    db.close()
    async with opened(SqliteLedger(path)) as ledger:
        hold = await ledger.intent(new_entry())
        await ledger.bound(hold, "chat")
        assert [each.chat for each in await ledger.open_entries()] == ["chat"]
    assert rows(path, "SELECT value FROM meta WHERE key = 'schema_version'") == [("99",)]


# -- secrets ----------------------------------------------------------------------------------------------------------


async def test_no_text_and_no_credential_is_ever_in_the_file(tmp_path: Path) -> None:
    """Sessions that work, fail, and are left, with secrets planted wherever one can come from."""
    path = tmp_path / "ledger"
    service = FakeService(tokens=["planted-answer"])
    deadlines = Deadlines(grace=0.1, drain=0.3)
    service.fail("delete_chat", *[Unavailable("planted-error", status=503, code="http-503")] * 200)
    async with (
        opened(SqliteLedger(path)) as ledger,
        Engine(service, ledger=ledger, deadlines=deadlines, sweep=None) as engine,
    ):
        for step in ("", "create_chat", "send_prompt", "queue_assistant", "open_stream"):
            if step:
                service.fail(step, Unavailable("planted-error", status=500))
            try:
                await engine.ask("planted-prompt", credential=Credential(cookies={"sid": "planted-cookie"})).text()
            except Unavailable:
                assert step
        await until(lambda: not engine.sessions)
        assert await ledger.open_entries()
        found = b"".join(each.read_bytes() for each in files_of(path))
    assert b"chat-" in found
    assert b"anon-" in found
    assert b"planted" not in found
