"""Reads trace files into a document that holds at most so many sessions, and says how many it left out.

Rules that live here:

* What is left, killed or failed is kept before what went well, and among these the newest. Sessions wait as their
  encoded rows, so that memory is bounded by their number alone.
* A session that its own engine ended is over, though a sweep may meet its entry once more: when the process is killed
  before the ledger has noted the deletion. That is not a session of its own.
* An engine is dead when another one swept what it had not closed: then what else it had open was killed, too.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from chatlease._traces import UNKNOWN, EngineTrace, Gatherer, Line, Lines, SessionTrace, read_lines

from ._document import (
    FIELDS,
    PHASES,
    VERSION,
    WORDS,
    Document,
    FindRow,
    Sums,
    ending_of,
    engine_row,
    find_row,
    session_row,
    status_of,
)
from ._figures import Figures

MOST = 20_000
"""Sessions in a page: some 15 MB, which browsers open in a second or two."""

_HELD = 20_000
"""Sessions that are gathered at the same time; some 40 MB."""
_MOST_FINDS = 500
_REMEMBERED = 20_000
"""So many sessions that are over are remembered by their id."""
_FINDS = frozenset({"sweep.candidate.deleted", "sweep.candidate.found"})
_encode = msgspec.json.Encoder().encode

Shown: TypeAlias = Callable[[SessionTrace], bool]


class _Kept(NamedTuple):
    notable: bool
    opened_at: float
    number: int
    row: msgspec.Raw


class _Reading:
    """One reading of a trace."""

    def __init__(self, lines: Lines, most: int, shown: Shown) -> None:
        self._lines = lines
        self._most = most
        self._shown = shown
        self._gatherer = Gatherer(in_order=lines.in_order, hold=_HELD)
        self._kept: list[_Kept] = []
        self._dead: set[str] = set()
        self._over: dict[str, None] = {}
        self._finds: deque[FindRow] = deque(maxlen=_MOST_FINDS)
        self._figures = Figures()
        self._by_status: Counter[str] = Counter()
        self._number = 0

    def read(self, lines: Iterable[Line]) -> None:
        """Read it all."""
        for line in lines:
            self._keep_all(self._gatherer.feed(line))
            if line.event in _FINDS:
                self._finds.append(find_row(line))
        rest = list(self._gatherer.rest())
        for session in rest:
            self._note_dead(session)
        self._keep_all(rest)

    def document(self, files: Sequence[str]) -> Document:
        """Return what was read."""
        kept = sorted(self._kept, key=lambda each: (each.opened_at, each.number))
        all_shown = len(kept) == self._number
        return Document(
            v=VERSION,
            fields=dict(FIELDS),
            words=WORDS,
            phases=PHASES,
            files=files,
            first_at=self._gatherer.first_at,
            last_at=self._gatherer.last_at,
            sums=self._sums(len(kept)),
            engines=[engine_row(each, self._dead) for each in self._gatherer.engines.values()],
            sessions=[each.row for each in kept],
            finds=list(self._finds),
            latency=[] if all_shown else self._figures.latency(),
            errors=[] if all_shown else self._figures.errors(),
        )

    def _sums(self, shown: int) -> Sums:
        return Sums(
            sessions=self._number,
            shown=shown,
            let_go=self._gatherer.let_go,
            broken=self._lines.broken,
            newer=self._lines.newer,
            lost=self._gatherer.lost,
            by_status=dict(self._by_status),
        )

    def _keep_all(self, sessions: Iterable[SessionTrace]) -> None:
        for session in sessions:
            if session.state == UNKNOWN and session.id in self._over:
                continue
            self._note_dead(session)
            self._remember(session)
            if self._shown(session):
                self._keep(session)

    def _remember(self, session: SessionTrace) -> None:
        if session.status == "deleted":
            self._over[session.id] = None
            if len(self._over) > _REMEMBERED:
                del self._over[next(iter(self._over))]

    def _keep(self, session: SessionTrace) -> None:
        self._number += 1
        self._figures.add(session)
        ending = ending_of(session, self._dead)
        self._by_status[status_of(session, ending)] += 1
        notable = ending in {"killed", "orphaned"} or bool(session.errors)
        ended_at = self._ended_at(session, killed=ending == "killed")
        row = _encode(session_row(session, ending, ended_at, self._gatherer.last_at))
        kept = _Kept(notable, session.opened_at, self._number, msgspec.Raw(row))
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, kept)
        else:
            heapq.heappushpop(self._kept, kept)

    def _note_dead(self, session: SessionTrace) -> None:
        swept = session.swept
        if swept is not None and session.closed_at is None and session.engine and swept.engine != session.engine:
            self._dead.add(session.engine)

    def _ended_at(self, session: SessionTrace, *, killed: bool) -> float:
        """Return when a session ended: with its process, whose last sign of life is its engine's last line."""
        if session.closed_at is not None:
            return session.closed_at
        if not killed:
            return max(session.last_at, self._gatherer.last_at)
        engine = self._gatherer.engines.get(session.engine)
        lived = session.last_at if engine is None else _within(engine, session)
        return max(session.last_at, lived)


def _within(engine: EngineTrace, session: SessionTrace) -> float:
    """Return when a killed session's engine was last heard of; not later than somebody swept what it had left."""
    return engine.last_at if session.swept is None else min(engine.last_at, session.swept.at)


def read(
    paths: Sequence[Path],
    *,
    only: bool = False,
    most: int = MOST,
    shown: Shown = lambda _session: True,
    checked: Callable[[Lines], Iterable[Line]] = iter,
) -> Document:
    """
    Read trace files into a document.

    Args:
        paths: See `read_lines`.
        only: See `read_lines`.
        most: Sessions that it holds; of more, those that went well are left out first, the oldest before the newest.
        shown: Which sessions are taken at all.
        checked: Makes what is read of the lines, for errors of its own.

    Raises:
        OSError: A file cannot be read.
    """
    lines = read_lines(paths, only=only)
    reading = _Reading(lines, most, shown)
    reading.read(checked(lines))
    return reading.document([path.name for path in paths])
