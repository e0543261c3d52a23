"""The filter of a report: what its terms find, in a real browser, compared with what the document says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Open
from tests.browser.report import Report

pytestmark = pytest.mark.asyncio(loop_scope="session")

Session = dict[str, Any]
Test = Callable[[Report, Session], bool]


def failed_with(session: Session, text: str) -> bool:
    return any(text in error or text in code for _, error, code, _ in session["errors"])


def pid_of(report: Report, session: Session) -> int:
    (pid,) = [pid for engine, pid, *_ in report.document["engines"] if engine == session["engine"]]
    return int(pid)


TERMS: dict[str, Test] = {
    "state:deleted": lambda report, session: report.word(session["state"]) == "deleted",
    "state:chat-created": lambda report, session: report.word(session["state"]) == "chat-created",
    "STATE:Orphaned": lambda report, session: report.word(session["state"]) == "orphaned",
    "account:night": lambda report, session: session["account"] == "night-owl",
    'account:"night-owl"': lambda report, session: session["account"] == "night-owl",
    "-account:night": lambda report, session: session["account"] != "night-owl",
    "service:open-assistant": lambda report, session: True,
    "service:langgraph": lambda report, session: False,
    "model:30B_6": lambda report, session: session["model"].endswith("_6"),
    "error:Unavailable": lambda report, session: failed_with(session, "Unavailable"),
    "error:idle": lambda report, session: failed_with(session, "idle"),
    "is:left": lambda report, session: session["status"] == "left",
    "is:leaked": lambda report, session: session["status"] == "left",
    "is:swept": lambda report, session: session["status"] == "swept",
    "is:killed": lambda report, session: session["ending"] == "killed",
    "is:orphaned": lambda report, session: session["ending"] == "orphaned",
    "is:failed": lambda report, session: bool(session["errors"]),
    "is:waited": lambda report, session: session["gate_wait_s"] > 0,
    "is:failed account:weather": lambda report, session: bool(session["errors"]) and session["account"] == "weather",
    "translator": lambda report, session: session["account"] == "translator",
    "-is:deleted": lambda report, session: session["status"] != "deleted",
    "pid:4137": lambda report, session: pid_of(report, session) == 4137,
    "": lambda report, session: True,
}  # fmt: skip


async def test_terms_find_the_sessions_that_they_say(opened: Open) -> None:
    report = await opened(viewport={"width": 1280, "height": 1400})
    for term, holds in TERMS.items():
        expected = [each["id"] for each in report.sessions if holds(report, each)]
        assert await report.narrow(term) == f"{len(expected)} of {len(report.sessions)} sessions.", term
        shown = await report.shown_ids()
        assert shown == expected[: len(shown)], term
        assert len(shown) >= min(len(expected), 10)
        assert expected or "langgraph" in term, "a term that finds nothing proves little"


async def test_a_session_is_found_by_its_id_chat_and_engine(opened: Open) -> None:
    report = await opened()
    session = report.sessions[31]
    for term in (session["id"], f"id:{session['id'][-9:]}", f"chat:{session['chat']}", session["chat"][:12].upper()):
        assert (await report.narrow(term)).startswith("1 of ")
        assert await report.shown_ids() == [session["id"]]
    await report.narrow(f"engine:{session['engine']}")
    assert session["id"] in await report.shown_ids()


async def test_what_is_not_understood_is_said_and_passed_over(opened: Open) -> None:
    report = await opened()
    found = await report.narrow("is:lefd account:weather is:constructor")
    assert found.endswith("Not understood: is:lefd is:constructor")
    assert found.startswith(f"{sum(each['account'] == 'weather' for each in report.sessions)} of ")
    assert (await report.narrow("constructor:x")).startswith("0 of "), "a word as any other"


async def test_buttons_put_their_term_into_the_filter_and_take_it_away(opened: Open) -> None:
    report = await opened()
    await report.narrow("account:weather")
    button = report.page.get_by_role("button", name="Swept")
    await button.click()
    assert await report.filter.input_value() == "account:weather is:swept"
    assert await button.get_attribute("aria-pressed") == "true"
    swept = [each["id"] for each in report.sessions if each["status"] == "swept" and each["account"] == "weather"]
    assert await report.shown_ids() == swept
    assert swept
    await button.click()
    assert await report.filter.input_value() == "account:weather"
    assert await button.get_attribute("aria-pressed") == "false"


async def test_everything_follows_the_filter(opened: Open) -> None:
    report = await opened()
    await report.narrow("is:killed")
    killed = [each for each in report.sessions if each["ending"] == "killed"]
    assert {row["data-session"] for row in await report.table("Left, and who swept it")} == {
        each["id"] for each in killed
    }
    assert len(await report.table("Engines")) == 2, "who was killed, and who swept"
    assert await report.page.locator("#sums dd").first.inner_text() == str(len(killed))
    assert "streaming" in await report.page.locator("#legend").inner_text()
    before = await report.page.locator("#overview path").first.get_attribute("d")
    await report.narrow("")
    assert await report.page.locator("#overview path").first.get_attribute("d") != before


async def test_a_filter_that_finds_nothing_empties_the_page_and_harms_nothing(opened: Open) -> None:
    report = await opened()
    chosen = await report.chosen()
    assert (await report.narrow("no such session")).startswith("0 of ")
    assert await report.shown_ids() == []
    await report.rows.focus()
    for key in ("ArrowDown", "End", "Enter", "+", "0", "Shift+ArrowRight"):
        await report.page.keyboard.press(key)
    await report.narrow("")
    assert await report.chosen() == chosen
