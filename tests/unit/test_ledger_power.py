"""Loss of power: whatever was acknowledged is there afterwards, and nothing is sent before it would be."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatlease import Engine, SqliteLedger
from chatlease._ledger import _connection
from chatlease.adapter import Call
from chatlease.testing import FakeService
from tests.unit.ledger_kit import files_of, new_entry, opened, rows
from tests.unit.power import Disk

_SEEDS = 400


async def _session(ledger: SqliteLedger, disk: Disk, chance: random.Random) -> None:
    entry = new_entry()
    hold = await ledger.intent(entry)
    disk.mark("intent", entry.id)
    for _ in range(chance.randrange(5)):
        await asyncio.sleep(0)
    await ledger.bound(hold, f"chat of {entry.id}")
    disk.mark("bound", entry.id)
    for _ in range(chance.randrange(5)):
        await asyncio.sleep(0)
    if chance.random() < 0.3:
        await ledger.hand_over(hold, attempts=1, error_code="http-503")
        disk.mark("handed", entry.id)
    elif chance.random() < 0.5:
        ledger.settled(hold)


@asynccontextmanager
async def _on(disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SqliteLedger]:
    monkeypatch.setattr(_connection, "connect", disk.connect)
    async with opened(SqliteLedger(path)) as ledger:
        yield ledger
    monkeypatch.undo()


async def _work(disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    async with _on(disk, path, monkeypatch) as ledger:
        for _ in range(12):
            await asyncio.gather(*(_session(ledger, disk, chance) for _ in range(chance.randrange(1, 12))))


def _missing(disk: Disk, moment: int, database: Path) -> list[str]:
    """What was acknowledged before that moment and is not there."""
    if not database.exists():
        found, whole = {}, True
    else:
        whole = rows(database, "PRAGMA integrity_check") == [("ok",)]
        try:
            found = {row[0]: row[1:] for row in rows(database, "SELECT id, chat, state, orphaned FROM entries")}
        except sqlite3.OperationalError:  # no table yet
            found = {}
    missing = [] if whole else ["the file is damaged"]
    for op in disk.log[:moment]:
        chat, state, orphaned = found.get(op.file, (None, None, None))
        if op.kind == "intent" and state is None:
            missing.append(f"the intent of {op.file}")
        if op.kind == "bound" and chat != f"chat of {op.file}":
            missing.append(f"the chat of {op.file}")
        if op.kind == "handed" and not orphaned:
            missing.append(f"that {op.file} was handed over")
    return missing


async def test_after_a_loss_of_power_everything_acknowledged_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment, with any part of what was not synced; checkpoints and the end of the process included."""
    disk = Disk()
    await _work(disk, tmp_path / "ledger", monkeypatch)
    kinds = {op.kind for op in disk.log}
    assert kinds >= {"write", "sync", "intent", "bound", "handed", "delete"}
    assert [op for op in disk.log if op.kind == "write" and op.file == "ledger"], "a checkpoint was made"
    for seed in range(_SEEDS):
        chance = random.Random(seed)
        moment = chance.randrange(len(disk.log) + 1)
        database = disk.after(moment, tmp_path / f"after-{seed}", chance)
        assert not _missing(disk, moment, database), f"seed {seed}, moment {moment}"


async def test_a_ledger_goes_on_after_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    await _work(disk, tmp_path / "ledger", monkeypatch)
    for seed in range(20):
        chance = random.Random(seed)
        moment = chance.randrange(len(disk.log) + 1)
        database = disk.after(moment, tmp_path / f"after-{seed}", chance)
        async with opened(SqliteLedger(database)) as ledger:
            hold = await ledger.intent(new_entry())
            await ledger.bound(hold, "chat")
            acknowledged = {op.file for op in disk.log[:moment] if op.kind == "handed"}
            assert {each.id for each in await ledger.open_entries()} >= acknowledged | {hold.entry}
        assert not [each for each in files_of(database) if "corrupt" in each.name]


async def test_a_disk_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test can fail: where syncs do nothing, acknowledged chats are lost."""
    disk = Disk(lying=True)
    await _work(disk, tmp_path / "ledger", monkeypatch)
    lost = 0
    for seed in range(30):
        chance = random.Random(seed)
        moment = chance.randrange(len(disk.log) // 2, len(disk.log))
        lost += bool(_missing(disk, moment, disk.after(moment, tmp_path / f"after-{seed}", None)))
    assert lost == 30


class _Marking(FakeService):
    """Marks in the disk's log when a call's first byte would leave."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk

    async def create_chat(self, call: Call, client_key: str) -> str:
        self._disk.mark("create", client_key)
        return await super().create_chat(call, client_key)

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        self._disk.mark("prompt", chat)
        return await super().send_prompt(call, chat, prompt, parent)


async def test_nothing_is_sent_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power lost just before create's first byte: the intent is there. Before the prompt's: the chat's id is."""
    disk = Disk()
    async with (
        _on(disk, tmp_path / "ledger", monkeypatch) as ledger,
        Engine(_Marking(disk), ledger=ledger, sweep=None) as engine,
    ):
        for _ in range(3):
            texts = await asyncio.gather(*(engine.ask(f"hello {number}").text() for number in range(4)))
            assert len(texts) == 4
    moments = [moment for moment, op in enumerate(disk.log) if op.kind in {"create", "prompt"}]
    assert len(moments) == 24
    for moment in moments:
        op = disk.log[moment]
        database = disk.after(moment, tmp_path / f"after-{moment}", None)
        column = "id" if op.kind == "create" else "chat"
        assert (op.file,) in rows(database, f"SELECT {column} FROM entries"), op
