"""A trace file: whole lines, at once, in a set of bounded size, and never in a session's way."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chatlease import Engine, TraceEvent, TraceFile
from chatlease._trace_events import VOCABULARY
from chatlease.errors import UsageError
from chatlease.testing import FakeService, ManualClock, capture_trace

from .trace_files import BIG, lines, numbers, python, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


# -- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR])
async def test_it_holds_the_events_of_its_level_one_object_a_line(clock: ManualClock, path: Path, level: int) -> None:
    file = TraceFile(path, level=level)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[file]) as engine:
        with capture_trace(engine) as trace:
            await engine.ask("one two").text()
    file.close()
    file.close()
    names = [name for name in ["engine.opened", *trace.names(), "engine.closed"] if VOCABULARY[name].level >= level]
    assert [line["event"] for line in lines(path)] == names
    assert bool(names) is (level < logging.ERROR)


def test_only_its_owner_can_read_it(path: Path) -> None:
    TraceFile(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_by_default_it_is_what_it_takes_to_draw_a_session_again(path: Path) -> None:
    assert TraceFile(path).level == logging.INFO


class Writes:
    """Counts the writes of trace files."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._write = os.write
        patch.setattr(os, "write", self)

    def __call__(self, file: int, data: bytes) -> int:
        self.count += 1
        return self._write(file, data)


async def test_what_is_told_in_one_pass_is_written_at_its_end_by_one_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, writes = TraceFile(path), Writes(monkeypatch)
    for passes in range(1, 4):
        for number in range(5):
            file(told(number))
        assert writes.count == passes - 1
        await asyncio.sleep(0)
        assert writes.count == passes
    assert numbers(path) == [*range(5)] * 3


async def test_flush_writes_at_once(path: Path) -> None:
    file = TraceFile(path)
    file(told(0))
    file.flush()
    assert numbers(path) == [0]
    file.flush()
    file(told(1))
    file.close()
    assert numbers(path) == [0, 1]


def test_outside_a_loop_each_line_is_written_at_once(path: Path) -> None:
    file = TraceFile(path)
    for number in range(3):
        file(told(number))
        assert numbers(path) == list(range(number + 1))


def test_a_loop_that_is_closed_before_its_pass_has_ended_keeps_no_later_line_waiting(path: Path) -> None:
    file = TraceFile(path)

    async def tell(number: int) -> None:
        file(told(number))

    loop = asyncio.new_event_loop()
    coroutine = tell(0)
    task = loop.create_task(coroutine)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert task.done()
    asyncio.run(tell(1))
    assert numbers(path) == [0, 1]


async def test_a_pass_of_one_thread_is_not_waited_for_by_another(path: Path) -> None:
    file = TraceFile(path)
    file(told(0))
    await asyncio.to_thread(lambda: asyncio.run(_told_twice(file)))
    assert numbers(path)[:2] == [0, 1]


async def _told_twice(file: TraceFile) -> None:
    file(told(1))
    file(told(2))


def test_what_a_program_left_that_never_closed_it_is_written_at_its_exit(path: Path) -> None:
    left = python(
        """
        import asyncio

        async def main():
            file = TraceFile(sys.argv[1])
            kept.append(file)
            file(told(1))
            asyncio.get_running_loop().stop()

        kept = []
        loop = asyncio.new_event_loop()
        loop.create_task(main())
        loop.run_forever()
        """,
        path,
    )
    assert left.wait(60) == 0
    assert numbers(path) == [1]


def test_an_event_that_is_no_json_is_lost_and_counted(path: Path) -> None:
    file = TraceFile(path)
    file(TraceEvent("session.opened", 1.0, {"odd": object()}))
    assert file.lost == 1
    file(told(1))
    assert numbers(path) == [1]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"text": 'a "quoted" \\ text, \n 100 % \x00 \u2028 \U0001f600'},
        {"number": 1, "share": 0.1, "flag": True, "names": ["a", "b"], "negative": -1},
        {"event": "of another name"} | {f"key_{number}": number for number in range(50)},
    ],
)
@pytest.mark.parametrize("event", ["session.opened", 'odd "name" 100 %s'])
def test_a_line_is_the_event_as_json(event: str, keys: dict[str, Any]) -> None:
    line = TraceEvent(event, 1767225600.1234567, keys).line()
    assert (line.count(b"\n"), line[-1:], line[:7]) == (1, b"\n", b'{"v":1,')
    assert json.loads(line) == {"v": 1, "at": 1767225600.123457, "event": event} | keys


def test_half_a_character_in_a_name_costs_no_line(path: Path) -> None:
    file = TraceFile(path)
    file(TraceEvent("session.opened", 1.0, {"account": "b\udc80t", "number": 1}))
    file.close()
    assert [(line["account"], line["number"]) for line in lines(path)] == [("b?t", 1)]


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"max_bytes": 0}, {"max_bytes": -1}])
def test_sizes_that_make_no_sense_are_refused(path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        TraceFile(path, **wrong)


async def test_one_that_was_closed_too_early_is_dropped_and_disturbs_nobody(clock: ManualClock, path: Path) -> None:
    file = TraceFile(path)
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[file]) as engine:
        file.close()
        with capture_trace(engine) as trace:
            assert await engine.ask("one two").text() == "one two"
    [dropped] = [event.keys for event in trace if event.event == "hook.dropped"]
    assert (dropped["hook"], dropped["error"]) == ("TraceFile", "ValueError")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such pipes")
def test_what_is_no_file_is_only_written_to() -> None:
    end, begin = os.pipe()
    file = TraceFile(f"/dev/fd/{begin}", max_bytes=10)
    for number in range(5):
        file(told(number, at=number * 10.0))
    file.close()
    os.close(begin)
    with os.fdopen(end, "rb") as reader:
        assert [json.loads(line)["number"] for line in reader] == list(range(5))


# -- killed -----------------------------------------------------------------------------------------------------------


def test_a_killed_process_has_lost_at_most_what_it_told_in_the_last_pass(path: Path) -> None:
    killed = python(
        """
        import asyncio

        async def main():
            file = TraceFile(sys.argv[1], max_bytes=4000, keep=50)
            for number in range(200):
                file(told(number))
                if number % 3 == 2:
                    await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """,
        path,
    )
    assert killed.wait(60) == -9
    assert numbers(path) == list(range(198))


def test_a_forked_child_writes_nothing_that_its_parent_will_write(path: Path) -> None:
    forking = python(
        """
        import asyncio

        async def main():
            file = TraceFile(sys.argv[1])
            file(told(0))
            child = os.fork()
            if not child:
                file.flush()
                os._exit(0)
            os.waitpid(child, 0)

        asyncio.run(main())
        """,
        path,
    )
    assert forking.wait(60) == 0
    assert numbers(path) == [0]


def test_a_forked_child_can_go_on_although_another_thread_was_writing(path: Path) -> None:
    forking = python(
        """
        import threading, warnings
        warnings.simplefilter("ignore")  # that is the point
        file, held, over = TraceFile(sys.argv[1]), threading.Event(), threading.Event()

        def hold():
            with file.lock:
                held.set()
                over.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            file(told(1))
            os._exit(0)
        os.waitpid(child, 0)
        over.set()
        thread.join()
        file(told(2))
        """,
        path,
    )
    assert forking.wait(60) == 0
    assert numbers(path) == [1, 2]


# -- when it cannot be written ----------------------------------------------------------------------------------------


class Disk:
    """Stands between a trace file and the system: takes so many bytes, and then no more; fails so many times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.fails = 0
        self._write = os.write
        patch.setattr(os, "write", self)

    def __call__(self, file: int, data: bytes) -> int:
        self.fails -= 1
        if self.room == 0 or self.fails >= 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        written = self._write(file, data if self.room is None else bytes(data)[: self.room])
        if self.room is not None:
            self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_lines_that_find_no_room_are_kept_and_written_later_in_order(path: Path, disk: Disk) -> None:
    file = TraceFile(path)
    file(told(0))
    disk.room = BIG // 2  # so the next one is cut, for now
    for number in range(1, 10):
        file(told(number))
    assert path.read_bytes().count(b"\n") == 1
    disk.room = None
    file(told(10))
    assert numbers(path) == list(range(11))
    assert file.lost == 0


def test_lines_never_overtake_each_other(path: Path, disk: Disk) -> None:
    """A disk that fails now and then, at a line that waits, but not at the next one."""
    file = TraceFile(path)
    for number in range(20):
        disk.fails = int(number % 3 < 2)
        file(told(number))
    disk.fails = 0
    file.close()
    assert numbers(path) == list(range(20))


def test_what_is_more_than_can_be_kept_is_counted_and_told(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlease._trace_file._HELD", 4 * BIG)
    file = TraceFile(path)
    for _ in range(2):
        disk.room = 0
        for number in range(10):
            file(told(number))
        disk.room = None
        file(told(10))
    assert file.lost == 12
    assert [line.get("number", line.get("count")) for line in lines(path)] == [0, 1, 2, 3, 6, 10] * 2
    assert [line["event"] for line in lines(path)].count("trace.lost") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
async def test_a_full_disk_disturbs_no_session_and_is_told_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlease._trace_file._HELD", 1000)
    file = TraceFile("/dev/full")
    async with Engine(FakeService(clock=clock), clock=clock, hooks=[file]) as engine:
        for _ in range(3):
            assert await engine.ask("one two").text() == "one two"
    file.close()
    failed: list[Any] = [record for record in caplog.records if record.getMessage() == "trace.failed"]
    assert [(record.levelname, record.file, record.error_code) for record in failed] == [
        ("WARNING", "/dev/full", "ENOSPC")
    ]
    assert file.lost > 10
    assert not [record for record in caplog.records if record.getMessage() == "hook.dropped"]


def test_a_folder_that_goes_and_comes_again_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = TraceFile(folder / "trace.jsonl")
    file(told(0))
    shutil.rmtree(folder)
    for number in range(1, 4):
        file(told(number, at=1767225600.0 + 2 * number))
    folder.mkdir()
    file(told(4))
    assert numbers(folder / "trace.jsonl") == [1, 2, 3, 4]


def test_what_is_kept_is_tried_once_more_at_the_end(path: Path, disk: Disk) -> None:
    file = TraceFile(path)
    disk.room = 0
    file(told(0))
    disk.room = None
    file.close()
    assert numbers(path) == [0]


def test_a_close_that_cannot_write_either_says_nothing(path: Path, disk: Disk) -> None:
    file = TraceFile(path)
    disk.room = 0
    file(told(0))
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file(told(1))


# -- by the environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "level"), [("", logging.INFO), ("debug", logging.DEBUG), ("error", logging.ERROR)])
async def test_the_environment_says_how_much(
    clock: ManualClock, path: Path, monkeypatch: pytest.MonkeyPatch, name: str, level: int
) -> None:
    monkeypatch.setenv("CHATLEASE_TRACE", str(path))
    monkeypatch.setenv("CHATLEASE_TRACE_LEVEL", name)
    async with Engine(FakeService(clock=clock), clock=clock) as engine:
        with capture_trace(engine) as trace:
            await engine.ask("one two").text()
    names = ["engine.opened", *trace.names(), "engine.closed"]
    assert [line["event"] for line in lines(path)] == [each for each in names if VOCABULARY[each].level >= level]


@pytest.mark.parametrize("name", ["INFO", "10", "loud"])
async def test_a_level_that_there_is_not_is_refused(
    clock: ManualClock, path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CHATLEASE_TRACE", str(path))
    monkeypatch.setenv("CHATLEASE_TRACE_LEVEL", name)
    with pytest.raises(UsageError, match="debug, info, warning, error, critical"):
        await Engine(FakeService(clock=clock), clock=clock).__aenter__()
    with pytest.raises(FileNotFoundError):
        lines(path)


async def test_engines_of_one_process_share_the_file_that_the_environment_names(
    clock: ManualClock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLEASE_TRACE", str(path))
    engines: Sequence[Engine] = [Engine(FakeService(clock=clock), clock=clock) for _ in range(3)]
    for engine in engines:
        await engine.__aenter__()
    for engine in engines:
        await engine.ask("one two").text()
        await engine.aclose()
    found = lines(path)
    assert len({line["engine"] for line in found}) == 3
    assert [line["event"] for line in found].count("session.closed") == 3
