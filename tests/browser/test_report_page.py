"""A report in a real browser: what it shows, what it asks for, how it looks; all from a file, without a network."""

from __future__ import annotations

import pytest

from tests.browser import sample
from tests.browser.conftest import Open
from tests.browser.report import Report

pytestmark = pytest.mark.asyncio(loop_scope="session")


def steps_of(report: Report, session: str) -> list[dict[str, str | float | None]]:
    """Return the steps of a session of the document."""
    (rows,) = [each["steps"] for each in report.sessions if each["id"] == session]
    names = report.document["fields"]["step"]
    steps = [dict(zip(names, row, strict=True)) for row in rows]
    return [step | {key: report.word(step[key]) for key in ("trigger", "source", "dest")} for step in steps]


def edges_of(report: Report, session: str) -> list[str]:
    steps = [step for step in steps_of(report, session) if step["dest"]]
    return sorted({f"{step['trigger']} {step['source']} {step['dest']}" for step in steps})


async def sums(report: Report) -> dict[str, str]:
    names = await report.page.locator("#sums dt").all_inner_texts()
    return dict(zip(names, await report.page.locator("#sums dd").all_inner_texts(), strict=True))


async def test_the_sums_are_those_of_the_trace(opened: Open) -> None:
    """Besides: that nothing is asked for and nothing complained about is looked at after every test of this folder."""
    report = await opened()
    shown, known = await sums(report), report.document["sums"]
    assert shown["sessions"] == str(known["sessions"])
    assert {name: shown[name] for name in known["by_status"]} == {
        name: str(number) for name, number in known["by_status"].items()
    }
    assert int(shown["swept"]) > 3
    assert int(shown["killed"]) > 3
    assert await report.page.title() == "bot.trace.jsonl · Chatlease trace"


async def test_a_click_on_a_session_lights_its_path_with_its_times(opened: Open) -> None:
    report = await opened()
    await report.narrow("state:deleted -is:failed")
    row = report.rows.get_by_role("option").nth(3)
    session = await row.get_attribute("data-session")
    assert session is not None
    await row.click()
    assert await report.chosen() == session
    assert await report.lit() == edges_of(report, session)
    path = ["new", *(str(step["dest"]) for step in steps_of(report, session))]
    assert await report.lit_states() == set(path)
    label = await report.page.locator(".lifecycle").get_attribute("aria-label")
    assert label == f"The way of this session: {', '.join(path)}"
    for step in steps_of(report, session):
        edge = f'[data-edge="{step["trigger"]} {step["source"]} {step["dest"]}"] .time'
        shown = await report.page.locator(edge).text_content()
        assert (
            shown == await report.page.locator(f'#steps tr:has(th:text-is("{step["trigger"]}")) td').last.inner_text()
        )
        assert shown


async def test_a_killed_session_shows_its_last_state_the_step_in_flight_and_who_swept_it(opened: Open) -> None:
    report = await opened()
    await report.narrow("is:killed is:swept")
    (killer,) = {each["engine"] for each in report.sessions if each["ending"] == "killed"}
    killed = await report.rows.get_by_role("option").count()
    assert killed >= 4
    for number in range(killed):
        await report.rows.get_by_role("option").nth(number).click()
        (session,) = [each for each in report.sessions if each["id"] == await report.chosen()]
        state = report.word(session["state"])
        fate = await report.page.locator("#fate").inner_text()
        assert f"Its process (pid 4137 on bot-1) ended in {state}" in fate
        assert "swept: its chat deleted by pid 4100 on bot-1 at" in fate
        assert state in await report.lit_states()
        assert await report.page.locator(".state.last").get_attribute("data-state") == state
        flight = report.word(session["in_flight"])
        assert [edge.partition(" ")[0] for edge in await report.lit("flight")] == [flight] * bool(flight)
        assert session["engine"] == killer


async def test_a_failed_step_is_told_from_those_that_succeeded(opened: Open) -> None:
    report = await opened()
    await report.narrow("is:orphaned")
    await report.rows.get_by_role("option").first.click()
    assert await report.lit("failed") == ["delete_chat streaming deleted"]
    assert "hand_over streaming orphaned" in await report.lit()
    assert "Unavailable server-error" in await report.page.get_by_role("table", name="Steps").inner_text()


async def test_what_was_left_is_listed_with_who_lost_it_and_who_swept_it(opened: Open) -> None:
    report = await opened()
    rows = {row["data-session"]: row for row in await report.table("Left, and who swept it")}
    lost = {each["id"]: each for each in report.sessions if each["ending"] in {"killed", "orphaned"}}
    assert rows.keys() == lost.keys()
    for name, row in rows.items():
        swept = lost[name]["swept"]
        assert row["swept by"] == ("pid 4100 on bot-1" if swept else "nobody")
        killed = lost[name]["ending"] == "killed"
        assert row["ended"] == ("killed" if killed else "handed over")
        handed_over = [step["source"] for step in steps_of(report, name) if step["dest"] == "orphaned"]
        assert row["last state"] == (report.word(lost[name]["state"]) if killed else handed_over[0])
        assert row["tries"] == (str(swept[3]) if swept else "")
    assert {row["tries"] for row in rows.values()} >= {"1", "2"}


async def test_the_overview_counts_the_sessions_that_were_there_at_once(opened: Open) -> None:
    report = await opened()
    first, last = report.document["first_at"], report.document["last_at"]
    width = (last - first) / 240
    at_once = [0.0] * 240
    for each in report.sessions:
        for _, at, seconds in each["phases"]:
            since, until = each["opened_at"] + at - first, each["opened_at"] + at + seconds - first
            for bucket in range(240):
                at_once[bucket] += max(0.0, min(until, (bucket + 1) * width) - max(since, bucket * width)) / width
    assert await report.page.locator("#overview .most").inner_text() == f"{max(at_once):.0f} sessions at once"
    assert max(at_once) > 10


async def test_the_time_in_each_phase_is_summed(opened: Open) -> None:
    report = await opened()
    names = dict(zip(range(99), report.document["words"], strict=False))
    turn = sum(seconds for each in report.sessions for name, _, seconds in each["phases"] if names.get(name) == "turn")
    shown = await report.page.locator("#legend li", has_text="waiting for the turn").inner_text()
    assert f"{turn:.1f} s" in shown
    assert turn > 1


async def test_percentiles_are_those_of_the_sessions_that_are_shown(opened: Open) -> None:
    report = await opened()
    await report.narrow("account:weather")
    weather = [each for each in report.sessions if each["account"] == "weather"]
    took = sorted(
        step["elapsed_s"] * 1000
        for each in weather
        for step in steps_of(report, each["id"])
        if step["trigger"] == "create_chat" and step["dest"] and isinstance(step["elapsed_s"], float)
    )
    (row,) = [row for row in await report.table("How long it took") if row["step"] == "create_chat"]
    assert row["count"] == str(len(took))
    assert row["max"] == f"{took[-1]:.0f} ms"
    assert row["p50"] == f"{took[(len(took) + 1) // 2 - 1]:.0f} ms"


async def test_errors_are_counted_by_kind_and_one_can_be_picked(opened: Open) -> None:
    report = await opened()
    rows = await report.table("Errors")
    assert sum(int(row["count"]) for row in rows) == sum(len(each["errors"]) for each in report.sessions)
    await report.page.get_by_role("button", name="Show only sessions with StreamStalled").click()
    assert await report.filter.input_value() == "error:StreamStalled"
    assert (await report.found()).startswith(
        f"{sum(any(e[1] == 'StreamStalled' for e in s['errors']) for s in report.sessions)} of"
    )


async def test_colours_follow_the_system_until_they_are_chosen(opened: Open) -> None:
    report = await opened(color_scheme="dark")
    dark = await report.style("body", "backgroundColor")
    await report.page.get_by_role("radio", name="Light").check()
    light = await report.style("body", "backgroundColor")
    assert (dark, light) == ("rgb(18, 21, 26)", "rgb(245, 246, 248)")
    await report.load()
    assert await report.style("body", "backgroundColor") == light, "the choice is kept"
    await report.page.get_by_role("radio", name="Auto").check()
    assert await report.style("body", "backgroundColor") == dark
    await report.page.emulate_media(color_scheme="light")
    assert await report.style("body", "backgroundColor") == light


async def test_nothing_moves_where_less_motion_is_asked_for(opened: Open) -> None:
    report = await opened(reduced_motion="reduce")
    await report.narrow("is:killed state:chat-created")
    await report.rows.get_by_role("option").first.click()
    assert await report.lit("flight")
    assert await report.style(".edge.flight > path", "animationName") == "none"
    await report.page.emulate_media(reduced_motion="no-preference")
    assert await report.style(".edge.flight > path", "animationName") == "flight"


@pytest.mark.parametrize("width", [1280, 800, 390])
async def test_the_page_fits_its_window(opened: Open, width: int) -> None:
    report = await opened(viewport={"width": width, "height": 900})
    assert await report.page.evaluate("document.documentElement.scrollWidth") == width
    assert await report.page.locator(".lifecycle").bounding_box() is not None


async def test_a_trace_without_sessions_has_a_page(opened: Open) -> None:
    report = await opened(sample.lines(0))
    assert (await report.found()) == "0 of 0 sessions."
    assert await report.chosen() == "No session chosen"
    assert (await report.table("Left, and who swept it"))[0] == {"session": "Nothing was left."}


async def test_an_address_with_a_session_shows_that_session(opened: Open) -> None:
    report = await opened()
    wanted = report.sessions[17]["id"]
    await report.page.goto("about:blank")
    await report.page.goto(f"{report.url}#{wanted}")
    await report.page.wait_for_selector("html[data-ready]", state="attached")
    assert await report.chosen() == wanted
    report.requests = [url for url in report.requests if url == report.url][:1]  # the address bar asked for the others
