"""``chatlease trace``: what is listed, filtered, summed up and refused; and that nothing can steer the terminal."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from chatlease._cli import _trace
from chatlease._cli._exits import Exit
from chatlease._cli._trace_filter import Filter, moment_of
from chatlease._cli._trace_rows import Rows
from chatlease._cli._trace_text import cell, moment, plain, seconds, short
from chatlease._registry import Registry
from chatlease._traces import Gatherer, read_lines
from chatlease.testing import ManualClock

from .cli_kit import Result, run_with
from .trace_kit import START, Tale, encoded, engine_line, write

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m\r\n\t\x9b5A\u202e\u2028[bold]x[/]"


def run(*args: object, stdin: str = "") -> Result:
    return run_with(Registry(), *map(str, args), stdin=stdin)


def listed(done: Result) -> list[str]:
    """Return the ids that were listed."""
    assert done.code == Exit.OK, done.err
    rows = done.out.splitlines()[1:-1]
    return [row[23:35].strip() for row in rows]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A trace of a good session, a slow one, a failed one, one that is left, one that was swept, one that is open."""
    slow = Tale("slow", 10, account="bot-2").open().steps(last="open_stream")
    slow.say("session.stream.first_token", waited_s=1.5)
    slow.step("delete_chat", "streaming", "deleted", after=40.0).close()
    failed = Tale("failed", 20, account="bot-2").open().steps(last="create_chat")
    failed.fail("send_prompt", "chat-created", error="RateLimited", error_code="http-429")
    failed.say("session.call.retried", trigger="send_prompt", attempt=1, error="Unavailable", error_code="cut")
    failed.step("delete_chat", "chat-created", "deleted").close()
    left = Tale("left", 30).open().steps(last="send_prompt").fail("delete_chat", "prompt-sent").hand_over()
    swept = Tale("swept", 40).open().steps(last="send_prompt").hand_over().sweep("chat.deleted", attempts=1)
    other = Tale("open", 100)
    other.open().steps(last="open_stream")
    for line in other.lines:
        line["service"] = "other"
    return write(tmp_path / "trace.jsonl", Tale("good").whole(), slow, failed, left, swept, other)


# -- the list ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_as_they_end_and_those_that_did_not_come_last(mixed: Path) -> None:
    done = run("trace", mixed)
    assert (done.code, done.err) == (Exit.OK, "")
    head, *rows, sums = done.out.splitlines()
    assert head.split() == [
        "opened",
        "session",
        "service",
        "account",
        "state",
        "lived",
        "1st",
        "token",
        "tokens",
        "errors",
        "retries",
    ]
    assert [row.split()[2 + row.startswith("!")] for row in rows] == ["good", "failed", "slow", "swept", "left", "open"]
    cells = [moment(START + 20), f"{'failed':12}", f"{'fake':15}", f"{'bot-2':17}", f"{'deleted':22}"]
    cells += [f"{'0.625 s':>9}", f"{'-':>9}", f"{0:>6}", f"{2:>6}", f"{1:>7}"]
    assert rows[1] == "  " + "  ".join(cells)
    assert sums == "sessions 6: open 1, deleted 3, left 1, swept 1; lines broken 0, newer 0, lost 0"


def test_what_is_left_stands_out_without_colours(mixed: Path) -> None:
    rows = run("trace", mixed).out.splitlines()[1:-1]
    assert [row.split()[3] for row in rows if row.startswith("! ")] == ["left"]
    assert [row for row in rows if "orphaned LEFT" in row] == [row for row in rows if row.startswith("! ")]
    assert sum("orphaned swept" in row for row in rows) == 1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--state deleted", "good failed slow"),
        ("--state orphaned", "swept left"),
        ("--state left", "left"),
        ("--state SWEPT", "swept"),
        ("--state open", "open"),
        ("--state streaming", "open"),
        ("--state str*", "open"),
        ("--error RateLimited", "failed"),
        ("--error unavailable", "failed left"),
        ("--error http-*", "failed left"),
        ("--error cut", "failed"),
        ("--error *", "failed left"),
        ("--error http", ""),
        ("--account bot-2", "failed slow"),
        ("--account b*", "failed slow"),
        ("--service other", "open"),
        ("--service fake", "good failed slow swept left"),
        ("--slow 30", "slow"),
        ("--slow 0.7", "good slow"),
        ("--leaked", "left"),
        ("--account bot-2 --error cut", "failed"),
        ("--leaked --service other", ""),
    ],
)
def test_filters(options: str, found: str, mixed: Path) -> None:
    done = run("trace", mixed, *options.split())
    assert listed(done) == found.split() if found else done.out.startswith("sessions 0 of 6: open 0, deleted 0")
    names = [json.loads(line)["session"] for line in run("trace", mixed, "--json", *options.split()).out.splitlines()]
    assert names == found.split()


def test_since_is_when_a_session_was_last_heard_of(mixed: Path) -> None:
    at = moment(START + 60).replace(" ", "T")
    assert listed(run("trace", mixed, "--since", at)) == ["swept", "open"]  # swept a minute later
    assert listed(run("trace", mixed, "--since", "2026-01-01T00:01:30Z")) == ["swept", "open"]
    assert listed(run("trace", mixed, "--since", "2026-01-01T01:01:39+01:00")) == ["swept", "open"]
    assert run("trace", mixed, "--since", "2h").out.startswith("sessions 0 of 6")


@pytest.mark.parametrize(
    ("when", "ago"), [("90s", 90), ("1.5 h", 5400), ("2m", 120), ("15min", 900), ("3d", 3 * 86400), ("0s", 0)]
)
def test_a_time_may_be_so_long_ago(when: str, ago: float) -> None:
    clock = ManualClock(epoch=START)
    assert moment_of(when, clock) == clock.wall() - ago


@pytest.mark.parametrize("when", ["", "yesterday", "2x", "-2h", "2026-13-01", "h", "1e5s"])
def test_what_is_no_time_is_refused(when: str, mixed: Path) -> None:
    done = run("trace", mixed, f"--since={when}")
    assert done.code == Exit.USAGE
    assert done.err.startswith(f"error: {when!r} is no time\nWrite 90s")


@pytest.mark.parametrize("when", ["0001-01-01", "0001-01-01T00:00+14:00", "0001-01-01T00:00Z"])
def test_a_time_before_every_clock_is_one_all_the_same(when: str, mixed: Path) -> None:
    assert len(listed(run("trace", mixed, "--since", when))) == 6


@pytest.mark.parametrize("slow", ["nan", "-5", "inf", "-inf"])
def test_what_is_no_duration_is_refused(slow: str, mixed: Path) -> None:
    done = run("trace", mixed, f"--slow={slow}")
    assert (done.code, "--slow is a number of seconds" in done.err) == (Exit.USAGE, True)


@pytest.mark.parametrize(
    ("state", "hint"),
    [("bogus", "There are new, "), ("strea", "Did you mean streaming?"), ("Orphan", "orphaned"), ("", "There are")],
)
def test_a_state_that_there_is_not_is_refused(state: str, hint: str, mixed: Path) -> None:
    done = run("trace", mixed, f"--state={state}")
    assert (done.code, f"there is no state {state!r}" in done.err, hint in done.err) == (Exit.USAGE, True, True)


def test_no_filter_asks_nothing() -> None:
    assert Filter()._tests() == []
    assert moment_of(None, ManualClock()) is None


# -- for programs -----------------------------------------------------------------------------------------------------


def test_json_is_an_object_a_line_with_every_documented_key(mixed: Path) -> None:
    done = run("trace", mixed, "--json")
    objects: list[dict[str, Any]] = [json.loads(line) for line in done.out.splitlines()]
    assert len(objects) == 6
    assert done.err == "sessions 6: open 1, deleted 3, left 1, swept 1; lines broken 0, newer 0, lost 0\n"
    page = (Path(__file__).parents[2] / "diagrams" / "README.md").read_text("utf-8")
    section = page.split("### `--json`")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name.strip(" `") for row in rows for name in row.split(",")}
    assert {*objects[0]} == documented
    swept = next(each for each in objects if each["session"] == "swept")
    assert swept["swept"] == {
        "engine": "bbbbbbbb",
        "at": swept["swept"]["at"],
        "outcome": "deleted",
        "attempts": 1,
        "error_code": "",
    }
    failed = next(each for each in objects if each["session"] == "failed")
    assert failed["errors"][0] == {
        "at": START + 20.375,
        "error": "RateLimited",
        "error_code": "http-429",
        "trigger": "send_prompt",
    }
    assert failed["stays"][0] == {"state": "new", "since": START + 20, "seconds": 0.125}
    assert {*failed["steps"][0]} == {
        *("trigger", "source", "dest", "at", "elapsed_s", "http_status", "waited_s", "error", "error_code", "retries")
    }


# -- files ------------------------------------------------------------------------------------------------------------


def test_stdin_and_rotated_sets(tmp_path: Path) -> None:
    old, new = Tale("old").whole(), Tale("new", 10).whole()
    write(tmp_path / "t.1", [*old.lines, *new.lines[:3]])
    write(tmp_path / "t", new.lines[3:])
    assert listed(run("trace", tmp_path / "t")) == ["old", "new"]
    assert listed(run("trace", tmp_path / "t", "--only")) == ["new"]
    assert listed(run("trace", "-", stdin=encoded(old.lines).decode())) == ["old"]
    rows = run("trace", tmp_path / "t", "--only", "--json").out.splitlines()
    assert json.loads(rows[0])["begun"] is False


def test_several_files_are_one_trace(tmp_path: Path) -> None:
    """A session in one file, whoever swept it in the other; in whatever order they are named."""
    told = Tale("killed").open().steps(last="open_stream").sweep(attempts=1)
    one, two = write(tmp_path / "bot", told.lines[:-1]), write(tmp_path / "sweeper", told.lines[-1:])
    for files in ((one, two), (two, one)):
        (session,) = (json.loads(line) for line in run("trace", *files, "--json").out.splitlines())
        assert (session["status"], session["state"], session["swept"]["engine"]) == ("swept", "streaming", "bbbbbbbb")


def test_broken_and_newer_lines_are_summed_up_and_explained(tmp_path: Path) -> None:
    path = tmp_path / "t"
    lines = [*Tale().whole().lines, engine_line("trace.lost", 5, count=7, error_code="ENOSPC")]
    path.write_bytes(b"nonsense\n" + encoded(lines) + b'{"v":2}\n{"v":1,"at"')
    done = run("trace", path)
    assert done.out.splitlines()[-1].endswith("lines broken 2, newer 1, lost 7")
    assert done.err.splitlines() == [
        "newer lines are of a later version of the format; a newer chatlease reads them",
        "lost lines are missing because the file could not be written then",
    ]


def test_sessions_that_were_let_go_of_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trace, "HELD", 3)
    path = write(tmp_path / "t", *(Tale(f"s{number}", number).open() for number in range(5)))
    done = run("trace", path)
    assert listed(done) == [f"s{number}" for number in range(5)]
    assert done.err == "2 sessions are shown as they were when too many others were open\n"


def test_an_empty_trace_is_a_trace(tmp_path: Path) -> None:
    (tmp_path / "t").touch()
    assert run("trace", tmp_path / "t").out == (
        "sessions 0: open 0, deleted 0, left 0, swept 0; lines broken 0, newer 0, lost 0\n"
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"hello\nworld\n", "is no trace file\nMake one with TraceFile"),
        (b"\0" * 100_000, "is no trace file\n"),
        (b"x" * 300_000, "is no trace file\n"),
        (b'{"v":9}\n', "is of a later version of the trace format\nA newer chatlease reads it."),
    ],
)
def test_what_is_no_trace_at_all_is_refused(raw: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(raw)
    for more in ((), ("--json",), ("--session", "x")):
        done = run("trace", tmp_path / "t", *more)
        assert (done.code, done.out) == (Exit.USAGE, "")
        assert f"error: {tmp_path / 't'} {says}" in done.err


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        done = run("trace", path)
        assert (done.code, done.out) == (Exit.USAGE, "")
        assert done.err.startswith(f"error: {path} cannot be read: ")


# -- what comes from outside ------------------------------------------------------------------------------------------


def hostile() -> Tale:
    told = Tale(f"s{ESCAPES}", account=f"me{ESCAPES}")
    told.open(model=f"m{ESCAPES}").steps(last="create_chat")
    told.fail("send_prompt", "chat-created", error=f"E{ESCAPES}", error_code=f"c{ESCAPES}", chat=f"chat{ESCAPES}")
    told.fail(f"trigger{ESCAPES}", f"source{ESCAPES}")
    told.step("send_prompt", "chat-created", f"state{ESCAPES}").say("session.cleanup.started", cause=ESCAPES)
    told.hand_over().sweep("chat.failed", by=f"engine{ESCAPES}", error_code=f"code{ESCAPES}", attempts=1)
    return told


@pytest.mark.parametrize("more", [[], ["--session", "s"], ["--session", "killed"], ["--compare", "s", "s"]], ids=str)
@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_from_outside_steers_the_terminal(
    more: list[str], terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = engine_line("engine.opened", -1, f"engine{ESCAPES}", host=f"h{ESCAPES}", version=ESCAPES)
    killed = Tale("killed", 90).open().say("session.transition.started", trigger=ESCAPES, source=f"new{ESCAPES}")
    path = write(tmp_path / "t", [opened, engine_line("engine.opened", -1, host=ESCAPES)], hostile(), killed)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    done = run("trace", path, *more)
    assert done.code == Exit.OK, done.err
    shown = done.out
    for own in ("\x1b[36m", "\x1b[33m", "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[1;31m"):
        shown = shown.replace(own, "")
    bad = {each for each in shown if not each.isprintable() and each != "\n"}
    assert not bad
    assert shown.count("\x1b") == 0
    assert "[bold]x" in done.out or "..." in done.out  # markup is text
    assert terminal == ("\x1b[" in done.out)


def test_a_name_that_a_person_gives_cannot_steer_it_either(mixed: Path) -> None:
    done = run("trace", mixed, "--session", "\x1b[2J")
    assert "\x1b" not in done.err
    assert done.code == Exit.USAGE


def test_texts() -> None:
    assert plain("a\x1b\n\u202eb") == "a???b"
    assert (cell("ab", 4), cell("abcdefgh", 6), cell("äöü", 5)) == ("ab  ", "abc...", "äöü  ")
    assert len(cell("日本語日本語", 6)) == 3  # six columns wide
    assert short("01a1fc04-ecc4-7e70-9b29-52d16396205d") == "52d16396205d"
    assert [seconds(each) for each in (None, 0.0, 1.23456, 59.9994, 90.0, 5400.0, 2e5)] == [
        *("-", "0.000 s", "1.235 s"),
        *("59.999 s", "1.5 min", "1.5 h", "2.3 d"),
    ]
    assert [moment(each) for each in (1e12, -1e12)] == ["?", "?"]


# -- size -------------------------------------------------------------------------------------------------------------


def many(path: Path, size: int) -> int:
    """Write a trace of whole sessions, some of them left, of about that many bytes; returns how many sessions."""
    number = 0
    with path.open("wb") as file:
        while file.tell() < size:
            told = Tale(f"{number:032x}", number * 0.05, account=f"bot-{number % 40}")
            told = told.whole() if number % 50 else told.open().steps(last="send_prompt").hand_over()
            file.write(encoded(told.lines))
            number += 1
    return number


def peak_of(path: Path, rows: Rows) -> tuple[int, int]:
    """List a trace; returns the most memory it took, and how many sessions there were."""
    tracemalloc.start()
    try:
        lines, gatherer = read_lines([path]), Gatherer()
        for line in lines:
            for session in gatherer.feed(line):
                rows.add(session)
        for session in gatherer.rest():
            rows.add(session)
        return tracemalloc.get_traced_memory()[1], rows.sums.total()
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_a_large_trace_is_listed_in_little_memory(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the trace takes as much memory, but for the sessions that are left."""

    class Nowhere(io.TextIOWrapper):
        def __init__(self) -> None:
            super().__init__(io.BufferedWriter(NowhereRaw()), write_through=True)

    class NowhereRaw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int:
            return len(memoryview(data))  # type: ignore[arg-type]

    monkeypatch.setattr("sys.stdout", Nowhere())
    path = tmp_path / "t"
    small_count = many(path, 2_000_000)
    small, listed_small = peak_of(path, Rows(as_json=as_json))
    count = many(path, 20_000_000)
    large, listed_large = peak_of(path, Rows(as_json=as_json))
    assert (listed_small, listed_large) == (small_count, count)
    assert large < small + 3_000_000  # a fiftieth of the sessions is held
    assert large < 6_000_000
