"""A report of a trace whose texts come from an enemy, and what its policy refuses; in a real browser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.browser import sample
from tests.browser.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGE = "<img src=x onerror=\"window.hacked='image'\">"
END = "</script><script>window.hacked='script'</script><!--"
LINES = "\u2028window.hacked='line'\u2029"
HOSTILE = (
    IMAGE,
    END,
    LINES,
    "<!--<script>",
    "]]>",
    "javascript:alert(1)",
    "@script@@document@",
    "__proto__",
    "constructor",
)


def hostile_lines() -> list[sample.Line]:
    """Return the sample's lines with every text replaced by an enemy's, where no step depends on it."""
    found: list[sample.Line] = []
    for number, line in enumerate(sample.lines(60)):
        bad = HOSTILE[number % len(HOSTILE)]
        changed: dict[str, Any] = dict(line)
        for key in ("account", "model", "host", "version", "error", "error_code", "service", "ledger"):
            if key in changed:
                changed[key] = bad
        for key in ("engine", "chat"):
            if key in changed:
                changed[key] += IMAGE
        found.append(changed)
    states = {"session": IMAGE, "service": END, "account": LINES, "chat": "<b>"}
    for trigger, source, dest in (
        ("constructor", "__proto__", "toString"),
        (IMAGE, "toString", END),
        ("a b", END, "valueOf"),
    ):
        step = {"trigger": trigger, "source": source, "dest": dest, "elapsed_s": 1.0, "error": END, "error_code": IMAGE}
        found.append(
            {
                "v": 1,
                "at": found[-1]["at"] + 1,
                "event": "session.transition.completed",
                "engine": END,
                **states,
                **step,
            }
        )
    return found


async def test_an_enemys_texts_are_only_ever_texts(opened: Open) -> None:
    report = await opened(hostile_lines())
    for choose in range(len(report.sessions)):
        await report.rows.focus()
        await report.page.keyboard.press("Home" if choose == 0 else "ArrowDown")
    for term in ("is:left", "is:failed", *(f"account:{each}" for each in HOSTILE[:4]), ""):
        await report.narrow(term)
    assert await report.page.evaluate("window.hacked") is None
    assert await report.count("img, main script, b[onerror], [onerror]") == 0
    assert await report.count("script") == 2
    shown = await report.page.locator("body").inner_text()
    assert IMAGE in shown
    assert "</script><script>" in shown


async def test_a_session_with_an_enemys_states_is_shown_as_it_is(opened: Open) -> None:
    report = await opened(hostile_lines())
    await report.page.goto("about:blank")
    await report.page.goto(f"{report.url}#%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D'image'%22%3E")
    await report.page.wait_for_selector("html[data-ready]", state="attached")
    assert await report.chosen() == IMAGE
    steps = await report.table("Steps")
    assert [step["step"] for step in steps] == ["constructor", IMAGE, "a b"]
    assert steps[0]["to"] == f"toString{END} {IMAGE}"
    assert await report.page.evaluate("window.hacked") is None
    report.requests = [report.url]


async def test_a_trace_whose_name_is_hostile_is_named(opened: Open, tmp_path: Any) -> None:
    path = tmp_path / "<title>&@policy@.jsonl"
    sample.write(path, sample.lines(5))
    report = await opened(paths=[path])
    assert await report.page.title() == "<title>&@policy@.jsonl · Chatlease trace"
    assert "<title>&@policy@.jsonl" in await report.page.locator("#span").inner_text()


async def test_the_page_can_neither_load_nor_run_nor_write_markup(opened: Open) -> None:
    """Whatever a fault of the page's script might let in: the policy refuses it, before anything is sent."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        report = await opened()
        refused = await report.page.evaluate(
            """async (url) => {
                const refused = [];
                const trial = async (name, act) => {
                    try { await act(); } catch { refused.push(name); }
                };
                const loaded = (element, begin) => new Promise((done, fail) => {
                    element.onload = done;
                    element.onerror = () => fail(new TypeError("refused"));
                    begin(element);
                });
                await trial("fetch", () => fetch(url));
                await trial("request", () => loaded(new XMLHttpRequest(), each => {
                    each.open("GET", url);
                    each.send();
                }));
                await trial("markup", () => { document.body.innerHTML = "<b>bad</b>"; });
                await trial("script", () => { document.createElement("script").text = "window.hacked = 1"; });
                await trial("image", () => loaded(new Image(), each => { each.src = `${url}/x.png`; }));
                await trial("style", () => loaded(document.createElement("link"), each => {
                    each.rel = "stylesheet";
                    each.href = `${url}/x.css`;
                    document.head.append(each);
                }));
                return refused;
            }""",
            url,
        )
    assert refused == ["fetch", "request", "markup", "script", "image", "style"]
    assert asked == []
    assert len(report.complaints) >= 5, "the browser says what it refuses"
    report.complaints.clear()
    report.requests = [report.url]
