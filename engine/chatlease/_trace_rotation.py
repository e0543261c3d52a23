"""Appending to a set of files of bounded size, together with any number of other processes.

Rules that live here:

* A file that is full is renamed: FILE to FILE.1, what was FILE.1 to FILE.2, and so on; the last one goes. That is done
  by whoever has the lock of the full file itself and finds it still under its name. The others write into it for that
  moment longer, and open the new one as soon as they see that theirs has another name.
* Only a full file is ever renamed, and everybody looks at the size after every write. So nobody goes on writing into a
  file that will be removed: who comes that late finds it gone, and writes the same once more.
* A gap in the numbers, left by a process that was killed in the middle, is filled before anything is removed.
* A lock is never waited for, and renaming that fails is tried again later: the file then grows beyond its size.
* Nothing else is waited for either: a pipe that is full, or that nobody reads, is an error.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOOK_EVERY_S = 1.0
_TRY_AGAIN_BYTES = 2**20
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""A pipe that nobody reads is an error, like a full disk, and no wait; for regular files it means nothing."""


class Rotation:
    """
    The files, as one to append to.

    Args:
        path: Of the newest.
        max_bytes: From this size on a file is full; ``None`` for never.
        keep: How many full ones are kept.

    Attributes:
        path: Of the newest, absolute.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int | None, keep: int) -> None:
        self.path = Path(path).expanduser().absolute()
        self._max_bytes = max_bytes
        self._keep = keep
        self._file = -1
        self._limit: int | None = None
        self._looked_at = 0.0
        self._open()
        if self._limit is not None:  # a link stays one: it is the file behind it that is renamed, in its own folder
            self.path = self.path.resolve()

    def append(self, data: bytes | bytearray, at: float) -> int:
        """
        Write as much as can be written now, at least one byte; returns how much that was.

        Args:
            data: Whole lines, or the rest of one and whole lines.
            at: The time, by any clock; once a second the file is looked for under its name.

        Raises:
            OSError: Nothing was written.
        """
        if not 0 <= at - self._looked_at < _LOOK_EVERY_S:
            self._look(at)
        written = os.write(self._file, data)
        # After a write for appending the position is the size of the file; asking for that itself costs more.
        if self._limit is not None and os.lseek(self._file, 0, os.SEEK_CUR) >= self._limit:
            written = self._turn_over(data, written)
        if not written:
            raise OSError(errno.EIO, "nothing was written")
        return written

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        """Open what has the name now, made if there is none."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NONBLOCK, 0o600)
        before, self._file = self._file, file
        if before >= 0:
            os.close(before)
        regular = stat.S_ISREG(os.fstat(file).st_mode)
        self._limit = self._max_bytes if regular else None

    def _look(self, at: float) -> None:
        """Open the file again where somebody renamed or removed it; look at once again where that fails."""
        self._looked_at = -math.inf
        if not self._is_in_place():
            self._open()
        self._looked_at = at

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        except OSError:
            return False

    # -- a full file --------------------------------------------------------------------------------------------------

    def _turn_over(self, data: bytes | bytearray, written: int) -> int:
        """Begin another file, after a write into a full one; returns how much was written into one that stays."""
        full = os.fstat(self._file)
        if not full.st_nlink:  # so late that it was removed meanwhile, with what was just written
            self._open()
            return os.write(self._file, data)
        try:
            self._rotate()
        except OSError:  # what was written is written
            self._limit = full.st_size + _TRY_AGAIN_BYTES
        return written

    def _rotate(self) -> None:
        """Open the new file, after renaming the full one where nobody else has done so."""
        if not self._is_in_place() or self._is_renamed():
            self._open()

    def _is_renamed(self) -> bool:
        """Rename the full file; False when another one is about to."""
        try:
            named = os.open(self.path, os.O_RDONLY)  # opened anew: a lock is shared with forked children of the opener
        except FileNotFoundError:
            return True
        try:
            if not _is_locked(named):
                return False
            if self._is_in_place():
                self._shift()
            return True
        finally:
            os.close(named)

    def _shift(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number + 1}") for number in range(self._keep))]
        gap = next((number for number, name in enumerate(names) if not name.exists()), self._keep)
        for number in range(gap, 0, -1):
            names[number - 1].replace(names[number])


def _is_locked(file: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
