"""The ledger on SQLite between processes: starting at once, forking, dying, stopping, and who is taken for dead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatlease import SqliteLedger
from chatlease._ledger import _holders
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease.errors import LedgerUnavailable
from chatlease.testing import ManualClock
from tests.unit.ledger_kit import (
    ACCOUNT,
    Faults,
    OwnHandle,
    ended,
    faults,
    heard_from,
    new_entry,
    opened,
    rows,
    started,
    tell,
)

__all__ = ["faults"]

_RECORDED = Path(__file__).parents[1] / "recorded" / "ledger"
_HOLDS = """
    import asyncio, sys
    from chatlease import SqliteLedger
    from chatlease.ledger import Entry

    async def main():
        ledger = SqliteLedger(sys.argv[1], lease=float(sys.argv[2]), liveness=sys.argv[3])
        await ledger.open()
        hold = await ledger.intent(Entry(id="theirs", service="fake", origin="fake://1", account="bot-7"))
        await ledger.bound(hold, "chat-theirs")
        print(hold.lease.holder, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        {leave}

    asyncio.run(main())
"""


@contextmanager
def _holder(
    path: Path, *, lease: float = 600.0, liveness: str = "flock", leave: str = "await ledger.aclose()"
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A process that holds an entry; ended by force if the test does not end it."""
    process = started(_HOLDS.replace("{leave}", leave), path, lease, liveness)
    try:
        yield process, heard_from(process)
    finally:
        process.kill()
        process.communicate(timeout=30)


# -- starting at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", ["", "schema-1.sqlite3"])
def test_eight_processes_that_start_at_once_make_one_ledger(tmp_path: Path, recorded: str) -> None:
    """The file does not exist yet, or is an old one: the migration is a race that nobody may lose."""
    program = """
        import asyncio, os, sys
        from chatlease import SqliteLedger
        from chatlease.ledger import Entry

        async def main():
            ledger = SqliteLedger(sys.argv[1])
            await ledger.open()
            for number in range(10):
                name = f"{os.getpid()}-{number}"
                hold = await ledger.intent(Entry(id=name, service="fake", origin="fake://1", account="bot-7"))
                await ledger.bound(hold, f"chat-{name}")
            await ledger.aclose()

        print(flush=True)
        sys.stdin.readline()
        asyncio.run(main())
    """
    for round_ in range(2):
        path = tmp_path / f"ledger-{round_}"
        if recorded:
            shutil.copy(_RECORDED / recorded, path)
        processes = [started(program, path) for _ in range(8)]
        for process in processes:
            heard_from(process)
        for process in processes:
            tell(process)
        for process in processes:
            ended(process)
        assert rows(path, "SELECT count(*), count(DISTINCT chat) FROM entries WHERE chat LIKE 'chat-%-%'") == [(80, 80)]
        assert rows(path, "SELECT count(*) FROM holders WHERE state = 'gone'") == [(8,)]
        assert rows(path, "SELECT value FROM meta WHERE key = 'schema_version'") == [(str(SCHEMA_VERSION),)]
        assert not list((tmp_path / f"ledger-{round_}.holders").iterdir())


# -- forking ----------------------------------------------------------------------------------------------------------


def test_a_forked_child_is_a_holder_of_its_own_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    """It does not hold the parent's lock, cannot use the parent's handle, and its end hurts nothing."""
    program = """
        import asyncio, os, sys
        from chatlease import SqliteLedger
        from chatlease._ledger import _holders
        from chatlease.errors import LedgerUnavailable
        from chatlease.ledger import Account, Entry
        from pathlib import Path

        path = Path(sys.argv[1])
        account = Account("fake", "fake://1", "bot-7")

        def entry(name):
            return Entry(id=name, service="fake", origin="fake://1", account="bot-7")

        async def child(inherited):
            try:
                await inherited.open_entries()
            except LedgerUnavailable:
                pass
            else:
                os._exit(3)
            inherited.end_turn("nothing")
            await inherited.aclose()
            ledger = SqliteLedger(path)
            await ledger.open()
            hold = await ledger.intent(entry("childs"))
            assert (await ledger.claim([account], 9)) == []
            assert await ledger.reap() == 0
            await inherited.open()
            assert len(await inherited.open_entries()) == 2
            await inherited.aclose()
            await ledger.aclose()
            return hold.lease.holder

        async def open_it():
            ledger = SqliteLedger(path)
            await ledger.open()
            return ledger, await ledger.intent(entry("parents"))

        async def after(ledger, hold):
            await ledger.bound(hold, "chat-parents")
            await ledger.aclose()

        ledger, hold = asyncio.run(open_it())
        pid = os.fork()
        if pid == 0:
            print("child", asyncio.run(child(ledger)), flush=True)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        folder = path.with_name(path.name + ".holders")
        print("parent", hold.lease.holder, _holders.is_over(folder, _holders.HOST, hold.lease.holder), flush=True)
        asyncio.run(after(ledger, hold))
    """
    path = tmp_path / "ledger"
    lines = dict(line.split(" ", 1) for line in ended(started(program, path)).splitlines())
    parent, over = lines["parent"].split(" ")
    assert over == "False"
    assert lines["child"] != parent
    assert dict(rows(path, "SELECT id, chat FROM entries")) == {"parents": "chat-parents", "childs": None}
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_parent_that_dies_leaves_no_lock_in_its_child(tmp_path: Path) -> None:
    program = """
        import asyncio, os, sys
        from chatlease import SqliteLedger

        async def main():
            ledger = SqliteLedger(sys.argv[1])
            await ledger.open()

        asyncio.run(main())
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            os.close(1), os.close(2)
            sys.stdin.readline()
            os._exit(0)
        os.kill(os.getpid(), 9)
    """
    path = tmp_path / "ledger"
    process = started(program, path)
    child = int(heard_from(process))
    try:
        assert process.wait(30) == -signal.SIGKILL
        (name,) = [each.name for each in (tmp_path / "ledger.holders").iterdir()]
        assert _holders.is_over(tmp_path / "ledger.holders", _holders.HOST, name) is True
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate(timeout=30)


def test_a_child_forked_in_the_middle_of_a_write_ends(tmp_path: Path) -> None:
    """The writer thread may hold any lock at that moment; in the child nobody would ever let go of it."""
    program = """
        import asyncio, os, sys, threading, time
        from chatlease import SqliteLedger
        from chatlease.ledger import Entry

        ledger = SqliteLedger(sys.argv[1])

        async def write(number):
            for turn in range(1000):
                name = f"{number}-{turn}"
                hold = await ledger.intent(Entry(id=name, service="fake", origin="fake://1", account="bot-7"))
                ledger.settled(hold)

        async def main():
            await ledger.open()
            await asyncio.gather(*(write(number) for number in range(20)))
            await ledger.aclose()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        forks = 0
        while thread.is_alive():
            time.sleep(0.002)
            pid = os.fork()
            if pid == 0:
                ledger.end_turn("x")
                sys.exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)
            forks += 1
        print(forks)
    """
    path = tmp_path / "ledger"
    assert int(ended(started(program, path))) > 5
    assert rows(path, "SELECT state, count(*) FROM entries GROUP BY state") == [("settled", 20000)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# -- ending -----------------------------------------------------------------------------------------------------------


async def test_a_process_that_ends_without_closing_is_gone_all_the_same(tmp_path: Path) -> None:
    """What waits is written at the end of the process, and nobody has to wait for its lease."""
    path = tmp_path / "ledger"
    with _holder(path, liveness="lease", leave="ledger.settled(hold); ledger.end_turn('x')") as (process, holder):
        tell(process)
        assert process.wait(30) == 0
    assert rows(path, "SELECT id, state FROM holders") == [(holder, "gone")]
    assert rows(path, "SELECT state FROM entries") == [("settled",)]


async def test_a_killed_process_is_dead_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path, lease=600.0)) as ledger:
        with _holder(path) as (process, holder):
            assert await ledger.reap() == 0
            assert not await ledger.claim([ACCOUNT], 5)
            process.kill()
            process.wait(30)
            assert await ledger.reap() == 1
            assert await ledger.reap() == 0
        (claim,) = await ledger.claim([ACCOUNT], 5)
        assert claim.entry.chat == "chat-theirs"
        assert rows(path, f"SELECT state FROM holders WHERE id = '{holder}'") == [("dead",)]
        assert not (tmp_path / "ledger.holders" / holder).exists()


async def test_a_lock_file_is_removed_when_the_death_is_durable(tmp_path: Path, faults: Faults) -> None:
    """Not before: a holder that is not declared dead after all could be told dead only by its lease."""
    path = tmp_path / "ledger"
    async with opened(SqliteLedger(path, lease=600.0)) as ledger:
        with _holder(path) as (process, holder):
            process.kill()
            process.wait(30)
        lock = tmp_path / "ledger.holders" / holder
        with faults.failing("SQLITE_FULL"), pytest.raises(LedgerUnavailable):
            await ledger.reap()
        assert lock.exists()
        await ledger.intent(new_entry())
        assert lock.exists()
        assert await ledger.reap() == 1
        assert not lock.exists()


async def test_a_stopped_process_is_not_dead_though_its_lease_has_run_out(tmp_path: Path) -> None:
    """With lock files, on one host, no clock says who is dead."""
    path = tmp_path / "ledger"
    clock = ManualClock()
    async with opened(SqliteLedger(path, clock=clock)) as ledger:
        with _holder(path) as (process, _):
            process.send_signal(signal.SIGSTOP)
            for _ in range(4):
                await clock.advance(40_000.0)
                assert await ledger.reap() == 0
            assert not await ledger.claim([ACCOUNT], 5)
            process.send_signal(signal.SIGCONT)
            tell(process)
            assert process.wait(30) == 0


async def test_a_lock_file_that_was_removed_leaves_it_to_the_lease(tmp_path: Path) -> None:
    """A cleaner of old files kills nobody."""
    path = tmp_path / "ledger"
    clock = ManualClock()
    async with opened(OwnHandle(path, lease=1000.0)) as other, opened(OwnHandle(path, clock=clock)) as ledger:
        await other.intent(new_entry())
        for each in (tmp_path / "ledger.holders").iterdir():
            each.unlink()
        assert await ledger.reap() == 0


def test_without_flock_only_leases_count(tmp_path: Path) -> None:
    program = """
        import sys
        sys.modules["fcntl"] = None
        import asyncio
        from chatlease import SqliteLedger
        from chatlease.ledger import Entry

        async def main():
            ledger = SqliteLedger(sys.argv[1])
            await ledger.open()
            await ledger.intent(Entry(id="x", service="fake", origin="fake://1", account="bot-7"))
            assert not ledger._terms.locks
            await ledger.aclose()

        asyncio.run(main())
    """
    ended(started(program, tmp_path / "ledger"))
    assert rows(tmp_path / "ledger", "SELECT lock FROM holders") == [("",)]
    assert sys.platform != "win32"
