"""``chatlease trace FILE... --html PAGE``: what is written, said and refused."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from chatlease._cli._exits import Exit
from chatlease._registry import Registry

from .cli_kit import Result, run_with
from .trace_kit import Tale, write


def run(*args: object) -> Result:
    return run_with(Registry(), "trace", *map(str, args))


def embedded(page: Path) -> dict[str, Any]:
    """Return the document in a page."""
    (text,) = re.findall(r'<script type="application/json" id="trace">(.*?)</script>', page.read_text("utf-8"))
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A trace with a session that went well and one whose chat is left."""
    left = Tale("left", account="other").open().steps(last="send_prompt").hand_over()
    return write(tmp_path / "bot.jsonl", Tale("well").whole(), left)


def test_a_trace_is_written_as_a_page(file: Path, tmp_path: Path) -> None:
    done = run(file, "--html", tmp_path / "report.html")
    assert (done.code, done.out) == (Exit.OK, f"{tmp_path / 'report.html'}: 2 sessions\n")
    document = embedded(tmp_path / "report.html")
    assert [row[0] for row in document["sessions"]] == ["well", "left"]
    assert document["files"] == ["bot.jsonl"]


def test_filters_choose_what_is_in_the_page(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    for option in (["--leaked"], ["--account", "oth*"], ["--state", "orphaned"]):
        assert run(file, "--html", page, *option).code == Exit.OK
        document = embedded(page)
        assert [row[0] for row in document["sessions"]] == ["left"], option
        assert document["sums"]["sessions"] == 1


def test_several_files_are_one_page(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", Tale("left", 0.5).sweep())
    assert run(other, file, "--html", tmp_path / "report.html").code == Exit.OK
    document = embedded(tmp_path / "report.html")
    status = document["fields"]["session"].index("status")
    assert {row[0]: row[status] for row in document["sessions"]} == {"well": "deleted", "left": "swept"}


@pytest.mark.parametrize("options", [["-f"], ["--session", "well"], ["--compare", "well", "left"], ["--json"]])
def test_what_shows_something_else_is_refused(file: Path, tmp_path: Path, options: list[str]) -> None:
    page = tmp_path / "report.html"
    assert run(file, "--html", page, *options).code == Exit.USAGE
    assert not page.exists()


def test_what_cannot_be_read_or_written_is_said(file: Path, tmp_path: Path) -> None:
    missing = run(tmp_path / "missing", "--html", tmp_path / "report.html")
    assert (missing.code, "missing cannot be read" in missing.err) == (Exit.USAGE, True)
    nowhere = run(file, "--html", tmp_path / "nowhere" / "report.html")
    assert (nowhere.code, "report.html cannot be written" in nowhere.err) == (Exit.USAGE, True)
    (tmp_path / "text").write_text("no trace\n")
    foreign = run(tmp_path / "text", "--html", tmp_path / "report.html")
    assert (foreign.code, "is no trace file" in foreign.err) == (Exit.USAGE, True)
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_is_there_stays_when_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert run(tmp_path / "missing", "--html", tmp_path / "report.html").code == Exit.USAGE
    assert (tmp_path / "report.html").read_text() == "old"


# -- what a page does not take the place of ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bot.jsonl", "bot.jsonl.1", "link", "hard"])
def test_a_trace_that_is_read_is_never_replaced_by_its_page(file: Path, tmp_path: Path, name: str) -> None:
    rotated = write(tmp_path / "bot.jsonl.1", Tale("older").whole())
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    before = file.read_bytes(), rotated.read_bytes()
    refused = run(file, "--html", tmp_path / name)
    assert (refused.code, f"{name} is a trace file that is read" in refused.err) == (Exit.USAGE, True)
    assert (file.read_bytes(), rotated.read_bytes()) == before
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_or_a_folder_is_never_replaced_by_a_page(file: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        refused = run(file, "--html", tmp_path / name)
        assert (refused.code, "is no regular file" in refused.err) == (Exit.USAGE, True)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_no_page_is_named_like_stdout(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run(file, "--html", "-")
    assert (refused.code, "writes a file" in refused.err) == (Exit.USAGE, True)
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_link_to_a_page_is_followed(file: Path, tmp_path: Path, *, there: bool) -> None:
    (tmp_path / "pages").mkdir()
    page = tmp_path / "pages" / "report.html"
    if there:
        page.write_text("old")
    (tmp_path / "link").symlink_to(page)
    assert run(file, "--html", tmp_path / "link").code == Exit.OK
    assert (tmp_path / "link").is_symlink()
    assert len(embedded(page)["sessions"]) == 2
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    refused = run(file, "--html", tmp_path / "ring")
    assert (refused.code, "ring cannot be written" in refused.err) == (Exit.USAGE, True)
