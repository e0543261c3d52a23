"""Which files a trace lies in, and their bytes, line by line.

Rules that live here:

* A trace file that was rotated is a set: FILE.3, FILE.2, FILE.1, FILE, oldest first, gzipped (``FILE.3.gz``) or not.
* A set is opened newest first. Whatever is rotated meanwhile is then met twice and never missed; a file that is met
  twice is read once.
* No line is longer than `LONGEST`, so nothing that is no trace can fill the memory.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import IO, TypeAlias

STDIN = Path("-")
"""Stands for the standard input."""

LONGEST = 65_536
"""Bytes of the longest line there can be; a trace's own have a few hundred."""

Source: TypeAlias = IO[bytes] | gzip.GzipFile

Identity: TypeAlias = tuple[int, int]
"""Device and inode."""

_CHUNK = 1 << 17
_PACKED = b"\x1f\x8b"
"""What a gzip file begins with; no line of a trace does."""
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What a damaged gzip file raises."""


def rotated(path: Path, *, ahead: bool = False) -> Sequence[Path]:
    """
    Return the files that a trace file was rotated to and those that are there still, oldest first, itself last.

    Args:
        path: The newest file.
        ahead: Begin with the name that the oldest gets when the set is rotated once more while it is opened.
    """
    numbered = re.compile(rf"{re.escape(path.name)}\.([0-9]{{1,9}})(?:\.gz)?")
    names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    found = sorted(((int(match[1]), name) for name in names if (match := numbered.fullmatch(name))), reverse=True)
    if ahead:
        number = found[0][0] + 1 if found else 1
        found.insert(0, (number, f"{path.name}.{number}"))
    return [*(path.with_name(name) for _, name in found), path]


def opened(sets: Iterable[Sequence[Path]], stack: ExitStack) -> list[list[Source]]:
    """
    Open sets of files, each of them oldest first; a file that stands in several places is opened once.

    Args:
        sets: Files that belong together, oldest first. The last one of each must be there.
        stack: Closes them.

    Raises:
        OSError: A file cannot be read.
    """
    seen: set[Identity] = set()
    return [_opened_set(paths, stack, seen) for paths in sets]


def _opened_set(paths: Sequence[Path], stack: ExitStack, seen: set[Identity]) -> list[Source]:
    files: list[Source] = []
    for path in reversed(paths):
        try:
            file = _opened(path, stack)
        except FileNotFoundError:
            if path is paths[-1]:
                raise
            continue  # it was rotated away meanwhile
        place = identity(file)
        if place is None or place not in seen:
            files.append(file)
        if place is not None:
            seen.add(place)
    return files[::-1]


def identity(file: Source | Path) -> Identity | None:
    """
    Return what tells a file from every other one, whatever its name is; ``None`` for what is no file.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    if isinstance(file, Path):
        return _place(file.stat())
    try:
        return _place(os.fstat(file.fileno()))
    except OSError:
        return None


def _place(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _opened(path: Path, stack: ExitStack) -> Source:
    if path == STDIN:
        return sys.stdin.buffer
    if path.suffix == ".gz":
        return stack.enter_context(gzip.open(path))
    file = path.open("rb", buffering=0)
    if not _is_packed(file):
        return stack.enter_context(file)
    file.close()
    return stack.enter_context(gzip.open(path))


def _is_packed(file: FileIO) -> bool:
    """Say whether a file is gzipped, whatever its name is; of a pipe nothing is taken to find out."""
    if not file.seekable():
        return False
    begin = file.read(len(_PACKED))
    file.seek(0)
    return begin == _PACKED


def raw_lines(file: Source) -> Iterator[bytes | None]:
    """Yield a file's lines without their line feeds; ``None`` for one that cannot be had: too long, or damaged."""
    cutter = Cutter()
    read = getattr(file, "read1", file.read)  # of a pipe, what is there
    while True:
        try:
            chunk = read(_CHUNK)
        except DAMAGED:
            yield None
            break
        if not chunk:
            break
        yield from cutter.cut(chunk)
    yield from cutter.end()


class Cutter:
    """Cuts bytes that come in pieces into lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._passing_over = False

    def cut(self, chunk: bytes) -> Iterable[bytes | None]:
        """Return the lines that have come to their end; ``None`` for one that was too long."""
        lines: list[bytes | None] = []
        lines += (self._rest + chunk).split(b"\n")
        self._rest = lines.pop() or b""
        if self._passing_over and lines:
            lines[0] = None
            self._passing_over = False
        if len(self._rest) > LONGEST or self._passing_over:
            self._passing_over, self._rest = True, b""
        return lines

    def end(self) -> Iterable[bytes | None]:
        """Return what stood behind the last line feed, if anything, and begin anew."""
        rest: list[bytes | None] = [None] if self._passing_over else [self._rest] if self._rest else []
        self._rest, self._passing_over = b"", False
        return rest
