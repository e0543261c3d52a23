"""The lifecycle as a drawing (SVG) whose states and transitions a script can find and light.

Rules that live here:

* What is drawn comes from `TABLE`; only where it stands is laid out here, by hand. A state or a transition without a
  place is a KeyError, so the table cannot grow past its picture.
* No colours and no sizes of text: the page's style has them. The same table gives the same bytes.

The layout: the way that a session goes when nothing goes wrong runs down the spine. On the right two buses lead to the
final states, on the left are the ways to `stopped` and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from chatlease._lifecycle import FINAL, TABLE, Row, State, Trigger

WIDTH, HEIGHT = 528, 572
_BOX_HEIGHT = 38
_PORT = 7
"""Lines leave a box so far above and below its middle."""
_DELETED_X, _ORPHANED_X = 372, 472
_TURN = 9
"""Radius of a line's turn."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a state is: its middle and its width."""

    x: int
    y: int
    width: int = 140

    @property
    def left(self) -> int:
        """Where its left side is."""
        return self.x - self.width // 2

    @property
    def right(self) -> int:
        """Where its right side is."""
        return self.x + self.width // 2

    @property
    def top(self) -> int:
        """Where its upper side is."""
        return self.y - _BOX_HEIGHT // 2

    @property
    def bottom(self) -> int:
        """Where its lower side is."""
        return self.y + _BOX_HEIGHT // 2


@dataclass(frozen=True, slots=True)
class Line:
    """How a transition is drawn: its path, and where its word begins, or ends; a word that is turned reads upwards."""

    path: str
    x: int
    y: int
    turned: bool = False
    ends: bool = False


BOXES: Mapping[State, Box] = MappingProxyType(
    {
        State.NEW: Box(212, 26),
        State.COOKIES_READY: Box(212, 108),
        State.CHAT_CREATED: Box(212, 190),
        State.PROMPT_SENT: Box(212, 272),
        State.ASSISTANT_QUEUED: Box(212, 354),
        State.STREAMING: Box(212, 436),
        State.STOPPED: Box(62, 518, 112),
        State.DELETED: Box(_DELETED_X, 518, 92),
        State.ORPHANED: Box(_ORPHANED_X, 518, 92),
    }
)


# -- how lines run ----------------------------------------------------------------------------------------------------


def _down(source: State, dest: State) -> Line:
    """Down the spine."""
    box, end = BOXES[source], BOXES[dest]
    return Line(f"M{box.x} {box.bottom}V{end.top}", box.x + 10, (box.bottom + end.top) // 2 - 2)


def _to_deleted(source: State) -> Line:
    """Right, then down the bus to `deleted`."""
    box, end = BOXES[source], BOXES[State.DELETED]
    y = box.y - _PORT
    return Line(f"M{box.right} {y}H{end.x - _TURN}q{_TURN} 0 {_TURN} {_TURN}V{end.top}", box.right + 8, y - 4)


def _to_orphaned(source: State) -> Line:
    """Right, then down the bus to `orphaned`."""
    box, end = BOXES[source], BOXES[State.ORPHANED]
    y = box.y + _PORT
    return Line(f"M{box.right} {y}H{end.x - _TURN}q{_TURN} 0 {_TURN} {_TURN}V{end.top}", box.right + 8, y + 12)


def _to_stopped(source: State, at: int, port: int) -> Line:
    """Left, then down to `stopped`, in a lane of its own."""
    box, end = BOXES[source], BOXES[State.STOPPED]
    y = box.y + port
    return Line(f"M{box.left} {y}H{at + _TURN}q{-_TURN} 0 {-_TURN} {_TURN}V{end.top}", at - 3, end.top - 8, turned=True)


def _back(source: State, out: int, at: int, dest: State, into: int, *, word: int = -4) -> Line:
    """Left, up a lane, and into an earlier state; its word stands so far beside the lane."""
    y, end = BOXES[source].y + out, BOXES[dest]
    path = (
        f"M{BOXES[source].left} {y}H{at + _TURN}q{-_TURN} 0 {-_TURN} {-_TURN}"
        f"V{end.y + into + _TURN}q0 {-_TURN} {_TURN} {-_TURN}H{end.left}"
    )
    return Line(path, at + word, y - 10, turned=True)


def _again(state: State) -> Line:
    """Out of a state and into it again, on its left."""
    box = BOXES[state]
    return Line(f"M{box.left} {box.y - 4}c-22 0 -22 -11 0 -11", box.x - 8, box.top - 6, ends=True)


def _from_stopped() -> Line:
    """Up the outermost lane, from `stopped` to `prompt-sent`."""
    box, end = BOXES[State.STOPPED], BOXES[State.PROMPT_SENT]
    x, y = 16, end.y - 12
    return Line(f"M{x} {box.top}V{y + _TURN}q0 {-_TURN} {_TURN} {-_TURN}H{end.left}", x + 12, y - 5)


def _below() -> Line:
    """Below `deleted`, from `stopped` to `orphaned`."""
    box, end = BOXES[State.STOPPED], BOXES[State.ORPHANED]
    y = box.bottom + 22
    path = (
        f"M{box.x} {box.bottom}V{y - _TURN}q0 {_TURN} {_TURN} {_TURN}"
        f"H{end.x - _TURN}q{_TURN} 0 {_TURN} {-_TURN}V{end.bottom}"
    )
    return Line(path, box.right + 8, y - 5)


def _across() -> Line:
    """From `stopped` to `deleted`."""
    box, end = BOXES[State.STOPPED], BOXES[State.DELETED]
    return Line(f"M{box.right} {box.y}H{end.left}", box.right + 8, box.y - 5)


_T, _S = Trigger, State
LINES: Mapping[tuple[Trigger, State], Line] = MappingProxyType(
    {
        (_T.READY_COOKIES, _S.NEW): _down(_S.NEW, _S.COOKIES_READY),
        (_T.CREATE_CHAT, _S.COOKIES_READY): _down(_S.COOKIES_READY, _S.CHAT_CREATED),
        (_T.SEND_PROMPT, _S.CHAT_CREATED): _down(_S.CHAT_CREATED, _S.PROMPT_SENT),
        (_T.SEND_PROMPT, _S.STREAMING): _back(_S.STREAMING, -10, 108, _S.PROMPT_SENT, 0),
        (_T.SEND_PROMPT, _S.STOPPED): _from_stopped(),
        (_T.QUEUE_ASSISTANT, _S.PROMPT_SENT): _down(_S.PROMPT_SENT, _S.ASSISTANT_QUEUED),
        (_T.QUEUE_ASSISTANT, _S.ASSISTANT_QUEUED): _again(_S.ASSISTANT_QUEUED),
        (_T.QUEUE_ASSISTANT, _S.STREAMING): _back(_S.STREAMING, 0, 124, _S.ASSISTANT_QUEUED, 12, word=12),
        (_T.OPEN_STREAM, _S.ASSISTANT_QUEUED): _down(_S.ASSISTANT_QUEUED, _S.STREAMING),
        (_T.STOP_RUN, _S.PROMPT_SENT): _to_stopped(_S.PROMPT_SENT, 40, 12),
        (_T.STOP_RUN, _S.ASSISTANT_QUEUED): _to_stopped(_S.ASSISTANT_QUEUED, 62, 5),
        (_T.STOP_RUN, _S.STREAMING): _to_stopped(_S.STREAMING, 84, 12),
        (_T.DELETE_CHAT, _S.CHAT_CREATED): _to_deleted(_S.CHAT_CREATED),
        (_T.DELETE_CHAT, _S.PROMPT_SENT): _to_deleted(_S.PROMPT_SENT),
        (_T.DELETE_CHAT, _S.ASSISTANT_QUEUED): _to_deleted(_S.ASSISTANT_QUEUED),
        (_T.DELETE_CHAT, _S.STREAMING): _to_deleted(_S.STREAMING),
        (_T.DELETE_CHAT, _S.STOPPED): _across(),
        (_T.ABANDON, _S.NEW): _to_deleted(_S.NEW),
        (_T.ABANDON, _S.COOKIES_READY): _to_deleted(_S.COOKIES_READY),
        (_T.HAND_OVER, _S.COOKIES_READY): _to_orphaned(_S.COOKIES_READY),
        (_T.HAND_OVER, _S.CHAT_CREATED): _to_orphaned(_S.CHAT_CREATED),
        (_T.HAND_OVER, _S.PROMPT_SENT): _to_orphaned(_S.PROMPT_SENT),
        (_T.HAND_OVER, _S.ASSISTANT_QUEUED): _to_orphaned(_S.ASSISTANT_QUEUED),
        (_T.HAND_OVER, _S.STREAMING): _to_orphaned(_S.STREAMING),
        (_T.HAND_OVER, _S.STOPPED): _below(),
    }
)


# -- the drawing ------------------------------------------------------------------------------------------------------


def svg() -> str:
    """
    Return the lifecycle as an SVG element, to be put into a page.

    A state is a ``g`` with ``data-state``, its value; a transition a ``g`` with ``data-edge``, its trigger, source and
    destination with blanks between them. Both have an empty ``text.time`` that is the script's to fill.
    """
    edges = [_edge(row, source) for row in TABLE for source in State if source in row.sources]
    return "\n".join(
        (
            f'<svg class="lifecycle" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
            'aria-label="The lifecycle of a session">',
            f"<defs>{_arrow('arrow')}{_arrow('arrow-lit')}{_arrow('arrow-failed')}</defs>",
            *edges,
            *(_box(state) for state in State),
            "</svg>",
        )
    )


def _arrow(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L8 4L0 7.5Z"/></marker>'
    )


def _edge(row: Row, source: State) -> str:
    line = LINES[row.trigger, source]
    name = row.trigger.value
    title = f"{source.value} to {row.dest.value}: {name}" + (f" [{row.when}]" if row.when else "")
    turn = f' transform="rotate(-90 {line.x} {line.y})"' if line.turned else ""
    beside = _time_beside(row, line)
    return (
        f'<g class="edge" data-edge="{name} {source.value} {row.dest.value}"><title>{escape(title)}</title>'
        f'<path d="{line.path}"/>'
        f'<text class="word{" ends" if line.ends else ""}" x="{line.x}" y="{line.y}"{turn}>{name}{beside}</text></g>'
    )


def _time_beside(row: Row, line: Line) -> str:
    """Return the place of a transition's time: below its word on the spine, where there is room, else behind it."""
    below = f' x="{line.x}" dy="13"' if _is_on_spine(row) else ' dx="5"'
    return f'<tspan class="time"{below}></tspan>'


def _is_on_spine(row: Row) -> bool:
    dest = BOXES[row.dest]
    return len(row.sources) == 1 and all(BOXES[each].x == dest.x and BOXES[each].y < dest.y for each in row.sources)


def _box(state: State) -> str:
    box = BOXES[state]
    final = " final" if state in FINAL else ""
    return (
        f'<g class="state{final}" data-state="{state.value}">'
        f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{_BOX_HEIGHT}" rx="7"/>'
        f'<text class="name" x="{box.x}" y="{box.y + 4}">{state.value}</text>'
        f'<text class="time" x="{box.x}" y="{box.y + 14}"></text></g>'
    )
