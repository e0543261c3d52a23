"""The connection to a ledger's file: how it is opened, what is asked of SQLite, and when the file is another one.

Rules that live here:

* Write-ahead log, ``synchronous=FULL`` (and ``fullfsync``, which only macOS knows), both read back: a build of SQLite
  may have other defaults, and a file system may refuse the log.
* Every transaction begins as a writing one: a reading one that begins to write can fail at once, whatever the time-out.
* A file that was deleted, emptied or replaced under an open connection goes on taking writes silently, so the file at
  the path, and its log, are compared with ours before every transaction.
* A database of somebody else's, one with tables but without our `meta`, is looked at and never written.
* A log that belongs to a file which is gone would be played back into the next file of that name: it goes too.
* SQLite opens the log by its name, some time after the file; and removes it by its name when the last connection is
  closed, having looked a moment before whether the file is still there. So no connection is opened or closed while
  another process moves the files: it would have one file and the log of another.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

from chatlease.errors import LedgerUnavailable

from . import _holders, _schema
from ._place import ANOTHER_FILE, prepare
from ._statements import Statements

BUSY_S = 10.0
"""How long a write waits for other processes."""
_MIN_SQLITE = (3, 35, 0)
_JOURNAL_BYTES = 4 * 1024 * 1024
_FULL = 2
_PAUSE_S = 0.02
_ASIDE = ("-wal", "-shm")

Identity: TypeAlias = tuple[int, int]
"""What tells a file from any other: device and number."""


class Db(Protocol):
    """What is used of a connection of `sqlite3` in autocommit mode."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """See `_schema.Database`."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """See `_schema.Database`."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def connect(path: Path) -> Db:
    """Open a database; tests put another one here."""
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


class Connection:
    """
    An open ledger file, up to date.

    Args:
        path: The file; made, with its folder, where there is none.
        folder: Of the lock files.
        horizon: See `Statements`.

    Raises:
        LedgerUnavailable: It cannot be used, or needs a newer library.
        sqlite3.Error: SQLite's own failures; see `_faults`.
    """

    def __init__(self, path: Path, folder: Path, horizon: float) -> None:
        if sqlite3.sqlite_version_info < _MIN_SQLITE:
            raise LedgerUnavailable(
                f"this Python has SQLite {sqlite3.sqlite_version}, the ledger needs 3.35",
                hint="Use a newer Python, or give the promise up with CHATLEASE_LEDGER=none.",
            )
        self._path = path
        self._log = f"{path}{_ASIDE[0]}"
        self._folder = folder
        prepare(path)  # before anything else can fail: it says what is wrong
        with _unmoved(folder):
            prepare(path)  # it may have been moved meanwhile, and SQLite would make one that everybody can read
            if not folder.is_dir():
                _look_first(path)
            self.identity = identity_of(path)
            self._db = connect(path)
            try:
                self._begin()
            except BaseException:
                self._let_go()
                raise
        self._statements = Statements(self._db, horizon)

    def _begin(self) -> None:
        _refuse_foreign(self._db, self._path)
        _schema.refuse_newer(self._db)
        _configure(self._db)
        _schema.migrate(self._db)
        aside = [identity_of(_beside(self._path, suffix)) for suffix in _ASIDE]
        is_same = identity_of(self._path) == self.identity  # else a log beside it may be the next file's
        self._aside = aside if is_same else [None] * len(_ASIDE)

    @contextlib.contextmanager
    def transaction(self) -> Generator[Statements]:
        """Write all or nothing; durable when the block ends."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._statements
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    def is_current(self) -> bool:
        """Say whether the file at the path, and its log, are still those that are open."""
        try:
            found = os.stat(self._path)  # noqa: PTH116  (see `identity_of`)
        except OSError:
            return False
        ours = found.st_size > 0 and (found.st_dev, found.st_ino) == self.identity
        return ours and identity_of(self._log) == self._aside[0]

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.ExitStack() as unmoved:
            with contextlib.suppress(OSError):
                unmoved.enter_context(_unmoved(self._folder))
            self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def clear_away(self) -> None:
        """Remove what is left of our file beside another one, or beside none."""
        for suffix, identity in zip(_ASIDE, self._aside, strict=True):
            path = _beside(self._path, suffix)
            if identity is not None and identity_of(path) == identity:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _unmoved(folder: Path) -> Generator[None]:
    """Keep the files where they are. Without the folder nobody moves any; what is no ledger gets no such folder."""
    if not folder.is_dir():
        yield
        return
    with _holders.together(folder):
        yield


def _look_first(path: Path) -> None:
    """Refuse somebody else's database by a reading connection: a writing one would play its log into it at the end."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db,
    ):
        _refuse_foreign(db, path)


def _refuse_foreign(db: Db, path: Path) -> None:
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if names and not ("meta" in names and _has_version(db)):
        raise LedgerUnavailable(f"{path} is a database, but no ledger; it is left as it is", hint=ANOTHER_FILE)


def _has_version(db: Db) -> bool:
    try:
        ((version,),) = db.execute("SELECT value FROM meta WHERE key = 'schema_version'")
        return int(version) > 0
    except (TypeError, ValueError):
        return False
    except sqlite3.OperationalError as error:  # other columns
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return False


def _configure(db: Db) -> None:
    journal = _journal_mode(db)
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=1")
    db.execute(f"PRAGMA journal_size_limit={_JOURNAL_BYTES}")
    ((level,),) = db.execute("PRAGMA synchronous")
    if journal != "wal" or level != _FULL:
        raise LedgerUnavailable(
            f"SQLite cannot keep the ledger safely here (journal {journal}, synchronous {level})",
            hint="Put it on a local disk by CHATLEASE_LEDGER=sqlite:///PATH.",
        )


def _journal_mode(db: Db) -> str:
    """Turn the log on; where several processes do so at once, SQLite does not wait, so we do."""
    pause = threading.Event()
    for _ in range(int(BUSY_S / _PAUSE_S)):
        try:
            ((journal,),) = db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            pause.wait(_PAUSE_S)
        else:
            return str(journal)
    raise LedgerUnavailable("the ledger cannot be opened: another process keeps it locked")


def identity_of(path: Path | str) -> Identity | None:
    """Return what tells the file at a path from any other; ``None`` where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  (half the time of the method, and asked twice a transaction)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def quarantine(path: Path, identity: Identity | None, now: float) -> str:
    """
    Set a lost file aside, with its log; return its new name, empty when it is not there any more.

    Args:
        path: Where it is.
        identity: Of the file that was found lost.
        now: For the new name.
    """
    if identity is None or identity_of(path) != identity:
        return ""
    name = f"{path.name}.corrupt-{int(now)}-{os.getpid()}"
    while path.with_name(name).exists():
        name += "-again"
    for suffix in (*_ASIDE, ""):
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).replace(path.with_name(f"{name}{suffix}"))
    return name


def _beside(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")
