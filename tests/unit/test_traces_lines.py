"""Reading trace files: nothing that stands in one is fatal, nothing fills the memory; a rotated set is one stream."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlease._traces import Counts, Lines, read_lines, rotated
from chatlease._traces import _files as files
from chatlease._traces._files import LONGEST, Cutter, raw_lines
from chatlease._traces._lines import _MERGED

from .trace_kit import START, Tale, encoded, write

GOOD = encoded([{"v": 1, "at": START, "event": "session.opened", "engine": "aaaaaaaa", "session": "s"}])


def read(*paths: Path, only: bool = False) -> tuple[list[str], Lines]:
    """Return the sessions of the good lines, and the counts."""
    lines = read_lines(paths, only=only)
    return [line.session or "" for line in lines], lines


def sums(counts: Counts) -> tuple[int, int, int]:
    return counts.good, counts.broken, counts.newer


# -- bad lines --------------------------------------------------------------------------------------------------------

BROKEN = {
    "half": GOOD[:40],
    "cut in a character": '{"v":1,"at":1,"event":"session.opened","session":"ä'.encode()[:-1],
    "not utf-8": b'{"v":1,"at":1,"event":"session.opened","session":"\xff\xfe"}',
    "half a character": b'{"v":1,"at":1,"event":"x","session":"\\ud800"}',
    "NUL bytes": b"\0" * 4096,
    "NUL bytes behind it": GOOD.rstrip() + b"\0\0",
    "a text": b"hello, world",
    "a number": b"17",
    "a list": b"[1, 2]",
    "null": b"null",
    "no version": b'{"at":1,"event":"session.opened"}',
    "no time": b'{"v":1,"event":"session.opened"}',
    "a time that is a text": b'{"v":1,"at":"now","event":"session.opened"}',
    "a time that is no number": b'{"v":1,"at":NaN,"event":"session.opened"}',
    "a time beyond all numbers": b'{"v":1,"at":1e999,"event":"session.opened"}',
    "a session that is a number": b'{"v":1,"at":1,"event":"session.opened","session":7}',
    "a status that is a text": b'{"v":1,"at":1,"event":"x","http_status":"200"}',
    "a status beyond all numbers": b'{"v":1,"at":1,"event":"x","http_status":%s}' % (b"9" * 30),
    "a negative duration": b'{"v":1,"at":1,"event":"x","elapsed_s":-0.5}',
    "a negative wait": b'{"v":1,"at":1,"event":"x","waited_s":-0.5}',
    "a negative queue": b'{"v":1,"at":1,"event":"x","queued_s":-0.5}',
    "a negative count": b'{"v":1,"at":1,"event":"x","token_count":-1}',
    "a negative number of tries": b'{"v":1,"at":1,"event":"x","attempts":-1}',
    "a long text and a wrong one": b'{"v":1,"at":"now","event":"x","model":"%s"}' % (b"m" * 5000),
    "a line that is too long": b'{"v":1,"at":1,"event":"x","more":"%s"}' % (b"s" * LONGEST),
    "very deep": b'{"v":1,"at":1,"event":"x","deep":' + b"[" * 50_000,
    "very deep text": b"[" * 50_000,
}


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("last", [False, True], ids=["within", "at the end"])
def test_a_bad_line_is_counted_and_passed_over(bad: bytes, last: bool, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(GOOD + bad if last else GOOD + bad + b"\n" + GOOD)
    found, lines = read(path)
    assert found == ["s"] * (1 if last else 2)
    assert sums(lines) == (len(found), 1, 0)


def test_a_time_before_the_epoch_is_no_fault() -> None:
    counts = Counts()
    assert [line.at for line in counts.decoded([b'{"v":1,"at":-5.5,"event":"x"}'])] == [-5.5]
    assert sums(counts) == (1, 0, 0)


@pytest.mark.parametrize("key", ["model", "account", "session", "event"])
def test_a_long_text_is_cut_and_its_line_read(key: str) -> None:
    counts = Counts()
    (line,) = counts.decoded([json.dumps({"v": 1, "at": 1, "event": "x", key: "ä" * 1001, "pid": 7}).encode()])
    assert (getattr(line, key), line.pid, line.at) == ("ä" * 1000, 7, 1.0)
    assert sums(counts) == (1, 0, 0)


def test_a_line_that_another_process_began_in_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(GOOD[:50] + GOOD + GOOD)
    found, lines = read(path)
    assert (found, sums(lines)) == (["s", "s"], (2, 1, 0))


@pytest.mark.parametrize("more", [b"", b',"at":"some day","event":7', b',"at":{"day":1}'])
def test_a_line_of_a_later_version_is_newer_whatever_else_is_in_it(more: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(GOOD + b'{"v":2' + more + b"}\n" + GOOD.replace(b'"v": 1', b'"v": 3'))
    assert sums(read(path)[1]) == (1, 0, 2)


def test_empty_lines_and_a_missing_line_feed_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"\n\r\n" + GOOD + b"  \n" + GOOD.replace(b"\n", b"\r\n") + GOOD.rstrip())
    assert sums(read(path)[1]) == (3, 0, 0)


@given(st.lists(st.one_of(st.just(GOOD.rstrip()), st.binary(max_size=80)), max_size=8), st.integers(1, 60))
def test_whatever_stands_in_a_file_and_however_it_is_cut_the_good_lines_are_read(raws: list[bytes], size: int) -> None:
    whole = b"\n".join(raws)
    cutter, counts = Cutter(), Counts()
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    cut = [line for piece in pieces for line in cutter.cut(piece)]
    cut += cutter.end()
    assert cut == whole.split(b"\n")[: len(cut)]
    assert list(counts.decoded(cut)) == list(Counts().decoded(whole.split(b"\n")))
    assert counts.good >= sum(raw == GOOD.rstrip() for raw in raws)


def test_a_line_of_a_hundred_megabytes_is_not_read_into_memory() -> None:
    class Endless(io.RawIOBase):
        """A file whose second line has no end for a long time."""

        def __init__(self) -> None:
            self.pieces: Iterator[bytes] = itertools.chain(
                [GOOD], itertools.repeat(b"x" * 100_000, 1000), [b"\n", GOOD]
            )

        def read(self, size: int = -1) -> bytes:
            return next(self.pieces, b"")

    counts = Counts()
    tracemalloc.start()
    try:
        found = list(counts.decoded(raw_lines(cast("IO[bytes]", Endless()))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(found), sums(counts)) == (2, (2, 1, 0))
    assert peak < 1_000_000


# -- files ------------------------------------------------------------------------------------------------------------


def names(folder: Path, *parts: str) -> Path:
    """Make a set of files with a session each, named after the file; returns the newest."""
    for name in parts:
        write(folder / name, [Tale(name).open().lines[0]])
    return folder / "t"


def test_a_file_stands_for_its_rotated_set_oldest_first(tmp_path: Path) -> None:
    newest = names(tmp_path, "t.10", "t.2", "t.1", "t", "t.1x", "t.x", "tt.1", "t.-1", "t.1.json")
    assert [path.name for path in rotated(newest)] == ["t.10", "t.2", "t.1", "t"]
    assert read(newest)[0] == ["t.10", "t.2", "t.1", "t"]
    assert read(newest, only=True)[0] == ["t"]
    assert read(tmp_path / "t.2")[0] == ["t.2"]


def test_rotated_files_may_be_packed(tmp_path: Path) -> None:
    newest = names(tmp_path, "t.2", "t.1", "t")
    (tmp_path / "t.2.gz").write_bytes(gzip.compress((tmp_path / "t.2").read_bytes()))
    (tmp_path / "t.2").unlink()
    assert read(newest)[0] == ["t.2", "t.1", "t"]
    assert read(tmp_path / "t.2.gz")[0] == ["t.2"]


def test_a_packed_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    newest = names(tmp_path, "t.1", "t")
    for path in (newest, tmp_path / "t.1"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    found, lines = read(newest)
    assert (found, sums(lines)) == (["t.1", "t"], (2, 0, 0))
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty")[0] == []


def test_of_a_pipe_no_byte_is_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    keep = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    with ExitStack() as stack:
        [[file]] = files.opened([[tmp_path / "pipe"]], stack)
        os.write(keep, GOOD)
        os.close(keep)
        assert list(raw_lines(file)) == [GOOD.rstrip()]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[:-12],
    "holes": lambda raw: raw[:30] + b"\0" * 9 + raw[39:],
    "not packed": lambda raw: b"x" + raw,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_packed_file_is_a_broken_line(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    newest = names(tmp_path, "t")
    packed = gzip.compress(b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(50)))
    (tmp_path / "t.1.gz").write_bytes(damage(packed))
    found, lines = read(newest)
    assert found == ["t"]
    assert lines.broken >= 1


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    newest = names(tmp_path, "t.1", "t")
    (tmp_path / "link").symlink_to(newest)
    found, _ = read(newest, tmp_path / "t.1", newest, tmp_path / "link")
    assert found == ["t.1", "t"]


def test_a_rotation_while_the_set_is_opened_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are renamed right after the newest was opened: what was FILE is met again as FILE.1, and read once."""
    newest = names(tmp_path, "t.2", "t.1", "t")
    identity, renamings = files.identity, iter([("t.2", "t.3"), ("t.1", "t.2"), ("t", "t.1")])

    def identified(file: files.Source | Path) -> files.Identity | None:
        for old, new in renamings:
            (tmp_path / old).rename(tmp_path / new)
        return identity(file)

    monkeypatch.setattr(files, "identity", identified)
    assert read(newest)[0] == ["t.2", "t.1", "t"]
    assert next(renamings, None) is None


def test_several_sets_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    one, two = Tale("one").whole(), Tale("two", 0.3).whole()
    lines = read_lines([write(tmp_path / "a", one), write(tmp_path / "b", two)])
    times = [line.at for line in lines]
    assert times == sorted(times)
    assert (len(times), lines.in_order) == (len(one.lines) + len(two.lines), False)
    assert read_lines([tmp_path / "a"]).in_order


def test_very_many_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"t{number:03}", Tale(f"{number}").open()) for number in range(_MERGED + 10)]
    assert read(*reversed(paths))[0] == [f"{number}" for number in reversed(range(_MERGED + 10))]


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_lines([tmp_path / "none"]))


def test_a_real_line_reads_as_it_was_written() -> None:
    (line,) = Counts().decoded([json.dumps(Tale().whole().lines[1]).encode()])
    assert (line.trigger, line.dest, line.http_status, line.elapsed_s, line.at) == (
        *("ready_cookies", "cookies-ready"),
        *(200, 0.125, START + 0.125),
    )
