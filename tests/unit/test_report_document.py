"""What a report's page is told: every session as the model has it, bounded, and the same each time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatlease import _report
from chatlease._report._document import FIELDS
from chatlease._report._figures import Histogram

from .trace_kit import Tale, engine_line, write


def told(paths: list[Path], **options: Any) -> dict[str, Any]:
    """Return a document as the page reads it, its sessions unpacked."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(_report.read(paths, **options)))
    words = document["words"]
    for name in ("sessions", "engines", "finds", "latency", "errors"):
        fields = FIELDS[
            {"sessions": "session", "engines": "engine", "finds": "find", "errors": "error"}.get(name, name)
        ]
        document[name] = [dict(zip(fields, row, strict=True)) for row in document[name]]
    for session in document["sessions"]:
        for key in ("state", "in_flight"):
            session[key] = words[session[key]] if isinstance(session[key], int) else session[key]
    return document


def one(path: Path) -> dict[str, Any]:
    sessions: list[dict[str, Any]] = told([path])["sessions"]
    (session,) = sessions
    return session


def test_a_session_is_told_as_the_model_has_it(tmp_path: Path) -> None:
    session = one(write(tmp_path / "t", Tale().whole()))
    assert session["id"] == "session-1"
    assert (session["service"], session["account"], session["model"], session["chat"]) == (
        "fake",
        "me",
        "fake-1",
        "chat-1",
    )
    assert (session["state"], session["status"], session["ending"]) == ("deleted", "deleted", "deleted")
    assert (session["token_count"], session["first_token_s"]) == (3, 0.25)
    assert [step[3] for step in session["steps"]] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.875], "counted from the beginning"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (Tale().open().steps(last="create_chat"), ("open", "open")),
        (Tale().open().steps(last="create_chat").sweep(), ("swept", "killed")),
        (Tale().open().steps(last="create_chat").sweep("chat.failed"), ("left", "killed")),
        (Tale().open().steps(last="create_chat").sweep("chat.dead"), ("left", "killed")),
        (Tale().open().steps(last="create_chat").sweep("entry.absent"), ("swept", "killed")),
        (Tale().open().steps(last="send_prompt").hand_over(), ("left", "orphaned")),
        (Tale().open().steps(last="send_prompt").hand_over().sweep(), ("swept", "orphaned")),
        (Tale().whole(), ("deleted", "deleted")),
    ],
)
def test_how_a_session_ended_is_told_apart_from_what_became_of_its_chat(
    tmp_path: Path, lines: Tale, expected: tuple[str, str]
) -> None:
    session = one(write(tmp_path / "t", lines))
    assert (session["status"], session["ending"]) == expected


def test_all_that_a_dead_engine_had_open_was_killed(tmp_path: Path) -> None:
    """That it is dead is known from the one session that another engine swept."""
    swept = Tale("one").open().steps(last="create_chat").sweep()
    without_chat = Tale("two", 0.01).open().step("ready_cookies", "new", "cookies-ready", chat=None)
    with_chat = (
        Tale("three", 0.02)
        .open()
        .steps(last="send_prompt")
        .say("session.transition.started", trigger="queue_assistant")
    )
    other = Tale("four", 0.03, engine="bbbbbbbb").open().steps(last="create_chat")
    document = told([write(tmp_path / "t", swept, without_chat, with_chat, other, [engine_line("engine.opened")])])
    found = {
        each["id"]: (each["ending"], each["status"], each["state"], each["in_flight"]) for each in document["sessions"]
    }
    assert found == {
        "one": ("killed", "swept", "chat-created", None),
        "two": ("killed", "open", "cookies-ready", None),
        "three": ("killed", "left", "prompt-sent", "queue_assistant"),
        "four": ("open", "open", "chat-created", None),
    }
    assert {each["id"]: each["dead"] for each in document["engines"]} == {"aaaaaaaa": True, "bbbbbbbb": False}
    assert document["sums"]["by_status"] == {"swept": 1, "open": 2, "left": 1}


def test_a_killed_session_ends_with_the_last_line_of_its_engine(tmp_path: Path) -> None:
    killed = Tale("one").open().steps(last="create_chat").sweep()
    other = Tale("two", 7.0).open().steps(last="ready_cookies")
    ended = {
        each["id"]: each["ended_at"] - each["opened_at"]
        for each in told([write(tmp_path / "t", killed, other)])["sessions"]
    }
    assert ended["one"] == 7.125


def test_a_session_that_its_own_engine_ended_stays_ended_when_a_sweep_meets_its_entry_again(tmp_path: Path) -> None:
    session = one(write(tmp_path / "t", Tale().whole().sweep()))
    assert (session["state"], session["status"], session["swept"]) == ("deleted", "deleted", None)


def test_sweeps_in_other_files_are_found_whatever_their_order(tmp_path: Path) -> None:
    """As in a crash run: a file per process, and the sweeper's may be read before its victim's."""
    tale = Tale().open().steps(last="create_chat").sweep("chat.failed", after=5.0).sweep(after=5.0)
    own, failed, deleted = tale.lines[:-2], tale.lines[-2:-1], tale.lines[-1:]
    files = [write(tmp_path / name, lines) for name, lines in (("a", deleted), ("b", failed), ("c", own))]
    noise = [write(tmp_path / f"n{number}", Tale(f"n{number}", number).whole()) for number in range(300)]
    for paths in (files, files[::-1], [*files, *noise], [*files[::-1], *noise], [files[1], *noise, files[2], files[0]]):
        (session,) = [each for each in told(paths)["sessions"] if each["id"] == "session-1"]
        assert (session["status"], session["state"], session["swept"][2]) == ("swept", "chat-created", "deleted")


def test_chats_found_in_listings_are_told(tmp_path: Path) -> None:
    find = {"v": 1, "event": "sweep.candidate.deleted", "service": "fake", "account": "me", "chat": "lost-1"}
    lines = [engine_line("engine.opened"), {**find, "at": 1767225700.0, "engine": "aaaaaaaa"}]
    document = told([write(tmp_path / "t", lines)])
    assert document["finds"] == [
        {
            "what": "deleted",
            "at": 1767225700.0,
            "engine": "aaaaaaaa",
            "service": "fake",
            "account": "me",
            "chat": "lost-1",
        }
    ]
    assert document["sessions"] == []


def test_of_too_many_sessions_the_oldest_that_went_well_are_left_out(tmp_path: Path) -> None:
    tales = [Tale(f"well-{number:02}", number * 10.0).whole() for number in range(20)]
    tales[3] = Tale("handed-over", 30.0).open().steps(last="send_prompt").hand_over()
    tales[5] = Tale("failed", 50.0).open().fail("ready_cookies", "new").step("abandon", "new", "deleted").close()
    tales[7] = Tale("killed", 70.0, engine="cccccccc").open().steps(last="send_prompt").sweep()
    document = told([write(tmp_path / "t", *tales)], most=5)
    assert [each["id"] for each in document["sessions"]] == ["handed-over", "failed", "killed", "well-18", "well-19"]
    assert (document["sums"]["sessions"], document["sums"]["shown"]) == (20, 5)
    by_name = {
        document["words"][each["name"]] if isinstance(each["name"], int) else each["name"]: each
        for each in document["latency"]
    }
    assert by_name["create_chat"]["count"] == 19, "also of those that are left out"
    assert by_name["session"]["count"] == 19
    (error,) = document["errors"]
    assert (error["error"], error["error_code"], error["count"]) == ("Unavailable", "http-503", 1)


def test_what_is_shown_whole_is_counted_by_the_page(tmp_path: Path) -> None:
    document = told([write(tmp_path / "t", Tale().whole())])
    assert (document["latency"], document["errors"]) == ([], [])


def test_lines_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "t", Tale().whole(), [engine_line("engine.opened") | {"v": 99}])
    path.write_bytes(path.read_bytes() + b'{"v":1,"at":')
    assert {key: told([path])["sums"][key] for key in ("broken", "newer", "sessions")} == {
        "broken": 1,
        "newer": 1,
        "sessions": 1,
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_percentile_is_within_one_per_cent(seed: int) -> None:
    rng = random.Random(seed)
    values = [rng.lognormvariate(-3, 2) for _ in range(1000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    values.sort()
    for share, rank in ((0.5, 500), (0.9, 900), (0.99, 990)):
        assert histogram.percentile(share) == pytest.approx(values[rank - 1], rel=0.0101)
    assert (histogram.count, histogram.longest) == (1000, values[-1])
    assert histogram.percentile(1.0) == pytest.approx(values[-1], rel=0.0101)


def test_a_session_takes_a_few_hundred_bytes(tmp_path: Path) -> None:
    document = _report.read([write(tmp_path / "t", Tale().whole())])
    assert len(document.sessions[0]) < 800


def test_names_from_outside_cost_no_memory_of_their_own(tmp_path: Path) -> None:
    """Made-up names of steps stand in their rows; the words are those of the table, and kinds of errors are bounded."""
    tales = [
        Tale(f"s{number}").open().fail(f"made-up-{number}", "new", error_code=f"code-{number}") for number in range(400)
    ]
    document = told([write(tmp_path / "t", *tales)], most=10)
    assert len(document["words"]) < 30
    assert len(document["errors"]) == 301
    assert sum(each["count"] for each in document["errors"]) == 400
    assert {each["error"] for each in document["errors"]} == {"Unavailable", "others"}
