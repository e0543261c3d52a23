"""``chatlease top``: a picture of what a bot does, drawn from its trace alone."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from chatlease._cli import _top, _trace_text
from chatlease._cli._exits import Exit
from chatlease._traces import ERRORS_S, Counts, Recent
from chatlease._traces import _recent as recent_module
from chatlease.testing import ManualClock

from .test_cli_trace import ESCAPES, hostile, run
from .trace_kit import START, Tale, encoded, engine_line, write


def part(picture: str, title: str) -> list[list[str]]:
    """Return the rows of a part of a picture, without its head."""
    rows = picture.split(f"\n{title}\n")[1].split("\n\n", maxsplit=1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows]


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """Two engines: sessions that stream, wait, are given back, are left; one engine is silent for long."""
    engines = [
        engine_line("engine.opened", -7200),
        engine_line("engine.opened", -60, "cccccccc", pid=4712, host="there"),
    ]
    silent = Tale("silent", -7000, engine="dddddddd").open().steps(last="open_stream")
    streams = Tale("streams", 10).open().steps(last="open_stream")
    waits = [Tale(f"waits-{number}", 20 + number, account="bot-2").open() for number in range(3)]
    for tale in waits:
        tale.steps(last="send_prompt").say("session.gate.waiting", waits_for="slot")
    closes = Tale("closes", 30, engine="cccccccc").open().steps(last="send_prompt")
    closes.fail("queue_assistant", "prompt-sent").say(
        "session.cleanup.started", state="prompt-sent", cause="Unavailable"
    )
    left = Tale("left", 35).open().steps(last="send_prompt").hand_over()
    ends = Tale("ends", 59).whole()
    return write(tmp_path / "t", engines, silent, streams, *waits, closes, left, ends)


def test_one_picture_of_the_end_of_a_trace(busy: Path) -> None:
    done = run("top", "--once", busy)
    assert (done.code, done.err) == (Exit.OK, "")
    lines = done.out.splitlines()
    assert lines[0].endswith("  open 5, left 2")
    assert lines[1] == ("last minute: opened 7, ended 2, left 1, swept 0, waited 3, retried 0, requeued 0, tokens 3")
    assert part(done.out, "engines") == [
        ["aaaaaaaa", "4711", "here", "1.0", "sqlite", "2 h", "0 s ago", "4", "1"],
        ["cccccccc", "4712", "there", "1.0", "sqlite", "2 min", "29 s ago", "1", "0"],
        ["dddddddd", "-", "-", "-", "-", "> 1 h", "1 h ago", "0", "1"],
    ]
    assert part(done.out, "open sessions") == [
        ["prompt-sent", "4", "40 s", "39 s"],
        ["streaming", "1", "50 s", "49 s"],
    ]
    assert part(done.out, "the oldest of them") == [
        ["50 s", "streams", "fake", "me", "streaming"],
        *(
            [
                f"{40 - number} s",
                f"waits-{number}",
                "fake",
                "bot-2",
                "prompt-sent",
                f"waits for its turn, {39 - number} s",
            ]
            for number in range(3)
        ),
        ["30 s", "closes", "fake", "me", "prompt-sent", "is given back, 29 s"],
    ]
    assert part(done.out, "waiting for their account's turn") == [["fake bot-2", "3", "39 s"]]
    assert part(done.out, "errors of the last 5 minutes") == [["1", "Unavailable http-503", "queue_assistant"]]
    assert part(done.out, "chats that are left") == [
        ["1 h", "silent", "fake", "me", "streaming", "chat-1", "-"],
        ["25 s", "left", "fake", "me", "orphaned", "chat-1", "-"],
    ]


def test_an_idle_bot_has_a_short_picture(tmp_path: Path) -> None:
    done = run("top", "--once", write(tmp_path / "t", [engine_line("engine.opened")], Tale("s", 5).whole()))
    assert [line for line in done.out.splitlines()[2:] if line and "  " not in line] == ["engines"]
    assert "open 0, left 0" in done.out


def test_of_everything_long_a_few_are_shown_and_how_many_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "t", *(Tale(f"s-{number:02}", number).open() for number in range(30)))
    oldest = part(run("top", "--once", path).out, "the oldest of them")
    assert [row[1] for row in oldest[:-1]] == [f"s-{number:02}" for number in range(8)]
    assert oldest[-1] == ["22 more"]


def test_nothing_from_outside_steers_the_terminal(tmp_path: Path) -> None:
    opened = engine_line("engine.opened", -1, f"e{ESCAPES}", host=f"h{ESCAPES}", version=ESCAPES, ledger=ESCAPES)
    waiting = Tale(f"w{ESCAPES}", 70, account=ESCAPES).open().say("session.gate.waiting")
    done = run("top", "--once", write(tmp_path / "t", [opened], hostile(), waiting))
    assert done.code == Exit.OK
    assert {each for each in done.out if not each.isprintable()} == {"\n"}


def test_what_is_no_trace_and_what_is_no_terminal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"hello\n")
    assert "is no trace file" in run("top", "--once", tmp_path / "t").err
    done = run("top", write(tmp_path / "u", Tale().whole()))
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert done.err == "error: a live picture needs a terminal, and a file\n--once prints one.\n"


async def test_the_picture_is_drawn_again_as_the_trace_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, clock = io.StringIO(), ManualClock(epoch=START)
    monkeypatch.setattr(_trace_text, "stdout", lambda: Console(file=out, force_terminal=True, width=120, height=50))
    path = write(tmp_path / "t", Tale("first").open())
    task = asyncio.create_task(_top.watch(path, clock, only=False))
    await clock.advance(2)
    assert "first" in out.getvalue()
    assert "second" not in out.getvalue()
    with path.open("ab") as file:
        file.write(encoded(Tale("second", 5).open().lines))
    await clock.advance(2)
    assert "second" in out.getvalue()
    drawn = out.getvalue().count("engines")
    await clock.advance(10)
    assert 5 <= out.getvalue().count("engines") - drawn <= 10  # time goes on though nothing is traced
    task.cancel()
    assert await task == Exit.OK


# -- the last minutes -------------------------------------------------------------------------------------------------


def fed(*lines: dict[str, object]) -> Recent:
    recent = Recent()
    for line in Counts().decoded(encoded(lines).splitlines()):
        recent.feed(line)
    return recent


def error_line(at: float, code: str) -> dict[str, object]:
    return Tale("s", at).fail("send_prompt", "chat-created", after=0.0, error_code=code).lines[0]


def test_rates_are_of_a_minute_and_errors_of_five() -> None:
    opened = [Tale("s", at).open().lines[0] for at in range(120)]
    recent = fed(*opened, *(error_line(120 + at, "x") for at in range(400)))
    assert recent.rates(START + 119) == {}  # longer ago than is kept
    assert recent.errors(START + 519) == {("Unavailable", "x", "send_prompt"): ERRORS_S}
    assert fed(*opened).rates(START + 119) == {"opened": 60}


def test_a_clock_that_goes_back_begins_anew_and_a_late_line_counts_as_one_of_the_newest() -> None:
    opened = [Tale("s", at).open().lines[0] for at in (1000, 999, 10)]
    assert fed(*opened[:2]).rates(START + 1000) == {"opened": 2}
    assert fed(*opened).rates(START + 10) == {"opened": 1}


def test_very_many_kinds_of_errors_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "KINDS", 5)
    errors = fed(*(error_line(0, f"code-{number}") for number in range(20))).errors(START)
    assert len(errors) == 6
    assert errors["other", "", ""] == 15


def test_a_deletion_that_is_tried_again_is_one_error() -> None:
    tale = Tale("s").fail("delete_chat", "prompt-sent")
    tale.say("session.call.retried", trigger="delete_chat", attempt=1, error="Unavailable", error_code="http-503")
    assert sum(fed(*tale.lines).errors(tale.at).values()) == 1
