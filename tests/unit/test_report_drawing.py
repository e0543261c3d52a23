"""The drawing of the lifecycle: everything that the table holds, nothing else, and legible."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from chatlease._lifecycle import FINAL, TABLE, State
from chatlease._report import _drawing

NS = {"": "http://www.w3.org/2000/svg"}
DRAWN = ET.fromstring(_drawing.svg().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
EDGES = {each.attrib["data-edge"]: each for each in DRAWN.findall(".//g[@data-edge]", NS)}
TRANSITIONS = {
    f"{row.trigger.value} {source.value} {row.dest.value}": row
    for row in TABLE
    for source in State
    if source in row.sources
}


def test_every_state_is_drawn_once() -> None:
    drawn = [each.attrib["data-state"] for each in DRAWN.findall(".//g[@data-state]", NS)]
    assert drawn == [state.value for state in State]


def test_every_transition_of_the_table_is_drawn_and_no_other() -> None:
    assert len(DRAWN.findall(".//g[@data-edge]", NS)) == len(EDGES)
    assert EDGES.keys() == TRANSITIONS.keys()
    assert set(_drawing.LINES) == {(row.trigger, source) for row in TABLE for source in row.sources}


def test_a_transition_says_what_it_is_and_when_it_may() -> None:
    for name, edge in EDGES.items():
        trigger, source, dest = name.split()
        title = edge.findtext("title", "", NS)
        assert title.startswith(f"{source} to {dest}: {trigger}")
        assert (f"[{TRANSITIONS[name].when}]" in title) is bool(TRANSITIONS[name].when)
        word = edge.find("text", NS)
        assert word is not None
        assert word.text == trigger
        assert word.find("tspan[@class='time']", NS) is not None


def test_final_states_are_told_from_others() -> None:
    final = {each.attrib["data-state"] for each in DRAWN.findall(".//g[@class='state final']", NS)}
    assert final == {state.value for state in FINAL}


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(_drawing.BOXES.values(), 2)])
def test_no_state_covers_another_or_leaves_the_picture(one: _drawing.Box, other: _drawing.Box) -> None:
    apart = one.right < other.left or other.right < one.left or one.bottom < other.top or other.bottom < one.top
    assert apart
    for box in (one, other):
        assert 0 < box.left < box.right < _drawing.WIDTH
        assert 0 < box.top < box.bottom < _drawing.HEIGHT


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where a path begins and ends."""
    x = y = 0.0
    began = (x, y)
    for command, text in re.findall(r"([MVHqc])([^MVHqc]*)", path):
        numbers = [float(each) for each in text.split()]
        match command:
            case "M":
                began = x, y = numbers[0], numbers[1]
            case "V":
                y = numbers[0]
            case "H":
                x = numbers[0]
            case _:
                x, y = x + numbers[-2], y + numbers[-1]
    return began, (x, y)


def touches(point: tuple[float, float], box: _drawing.Box) -> bool:
    x, y = point
    beside = x in (box.left, box.right) and box.top <= y <= box.bottom
    return beside or (y in (box.top, box.bottom) and box.left <= x <= box.right)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transitions_line_leads_from_its_source_to_its_destination(name: str) -> None:
    row = TRANSITIONS[name]
    source = State(name.split()[1])
    began, ended = ends(_drawing.LINES[row.trigger, source].path)
    assert touches(began, _drawing.BOXES[source])
    assert touches(ended, _drawing.BOXES[row.dest])


def test_no_two_transitions_share_a_line() -> None:
    paths = [line.path for line in _drawing.LINES.values()]
    assert len(paths) == len(set(paths))


def test_the_drawing_is_the_same_each_time() -> None:
    assert _drawing.svg() == _drawing.svg()
