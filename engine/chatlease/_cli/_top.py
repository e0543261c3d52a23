"""``chatlease top``: what the engines that write a trace file do right now.

Rules that live here:

* It is the trace that is shown, nothing is asked of the bot: what the trace does not tell is not there.
* ``--once`` shows the picture at the end of the trace; live, time goes on by the clock here when nothing is traced.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from chatlease._clock import Clock, SystemClock
from chatlease._traces import STDIN, Gatherer, Line, Recent, read_lines
from chatlease.errors import UsageError

from . import _trace_text
from ._exits import Exit
from ._top_picture import picture
from ._trace import Only
from ._trace_read import followed, good_lines

_HELD = 20_000
"""Open sessions that are told apart; more than a list does, for here one is let go of unseen."""

REDRAWN_S = 1.0
"""Between two pictures."""


def top(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trace file of a bot that runs.")],
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one picture, of the end of the trace.")] = False,
    only: Only = False,
) -> Exit | Coroutine[Any, Any, Exit]:
    """
    Show what a bot does right now, from its trace: engines, open sessions, who waits, rates, errors, left chats.

    Until Ctrl-C. The whole rotated set is read first, to know what began earlier.
    """
    if once:
        return _once(file, only=only)
    if not _trace_text.stdout().is_terminal or file == STDIN:
        raise UsageError("a live picture needs a terminal, and a file", hint="--once prints one.")
    return watch(file, SystemClock(), only=only)


class _Seen:
    """All that a picture is drawn from."""

    def __init__(self) -> None:
        self.gatherer = Gatherer(hold=_HELD)
        self.recent = Recent()

    def take(self, lines: Sequence[Line]) -> None:
        """Take some lines in."""
        for line in lines:
            self.gatherer.feed(line)
            self.recent.feed(line)


def _once(file: Path, *, only: bool) -> Exit:
    seen = _Seen()
    for line in good_lines(read_lines([file], only=only), [file]):
        seen.take((line,))
    _trace_text.stdout().print(picture(file, seen.gatherer, seen.recent, seen.gatherer.last_at))
    return Exit.OK


async def watch(file: Path, clock: Clock, *, only: bool) -> Exit:
    """
    Show a picture that is drawn again every second, until a signal comes.

    Raises:
        UsageError: The file cannot be read, or is no trace.
    """
    seen, drawn_at = _Seen(), float("-inf")

    def take(lines: Sequence[Line]) -> None:
        nonlocal drawn_at
        seen.take(lines)
        if clock.now() - drawn_at >= REDRAWN_S:
            drawn_at = clock.now()
            now = max(seen.gatherer.last_at, clock.wall())
            live.update(picture(file, seen.gatherer, seen.recent, now), refresh=True)

    with Live(console=_trace_text.stdout(), screen=True, auto_refresh=False) as live:
        await followed(file, clock, take, only=only)
    return Exit.OK
