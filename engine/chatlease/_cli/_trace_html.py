"""``chatlease trace FILE... --html PAGE``: sessions as one page for a browser.

Rules that live here:

* The page takes nothing's place but an older page's: what is read, and what is no regular file, is never replaced.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from chatlease import _report
from chatlease._traces import STDIN, identity, rotated
from chatlease.errors import UsageError

from ._exits import Exit
from ._trace_filter import Filter
from ._trace_read import good_lines


def write_page(page: Path, files: Sequence[Path], wanted: Filter, *, only: bool) -> Exit:
    """
    Write the page of the sessions that fit.

    Raises:
        UsageError: A file cannot be read, there is no trace in any of them, or the page cannot be written,
            or would take the place of something else.
    """
    _check_target(page, files)
    document = _report.read(files, only=only, shown=wanted.test(), checked=lambda lines: good_lines(lines, files))
    try:
        _report.write(page, document)
    except OSError as error:
        raise _unwritable(page, error) from None
    sums = document.sums
    left_out = f", {sums.sessions - sums.shown} left out" if sums.shown < sums.sessions else ""
    typer.echo(f"{page}: {sums.shown} sessions{left_out}")
    return Exit.OK


def _check_target(page: Path, files: Sequence[Path]) -> None:
    """
    Refuse to replace what is no page.

    Raises:
        UsageError: The page is one of the files that are read, or is there and is no regular file.
    """
    hint = "Name a new file, or an older page."
    if page == STDIN:
        raise UsageError("--html writes a file, not to stdout", hint=hint)
    try:
        status = page.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(page, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{page} is no regular file", hint=hint)
    if (status.st_dev, status.st_ino) in _read(files):
        raise UsageError(f"{page} is a trace file that is read", hint=hint)


def _read(files: Sequence[Path]) -> Iterator[tuple[int, int] | None]:
    """Yield what tells the files that are read from others, those that a set was rotated to included."""
    with suppress(OSError):  # reading says better what is wrong with it
        for file in files:
            if file == STDIN:
                yield identity(sys.stdin.buffer)
                continue
            for each in rotated(file):
                with suppress(OSError):
                    yield identity(each)


def _unwritable(page: Path, error: OSError) -> UsageError:
    return UsageError(f"{page} cannot be written: {error.strerror or type(error).__name__}")
