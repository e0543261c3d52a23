"""A ledger file that is lost: corrupt, unsynced, removed or replaced; what is known goes into a new one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatlease import Engine, SqliteLedger
from chatlease._cli._ledgers import peek
from chatlease._ledger import _connection, _holders
from chatlease._ledger._file import LedgerFile, Replaced
from chatlease._ledger._place import prepare
from chatlease.errors import LedgerUnavailable, Unavailable
from chatlease.ledger import EntryState
from chatlease.testing import FakeService, ManualClock
from tests.unit.ledger_kit import (
    ACCOUNT,
    Faults,
    OwnHandle,
    bot_on,
    ended,
    faults,
    file_of,
    files_of,
    heard_from,
    new_entry,
    opened,
    rows,
    sqlite_error,
    started,
    tell,
    until,
)

__all__ = ["faults"]


def _overwrite(path: Path, faults: Faults) -> None:
    """Destroy the file, and what SQLite remembers of it."""
    for each in (path, Path(f"{path}-wal")):
        if each.exists():
            size = max(each.stat().st_size, 8192)
            with each.open("r+b") as file:
                file.write(b"\xa5" * size)
    faults.connections[-1].execute("PRAGMA shrink_memory")


def _aside(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.glob(f"{path.name}.corrupt-*") if each.name[-4:] not in {"-wal", "-shm"})


def _all_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_a_corrupt_file_is_set_aside_and_what_is_known_written_again(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        bot.service.fail("delete_chat", *[Unavailable("down", status=503)] * 50)
        left = await bot.ledger.intent(new_entry())
        await bot.ledger.bound(left, "chat-left")
        await bot.ledger.hand_over(left, attempts=4, error_code="http-503")
        held = await bot.ledger.intent(new_entry())
        bot.service.faults.clear()
        _overwrite(path, faults)
        await bot.engine.ask("on the new file").text()
        (aside,) = _aside(path)
        assert aside.read_bytes()[:100] == b"\xa5" * 100
        assert bot.heard == ["ledger.quarantined"]
        assert bot.news.events[0][1]["file"] == aside.name
        entries = {each.id: each for each in await bot.ledger.open_entries()}
        assert (entries[left.entry].chat, entries[left.entry].alive, entries[left.entry].attempts) == (
            "chat-left",
            False,
            4,
        )
        assert (entries[held.entry].state, entries[held.entry].alive) == (EntryState.INTENT, True)
        assert entries[bot.session.id].state is EntryState.BOUND
        lost = [each for name, each in entries.items() if name.startswith("lost-")]
        assert {each.owner for each in lost} == {entries[held.entry].owner, entries[bot.session.id].owner}
        assert all(each.orphaned and not each.alive and each.error_code == "ledger-lost" for each in lost)
        await bot.ledger.bound(held, "chat-held")
        await bot.finishes()
        bot.ledger.settled(held)
        for claim in await bot.ledger.claim([ACCOUNT], 9):
            bot.ledger.settled(claim.hold)
        await bot.works()


@pytest.mark.parametrize("name", ["SQLITE_IOERR_FSYNC", "SQLITE_CORRUPT_INDEX", "SQLITE_NOTADB"])
async def test_a_failed_sync_is_a_lost_file(tmp_path: Path, faults: Faults, name: str) -> None:
    """A second sync may say yes to what was never written: nothing of that file is trusted."""
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        once = [sqlite_error(name)]
        faults.fail = lambda sql: once.pop() if once and sql == "COMMIT" else None
        await bot.engine.ask("on the new file").text()
        assert len(_aside(path)) == 1
        assert bot.heard == ["ledger.quarantined"]
        await bot.finishes()
        await bot.works()


async def test_a_disk_whose_syncs_go_on_failing_is_not_filled_with_files(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        with faults.failing("SQLITE_IOERR_FSYNC"):
            for _ in range(5):
                assert "the disk fails" in str(await bot.refuses())
            await bot.finishes()
            assert len(_aside(path)) == 1
            assert bot.heard == ["ledger.quarantined", "ledger.failed"]
        await bot.works()
        assert bot.heard[-1] == "ledger.recovered"


async def test_what_happens_at_the_start_is_told_to_the_first_who_listens(tmp_path: Path) -> None:
    """A ledger that is no database any more: set aside; the event reaches the engine's hooks though it came before."""
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path, liveness="lease")):
        pass
    path.write_bytes(b"this is no database at all, but long enough to be taken for one. " * 100)
    seen: list[str] = []
    async with (
        opened(SqliteLedger(path)) as ledger,
        Engine(FakeService(), ledger=ledger, hooks=[lambda event: seen.append(event.event)], sweep=None) as engine,
    ):
        await engine.ask("hello").text()
        await until(lambda: "ledger.quarantined" in seen)
        (aside,) = _aside(path)
        assert aside.read_bytes().startswith(b"this is no database")
        lost = [each for each in await ledger.open_entries() if each.id.startswith("lost-")]
        assert len(lost) == 1  # of the account that was used since: nobody else knows what was in the file
        assert lost[0].create_deadline - lost[0].intent_at == pytest.approx(7 * 86400.0)


async def test_a_loss_is_noted_once_for_every_account_by_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)):
        pass
    path.write_bytes(b"no database " * 1000)
    async with opened(OwnHandle(path)) as first, opened(OwnHandle(path)) as second:
        for ledger in (first, second, first):
            await ledger.intent(new_entry())
        lost = [each for each in await first.open_entries() if each.id.startswith("lost-")]
        assert [each.owner for each in lost] == [ACCOUNT]


async def test_a_loss_that_processes_notice_one_after_the_other_is_one(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger", ManualClock()
    async with opened(OwnHandle(path, clock=clock)) as first, opened(OwnHandle(path, clock=clock)) as second:
        for ledger in (first, second):
            await ledger.intent(new_entry())
        path.unlink()
        for ledger in (first, second):
            assert len(await ledger.open_entries()) >= 2
            await clock.advance(10.0)
        lost = [each for each in await first.open_entries() if each.id.startswith("lost-")]
        assert [each.owner for each in lost] == [ACCOUNT]
        assert lost[0].create_deadline == clock.wall() - 20.0


async def test_a_loss_is_known_to_those_who_come_later(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)):
        pass
    path.write_bytes(b"no database " * 1000)
    async with opened(OwnHandle(path)):
        pass
    async with opened(OwnHandle(path)) as third:
        await third.intent(new_entry())
        assert len([each for each in await third.open_entries() if each.id.startswith("lost-")]) == 1


@pytest.mark.parametrize("left_behind", [True, False])
@pytest.mark.parametrize("replaced", [True, False])
async def test_a_file_that_is_removed_or_replaced_is_noticed_at_the_next_write(
    tmp_path: Path, replaced: bool, left_behind: bool
) -> None:
    """With its log left behind, which SQLite would play into whatever file comes next, or without."""
    path = tmp_path / "ledger"
    if replaced:
        async with opened(SqliteLedger(tmp_path / "backup")) as backup:
            hold = await backup.intent(new_entry())
            await backup.hand_over(hold, attempts=1, error_code="of the backup")
    async with bot_on(path) as bot:
        held = await bot.ledger.intent(new_entry())
        for each in [path] if left_behind else files_of(path):
            each.unlink()
        if replaced:
            (tmp_path / "backup").rename(path)
        await bot.engine.ask("on the new file").text()
        assert bot.heard == ["ledger.quarantined"]
        assert bot.news.events[0][1] == {"error_code": "removed"}
        codes = {each.error_code for each in await bot.ledger.open_entries()}
        assert ("of the backup" in codes) == replaced
        await bot.ledger.bound(held, "chat-held")
        bot.ledger.settled(held)
        await bot.finishes()
        await bot.works()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT count(*) FROM entries WHERE state = 'settled'") == [(4,)]


async def test_a_backup_that_knows_our_holder_is_another_file_all_the_same(tmp_path: Path) -> None:
    """It may hold older states of our chats, and chats that are gone: what this process knows goes over them."""
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        held, gone = await bot.ledger.intent(new_entry()), await bot.ledger.intent(new_entry())
        left, claimed = await bot.ledger.intent(new_entry()), await bot.ledger.intent(new_entry())
        await bot.ledger.hand_over(claimed, attempts=1, error_code="x")
        with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "backup")) as backup:
            db.backup(backup)
        (claim,) = await bot.ledger.claim([ACCOUNT], 1)
        await bot.ledger.bound(held, "chat-held")
        await bot.ledger.bound(left, "chat-left")
        await bot.ledger.hand_over(left, attempts=1, error_code="http-503")
        bot.ledger.settled(gone)
        assert len(await bot.ledger.open_entries()) == 4
        (tmp_path / "backup").rename(path)
        found = {each.id: each for each in await bot.ledger.open_entries()}
        assert bot.news.events == [("ledger.quarantined", {"error_code": "removed"})]
        assert (found[held.entry].chat, found[held.entry].alive) == ("chat-held", True)
        assert (found[left.entry].chat, found[left.entry].alive) == ("chat-left", False)
        assert (found[gone.entry].orphaned, found[gone.entry].alive) == (True, False)
        assert (found[bot.session.id].chat, found[bot.session.id].alive) == (bot.session.chat, True)
        bot.ledger.settled(claim.hold)
        bot.ledger.settled(held)
        await bot.finishes()
        remaining = {each.id for each in await bot.ledger.open_entries() if not each.id.startswith("lost-")}
        assert remaining == {left.entry, gone.entry}
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_file_that_is_emptied_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        os.truncate(path, 0)
        assert bot.session.id in {each.id for each in await bot.ledger.open_entries()}
        assert bot.news.events == [("ledger.quarantined", {"error_code": "removed"})]
        await bot.finishes()
        await bot.works()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("kind", ["text", "tables", "meta", "version", "empty meta"])
async def test_what_was_never_a_ledger_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    """However often it is tried: nothing is written, moved or made beside it."""
    path = tmp_path / "bot.db"
    if kind == "text":
        path.write_bytes(b'{"my": "settings"}' * 500)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE entries(a)" if kind == "tables" else "CREATE TABLE meta(key, value)")
            if kind == "meta":
                db.execute("ALTER TABLE meta RENAME COLUMN value TO text")
            if kind == "version":
                db.execute("INSERT INTO meta VALUES('schema_version', 'ours')")
            db.commit()
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="no ledger") as caught:
            await SqliteLedger(path).open()
        assert "CHATLEASE_LEDGER=sqlite:///PATH" in caught.value.hint
        with pytest.raises(LedgerUnavailable, match="no ledger"):
            peek(path)
    assert path.read_bytes() == before
    assert _all_in(tmp_path) == [path]


async def test_the_log_of_somebody_elses_database_is_not_played_into_it(tmp_path: Path) -> None:
    """As its program left it when it was killed."""
    path = tmp_path / "bot.db"
    with closing(sqlite3.connect(tmp_path / "running")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE users(name)")
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"running{suffix}", f"{path}{suffix}")
    log = tmp_path / "bot.db-wal"
    before = [path.read_bytes(), log.read_bytes()]
    with pytest.raises(LedgerUnavailable, match="no ledger"):
        await SqliteLedger(path).open()
    assert [path.read_bytes(), log.read_bytes()] == before
    assert rows(path, "SELECT count(*) FROM users") == [(0,)]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_is_no_regular_file_is_neither_opened_nor_moved(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A pipe with nobody at its other end would block whoever opens it."""
    path = tmp_path / "ledger"
    make(path)
    async with asyncio.timeout(20):
        with pytest.raises(LedgerUnavailable, match=r"no regular file|Is a directory"):
            await SqliteLedger(path).open()
        with pytest.raises(LedgerUnavailable, match=r"no regular file|eisdir"):
            await asyncio.to_thread(peek, path)
    assert not path.is_file()
    assert _all_in(tmp_path) == [path]


async def test_what_was_claimed_is_written_again_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)) as ledger:
        hold = await ledger.intent(new_entry())
        await ledger.bound(hold, "chat")
        await ledger.hand_over(hold, attempts=1, error_code="x")
        (claim,) = await ledger.claim([ACCOUNT], 5)
        path.unlink()
        (entry, _) = sorted(await ledger.open_entries(), key=lambda each: each.id.startswith("lost-"))
        assert (entry.chat, entry.alive, entry.orphaned) == ("chat", True, True)
        ledger.settled(claim.hold)
        assert [each.id[:5] for each in await ledger.open_entries()] == ["lost-"]


async def test_what_was_held_before_the_lease_was_lost_is_written_again_as_left(tmp_path: Path) -> None:
    """Else nobody could claim it for as long as this process lives."""
    path, clock = tmp_path / "ledger", ManualClock()
    async with opened(SqliteLedger(path, clock=clock)) as ledger:
        hold = await ledger.intent(new_entry())
        await ledger.bound(hold, "chat")
        clock._now += 3600.0
        await until(hold.lease.lost)
        await ledger.open_entries()
        path.unlink()
        found = {each.chat: each.alive for each in await ledger.open_entries() if each.chat is not None}
        assert found == {"chat": False}


async def test_a_log_that_is_removed_is_noticed_at_the_next_write(tmp_path: Path) -> None:
    """The file is still there, but what is written goes into a log that no other process can find."""
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        held = await bot.ledger.intent(new_entry())
        (log,) = [each for each in files_of(path) if each.name.endswith("-wal")]
        log.unlink()
        await bot.engine.ask("in a log that is found").text()
        assert bot.heard == ["ledger.quarantined"]
        assert (held.entry,) in rows(path, "SELECT id FROM entries WHERE state = 'intent'")
        bot.ledger.settled(held)
        await bot.finishes()
        await bot.works()


async def test_a_new_file_that_cannot_be_made_at_once_gets_everything_later(tmp_path: Path, faults: Faults) -> None:
    """The file is gone and the disk is full: what is known is not forgotten when a file can be made again."""
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        held = await bot.ledger.intent(new_entry())
        path.unlink()
        with faults.failing("SQLITE_FULL"):
            await bot.refuses()
            await bot.refuses()
        assert {each.id for each in await bot.ledger.open_entries()} >= {held.entry, bot.session.id}
        await bot.ledger.bound(held, "chat-held")
        bot.ledger.settled(held)
        await bot.finishes()
        await bot.works()


async def test_a_file_that_was_replaced_while_it_was_closed_is_noticed(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        with faults.failing("SQLITE_IOERR_WRITE"):
            await bot.refuses()
        assert not file_of(bot.ledger).is_open
        for each in files_of(path):
            each.unlink()
        assert bot.session.id in {each.id for each in await bot.ledger.open_entries()}
        assert "ledger.quarantined" in bot.heard
        await bot.finishes()
        await bot.works()


def test_processes_that_meet_the_same_corrupt_file_set_it_aside_once(tmp_path: Path) -> None:
    """And none of them takes away the new one, in which others have noted their chats already."""
    program = """
        import asyncio, os, sys
        from chatlease import SqliteLedger
        from chatlease.ledger import Entry

        async def told_to_go_on(*words):
            print(*words, flush=True)
            await asyncio.to_thread(sys.stdin.readline)

        async def main(path, is_late):
            if is_late:
                await told_to_go_on("ready")
            ledger = SqliteLedger(path)
            await ledger.open()
            if not is_late:
                await told_to_go_on("ready")
            for number in range(5):
                name = f"{os.getpid()}-{number}"
                hold = await ledger.intent(Entry(id=name, service="fake", origin="fake://1", account="bot-7"))
                await ledger.bound(hold, f"chat-{name}")
            await told_to_go_on(os.getpid())
            await ledger.aclose()

        asyncio.run(main(sys.argv[1], sys.argv[2] == "late"))
    """
    path = tmp_path / "ledger"
    processes = [started(program, path, each) for each in ["early"] * 3 + ["late"] * 3]
    assert [heard_from(each) for each in processes] == ["ready"] * 6
    for each in (path, Path(f"{path}-wal")):
        with each.open("r+b") as file:
            file.write(b"\xa5" * max(each.stat().st_size, 8192))
    for process in processes:
        tell(process)
    pids = [heard_from(each) for each in processes]
    for process in processes:
        tell(process)
    for process in processes:
        ended(process)
    assert len(_aside(path)) == 1
    found = dict(rows(path, "SELECT id, chat FROM entries WHERE id NOT LIKE 'lost-%'"))
    assert found == {f"{pid}-{number}": f"chat-{pid}-{number}" for pid in pids for number in range(5)}
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_lost_file_is_moved_only_by_who_has_the_folders_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking whether it is still there and moving it, nobody else may have put a new one in its place."""
    monkeypatch.setattr(_holders, "_TRIES", 3)
    path, folder = tmp_path / "ledger", tmp_path / "ledger.holders"
    file = LedgerFile(path, folder, 300.0, ManualClock().now)
    file.connected()
    with _holders.exclusively(folder), pytest.raises(TimeoutError):
        file.set_aside(1.0)
    assert path.exists()
    assert not _aside(path)
    file.close()


@pytest.mark.parametrize("moment", ["made", "opened", "closed"])
def test_no_file_is_moved_while_it_is_opened_or_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, moment: str
) -> None:
    """SQLite finds the log by its name: of two files in one moment it would take the wrong one's, or remove it."""
    monkeypatch.setattr(_holders, "_TRIES", 3)
    path, folder = tmp_path / "ledger", tmp_path / "ledger.holders"
    mover, other = (LedgerFile(path, folder, 300.0, ManualClock().now) for _ in range(2))
    mover.connected()
    mover.close()
    other.connected()
    tried, made = list[bool](), list[Path]()

    def moves(sql: str) -> None:
        if not tried:
            tried.append(True)
            with pytest.raises(TimeoutError):
                mover.set_aside(1.0)

    def makes(path: Path) -> None:
        prepare(path)
        if path in made:
            moves("made")
        made.append(path)

    if moment == "closed":
        faults.fail = moves
    other.close()
    if moment == "made":
        monkeypatch.setattr(_connection, "prepare", makes)
    else:
        faults.fail = moves
    other.connected()
    assert tried
    assert not _aside(path)
    other.close()


def test_a_file_that_is_replaced_while_it_is_opened_is_another_one(tmp_path: Path, faults: Faults) -> None:
    """By somebody who knows no locks, between SQLite's opening the file and its opening the log."""
    path, folder = tmp_path / "ledger", tmp_path / "ledger.holders"
    next_one = LedgerFile(path, folder, 300.0, ManualClock().now)
    file = LedgerFile(path, folder, 300.0, ManualClock().now)
    file.connected()
    file.close()

    def replaces(sql: str) -> None:
        faults.fail = lambda sql: None
        for each in files_of(path):
            each.rename(tmp_path / f"away-{each.name}")
        next_one.connected()

    faults.fail = replaces
    assert file.connected().is_current() is False
    with pytest.raises(Replaced):
        file.connected()
    assert next_one.connected().is_current() is True, "its log is still there"
    file.close()
    next_one.close()


def test_a_lock_is_let_go_of_though_a_child_was_forked_meanwhile(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from chatlease._ledger import _holders

        theirs, ours = os.pipe()
        with _holders.exclusively(Path(sys.argv[1])):
            if os.fork() == 0:
                os.close(ours)
                os.read(theirs, 1)
                os._exit(0)
        with _holders.exclusively(Path(sys.argv[1])):
            print("locked again")
    """
    assert ended(started(program, tmp_path / "folder")) == "locked again\n"


@pytest.mark.parametrize("how", ["removed", "corrupt"])
async def test_what_is_left_is_in_the_file_that_is_there_when_the_last_engine_closes(
    tmp_path: Path, faults: Faults, how: str
) -> None:
    """Its file was lost after its last write, of which nobody else would ever know."""
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)) as ledger:
        hold = await ledger.intent(new_entry())
        await ledger.bound(hold, "chat-left")
        await ledger.hand_over(hold, attempts=1, error_code="http-503")
        if how == "removed":
            path.unlink()
        else:
            _overwrite(path, faults)
    assert rows(path, "SELECT chat, orphaned FROM entries WHERE id NOT LIKE 'lost-%'") == [("chat-left", 1)]
    assert rows(path, "SELECT DISTINCT state FROM holders") == [("gone",)]


async def test_a_file_that_was_removed_is_not_made_again_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path)) as ledger:
        ledger.settled(await ledger.intent(new_entry()))
        await ledger.open_entries()
        path.unlink()
    assert not path.exists()


def test_a_file_that_was_set_aside_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for content in ("one", "two", "three"):
        path.write_text(content)
        assert _connection.quarantine(path, _connection.identity_of(path), 1.0)
    assert {each.read_text() for each in _aside(path)} == {"one", "two", "three"}


async def test_a_folder_that_stays_locked_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped while it moved the file: the others say so, and go on without the ledger."""
    monkeypatch.setattr(_holders, "_TRIES", 3)
    path = tmp_path / "ledger"
    async with bot_on(path) as bot:
        with _holders.exclusively(tmp_path / "ledger.holders"):
            path.unlink()
            await bot.refuses()
        await bot.finishes()
        await bot.works()
