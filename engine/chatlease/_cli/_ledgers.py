"""Which ledger a command is about, and looking into it without changing it.

Rules that live here:

* Looking makes no file where there is none: no file is no entries.
* Looking never hurts: a damaged file is reported and left as it is (opening it for writing would set it aside), and a
  file that cannot be written is shown as it was last written.
* What is no regular file is not opened: a pipe would block for ever.
* The address of a ledger is not shown, for it may hold a password; the path of a file is, and the name of a server.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from chatlease._ledger import PostgresLedger, SqliteLedger
from chatlease._ledger._faults import code_of, is_lost
from chatlease._ledger._place import ANOTHER_FILE, refuse_irregular
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease._ledger._statements import Statements
from chatlease._ledger._stored import StoredLedger
from chatlease._settings import DEFAULT, chosen_ledger
from chatlease.errors import LedgerUnavailable, UsageError
from chatlease.ledger import Entry, Ledger

_READ_S = 10.0


@dataclass(frozen=True, slots=True)
class Glance:
    """
    What was seen of a ledger.

    Attributes:
        name: What to call it: the path of a file, else its kind.
        entries: The open entries, oldest first.
        exists: There is such a ledger at all.
        failure: Why it cannot be written; then holders are shown as they were last known.
    """

    name: str
    entries: Sequence[Entry]
    exists: bool = True
    failure: LedgerUnavailable | None = None


@dataclass(frozen=True, slots=True)
class Peek:
    """
    What is in a ledger file, read without writing.

    Attributes:
        schema: Version of its schema; 0 for a file without any.
        entries: The open entries; ``None`` when this library is too old to read them.
    """

    schema: int
    entries: Sequence[Entry] | None


def named(url: str | None) -> Ledger:
    """
    Return the ledger of the option, else of ``CHATLEASE_LEDGER``, else the default one; nothing is opened.

    Raises:
        UsageError: There is none that another process could have written.
    """
    ledger = chosen_ledger(url or DEFAULT)
    if ledger is None or not ledger.shared:
        raise UsageError(
            f"the ledger chosen ({'none' if ledger is None else 'memory'}) keeps nothing that another process can see",
            hint="Name the one to look into: --ledger sqlite:///PATH.",
        )
    return unmigrated(ledger)


def unmigrated(ledger: Ledger) -> Ledger:
    """Return the same ledger, by a handle that makes no tables on a server."""
    return ledger.unmigrated() if isinstance(ledger, PostgresLedger) else ledger


def name_of(ledger: Ledger) -> str:
    """Return what to call a ledger in front of people."""
    return ledger.name if isinstance(ledger, StoredLedger) else type(ledger).__name__


def exists(ledger: Ledger) -> bool:
    """Say whether there is anything to open; a server is asked when it is opened."""
    return not isinstance(ledger, SqliteLedger) or ledger.path.exists()


@asynccontextmanager
async def opened(ledger: Ledger) -> AsyncGenerator[Ledger]:
    """Open a ledger for the block."""
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


async def look(ledger: Ledger) -> Glance:
    """
    Return the open entries, after finding out which of their holders still live.

    Raises:
        LedgerUnavailable: It cannot even be read.
    """
    name = name_of(ledger)
    if not exists(ledger):
        return Glance(name, (), exists=False)
    seen = peek(ledger.path).entries if isinstance(ledger, SqliteLedger) else None
    try:
        async with opened(ledger):
            await ledger.reap()
            return Glance(name, await ledger.open_entries())
    except LedgerUnavailable as failure:
        if seen is None:
            raise
        return Glance(name, seen, failure=failure)


def peek(path: Path) -> Peek:
    """
    Read a ledger file that exists.

    Raises:
        LedgerUnavailable: It is damaged, no ledger, or cannot be read.
    """
    with _reading(path) as db:
        if not list(db.execute("SELECT 1 FROM sqlite_master LIMIT 1")):
            return Peek(0, ())
        meta: dict[str, str] = dict(list(db.execute("SELECT key, value FROM meta")))
        version = int(str(meta.get("schema_version", "")))
        if int(meta.get("min_reader", 0)) > SCHEMA_VERSION:
            return Peek(version, None)
        return Peek(version, Statements(db, 0.0).open_entries())


@contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    try:
        refuse_irregular(path)
        with closing(_connected(path)) as db:
            yield db
            return
    except (sqlite3.Error, OSError, ValueError) as error:
        failure = _unreadable(path, error)
    raise failure


def _connected(path: Path) -> sqlite3.Connection:
    """Open for reading; on a file system that cannot be written SQLite has to be told that nobody else writes."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    with contextlib.suppress(sqlite3.OperationalError):
        return _tried(address)
    return _tried(f"{address}&immutable=1")


def _tried(address: str) -> sqlite3.Connection:
    db = sqlite3.connect(address, uri=True, timeout=_READ_S, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        db.close()
        raise
    return db


def _unreadable(path: Path, error: Exception) -> LedgerUnavailable:
    if is_lost(error) and not path.with_name(f"{path.name}.holders").is_dir():
        return LedgerUnavailable(f"{path} is no ledger, or a damaged one ({code_of(error)})", hint=ANOTHER_FILE)
    if is_lost(error):
        return LedgerUnavailable(
            f"the ledger {path} is damaged ({code_of(error)})",
            hint="The next engine that uses it sets it aside and begins a new one; keep a copy to look into it.",
        )
    if isinstance(error, ValueError) or "no such" in str(error):
        return LedgerUnavailable(f"{path} is a database, but no ledger", hint="Name another file with --ledger.")
    return LedgerUnavailable(f"the ledger {path} cannot be read ({code_of(error)})")
