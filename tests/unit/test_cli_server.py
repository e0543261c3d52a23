"""The command line on a ledger on PostgreSQL: made on demand alone, shown without its address, kept like any other."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from chatlease import PostgresLedger
from chatlease.testing import FakeService
from tests import postgres
from tests.unit.cli_kit import Result, run_on
from tests.unit.ledger_kit import new_entry, opened

T = TypeVar("T")


def use(url: str, work: Callable[[PostgresLedger], Coroutine[Any, Any, T]]) -> T:
    async def used() -> T:
        async with opened(PostgresLedger(url)) as ledger:
            return await work(ledger)

    return asyncio.run(used())


async def leave(ledger: PostgresLedger) -> str:
    hold = await ledger.intent(new_entry())
    await ledger.bound(hold, "chat-left")
    await ledger.hand_over(hold, attempts=2, error_code="http-503")
    return hold.entry


def test_looking_makes_no_tables_and_says_who_does(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", postgres_url)
    for command in ("ledger", "doctor"):
        done = run_on(FakeService(), command)
        said = " ".join(f"{done.out} {done.err}".split())
        assert done.code != 0
        assert "is not there yet" in said
        assert "chatlease ledger migrate" in said
    assert postgres.ask(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == [(0,)]


def test_tables_are_made_on_demand_once(postgres_url: str) -> None:
    first = run_on(FakeService(), "ledger", "migrate", "--ledger", postgres_url)
    again = run_on(FakeService(), "ledger", "migrate", "--ledger", postgres_url)
    assert (first.code, again.code) == (0, 0)
    assert "was of version 0, and is of 1 now" in " ".join(first.err.split())
    assert "nothing to do" in " ".join(again.err.split())
    assert run_on(FakeService(), "ledger", "--ledger", postgres_url).code == 0


def test_only_a_ledger_on_a_server_is_migrated_by_hand() -> None:
    done = run_on(FakeService(), "ledger", "migrate", "--ledger", "sqlite:///x")
    assert done.code != 0
    assert "only a ledger on PostgreSQL" in done.err


def test_entries_are_shown_retried_and_forgotten_as_elsewhere(postgres_url: str) -> None:
    name = use(postgres_url, leave)
    shown = json.loads(run_on(FakeService(), "ledger", "--json", "--ledger", postgres_url).out)
    assert [(each["id"], each["chat"], each["attempts"]) for each in shown["entries"]] == [(name, "chat-left", 2)]
    assert run_on(FakeService(), "ledger", "retry", name, "--ledger", postgres_url).code == 0
    assert run_on(FakeService(), "ledger", "forget", name, "--yes", "--ledger", postgres_url).code == 0
    assert use(postgres_url, lambda ledger: ledger.counts()).open == 0


def test_the_processes_of_a_fleet_are_shown(postgres_url: str) -> None:
    seen: list[Result] = []

    async def look(ledger: PostgresLedger) -> None:
        hold = await ledger.intent(new_entry())
        for options in ((), ("--json",)):
            command = ("ledger", "holders", "--ledger", postgres_url, *options)
            seen.append(await asyncio.to_thread(in_another_process, *command))
        ledger.absent(hold)

    use(postgres_url, look)
    table, document = seen
    assert "processes 1, machines 1, chats 1" in table.out
    assert socket.gethostname() in table.out
    (holder,) = json.loads(document.out)["holders"]
    assert (holder["host"], holder["entries"], holder["turns"]) == (socket.gethostname(), 1, 0)


def in_another_process(*command: str) -> Result:
    """Run a command as another process would: here it would share this one's holder."""
    done = subprocess.run(
        [sys.executable, "-c", "from chatlease._cli import main; main()", *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_password_is_never_shown_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", f"postgresql://bot:s3cr%3At@127.0.0.1:{postgres.free_port()}/bots")
    for command in (["ledger"], ["ledger", "migrate"], ["ledger", "retry", "x"], ["doctor"], ["sweep", "--once"]):
        done = run_on(FakeService(), *command)
        assert "cannot be written: nothing listens there" in " ".join(f"{done.out} {done.err}".split()), command
        assert "s3cr" not in done.out + done.err
        assert "bot:" not in done.out + done.err
