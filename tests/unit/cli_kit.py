"""What the tests of the command line share: running it, and a ledger file with what others left in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner

from chatlease import SqliteLedger
from chatlease._cli._app import application
from chatlease._registry import Plugin, Registry
from chatlease.adapter import Credential
from chatlease.ledger import Account, Entry
from chatlease.testing import FakeService
from chatlease.testing.fake_service import FakeChat

T = TypeVar("T")
ME = Credential(cookies={"login": "default"}).fingerprint()
"""The account of `FakeService`'s default login."""


class Result:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def run_with(registry: Registry, *args: str, stdin: str = "") -> Result:
    """Run a command with these adapters."""
    done = CliRunner().invoke(application(registry), args, input=stdin, catch_exceptions=False)
    return Result(done.exit_code, done.stdout, done.stderr)


def run_on(service: FakeService, *args: str) -> Result:
    """Run a command with that service as its only adapter."""
    return run_with(Registry({"fake": Plugin("fake", lambda: lambda: service)}), *args)


class Book:
    """A ledger file of a test, and what processes that have ended wrote into it."""

    def __init__(self, path: Path, service: FakeService) -> None:
        self.path = path
        self.url = f"sqlite:///{path}?horizon=0.001"
        self.service = service
        self._numbers = iter(range(1, 1000))

    def use(self, work: Callable[[SqliteLedger], Coroutine[Any, Any, T]]) -> T:
        async def opened() -> T:
            ledger = SqliteLedger.from_url(self.url)
            await ledger.open()
            try:
                return await work(ledger)
            finally:
                await ledger.aclose()

        return asyncio.run(opened())

    def orphan(
        self,
        chat: str | None = None,
        account: str = ME,
        *,
        origin: str = "",
        name: str = "",
        attempts: int = 0,
        error_code: str = "",
        **left: Any,
    ) -> str:
        """
        Make an entry that was left; returns its id.

        Args:
            chat: Made at the service too; ``None`` for a create whose reply was lost.
            account: Whose.
            origin: Another one than the service's.
            name: Instead of a number.
            attempts: Of deleting it.
            error_code: Of the last one.
            **left: How else it was handed over.
        """
        name = name or f"entry-{next(self._numbers):04}"
        entry = Entry(id=name, service="fake", origin=origin or self.service.origin, account=account)

        async def write(ledger: SqliteLedger) -> None:
            hold = await ledger.intent(entry)
            if chat is not None:
                await ledger.bound(hold, chat)
            await ledger.hand_over(hold, attempts=attempts, error_code=error_code, **left)

        self.use(write)
        if chat is not None:
            self.service.chats[chat] = FakeChat(account, name, time.time(), ["prompt"])
        return name

    def dead(self, chat: str) -> str:
        return self.orphan(chat, attempts=20, error_code="http-500", dead=True, retry_in_s=86400.0)

    def park(self, account: str) -> None:
        owner = Account("fake", self.service.origin, account)
        self.use(lambda ledger: ledger.park(owner, seconds=3600.0, error_code="http-403"))

    def entries(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.use(lambda ledger: ledger.open_entries())}


@pytest.fixture
def service() -> FakeService:
    """A service in memory, in real time."""
    return FakeService(tokens=["Hello", ", ", "you"])


@pytest.fixture
def book(tmp_path: Path, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A ledger that the environment names, for that service; no file yet."""
    book = Book(tmp_path / "book" / "ledger.sqlite3", service)
    monkeypatch.setenv("CHATLEASE_LEDGER", book.url)
    return book


@contextlib.contextmanager
def unwritable(book: Book) -> Generator[None]:
    """Have no process become a holder: something is in the place of the folder with their locks."""
    folder = book.path.with_name(f"{book.path.name}.holders")
    folder.rmdir()
    folder.touch()
    yield
    folder.unlink()


async def chatlease(
    *arguments: str, env: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start the command line in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "chatlease", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **env},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
def in_use(book: Book) -> Iterator[str]:
    """An entry of a session that lives for as long as the test; its id."""
    ledger = SqliteLedger.from_url(book.url)
    asyncio.run(ledger.open())
    hold = asyncio.run(ledger.intent(Entry(id="living", service="fake", origin=book.service.origin, account=ME)))
    asyncio.run(ledger.bound(hold, "chat-living"))
    yield "living"
    asyncio.run(ledger.aclose())


def shown(book: Book, *options: str) -> dict[str, Any]:
    """Return what `chatlease ledger` shows."""
    done = run_on(book.service, "ledger", "--json", *options)
    assert (done.code, done.err) == (0, "")
    document: dict[str, Any] = json.loads(done.out)
    return document


def statuses(document: dict[str, Any]) -> dict[str, str]:
    """Return the status of every entry shown."""
    return {entry["id"]: entry["status"] for entry in document["entries"]}


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
