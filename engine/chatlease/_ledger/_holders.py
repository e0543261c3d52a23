"""Who of the holders on this host still lives: one locked file each.

Rules that live here:

* A living process holds an exclusive `flock` on its file. The kernel lets go of it when the process ends, however it
  ends, at once; no clock is involved. A stopped process still holds it.
* The file is locked before the holder is written into the ledger, so a holder whose file can be locked is dead.
* A forked child shares its parent's lock; it closes its descriptor and takes a holder of its own.
* A lock tells where the host has our name, or the kernel is the one that we run on: a container has a new name after
  each start.
* Where there is no such file, or no such lock (another host, no `flock`), only the lease counts.
* The same kind of lock, on the folder itself, keeps whoever moves a ledger's files apart from those who open or close
  them. It is let go of by name, for a child that was forked meanwhile has it too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Generator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leases only
    fcntl = None  # type: ignore[assignment]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TRIES = 500
_PAUSE_S = 0.01


def _this_host() -> str:
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT_ID.read_text().strip()
    return f"{socket.gethostname()} {boot}".rstrip()


HOST = _this_host()
"""Name of this host and, where there is one, id of its kernel's start: holders are marked with it."""


class HolderLock:
    """
    The locked file of one holder.

    Args:
        folder: Where the files of one ledger are.
        holder: Its id, which is the file's name.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        assert fcntl is not None
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / holder
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def abandon(self) -> None:
        """Close the descriptor without unlocking; for a forked child."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def release(self) -> None:
        """End the holder's life, as far as this file tells; may be called twice."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            self.abandon()


def locks_work() -> bool:
    """Say whether this system has `flock`."""
    return fcntl is not None


def is_over(folder: Path, host: str, lock: str) -> bool | None:
    """Say whether a holder's process has ended; ``None`` when its lock cannot tell."""
    if not lock or not _is_here(host) or fcntl is None:
        return None
    try:
        file = os.open(folder / lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)


def _is_here(host: str) -> bool:
    """Say whether a mark is of this host; older ones are its name alone."""
    name, _, boot = host.partition(" ")
    our_name, _, our_boot = HOST.partition(" ")
    return name == our_name or (boot != "" and boot == our_boot)


def forget(folder: Path, lock: str) -> None:
    """Remove the file of a holder that was declared dead."""
    with contextlib.suppress(OSError):
        (folder / lock).unlink()


@contextlib.contextmanager
def exclusively(folder: Path) -> Generator[None]:
    """
    Keep other processes of this host out of the block, where there is `flock`.

    Raises:
        OSError: The folder cannot be locked (in good time).
    """
    with _locked(folder, alone=True):
        yield


@contextlib.contextmanager
def together(folder: Path) -> Generator[None]:
    """
    Keep other processes of this host out of the `exclusively` blocks, where there is `flock`.

    Raises:
        OSError: The folder cannot be locked (in good time).
    """
    with _locked(folder, alone=False):
        yield


@contextlib.contextmanager
def _locked(folder: Path, *, alone: bool) -> Generator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    if fcntl is None:
        yield
        return
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock_soon(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def _lock_soon(file: int, kind: int) -> None:
    assert fcntl is not None
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(_PAUSE_S)
        else:
            return
    raise TimeoutError("another process moves the ledger's files, and does not end")
