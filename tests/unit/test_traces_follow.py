"""Following a trace file: through rotation, emptying and absence, nothing twice, nothing lost, in order."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from chatlease._traces import Follower
from chatlease._traces._follow import _PIECE

from .trace_kit import START, encoded


def line(number: int) -> bytes:
    return encoded([{"v": 1, "at": START + number, "event": "session.opened", "session": str(number)}])


class Writer:
    """What a bot does to its trace file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def write(self, count: int = 1) -> None:
        with self.path.open("ab") as file:
            for _ in range(count):
                file.write(line(self.number))
                self.number += 1

    def rotate(self, keep: int = 3) -> None:
        for number in range(keep, 0, -1):
            old = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if old.exists():
                old.replace(self.path.with_name(f"{self.path.name}.{number}"))


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "trace.jsonl")


def drain(follower: Follower) -> list[int]:
    """Read until nothing is new; returns the numbers of the lines."""
    found: list[int] = []
    for _ in range(1000):
        found += [int(each.session or -1) for each in follower.read()]
        if follower.idle:
            return found
    raise AssertionError("there is always something new")


def test_what_is_there_comes_first_then_what_is_added(writer: Writer) -> None:
    writer.write(2)
    writer.rotate()
    writer.write(2)
    follower = Follower(writer.path)
    assert drain(follower) == [0, 1, 2, 3]
    assert drain(follower) == []
    writer.write(2)
    assert drain(follower) == [4, 5]
    follower.close()


def test_only_the_file_itself(writer: Writer) -> None:
    writer.write()
    writer.rotate()
    writer.write()
    follower = Follower(writer.path, only=True)
    assert drain(follower) == [1]
    writer.write()
    writer.rotate()
    writer.write()
    assert drain(follower) == [2, 3]
    follower.close()


def test_a_line_that_is_still_being_written_is_waited_for(writer: Writer) -> None:
    follower = Follower(writer.path)
    whole = line(7)
    writer.path.write_bytes(whole[:20])
    assert (drain(follower), follower.broken) == ([], 0)
    with writer.path.open("ab") as file:
        file.write(whole[20:])
    assert (drain(follower), follower.broken) == ([7], 0)
    follower.close()


def test_what_is_written_before_the_renaming_is_read_before_the_new_file(writer: Writer) -> None:
    writer.write()
    follower = Follower(writer.path)
    assert drain(follower) == [0]
    writer.write()
    writer.rotate()
    assert drain(follower) == [1]
    writer.write()
    assert drain(follower) == [2]
    follower.close()


def test_files_that_came_and_were_renamed_meanwhile_are_read_in_between(writer: Writer) -> None:
    writer.write()
    follower = Follower(writer.path)
    drain(follower)
    for _ in range(3):
        writer.write()
        writer.rotate()
    writer.write()
    assert drain(follower) == [1, 2, 3, 4]
    follower.close()


def test_a_file_that_was_rotated_away_altogether_is_followed_by_all_that_is_newer(writer: Writer) -> None:
    writer.write()
    follower = Follower(writer.path)
    drain(follower)
    for _ in range(6):
        writer.write()
        writer.rotate(keep=2)
    writer.write()
    assert drain(follower) == [1, 5, 6, 7]  # 1 stands in the file that is still open; 2 to 4 are gone
    follower.close()


def test_a_file_that_is_made_anew_brings_nothing_back_from_older_ones(writer: Writer) -> None:
    writer.write()
    writer.rotate()
    writer.write()
    writer.rotate()
    writer.write()
    follower = Follower(writer.path)
    assert drain(follower) == [0, 1, 2]
    writer.rotate()
    writer.write()
    assert drain(follower) == [3]
    writer.path.unlink()
    assert drain(follower) == []
    writer.write()
    assert drain(follower) == [4]
    follower.close()


def test_the_last_line_of_a_renamed_file_may_lack_its_line_feed(writer: Writer) -> None:
    follower = Follower(writer.path)
    writer.path.write_bytes(line(7).rstrip())
    assert drain(follower) == []
    writer.rotate()
    writer.path.write_bytes(line(8))
    assert drain(follower) == [7, 8]
    assert follower.broken == 0
    follower.close()


def test_a_new_file_may_have_the_number_of_an_old_one(writer: Writer) -> None:
    """File systems give the inode of a file that is gone to the next one; here it is the same file, emptied."""
    writer.write()
    writer.rotate()
    writer.write()
    follower = Follower(writer.path)
    assert drain(follower) == [0, 1]
    old = writer.path.with_name("trace.jsonl.1")
    old.write_bytes(line(2))
    old.replace(writer.path)
    assert drain(follower) == [2]
    follower.close()


def test_rotation_that_packs_at_once(writer: Writer) -> None:
    writer.write(2)
    follower = Follower(writer.path)
    drain(follower)
    writer.write()
    packed = gzip.compress(writer.path.read_bytes())
    writer.path.unlink()
    writer.path.with_name("trace.jsonl.1.gz").write_bytes(packed)
    writer.write()
    assert drain(follower) == [2, 3]
    follower.close()


def test_a_file_that_is_emptied_is_read_from_its_beginning(writer: Writer) -> None:
    writer.write(3)
    follower = Follower(writer.path)
    drain(follower)
    with writer.path.open("ab") as file:
        file.write(line(99)[:30])
    drain(follower)
    os.truncate(writer.path, 0)
    writer.write()
    assert drain(follower) == [3]
    assert follower.broken == 1  # what was cut by the emptying
    follower.close()


def test_a_file_that_is_not_there_is_waited_for(writer: Writer) -> None:
    follower = Follower(writer.path)
    assert drain(follower) == []
    writer.write()
    assert drain(follower) == [0]
    follower.close()


def test_a_set_whose_newest_file_is_just_being_made(writer: Writer) -> None:
    writer.write(2)
    writer.rotate()
    follower = Follower(writer.path)
    assert drain(follower) == [0, 1]
    writer.write()
    assert drain(follower) == [2]
    follower.close()


def test_a_pass_reads_a_bounded_piece(writer: Writer) -> None:
    writer.path.write_bytes(line(1) * (3 * _PIECE // len(line(1))))
    follower = Follower(writer.path)
    passes = 0
    while follower.read():
        passes += 1
    assert 3 <= passes <= 5
    follower.close()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_a_writer_does_every_line_is_read_once_and_in_order(seed: int, writer: Writer) -> None:
    chance = random.Random(seed)
    follower, found = Follower(writer.path), list[int]()
    for _ in range(60):
        for _ in range(chance.randint(0, 3)):
            writer.write(chance.randint(0, 3))
            if chance.random() < 0.4 and writer.path.exists():
                writer.rotate(keep=200)
        found += drain(follower) if chance.random() < 0.7 else [int(each.session or -1) for each in follower.read()]
    assert found + drain(follower) == list(range(writer.number))
    assert follower.broken == 0
    follower.close()


def test_following_for_long_keeps_no_file_open(writer: Writer) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("no /proc here")
    follower = Follower(writer.path)
    before = len(list(folder.iterdir()))
    for _ in range(50):
        writer.write()
        writer.rotate()
        drain(follower)
    follower.close()
    assert len(list(folder.iterdir())) <= before
