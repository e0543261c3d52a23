"""Loss of power, simulated: a VFS below SQLite that remembers every write and sync, and what is left of them after.

The files are real, so that everything else works as ever. The log of operations is played back afterwards up to any
moment: what was synced is there, of the rest a random part, torn at a sector.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

_SECTOR = 512
_names = itertools.count(1)


@dataclass(frozen=True)
class Op:
    """
    Something that happened, in order.

    Attributes:
        kind: ``write``, ``truncate``, ``sync``, ``delete``; anything else is the test's own mark.
        file: Name of the file, or what the mark is about.
        offset: Where it was written, or the new length.
        data: What was written.
    """

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


class Disk:
    """
    The log of one run.

    Args:
        lying: Say yes to a sync and do nothing: what a test of the test needs.
    """

    def __init__(self, *, lying: bool = False) -> None:
        self.log: list[Op] = []
        self.lying = lying
        self._database = ""
        self._vfs = _Vfs(f"power-{next(_names)}", self)

    def connect(self, path: Path) -> ApswDb:
        """Open a database on this disk; for `chatlease._ledger._connection.connect`."""
        self._database = path.name
        return ApswDb(path, self._vfs.name)

    def mark(self, kind: str, about: str) -> None:
        """Note that something of the test's own happened."""
        self.log.append(Op(kind, about))

    def after(self, moment: int, folder: Path, chance: random.Random | None) -> Path:
        """
        Write what is left after a loss of power just before an operation; returns the database.

        Args:
            moment: Index into the log.
            folder: Where to.
            chance: What of the unsynced writes survives; ``None``: nothing.
        """
        synced: dict[str, bytes] = {}
        pending: dict[str, list[Op]] = {}
        for op in self.log[:moment]:
            if op.kind in {"write", "truncate"}:
                pending.setdefault(op.file, []).append(op)
            elif op.kind == "sync" and not self.lying:
                synced[op.file] = _applied(synced.get(op.file, b""), pending.pop(op.file, []))
            elif op.kind == "delete":
                synced.pop(op.file, None)
                pending.pop(op.file, None)
        for name, ops in pending.items():
            synced[name] = _applied(synced.get(name, b""), _survivors(ops, chance))
        folder.mkdir()
        for name, content in synced.items():
            (folder / name).write_bytes(content)
        return folder / self._database


def _survivors(ops: Sequence[Op], chance: random.Random | None) -> Iterator[Op]:
    if chance is None:
        return
    likely = chance.choice([0.0, 0.3, 0.9, 1.0])
    for op in ops:
        if chance.random() < likely:
            torn = op.kind == "write" and chance.random() < 0.2
            yield Op(op.kind, op.file, op.offset, op.data[: len(op.data) // 2 // _SECTOR * _SECTOR]) if torn else op


def _applied(content: bytes, ops: Sequence[Op] | Iterator[Op]) -> bytes:
    new = bytearray(content)
    for op in ops:
        if op.kind == "truncate":
            del new[op.offset :]
        else:
            new.extend(b"\0" * (op.offset - len(new)))
            new[op.offset : op.offset + len(op.data)] = op.data
    return bytes(new)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str, filename: Any, flags: Any) -> None:
        self._disk = disk
        self._name = name
        super().__init__("", filename, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  (SQLite's names)
        self._disk.log.append(Op("write", self._name, offset, bytes(data)))
        super().xWrite(data, offset)  # pyright: ignore[reportUnknownMemberType]  (its buffer type is newer than 3.11)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.log.append(Op("truncate", self._name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._disk.log.append(Op("sync", self._name))


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: Any) -> _File:  # noqa: N802
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self._disk, Path(str(filename)).name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._disk.log.append(Op("delete", Path(filename).name))


class _Rows(list[Any]):
    """Rows, with what `sqlite3` tells of a writing statement."""

    rowcount = -1


class ApswDb:
    """A connection by apsw that does what the ledger uses of `sqlite3`'s."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._db: Any = apsw.Connection(str(path), vfs=vfs)  # its types know nothing of what a row holds
        self._db.set_busy_timeout(10_000)
        self._db.execute("PRAGMA wal_autocheckpoint=12")

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        rows = _Rows(self._run(sql, parameters))
        rows.rowcount = self._db.changes()
        return rows

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        before = self._db.total_changes()
        for each in parameters:
            self._run(sql, each)
        rows = _Rows()
        rows.rowcount = self._db.total_changes() - before
        return rows

    def close(self) -> None:
        self._db.close()

    def _run(self, sql: str, parameters: Any) -> list[Any]:
        try:
            return list(self._db.execute(sql, tuple(parameters)))
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error
