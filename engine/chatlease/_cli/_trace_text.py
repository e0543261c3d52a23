"""How what a trace says is written for people: times, durations, names, cells of fixed width.

Rules that live here:

* What came from outside (ids, accounts, models, codes) cannot steer the terminal, nor hide on it: whatever is not
  printable is shown as ``?``, and a cell has one line.
* A session is named by the end of its id, which is random; its beginning is a time, and many share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table

from chatlease._traces import SessionTrace

ID_LENGTH = 12
"""Characters of a session's id that are shown: of those that the engine makes, all of the same random number."""

_WIDTH = 200
"""Where there is no terminal whose width counts."""
_STYLES = {"left": "bold red", "swept": "yellow", "open": "cyan", "deleted": ""}
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def plain(text: str) -> str:
    """Return a text of one line in which nothing can steer a terminal, or hide."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def cell(text: str, width: int) -> str:
    """Return a text as wide as a cell: padded, or cut and marked as cut."""
    text = plain(text)
    if text.isascii():
        return text.ljust(width) if len(text) <= width else f"{text[: width - 3]}..."
    return set_cell_size(text, width)


def short(name: str) -> str:
    """Return the part of an id that is shown."""
    return plain(name[-ID_LENGTH:])


def moment(at: float) -> str:
    """Return a time as the clock on the wall shows it here; a question mark for one that no calendar has."""
    try:
        return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def seconds(value: float | None) -> str:
    """Return a duration: to the millisecond where it is short, ``-`` for none."""
    if value is None:
        return "-"
    for length, unit in _UNITS:
        if value >= length:
            return f"{value / length:.1f} {unit}"
    return f"{value:.3f} s"


def state_of(session: SessionTrace) -> str:
    """Return where a session stands, and what became of its chat where that is something else."""
    if session.status in {"left", "swept"}:
        return f"{plain(session.state)} {'LEFT' if session.leaked else 'swept'}"
    return plain(session.state)


def style_of(session: SessionTrace) -> str:
    """Return the style in which a session is shown."""
    return _STYLES[session.status]


def stdout() -> Console:
    """Return the console for stdout; texts are shown as they are."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_WIDTH)


def table(*names: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table in the style of the command line."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
