"""``chatlease trace``: what the sessions of a trace file did: listed, followed, one of them, two beside each other.

Rules that live here:

* A file is read once, as a stream. Of a list nothing is held but what is open or left.
* Sessions are listed as they end, by the trace; those that did not end come last.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from chatlease._clock import Clock, SystemClock
from chatlease._traces import HELD, STDIN, Counts, Gatherer, Line, SessionTrace, read_lines
from chatlease.errors import UsageError

from ._exits import Exit
from ._show import Screen, print_json
from ._trace_filter import Filter, moment_of
from ._trace_html import write_page
from ._trace_one import compared, timeline
from ._trace_read import followed, good_lines
from ._trace_rows import Rows, document, explain, summary

_FILTERS = "Which sessions"
_FITTING = 100
"""So many sessions that an id fits are held; two would do, were none of them to fit better."""
_NAMED = 5
"""So many of the sessions that an id fits are named."""

Only = Annotated[bool, typer.Option("--only", help="Read just FILE, not FILE.1, FILE.2 that it was rotated to.")]


def trace(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Trace files, each with what it was rotated to; - for stdin."),
    ],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    session: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Show one session: the beginning or end of its id, as much as no other has."),
    ] = None,
    compare: Annotated[tuple[str, str] | None, typer.Option(metavar="ID ID", help="Show two, side by side.")] = None,
    state: Annotated[
        str | None, typer.Option(help="A state, or: open, deleted, left, swept.", rich_help_panel=_FILTERS)
    ] = None,
    error: Annotated[
        str | None, typer.Option(help="Class or code of an error, or * for any.", rich_help_panel=_FILTERS)
    ] = None,
    account: Annotated[str | None, typer.Option(help="Whose; patterns as bot-*.", rich_help_panel=_FILTERS)] = None,
    service: Annotated[str | None, typer.Option(help="Where.", rich_help_panel=_FILTERS)] = None,
    slow: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Lived at least so long.", rich_help_panel=_FILTERS)
    ] = None,
    leaked: Annotated[bool, typer.Option("--leaked", help="Whose chat is left.", rich_help_panel=_FILTERS)] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Heard of since: 2h (ago), or an ISO time.", rich_help_panel=_FILTERS),
    ] = None,
    only: Only = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object a session, for programs.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PAGE", help="Write them as a page for a browser.")
    ] = None,
) -> Exit | Coroutine[Any, Any, Exit]:
    """
    Show what the sessions of a trace file did.

    FILE stands for all of its rotated set, oldest first: FILE.2, FILE.1, FILE.

    Sessions are listed as they end. --json prints an object a line; its keys are in diagrams/README.md.
    """
    clock = SystemClock()
    wanted = Filter(
        state=state,
        error=error,
        account=account,
        service=service,
        slow=slow,
        leaked=leaked,
        since=moment_of(since, clock),
    )
    if session is not None and compare is not None:
        raise UsageError("one session is shown, or two are compared")
    names = [session] if session is not None else list(compare or ())
    if html is not None:
        if follow or names or as_json:
            raise UsageError("--html writes a page of all sessions that fit", hint="Leave the other out.")
        return write_page(html, files, wanted, only=only)
    if follow:
        return follow_file(_one_file(files, names), wanted, clock, only=only, as_json=as_json)
    if not names:
        return _list(files, wanted, only=only, as_json=as_json)
    return _show(files, names, only=only, as_json=as_json)


def _one_file(files: Sequence[Path], names: Sequence[str]) -> Path:
    if len(files) == 1 and files[0] != STDIN and files[0].suffix != ".gz" and not names:
        return files[0]
    raise UsageError("one file is followed, and all of its sessions", hint="Leave --follow out, or the rest.")


# -- all of them ------------------------------------------------------------------------------------------------------


class _Reading:
    """
    One pass over some trace files.

    Attributes:
        lines: What is read, and the counts of it.
        gatherer: What it is gathered by.
        read: How many sessions were given out.
    """

    def __init__(self, files: Sequence[Path], *, only: bool) -> None:
        self.lines = read_lines(files, only=only)
        self.gatherer = Gatherer(in_order=self.lines.in_order, hold=HELD)
        self.read = 0
        self._files = files

    def sessions(self) -> Iterator[SessionTrace]:
        """Yield the sessions as they end, then those that did not; see `_trace_read.good_lines` for what it raises."""
        feed = self.gatherer.feed
        for line in good_lines(self.lines, self._files):
            for session in feed(line):
                self.read += 1
                yield session
        for session in self.gatherer.rest():
            self.read += 1
            yield session


def _list(files: Sequence[Path], wanted: Filter, *, only: bool, as_json: bool) -> Exit:
    rows, shown, reading = Rows(as_json=as_json), wanted.test(), _Reading(files, only=only)
    for session in reading.sessions():
        if shown(session):
            rows.add(session)
    rows.flush()
    _sum_up(rows, reading.read, reading.gatherer, reading.lines, as_json=as_json)
    return Exit.OK


def _sum_up(rows: Rows, read: int, gatherer: Gatherer, counts: Counts, *, as_json: bool) -> None:
    screen, sums = Screen(), summary(rows, read, gatherer, counts)
    if as_json:
        screen.note(sums)
    else:
        typer.echo(sums)
    explain(screen, gatherer, counts)


# -- as they come -----------------------------------------------------------------------------------------------------


async def follow_file(file: Path, wanted: Filter, clock: Clock, *, only: bool, as_json: bool) -> Exit:
    """
    Show the sessions of a file as they end, until a signal comes.

    One whose chat is left is shown when it ends, and again when a sweep gave the chat back.

    Raises:
        UsageError: It cannot be read, or is no trace.
    """
    following = _Following(Rows(as_json=as_json), wanted)
    follower = await followed(file, clock, following.take, only=only)
    _sum_up(following.rows, following.read, following.gatherer, follower, as_json=as_json)
    return Exit.OK


class _Following:
    """The sessions of a file that is followed."""

    def __init__(self, rows: Rows, wanted: Filter) -> None:
        self.rows = rows
        self.gatherer = Gatherer()
        self.read = 0
        self._shown = wanted.test()
        self._left: dict[str, bool] = {}

    def take(self, lines: Iterable[Line]) -> None:
        """Show the sessions that end with some lines."""
        for line in lines:
            for session in self.gatherer.feed(line):
                self._ended(session)
            for session in self.gatherer.left_by(line):
                self._ended(session)
                self._left[session.id] = self._shown(session)
        self.rows.flush()

    def _ended(self, session: SessionTrace) -> None:
        if session.id in self._left:  # it was counted when it was left
            self.rows.sums["left"] -= self._left.pop(session.id)
            self.read -= 1
        self.read += 1
        if self._shown(session):
            self.rows.add(session)


# -- one and two ------------------------------------------------------------------------------------------------------


def _show(files: Sequence[Path], names: Sequence[str], *, only: bool, as_json: bool) -> Exit:
    reading = _Reading(files, only=only)
    found = _found(reading.sessions(), names)
    if as_json:
        print_json([document(session) for session in found] if len(found) > 1 else document(found[0]))
    elif len(found) > 1:
        compared(*found)
    else:
        timeline(found[0], reading.gatherer.engines)
    return Exit.OK


def _found(sessions: Iterable[SessionTrace], names: Sequence[str]) -> list[SessionTrace]:
    fitting: list[dict[str, SessionTrace]] = [{} for _ in names]
    for session in sessions:
        for name, each in zip(names, fitting, strict=True):
            if session.id.startswith(name) or session.id.endswith(name):
                _remember(each, session, name)
    return [_one_of(each, name) for name, each in zip(names, fitting, strict=True)]


def _remember(fitting: dict[str, SessionTrace], session: SessionTrace, name: str) -> None:
    if len(fitting) < _FITTING or session.id in {name, *fitting}:
        fitting[session.id] = session


def _one_of(fitting: Mapping[str, SessionTrace], name: str) -> SessionTrace:
    if name in fitting:
        return fitting[name]
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if not fitting or not name:
        raise UsageError(f"no session's id begins or ends with {name!r}", hint="`chatlease trace FILE` lists them.")
    ids = ", ".join(sorted(fitting)[:_NAMED])
    count = f"{len(fitting)} sessions' ids{' or more' if len(fitting) >= _FITTING else ''}"
    raise UsageError(f"{count} begin or end with {name!r}", hint=f"Which? {ids}")
