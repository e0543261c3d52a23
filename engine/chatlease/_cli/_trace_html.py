"""``chatlease trace FILE... --html PAGE``: sessions as one page for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from chatlease import _report
from chatlease.errors import UsageError

from ._exits import Exit
from ._trace_filter import Filter
from ._trace_read import good_lines


def write_page(page: Path, files: Sequence[Path], wanted: Filter, *, only: bool) -> Exit:
    """
    Write the page of the sessions that fit.

    Raises:
        UsageError: A file cannot be read, there is no trace in any of them, or the page cannot be written.
    """
    document = _report.read(files, only=only, shown=wanted.test(), checked=lambda lines: good_lines(lines, files))
    try:
        _report.write(page, document)
    except OSError as error:
        raise UsageError(f"{page} cannot be written: {error.strerror or type(error).__name__}") from None
    sums = document.sums
    left_out = f", {sums.sessions - sums.shown} left out" if sums.shown < sums.sessions else ""
    typer.echo(f"{page}: {sums.shown} sessions{left_out}")
    return Exit.OK
