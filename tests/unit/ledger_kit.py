"""What the tests of the SQLite ledger share: handles as other processes have them, and connections that fail."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chatlease import Engine, PostgresLedger, Session, SqliteLedger
from chatlease._ledger import _connection
from chatlease._ledger._connection import Db
from chatlease._ledger._file import LedgerFile
from chatlease._ledger._file_store import FileStore
from chatlease._ledger._store import Store
from chatlease._ledger._stored import StoredLedger
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Account, Entry
from chatlease.testing import FakeService

ACCOUNT = Account("fake", "fake://1", "bot-7")
L = TypeVar("L", bound=StoredLedger)
_numbers = itertools.count(1)


class OwnHandle(SqliteLedger):
    """A ledger on disk with a connection, threads and a holder of its own, as another process would have."""

    async def open(self) -> None:
        if self._store is None:
            self._store = FileStore(self.path.resolve(), self._terms, self._clock)
            self._store.users = 1
            self._store.start()
        await super().open()


class OwnServerHandle(PostgresLedger):
    """A ledger on a server with a connection, threads and a holder of its own, as another process would have."""

    async def open(self) -> None:
        if self._store is None:
            self._store = self._new_store()
            self._store.users = 1
            self._store.start()
        await super().open()


@asynccontextmanager
async def opened(ledger: L) -> AsyncGenerator[L]:
    """Open a ledger for the block."""
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


def store_of(ledger: StoredLedger) -> Store:
    """Return the store behind a handle."""
    assert ledger._store is not None
    return ledger._store


def file_of(ledger: StoredLedger) -> LedgerFile:
    """Return the file behind a handle."""
    store = store_of(ledger)
    assert isinstance(store, FileStore)
    return store._file


def new_entry(account: Account = ACCOUNT) -> Entry:
    """Return an entry to be made."""
    return Entry(
        id=f"session-{next(_numbers):06}", service=account.service, origin=account.origin, account=account.account
    )


async def beat(ledger: StoredLedger) -> None:
    """Have the lease renewed, and wait until it is."""
    store = store_of(ledger)
    store.pulse()
    await until(lambda: not store._beat_due)
    await ledger.counts()


async def until(look: Callable[[], Awaitable[bool] | bool], *, seconds: float = 20.0) -> None:
    """Wait until it holds; fails after a bounded time."""
    async with asyncio.timeout(seconds):
        while True:
            seen = look()
            if seen if isinstance(seen, bool) else await seen:
                return
            await asyncio.sleep(0.005)


def files_of(path: Path) -> list[Path]:
    """Return a ledger's file, its log, and what else there is beside it."""
    return sorted(each for each in path.parent.glob(f"{path.name}*") if each.is_file())


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def __call__(self, event: str, keys: Mapping[str, object]) -> None:
        self.events.append((event, dict(keys)))

    @property
    def names(self) -> list[str]:
        """The events' names, in order."""
        return [name for name, _ in self.events]


def sqlite_error(name: str, text: str = "injected") -> sqlite3.OperationalError:
    """Return an error as SQLite's own."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name, 1)
    return error


class FailingDb:
    """A connection whose statements fail where the test says so."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self._db = sqlite3.connect(path, timeout=_connection.BUSY_S, isolation_level=None, check_same_thread=False)
        self._faults = faults

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self._faults.meet(sql)
        return self._db.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        self._faults.meet(sql)
        return self._db.executemany(sql, parameters)

    def close(self) -> None:
        try:
            self._faults.meet("close")
        finally:
            self._db.close()


class Faults:
    """
    What fails, and what was run.

    Attributes:
        fail: Returns the error for a statement (or ``close``), or ``None``.
        seen: Every statement.
        connections: Every connection that was opened.
    """

    def __init__(self) -> None:
        self.fail: Callable[[str], Exception | None] = lambda sql: None
        self.seen: list[str] = []
        self.connections: list[FailingDb] = []

    def meet(self, sql: str) -> None:
        self.seen.append(sql)
        error = self.fail(sql)
        if error is not None:
            raise error

    def connect(self, path: Path) -> Db:
        self.connections.append(FailingDb(path, self))
        return self.connections[-1]

    @contextmanager
    def failing(self, name: str, *, on: str = "COMMIT") -> Generator[None]:
        """Have every statement that begins so fail in the block."""
        self.fail = lambda sql: sqlite_error(name) if sql.startswith(on) else None
        try:
            yield
        finally:
            self.fail = lambda sql: None

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self.seen.count("COMMIT")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Every connection of the test goes through these."""
    found = Faults()
    monkeypatch.setattr(_connection, "connect", found.connect)
    return found


def started(program: str, *args: object) -> subprocess.Popen[str]:
    """Start a Python program of the test's own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard_from(process: subprocess.Popen[str]) -> str:
    """Wait for a line of a program."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Send an empty line to a program."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a program; returns what it printed, fails if it failed."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, f"{process.returncode}: {err}"
    return out


def rows(path: Path, sql: str) -> list[Any]:
    """Ask a ledger file, from outside."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return list(db.execute(sql))
    finally:
        db.close()


class Bot:
    """An engine with a session under way."""

    def __init__(self, engine: Engine, service: FakeService, ledger: StoredLedger, session: Session) -> None:
        self.engine = engine
        self.service = service
        self.ledger = ledger
        self.session = session
        self.news = Heard()

    @property
    def heard(self) -> list[str]:
        """Names of the ledger's events so far."""
        return self.news.names

    async def refuses(self) -> LedgerUnavailable:
        """Fail to open a new chat, in good time, without any being created."""
        before = self.service.calls["create_chat"]
        async with asyncio.timeout(20):
            with pytest.raises(LedgerUnavailable) as caught:
                await self.engine.ask("refused").text()
        assert self.service.calls["create_chat"] == before
        assert str(self.ledger._name) in str(caught.value)
        assert caught.value.hint
        return caught.value

    async def finishes(self) -> None:
        """The running session gives its whole answer and deletes its chat."""
        async with asyncio.timeout(20):
            assert await self.session.ask("hello").text() == "hello"
            await self.session.aclose()
        assert not self.service.chats

    async def works(self) -> None:
        """New chats are made again, and nothing is left, here or there."""
        async with asyncio.timeout(20):
            assert await self.engine.ask("again").text() == "again"

            async def none() -> bool:
                return not [each for each in await self.ledger.open_entries() if each.chat is not None]

            await until(none)


@asynccontextmanager
async def bot_on(path: Path) -> AsyncGenerator[Bot]:
    """Open a ledger and an engine, and create a chat; none may be left in the end."""
    async with bot_with(SqliteLedger(path)) as bot:
        yield bot


@asynccontextmanager
async def bot_with(closed: StoredLedger) -> AsyncGenerator[Bot]:
    """Open that ledger and an engine, and create a chat; none may be left in the end."""
    service = FakeService()
    async with opened(closed) as ledger:
        async with Engine(service, ledger=ledger, sweep=None) as engine:
            session = engine.session()
            await session.ready_cookies()
            await session.create_chat()
            bot = Bot(engine, service, ledger, session)
            stop = ledger.listen(bot.news)
            yield bot
            stop()
        assert not service.chats
