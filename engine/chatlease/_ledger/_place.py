"""Where a ledger's file may be: a folder of the user's own, on a file system of this machine.

Rules that live here:

* Folder 0700 and file 0600, when we make them; what is there already keeps its modes.
* Only a regular file is opened, written or moved: never a pipe, which would block, and never a device.
* SQLite's write-ahead log needs memory shared between processes, which network file systems do not have: refused.
* Whatever is wrong here is a `LedgerUnavailable` that names the ways out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from chatlease.errors import LedgerUnavailable

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "fuse.sshfs", "glusterfs", "lustre"}
)
ANOTHER_FILE = "Name another file by CHATLEASE_LEDGER=sqlite:///PATH."
"""The way out of a path that is no ledger's."""
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_MOUNTS = Path("/proc/self/mounts")


def default_path() -> Path:
    """Return where the ledger is by default: in the user's state folder."""
    import platformdirs  # noqa: PLC0415  (only who names no place pays for it)

    return platformdirs.user_state_path("chatlease", appauthor=False) / "ledger.sqlite3"


def prepare(path: Path) -> None:
    """
    Make sure that the file and its folder exist and may be used.

    Raises:
        LedgerUnavailable: They may not.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network(path.parent)
        refuse_irregular(path)
        _touch(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LedgerUnavailable(f"the ledger {path} cannot be written: {reason}") from error


def _touch(path: Path) -> None:
    """Make the file if it is not there, and have its name survive a loss of power: SQLite syncs only its log's."""
    flags = os.O_RDWR | os.O_CREAT | _CLOEXEC
    try:
        os.close(os.open(path, flags | os.O_EXCL, 0o600))
    except FileExistsError:
        os.close(os.open(path, flags, 0o600))
        return
    with contextlib.suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY | _CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def refuse_irregular(path: Path) -> None:
    """
    Raise `LedgerUnavailable` for what is there and no regular file; it is not opened.

    Raises:
        OSError: It cannot be asked, or is a folder.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise LedgerUnavailable(f"the ledger {path} is no regular file", hint=ANOTHER_FILE)


def refuse_network(folder: Path) -> None:
    """Raise `LedgerUnavailable` for a folder on a network file system, where the system tells."""
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return
    kind = kind_of_mount(folder.resolve(), mounts)
    if kind in _NETWORK:
        raise LedgerUnavailable(
            f"the ledger's folder {folder} is on a network file system ({kind}), where SQLite loses data",
            hint="Put it on a local disk by CHATLEASE_LEDGER=sqlite:///PATH.",
        )


def kind_of_mount(folder: Path, mounts: Iterable[str]) -> str:
    """Return the kind of file system that a folder is on, from lines as in ``/proc/self/mounts``."""
    best, kind = -1, ""
    for line in mounts:
        point, its_kind = [*line.split(" "), "", ""][1:3]
        where = Path(point.replace("\\040", " "))
        if folder.is_relative_to(where) and len(where.parts) >= best:
            best, kind = len(where.parts), its_kind
    return kind
