"""The list of sessions: a row each, as they end, and what they come to.

Rules that live here:

* Rows have fixed widths and are written at once, so that a list is as long as it likes and nothing of it is held.
* A row whose chat is left begins with an exclamation mark, and has its colour where there are colours.
* A program gets an object a line (``--json``): the keys are in diagrams/README.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import msgspec
from rich.text import Text

from chatlease._traces import Counts, Gatherer, SessionTrace

from . import _trace_text as text
from ._show import Screen

_COLUMNS = (
    ("opened", 19),
    ("session", text.ID_LENGTH),
    ("service", 15),
    ("account", 17),
    ("state", 22),
    ("lived", -9),
    ("1st token", -9),
    ("tokens", -6),
    ("errors", -6),
    ("retries", -7),
)
"""Name and width; a negative one is of what stands at the right."""


class Rows:
    """
    Writes sessions to stdout.

    Args:
        as_json: An object a line, instead of a row.

    Attributes:
        sums: How many were written, by status.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.sums: Counter[str] = Counter()
        self._as_json = as_json
        self._console = text.stdout()
        self._begun = as_json

    def add(self, session: SessionTrace) -> None:
        """Write a session."""
        self.sums[session.status] += 1
        if self._as_json:
            sys.stdout.buffer.write(msgspec.json.encode(document(session)) + b"\n")
            return
        if not self._begun:
            self._begun = True
            self._write(_row("  ", *(name for name, _ in _COLUMNS)), "dim")
        self._write(_cells(session), text.style_of(session))

    def flush(self) -> None:
        """Have what was written seen."""
        sys.stdout.flush()

    def _write(self, row: str, style: str) -> None:
        if style and self._console.is_terminal:
            self._console.print(Text(row, style), soft_wrap=True)
        else:
            sys.stdout.write(f"{row}\n")


def _row(mark: str, *cells: str) -> str:
    padded = (
        text.cell(cell, width) if width > 0 else cell.rjust(-width)
        for cell, (_, width) in zip(cells, _COLUMNS, strict=True)
    )
    return f"{mark}{'  '.join(padded)}"


def _cells(session: SessionTrace) -> str:
    return _row(
        "! " if session.leaked else "  ",
        text.moment(session.opened_at),
        text.short(session.id),
        session.service or "-",
        session.account or "-",
        text.state_of(session),
        text.seconds(session.elapsed_s),
        text.seconds(session.first_token_s),
        str(session.token_count),
        str(len(session.errors) + session.errors_left_out),
        str(session.retries),
    )


def document(session: SessionTrace) -> dict[str, Any]:
    """Return a session as ``--json`` prints it; every key is documented in diagrams/README.md."""
    keys: dict[str, Any] = {name: getattr(session, name) for name in _KEYS}
    keys["errors"] = [failure._asdict() for failure in session.errors]
    return {"session": session.id} | keys | {"stays": session.stays()}


_KEYS = (
    *("status", "leaked", "state", "service", "account", "model", "chat", "engine"),
    *("begun", "opened_at", "closed_at", "last_at", "elapsed_s", "gate_wait_s", "queued_s", "first_token_s"),
    *("token_count", "polled", "retries", "requeues", "handed_over", "gone", "cause", "in_flight", "swept"),
    *("errors", "errors_left_out", "steps", "steps_left_out"),
)


def summary(rows: Rows, read: int, gatherer: Gatherer, counts: Counts) -> str:
    """Return what a list comes to, for its last line."""
    shown = rows.sums.total()
    of_all = "" if shown == read else f" of {read}"
    sums = ", ".join(f"{name} {rows.sums[name]}" for name in ("open", "deleted", "left", "swept"))
    return f"sessions {shown}{of_all}: {sums}; lines broken {counts.broken}, newer {counts.newer}, lost {gatherer.lost}"


def explain(screen: Screen, gatherer: Gatherer, counts: Counts) -> None:
    """Say what a list could not tell, and why."""
    if gatherer.let_go:
        screen.note(f"{gatherer.let_go} sessions are shown as they were when too many others were open", "yellow")
    if counts.newer:
        screen.note("newer lines are of a later version of the format; a newer chatlease reads them", "yellow")
    if gatherer.lost:
        screen.note("lost lines are missing because the file could not be written then", "yellow")
