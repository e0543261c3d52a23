"""A trace file is a set of files of bounded size, shared by threads and processes, and no line is lost or cut."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatlease import TraceFile, _trace_rotation

from .trace_files import BIG, numbered, numbers, python, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def test_a_full_file_is_renamed_and_so_are_those_before_it(path: Path) -> None:
    file = TraceFile(path, max_bytes=4 * BIG, keep=3)
    for number in range(18):
        file(told(number))
    file.close()
    files = numbered(path)
    assert [each.name for each in files] == [f"{path.name}.3", f"{path.name}.2", f"{path.name}.1", path.name]
    assert all(4 * BIG <= each.stat().st_size < 5 * BIG + 40 for each in files[:-1])
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in files)
    kept = numbers(path)
    assert kept == list(range(kept[0], 18))
    assert 12 <= len(kept) <= 17


def test_a_file_without_a_bound_grows(path: Path) -> None:
    file = TraceFile(path, max_bytes=None)
    for number in range(50):
        file(told(number))
    assert numbered(path) == [path]


def test_what_was_there_counts(path: Path) -> None:
    path.write_bytes(told(0).line() * 5)
    file = TraceFile(path, max_bytes=5 * BIG)
    file(told(1))
    file(told(2))
    assert [len(each.read_bytes().splitlines()) for each in numbered(path)] == [6, 1]


def test_a_gap_in_the_numbers_is_filled_before_anything_is_removed(path: Path) -> None:
    """It is what a process leaves that is killed between two renamings."""
    for number in (1, 3):
        path.with_name(f"{path.name}.{number}").write_bytes(told(100 + number).line())
    file = TraceFile(path, max_bytes=1, keep=3)
    file(told(1))
    assert {each.name[-2:]: json.loads(each.read_bytes())["number"] for each in numbered(path)[:-1]} == {
        ".3": 103,
        ".2": 101,
        ".1": 1,
    }


PROCESSES, EACH = 4, 120


@pytest.mark.slow
@pytest.mark.parametrize("max_bytes", [BIG, 10 * BIG])
def test_processes_share_a_set_and_no_line_is_lost_or_cut(path: Path, max_bytes: int) -> None:
    """With files so small that a process finds, again and again, that the others have renamed its own."""
    code = f"""
        file = TraceFile(sys.argv[1], max_bytes={max_bytes}, keep={PROCESSES * EACH + 1})
        for number in range({EACH}):
            file(told(number, who=sys.argv[2]))
        """
    processes = [python(code, path, name) for name in range(PROCESSES)]
    assert [process.wait(100) for process in processes] == [0] * PROCESSES
    for name in range(PROCESSES):
        assert numbers(path, str(name)) == list(range(EACH))
    assert len(numbered(path)) > 10


def test_threads_share_one(path: Path) -> None:
    file = TraceFile(path, max_bytes=10 * BIG, keep=200)

    def work(name: str) -> None:
        for number in range(EACH):
            file(told(number, who=name))

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(numbers(path, str(name)) == list(range(EACH)) for name in range(PROCESSES))


def test_a_line_that_went_into_a_file_that_was_removed_meanwhile_is_written_again(path: Path) -> None:
    """Of a process that was stopped for so long that its file went through all the numbers."""
    slow, busy = TraceFile(path, max_bytes=2 * BIG, keep=2), TraceFile(path, max_bytes=2 * BIG, keep=2)
    slow(told(0, who="slow"))
    for number in range(10):
        busy(told(number))
    slow(told(1, who="slow"))
    assert numbers(path, "slow") == [1]
    slow(told(2, who="slow"))
    assert numbers(path, "slow") == [1, 2]


def test_one_that_is_being_renamed_elsewhere_is_not_waited_for(path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    file = TraceFile(path, max_bytes=BIG, keep=2)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for number in range(3):
            file(told(number))
        assert (numbered(path), numbers(path)) == ([path], [0, 1, 2])
    file(told(3))
    assert [len(each.read_bytes().splitlines()) for each in numbered(path)] == [4, 0]


def test_one_that_was_renamed_just_before_its_lock_was_had_is_not_renamed_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_locked = _trace_rotation._is_locked

    def late(file: int) -> bool:
        path.rename(path.with_name(f"{path.name}.1"))
        path.write_bytes(told(1).line())
        return is_locked(file)

    monkeypatch.setattr(_trace_rotation, "_is_locked", late)
    file = TraceFile(path, max_bytes=BIG // 2, keep=3)
    file(told(0))
    assert [each.name for each in numbered(path)] == [f"{path.name}.1", path.name]
    assert numbers(path) == [0, 1]


def _moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize("change", [Path.unlink, _moved])
def test_a_file_that_another_program_takes_away_is_begun_anew_within_a_second(
    path: Path, change: Callable[[Path], object]
) -> None:
    file = TraceFile(path)
    file(told(0))
    change(path)
    file(told(1, at=1767225601.1))
    assert numbers(path) == [1]


def test_a_clock_that_goes_back_keeps_nobody_from_looking(path: Path) -> None:
    file = TraceFile(path)
    file(told(0))
    path.unlink()
    file(told(1, at=1767220000.0))
    assert numbers(path) == [1]


def test_renaming_that_fails_is_tried_again_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatlease._trace_rotation._TRY_AGAIN_BYTES", 3 * BIG)
    tries: list[Path] = []

    def refuse(self: Path, target: Path) -> Path:
        tries.append(target)
        raise PermissionError(errno.EPERM, "not permitted")

    file = TraceFile(path, max_bytes=BIG)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        for number in range(12):
            file(told(number))
        assert 3 <= len(tries) <= 5
    for number in range(12, 16):
        file(told(number))
    assert numbers(path) == list(range(16))
    assert len(numbered(path)) > 1
    assert file.lost == 0


def test_a_link_stays_one_and_full_files_lie_beside_what_it_leads_to(tmp_path: Path, path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.jsonl"
    real.parent.mkdir()
    path.symlink_to(real)
    file = TraceFile(path, max_bytes=2 * BIG)
    for number in range(5):
        file(told(number))
    assert path.is_symlink()
    assert [each.name for each in numbered(real)] == ["real.jsonl.2", "real.jsonl.1", "real.jsonl"]
    assert numbers(real) == list(range(5))


def test_a_pipe_without_a_reader_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        TraceFile(path)


def test_a_pipe_whose_reader_is_slow_is_not_waited_for(path: Path) -> None:
    """Its lines wait as for a full disk, and come whole and in order when it reads again."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = TraceFile(path)
        for number in range(2000):
            file(told(number))
        read = bytearray()
        while len(lines := read.splitlines()) < 2000:
            read += os.read(reader, 2**20)
            file.flush()
        assert [json.loads(line)["number"] for line in lines] == list(range(2000))
        assert file.lost == 0
        file.close()
    finally:
        os.close(reader)
