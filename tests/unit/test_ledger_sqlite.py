"""The ledger on SQLite in one process: where it is, how it is opened, what a transaction costs, who shares it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import platformdirs
import pytest

from chatlease import Engine, SqliteLedger
from chatlease._ledger import _connection
from chatlease._ledger._place import kind_of_mount, refuse_network
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease._settings import chosen_ledger
from chatlease.errors import LedgerUnavailable, UsageError
from chatlease.ledger import EntryState
from chatlease.testing import FakeService, ManualClock
from tests.unit.ledger_kit import ACCOUNT, Faults, Heard, faults, new_entry, opened, rows, sqlite_error, store_of, until

__all__ = ["faults"]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nothing_is_written_for_whoever_has_gone_before_it_could_be(tmp_path: Path) -> None:
    """No intent, and no claim, that would have to be taken back at once."""
    path, busy, go_on = tmp_path / "ledger", threading.Event(), threading.Event()

    def keep_busy(*_: object) -> None:
        busy.set()
        go_on.wait(20)

    async with opened(SqliteLedger(path)) as ledger:
        left = await ledger.intent(new_entry())
        await ledger.hand_over(left, attempts=1, error_code="x")
        working = asyncio.ensure_future(ledger._run(keep_busy))
        await until(busy.is_set)
        asking = [asyncio.ensure_future(each) for each in (ledger.intent(new_entry()), ledger.claim([ACCOUNT], 5))]
        await asyncio.sleep(0)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        go_on.set()
        await working
        await ledger.counts()
        assert rows(path, "SELECT id, epoch, holder FROM entries") == [(left.entry, 0, None)]


# -- where ------------------------------------------------------------------------------------------------------------


async def test_file_and_folder_are_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite3"
    async with opened(SqliteLedger(path)) as ledger:
        await ledger.intent(new_entry())
        assert _mode(path.parent) == 0o700
        beside = [each for each in path.parent.iterdir() if each.is_file()]
        assert {each.name for each in beside} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
        assert {_mode(each) for each in beside} == {0o600}
        assert _mode(path.parent / f"{path.name}.holders") == 0o700


async def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.touch(mode=0o640)
    path.chmod(0o640)
    async with opened(SqliteLedger(path)):
        assert _mode(path) == 0o640


def test_the_default_is_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("CHATLEASE_LEDGER")
    ledger = chosen_ledger("default")
    assert isinstance(ledger, SqliteLedger)
    assert ledger.path == platformdirs.user_state_path("chatlease", appauthor=False) / "ledger.sqlite3"
    assert ledger.path.is_relative_to(tmp_path / "elsewhere")


async def test_an_engine_uses_it_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATLEASE_LEDGER")
    async with Engine(FakeService(), sweep=None) as engine:
        await engine.ask("hello").text()
        assert isinstance(engine.ledger, SqliteLedger)
        assert engine.ledger.path.exists()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///ledger.sqlite3", "ledger.sqlite3"),
        ("sqlite:////var/lib/bot/ledger", "/var/lib/bot/ledger"),
        ("sqlite:///a%20b%23c", "a b#c"),
    ],
)
def test_a_url_names_a_path(url: str, path: str) -> None:
    assert SqliteLedger.from_url(url).path == Path(path)


def test_a_url_takes_terms_and_the_users_folder() -> None:
    ledger = SqliteLedger.from_url("sqlite:///~/x?lease=3&horizon=6.5&keep=7&liveness=lease")
    assert ledger.path == Path.home() / "x"
    assert ledger.lease_s == 3.0
    terms = ledger._terms
    assert (terms.lease, terms.horizon, terms.keep, terms.liveness, terms.locks) == (3.0, 6.5, 7.0, "lease", False)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite:///",
        "sqlite://host/path",
        "sqlite:path",
        "sqlite:///a#b",
        "sqlite:///a%00b",
        "sqlite:///:memory:",
        "sqlite:///x?lease=",
        "sqlite:///x?lease=0",
        "sqlite:///x?lease=-1",
        "sqlite:///x?lease=inf",
        "sqlite:///x?lease=nan",
        "sqlite:///x?lease=soon",
        "sqlite:///x?liveness=hope",
        "sqlite:///x?timeout=3",
    ],
)
def test_a_wrong_url_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        SqliteLedger.from_url(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["/dev/a / ext4 rw 0 0", "srv:/x /srv nfs4 rw 0 0"], "nfs4"),
        (["/dev/a / ext4 rw 0 0", "srv:/x /sr nfs4 rw 0 0"], "ext4"),
        (["srv:/x /srv/my\\040bot cifs rw 0 0", "/dev/a / xfs rw 0 0"], "cifs"),
        (["broken"], ""),
    ],
)
def test_the_file_system_of_a_folder_is_found(lines: list[str], kind: str) -> None:
    assert kind_of_mount(Path("/srv/my bot"), lines) == kind


@pytest.mark.parametrize("kind", ["nfs4", "virtiofs"])
def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"srv:/x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr("chatlease._ledger._place._MOUNTS", mounts)
    with pytest.raises(LedgerUnavailable, match="network file system"):
        refuse_network(tmp_path)
    monkeypatch.setattr("chatlease._ledger._place._MOUNTS", tmp_path / "none")
    refuse_network(tmp_path)


# -- how --------------------------------------------------------------------------------------------------------------


async def test_it_is_opened_with_the_log_and_full_syncs(tmp_path: Path, faults: Faults) -> None:
    async with opened(SqliteLedger(tmp_path / "ledger")):
        (db,) = faults.connections
        pragmas = {name: next(iter(db.execute(f"PRAGMA {name}")))[0] for name in ("journal_mode", "synchronous")}
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}
        assert list(db.execute("PRAGMA fullfsync")) == [(1,)]
    assert dict(rows(tmp_path / "ledger", "SELECT key, value FROM meta"))["schema_version"] == str(SCHEMA_VERSION)


@pytest.mark.parametrize(("pragma", "answer"), [("PRAGMA journal_mode", "delete"), ("PRAGMA synchronous", 1)])
async def test_a_sqlite_that_does_otherwise_is_refused(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, pragma: str, answer: object
) -> None:
    def execute(sql: str, parameters: object = (), /) -> object:
        if sql in {f"{pragma}=WAL", pragma}:
            return [(answer,)]
        return real(sql, parameters)

    path = (tmp_path / "ledger").resolve()
    db = faults.connect(path)
    real = db.execute
    monkeypatch.setattr(db, "execute", execute)
    monkeypatch.setattr(_connection, "connect", {path: db}.__getitem__)
    with pytest.raises(LedgerUnavailable, match="cannot keep the ledger safely"):
        await SqliteLedger(tmp_path / "ledger").open()


async def test_turning_the_log_on_waits_for_other_processes(tmp_path: Path, faults: Faults) -> None:
    """SQLite itself does not always: two that turn it on at once may be told "busy" whatever the time-out."""
    refusals = [sqlite_error("SQLITE_BUSY")] * 2
    faults.fail = lambda sql: refusals.pop() if refusals and sql == "PRAGMA journal_mode=WAL" else None
    async with opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        assert not refusals
        await ledger.intent(new_entry())


async def test_turning_the_log_on_does_not_wait_for_ever(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "BUSY_S", 0.1)
    with (
        faults.failing("SQLITE_BUSY", on="PRAGMA journal_mode=WAL"),
        pytest.raises(LedgerUnavailable, match="keeps it locked"),
    ):
        await SqliteLedger(tmp_path / "ledger").open()
    with (
        faults.failing("SQLITE_IOERR", on="PRAGMA journal_mode=WAL"),
        pytest.raises(LedgerUnavailable, match="the disk fails"),
    ):
        await SqliteLedger(tmp_path / "ledger").open()


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(LedgerUnavailable, match=r"needs 3\.35") as caught:
        await SqliteLedger(tmp_path / "ledger").open()
    assert "CHATLEASE_LEDGER=none" in caught.value.hint


# -- group commit -----------------------------------------------------------------------------------------------------


async def test_a_hundred_intents_at_once_are_few_transactions(tmp_path: Path, faults: Faults) -> None:
    async with opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        before = faults.commits
        holds = await asyncio.gather(*(ledger.intent(new_entry()) for _ in range(100)))
        assert faults.commits - before <= 2
        await asyncio.gather(*(ledger.bound(hold, f"chat of {hold.entry}") for hold in holds))
        assert faults.commits - before <= 5
        entries = await ledger.open_entries()
    assert {each.chat for each in entries} == {f"chat of {each.id}" for each in entries}
    assert len(entries) == 100


async def test_nobody_who_waits_waits_for_a_timer(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every timer of the writer made endless, whoever waits is served all the same, first and later."""
    monkeypatch.setattr("chatlease._ledger._store._SOON_S", 1000.0)
    async with asyncio.timeout(10), opened(SqliteLedger(tmp_path / "ledger", lease=4000.0)) as ledger:
        for _ in range(20):
            hold = await ledger.intent(new_entry())
            await ledger.bound(hold, "chat")
            ledger.settled(hold)
        assert not await ledger.open_entries()


async def test_settled_rides_along_with_the_next_transaction(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlease._ledger._store._SOON_S", 1000.0)
    async with opened(SqliteLedger(tmp_path / "ledger", lease=4000.0)) as ledger:
        store = store_of(ledger)
        holds = [await ledger.intent(new_entry()) for _ in range(10)]
        await until(lambda: store._writer.name == "LINGERS")
        before = faults.commits
        for hold in holds:
            ledger.settled(hold)
        assert faults.commits == before
        await ledger.intent(new_entry())
        assert faults.commits == before + 1
        assert len(await ledger.open_entries()) == 1


async def test_a_note_alone_is_written_soon_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path, lease=4000.0)) as ledger:
        first, second = await ledger.intent(new_entry()), await ledger.intent(new_entry())
        ledger.settled(first)
        await until(lambda: rows(path, "SELECT count(*) FROM entries WHERE state = 'settled'") == [(1,)])
        await until(lambda: store_of(ledger)._writer.name == "SLEEPS")
        ledger.settled(second)
        await until(lambda: rows(path, "SELECT count(*) FROM entries WHERE state = 'settled'") == [(2,)])


async def test_settled_entries_are_purged_in_the_end(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "ledger"
    async with opened(SqliteLedger(path, keep=30.0, clock=clock)) as ledger:
        holds = await asyncio.gather(*(ledger.intent(new_entry()) for _ in range(2500)))
        for hold in holds:
            ledger.settled(hold)
        living = await ledger.intent(new_entry())
        await clock.advance(31.0)
        store_of(ledger).pulse()
        await until(lambda: rows(path, "SELECT id FROM entries") == [(living.entry,)])


async def test_what_is_no_text_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    """Half a surrogate pair, as JSON may hold it, in an id that a service made up."""
    heard = Heard()
    async with asyncio.timeout(20), opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        ledger.listen(heard)
        hold, other = await ledger.intent(new_entry()), await ledger.intent(new_entry())
        with pytest.raises(LedgerUnavailable, match="no Unicode"):
            await ledger.bound(hold, "chat-\ud800")
        with pytest.raises(LedgerUnavailable, match="no Unicode"):
            await ledger.hand_over(hold, attempts=1, error_code="\udfff")
        await ledger.bound(other, "nul \0 and ünïcödé")
        assert {each.chat for each in await ledger.open_entries()} == {None, "nul \0 and ünïcödé"}
    assert not heard.events


async def test_a_statement_that_cannot_work_is_answered_and_the_next_one_works(tmp_path: Path, faults: Faults) -> None:
    """Whatever is wrong with one batch, the writer lives."""
    async with asyncio.timeout(20), opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        entry = new_entry()
        await ledger.intent(entry)
        with pytest.raises(LedgerUnavailable):
            await ledger.intent(entry)
        faults.fail = lambda sql: RuntimeError("a bug") if sql.startswith("INSERT INTO entries") else None
        with pytest.raises(LedgerUnavailable):
            await ledger.intent(new_entry())
        faults.fail = lambda sql: None
        await ledger.intent(new_entry())
        assert len(await ledger.open_entries()) == 2


async def test_a_session_whose_create_was_refused_may_try_again(tmp_path: Path) -> None:
    """Though the note that nothing was created is written in the same transaction as the new intent."""
    async with opened(SqliteLedger(tmp_path / "ledger")) as ledger:
        entry = new_entry()
        for _ in range(3):
            hold = await ledger.intent(entry)
            ledger.absent(hold)
        hold = await ledger.intent(entry)
        await ledger.bound(hold, "chat")
        assert [(each.state, each.alive) for each in await ledger.open_entries()] == [(EntryState.BOUND, True)]
        with pytest.raises(LedgerUnavailable, match="already"):
            await ledger.intent(entry)
