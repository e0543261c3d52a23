"""Follows a trace file that is being written, through its rotation.

Rules that live here:

* First comes what is there, oldest first; then what is added, in the order in which it was written. A pass reads a
  bounded piece, and never waits.
* A file that was renamed is read to its end before the one that was begun in its place, and those that were begun and
  renamed meanwhile come in between. What was rotated away altogether, or packed, before it was read is missed.
* A file that became shorter was emptied; it is read from its beginning. A file that is not there is waited for.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from ._files import DAMAGED, Cutter, Identity, Source, identity, opened, rotated
from ._lines import Counts, Line

_PIECE = 1 << 20


class Follower(Counts):
    """
    A trace file that is followed.

    Args:
        path: The file; it may not be there yet.
        only: Begin with this file, not with those that it was rotated to before.

    Attributes:
        idle: The last pass found nothing new.
    """

    def __init__(self, path: Path, *, only: bool = False) -> None:
        super().__init__()
        self.idle = False
        self._path = path
        self._cutter = Cutter()
        there = rotated(path)
        self._files: list[Source] = _opened(there[-1:] if only else there)
        self._met = {place for each in there if (place := _identity_of(each)) is not None}

    def read(self) -> list[Line]:
        """
        Return lines that are new; none, too, when a pass found only what is no good.

        Raises:
            OSError: The file is there, but cannot be read.
        """
        self.idle = False
        return list(self.decoded(self._pass()))

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            self._files.pop().close()

    def _pass(self) -> Iterable[bytes | None]:
        self._files = self._files or self._newer()
        if not self._files:
            self.idle = True
            return ()
        try:
            chunk = self._files[0].read(_PIECE)
        except DAMAGED:
            return [*self._leave(), None]
        return self._cutter.cut(chunk) if chunk else self._at_end()

    def _at_end(self) -> Iterable[bytes | None]:
        """Turn to what is to be read next; what was cut at the end of a file is no part of that."""
        if len(self._files) > 1:
            return self._leave()
        if _was_emptied(self._files[0]):
            self._files[0].seek(0)
            return self._cutter.end()
        newer = self._newer()
        self.idle = not newer
        self._files += newer  # the next pass reads what was written meanwhile, before the file was renamed
        return ()

    def _leave(self) -> Iterable[bytes | None]:
        self._files.pop(0).close()
        return self._cutter.end()

    def _newer(self) -> list[Source]:
        """Open what was begun since the file that is read: all of it, if that was rotated away."""
        mine, newest = identity(self._files[0]) if self._files else None, _identity_of(self._path)
        if mine == newest:
            return []
        found = _opened([path for path in rotated(self._path) if path.suffix != ".gz"])
        places = [identity(file) for file in found]
        if mine in places:
            newer = found[places.index(mine) + 1 :]
        else:  # the number of a file that is gone may have been given to the newest one
            met = self._met - {newest}
            newer = [file for file, place in zip(found, places, strict=True) if place not in met]
        for file in found:
            if file not in newer:
                file.close()
        self._met.update(place for place in places if place is not None)
        return newer


def _opened(paths: Sequence[Path]) -> list[Source]:
    """Open a set of files, as far as they are there: while one is rotated, the newest is not."""
    there = [path for path in paths if path.exists()]
    with ExitStack() as stack, suppress(FileNotFoundError):
        files = [file for each in opened([there], stack) for file in each]
        stack.pop_all()  # they are the follower's now
        return files
    return []


def _identity_of(path: Path) -> Identity | None:
    with suppress(OSError):
        return identity(path)
    return None


def _was_emptied(file: Source) -> bool:
    return not isinstance(file, gzip.GzipFile) and os.fstat(file.fileno()).st_size < file.tell()
