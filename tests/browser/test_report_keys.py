"""A report by keyboard alone, and with a pointer over the time axis; in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser import sample
from tests.browser.conftest import Open
from tests.browser.report import Report

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def press(report: Report, *keys: str) -> None:
    for key in keys:
        await report.page.keyboard.press(key)


async def active(report: Report) -> str:
    """Return the id of the element that has the focus."""
    name: str = await report.page.evaluate("document.activeElement.id")
    return name


async def ticks(report: Report) -> list[str]:
    return await report.page.locator("#ticks span").all_inner_texts()


async def test_sessions_are_chosen_by_the_arrows(opened: Open) -> None:
    report = await opened()
    ids = [each["id"] for each in report.sessions]
    await report.rows.focus()
    for keys, index in (
        (["Home"], 0),
        (["ArrowDown", "ArrowDown"], 2),
        (["ArrowUp"], 1),
        (["End"], len(ids) - 1),
        (["ArrowDown"], len(ids) - 1),
        (["Home", "ArrowUp"], 0),
    ):
        await press(report, *keys)
        assert await report.chosen() == ids[index]
        row = report.page.locator(f"#{await report.rows.get_attribute('aria-activedescendant')}")
        assert await row.get_attribute("data-session") == ids[index]
        assert await row.get_attribute("aria-selected") == "true"
        assert await row.get_attribute("aria-posinset") == str(index + 1)
        assert await report.page.locator("[aria-selected=true]").count() == 1
        assert await row.is_visible()
    await press(report, "PageDown")
    assert 5 < ids.index(await report.chosen()) < 40
    assert await report.lit()


async def test_every_key_that_the_page_names_does_what_it_says(opened: Open) -> None:
    report = await opened()
    await press(report, "/")
    assert await active(report) == "filter"
    await report.page.keyboard.type("is:swept")
    await press(report, "Enter")
    assert await active(report) == "rows", "Enter goes from the filter to what it found"
    await press(report, "ArrowDown", "Enter")
    assert await active(report) == "session-title"
    await press(report, "Escape")
    assert await active(report) == "rows"
    await press(report, "/")
    await report.page.keyboard.type("/")
    assert "/" in await report.filter.input_value(), "in the box it is a character"


async def test_the_time_is_zoomed_and_moved_by_keys(opened: Open) -> None:
    report = await opened()
    await report.page.get_by_role("radio", name="By the clock").check()
    await report.rows.focus()
    whole = await ticks(report)
    await press(report, "+", "+")
    near = await ticks(report)
    assert near != whole
    assert await report.page.locator("#window").is_visible()
    await press(report, "Shift+ArrowRight")
    assert await ticks(report) != near
    await press(report, "Shift+ArrowLeft")
    assert await ticks(report) == near
    await press(report, "-", "-", "-")
    assert await ticks(report) == whole
    await press(report, "+", "0")
    assert await ticks(report) == whole
    assert not await report.page.locator("#window").is_visible()


async def test_a_pointer_chooses_a_time_and_takes_it_back(opened: Open) -> None:
    report = await opened()
    await report.page.get_by_role("radio", name="From its start").check()
    box = await report.page.locator("#overview").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    await report.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    await report.page.mouse.down()
    await report.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    await report.page.mouse.up()
    assert await report.page.get_by_role("radio", name="By the clock").is_checked()
    share = await report.page.locator("#window").evaluate("frame => [frame.style.left, frame.style.width]")
    assert [round(float(each.rstrip("%"))) for each in share] == [25, 25]
    await report.page.mouse.click(box["x"] + 10, middle)
    assert not await report.page.locator("#window").is_visible()


ORDERS: dict[str, Callable[[dict[str, Any]], float]] = {
    "longest first": lambda each: each["ended_at"] - each["opened_at"],
    "waited for the turn": lambda each: each["gate_wait_s"],
    "waited for the first token": lambda each: -1 if each["first_token_s"] is None else each["first_token_s"],
    "errors and retries": lambda each: len(each["errors"]) + each["retries"] + each["requeues"],
}


@pytest.mark.parametrize("order", ORDERS)
async def test_rows_come_in_the_order_that_is_asked_for(opened: Open, order: str) -> None:
    report = await opened()
    await report.page.get_by_label("Order").select_option(order)
    expected = [each["id"] for each in sorted(report.sessions, key=ORDERS[order], reverse=True)]
    shown = await report.shown_ids()
    assert len(shown) > 10
    assert shown == expected[: len(shown)]


async def test_everything_can_be_reached_by_tab_and_shows_that_it_is(opened: Open) -> None:
    report = await opened(sample.lines(60))
    names: list[str] = []
    for _ in range(60):
        await press(report, "Tab")
        name = await report.page.evaluate(
            "() => { const at = document.activeElement; return at === document.body ? '' :"
            " at.id || (at.name ?? '') + (at.value ?? '') || at.textContent }"
        )
        if not name:
            break
        names.append(name)
        # A switch's circle is not seen; the word beside it is marked in its place.
        outlines = await report.page.evaluate(
            """() => [document.activeElement, document.activeElement.nextElementSibling].filter(Boolean)
                .map(each => getComputedStyle(each))
                .map(style => style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth))"""
        )
        assert max(outlines) >= 2, name
    for wanted in ("Skip to the sessions", "filter", "Left", "rows", "order", "zoom-in", "zoom-out", "zoom-all"):
        assert wanted in names, wanted
    assert len(names) > 15


async def test_every_control_has_a_name(opened: Open) -> None:
    report = await opened()
    nameless: list[str] = await report.page.eval_on_selector_all(
        "button, input, select, [role=listbox], [role=group], section, aside, table, fieldset",
        """all => all.filter(each => !(each.getAttribute("aria-label") || each.textContent.trim()
            || each.labels?.length || document.getElementById(each.getAttribute("aria-labelledby"))))
            .map(each => each.outerHTML.slice(0, 80))""",
    )
    assert nameless == []
    for role in ("banner", "search", "main", "complementary", "status"):
        assert await report.page.get_by_role(role).count() == 1, role


async def test_what_happened_is_never_told_by_colour_alone(opened: Open) -> None:
    report = await opened()
    marks: dict[str, set[str]] = {}
    for term, kind in (("is:deleted", "deleted"), ("is:swept", "swept"), ("is:left", "left")):
        await report.narrow(term)
        marks[kind] = set(await report.page.locator("#rows .mark").all_inner_texts())
    assert len(set[str]().union(*marks.values())) == sum(map(len, marks.values())) == len(marks)
    striped: list[str] = await report.page.eval_on_selector_all(
        "#legend li",
        """all => all.filter(each => getComputedStyle(each.querySelector("i")).backgroundImage !== "none")
            .map(each => each.querySelector("span").textContent)""",
    )
    assert striped == ["waiting for the turn", "until the first token", "giving back", "left behind"]
