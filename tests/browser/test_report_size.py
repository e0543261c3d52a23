"""A report of thousands of sessions: how much of it is elements, and what it leaves out; in a real browser."""

from __future__ import annotations

import pytest

from tests.browser import sample
from tests.browser.conftest import Open

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

_ELEMENTS = 2500
"""Of the whole page; of 5,000 sessions the rows alone would have some 80,000."""
_ROWS = 60


async def test_thousands_of_sessions_are_but_a_screenful_of_elements(opened: Open) -> None:
    report = await opened(sample.lines(5200, seconds=3600.0))
    assert len(report.sessions) > 4000
    assert await report.count("*") < _ELEMENTS
    assert await report.count("#rows [role=option]") < _ROWS
    assert await report.page.get_by_role("radio", name="From its start").is_checked(), (
        "short ones are dots by the clock"
    )
    await report.rows.evaluate("rows => { rows.scrollTop = rows.scrollHeight; }")
    shown = await report.shown_ids()
    assert shown[-1] == report.sessions[-1]["id"]
    assert len(shown) < _ROWS
    for term in ("account:weather", "is:failed", "state:deleted"):
        await report.narrow(term)
        assert await report.count("*") < _ELEMENTS
    await report.rows.focus()
    await report.page.keyboard.press("End")
    assert await report.page.locator("[aria-selected=true]").is_visible()
    assert len(await report.table("Left, and who swept it")) <= 25


async def test_a_long_table_grows_when_asked(opened: Open) -> None:
    report = await opened(sample.lines(4000, seconds=3600.0))
    lost = [each for each in report.sessions if each["ending"] in {"killed", "orphaned"}]
    assert len(lost) > 30
    while await (more := report.page.locator("#left tfoot button")).count():
        await more.click()
    assert {row["data-session"] for row in await report.table("Left, and who swept it")} == {
        each["id"] for each in lost
    }


async def test_what_is_left_out_is_said_and_still_counted(opened: Open) -> None:
    lines = sample.lines(400)
    whole = await opened(lines)
    part = await opened(lines, most=60)
    assert len(part.sessions) == 60
    number = len(whole.sessions)
    notice = await part.page.get_by_text("are left out").inner_text()
    assert notice == f"{number - 60} of {number} sessions are left out: of those that went well, the oldest."
    everything = await whole.table("How long it took")
    counted = await part.table("How long it took")
    assert [(row["step"], row["count"], row["max"]) for row in counted] == [
        (row["step"], row["count"], row["max"]) for row in everything
    ]
    assert "Of all" in await part.page.locator("#latency-of").inner_text()
    kinds = [(row["error"], row["code"], row["in"], row["count"]) for row in await whole.table("Errors")]
    assert sorted(kinds) == sorted(
        (row["error"], row["code"], row["in"], row["count"]) for row in await part.table("Errors")
    )
    await part.narrow("is:deleted")
    assert "sessions shown" in await part.page.locator("#latency-of").inner_text()
