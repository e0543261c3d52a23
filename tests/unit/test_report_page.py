"""The page of a report as text: its policy, what is embedded in it, its colours, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import stat
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from chatlease import _report
from chatlease._cli._trace_text import plain
from chatlease._lifecycle import FINAL, TABLE, WITH_CHAT
from chatlease._report._page import SCRIPTS, embedded
from chatlease._report._phases import FIRST_TOKEN, GIVING_BACK, LEFT, ORDER, TURN
from tests.browser import sample

from .trace_kit import Tale, write

PARTS = files("chatlease._report") / "page"


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page of the sample."""
    sample.write(tmp_path / "t", sample.lines(20))
    return _report.page(_report.read([tmp_path / "t"]))


def policy(page: str) -> dict[str, str]:
    (text,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return dict(part.split(" ", 1) for part in text.split("; "))


# -- what the page may ------------------------------------------------------------------------------------------------


def test_the_policy_allows_the_one_script_and_the_one_style_and_nothing_else(page: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in (script, style)
    ]
    assert policy(page) == {
        "default-src": "'none'",
        "script-src": hashes[0],
        "style-src": hashes[1],
        "base-uri": "'none'",
        "form-action": "'none'",
        "trusted-types": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert json.loads(data)["v"] == 1
    assert page.index("Content-Security-Policy") < page.index("<title>"), "before anything that it is about"


def test_nothing_in_the_page_names_another_place(page: str) -> None:
    addresses = set(re.findall(r"[a-z]+://[^\s\"')]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name, which nothing is loaded from"
    assert not re.search(r"@import|url\((?!#)|<(?:link|img|iframe|object|embed|base)\b", page)


WRITES_MARKUP_OR_CODE = re.compile(
    r"innerHTML|outerHTML|insertAdjacent|document\.write|createContextual"
    r'|\beval\b|new Function|style=|"on[a-z]+"|javascript:'
)


def test_the_script_writes_texts_and_never_markup_or_code() -> None:
    for name in SCRIPTS:
        text = (PARTS / f"{name}.js").read_text("utf-8")
        assert WRITES_MARKUP_OR_CODE.findall(text) == [], name
        assert "</" not in text
        assert "<!--" not in text


def test_every_part_of_the_script_is_in_the_page_and_no_other_lies_around(page: str) -> None:
    names = sorted(each.name for each in PARTS.iterdir())
    assert names == sorted(["page.html", "report.css", *(f"{name}.js" for name in SCRIPTS)])
    for name in SCRIPTS:
        assert (PARTS / f"{name}.js").read_text("utf-8") in page
    assert "@document@" not in page


# -- what is embedded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "-->", "<script>", "]]>", "\u2028\u2029", "&lt;", "\\u003c", '"\\', "é😀"]
)
def test_a_text_from_outside_can_end_neither_the_script_nor_a_line(text: str) -> None:
    found = embedded({"text": text, text: 1})
    assert not re.search("[<>&\u2028\u2029]", found)
    assert json.loads(found) == {"text": text, text: 1}


TURNING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]


@pytest.mark.parametrize("code", TURNING, ids=hex)
def test_no_text_from_outside_turns_the_direction_of_the_others(code: int, tmp_path: Path) -> None:
    """As on a terminal, where it is a question mark too."""
    turning = f"a{chr(code)}b"
    assert json.loads(embedded({"text": turning})) == {"text": "a?b"} == {"text": plain(turning)}
    path = write(tmp_path / turning, Tale(account=turning).whole())
    assert chr(code) not in _report.page(_report.read([path]))


def test_the_page_of_hostile_texts_has_the_markup_of_any_other(page: str, tmp_path: Path) -> None:
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    tale = Tale(bad, engine=bad, account=bad).open(bad).fail("create_chat", "new", error=bad, error_code=bad).close(bad)
    path = write(tmp_path / "<b>&\"'", tale)
    hostile = _report.page(_report.read([path]))
    tags = re.compile(r"<[a-z/!][^>]*>")
    assert len(tags.findall(hostile)) == len(tags.findall(page))
    assert f"<title>{html.escape(path.name)} · Chatlease trace</title>" in hostile


# -- how it is written ------------------------------------------------------------------------------------------------


def test_the_same_trace_gives_the_same_bytes(tmp_path: Path) -> None:
    sample.write(tmp_path / "t", sample.lines())
    for name in ("one", "two"):
        _report.write(tmp_path / name, _report.read([tmp_path / "t"]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_only_its_owner_may_read_the_page_and_a_page_that_is_there_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    _report.write(page, _report.read([write(tmp_path / "t", Tale().whole())]))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_a_page_that_cannot_be_put_in_its_place_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder" / "x").mkdir(parents=True)
    path = write(tmp_path / "t", Tale().whole())
    with pytest.raises(OSError, match="folder"):
        _report.write(tmp_path / "folder", _report.read([path]))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "t"]


# -- its colours ------------------------------------------------------------------------------------------------------

Colour = tuple[float, float, float]
CSS = (PARTS / "report.css").read_text("utf-8")
COLOURS = {
    name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", CSS)
}
THEMES = {"light": 0, "dark": 1}
VISIONS: dict[str, tuple[Colour, Colour, Colour]] = {
    "usual": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What a colour looks like, in linear light: Machado, Oliveira and Fernandes 2009, at full severity."""


def linear(colour: str) -> Colour:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def times(matrix: tuple[Colour, Colour, Colour], colour: Colour) -> Colour:
    one, two, three = (max(0.0, sum(a * b for a, b in zip(row, colour, strict=True))) for row in matrix)
    return one, two, three


def oklab(colour: Colour) -> Colour:
    """Return a colour in a space whose distances are about those that are seen (Ottosson 2020)."""
    cones = times(
        (
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        ),
        colour,
    )
    roots = tuple(cone ** (1 / 3) for cone in cones)
    matrix = (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
    one, two, three = (sum(a * b for a, b in zip(row, roots, strict=True)) for row in matrix)
    return one, two, three


def difference(one: str, other: str, vision: str) -> float:
    pair = [oklab(times(VISIONS[vision], linear(each))) for each in (one, other)]
    return float(sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 has it."""
    lights = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in map(linear, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def neighbours() -> set[frozenset[str]]:
    """Return the phases that stand beside each other in some session: what the table allows, and the waits between."""
    states = {(source.value, row.dest.value) for row in TABLE for source in row.sources if row.dest not in FINAL}
    waits = {
        ("prompt-sent", TURN),
        (TURN, "assistant-queued"),
        ("assistant-queued", FIRST_TOKEN),
        (FIRST_TOKEN, "streaming"),
    }
    ends = {(state.value, end) for state in WITH_CHAT for end in (GIVING_BACK, LEFT)} | {
        (GIVING_BACK, LEFT),
        (FIRST_TOKEN, GIVING_BACK),
    }
    pairs = states | waits | ends | set(pairwise(ORDER))
    return {frozenset(pair) for pair in pairs if len(set(pair)) > 1}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", THEMES)
def test_neighbouring_phases_are_told_apart_with_any_colour_vision(theme: str, vision: str) -> None:
    close = {}
    for pair in neighbours():
        one, other = (COLOURS[f"p{ORDER.index(name)}"][THEMES[theme]] for name in pair)
        if (distance := difference(one, other, vision)) < 0.08:
            close[" ".join(sorted(pair))] = round(distance, 3)
    assert close == {}


@pytest.mark.parametrize("theme", THEMES)
def test_phases_and_texts_stand_out_from_what_is_behind_them(theme: str) -> None:
    faint = {}
    texts = [
        ("ink", "card"),
        ("ink", "ground"),
        ("ink", "accent-soft"),
        ("quiet", "card"),
        ("quiet", "ground"),
        ("quiet", "sunk"),
    ]
    texts += [
        ("quiet", "accent-soft"),
        ("accent", "card"),
        ("accent", "accent-soft"),
        ("alarm", "card"),
        ("alarm", "alarm-soft"),
    ]
    texts += [("good", "card")]
    wanted = [(*each, 4.5) for each in texts] + [(f"p{number}", "card", 3.0) for number in range(len(ORDER))]
    for name, behind, least in wanted:
        found = contrast(COLOURS[name][THEMES[theme]], COLOURS[behind][THEMES[theme]])
        if found < least:
            faint[f"{name} on {behind}"] = round(found, 2)
    assert faint == {}


def test_every_phase_has_a_colour_and_every_wait_has_stripes() -> None:
    for number, name in enumerate(ORDER):
        assert f"p{number}" in COLOURS, name
    striped = {f"p{ORDER.index(name)}" for name in (TURN, FIRST_TOKEN, GIVING_BACK, LEFT)}
    assert {
        match
        for rule in re.findall(r"^(i\.p.*?) \{.*gradient", CSS, re.MULTILINE)
        for match in re.findall(r"p\d+", rule)
    } == striped
