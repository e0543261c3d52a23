"""``chatlease trace -f``: the sessions of a live file, as they end, until Ctrl-C, which is no failure."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatlease._cli._exits import Exit
from chatlease._cli._trace import follow_file
from chatlease._cli._trace_filter import Filter
from chatlease._cli._trace_read import PAUSE_S
from chatlease.errors import UsageError
from chatlease.testing import ManualClock

from .cli_kit import chatlease
from .test_cli_trace import run
from .trace_kit import Tale, encoded, write


class Following:
    """A file that is followed while a test writes it."""

    def __init__(self, path: Path, clock: ManualClock, task: asyncio.Task[Exit], read: Callable[[], Any]) -> None:
        self.path = path
        self.task = task
        self._clock = clock
        self._read = read

    async def add(self, *lines: dict[str, Any]) -> list[tuple[str, str]]:
        """Append lines; returns what is shown then: session and status."""
        with self.path.open("ab") as file:
            file.write(encoded(lines))
        return await self.look()

    async def look(self) -> list[tuple[str, str]]:
        await self._clock.advance(PAUSE_S * 3)
        shown = [json.loads(line) for line in self._read().out.splitlines()]
        return [(each["session"], each["status"]) for each in shown]

    async def end(self) -> str:
        """Cancel it, as Ctrl-C does; returns what it says at its end."""
        self.task.cancel()
        assert await self.task == Exit.OK
        return str(self._read().err)


@asynccontextmanager
async def following(
    path: Path, capfd: pytest.CaptureFixture[str], wanted: Filter | None = None
) -> AsyncGenerator[Following]:
    clock = ManualClock()
    work = follow_file(path, wanted or Filter(), clock, only=False, as_json=True)
    task = asyncio.create_task(work)
    try:
        yield Following(path, clock, task, capfd.readouterr)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_sessions_are_shown_as_they_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = Tale("first").whole(), Tale("second", 5).whole()
    path = write(tmp_path / "t", first)
    async with following(path, capfd) as live:
        assert await live.look() == [("first", "deleted")]
        assert await live.add(*second.lines[:5]) == []
        assert await live.add(*second.lines[5:]) == [("second", "deleted")]
        assert await live.look() == []
        assert await live.end() == "sessions 2: open 0, deleted 2, left 0, swept 0; lines broken 0, newer 0, lost 0\n"


async def test_rotation_and_emptying_lose_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = Tale("s").whole()
    path = write(tmp_path / "t", told.lines[:3])
    async with following(path, capfd) as live:
        await live.look()
        await live.add(told.lines[3])
        path.rename(tmp_path / "t.1")
        assert await live.add(*told.lines[4:]) == [("s", "deleted")]
        path.write_bytes(b"")
        assert await live.add(*Tale("after", 9).whole().lines) == [("after", "deleted")]


async def test_a_chat_that_is_left_is_shown_at_once_and_again_when_it_is_swept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Tale("s").open().steps(last="send_prompt").hand_over()
    async with following(write(tmp_path / "t"), capfd) as live:
        assert await live.add(*told.lines) == [("s", "left")]
        swept = Tale("s", 60).sweep("chat.failed", error_code="x", attempts=1).sweep("chat.deleted", attempts=2)
        assert await live.add(swept.lines[0]) == []
        assert await live.add(swept.lines[1]) == [("s", "swept")]
        assert (await live.end()).startswith("sessions 1: open 0, deleted 0, left 0, swept 1;")


async def test_filters_hold_for_what_comes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with following(write(tmp_path / "t"), capfd, Filter(leaked=True)) as live:
        assert await live.add(*Tale("good").whole().lines) == []
        told = Tale("left", 5).open().steps(last="send_prompt").hand_over()
        assert await live.add(*told.lines) == [("left", "left")]
        assert await live.add(*Tale("left", 60).sweep("chat.deleted", attempts=1).lines) == []
        assert (await live.end()).startswith("sessions 0 of 2: open 0, deleted 0, left 0, swept 0;")


async def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with following(tmp_path / "t", capfd) as live:
        await asyncio.sleep(0)
        assert capfd.readouterr().err.replace("\n", "") == f"{tmp_path / 't'} is not there yet; waiting for it"
        assert await live.add(*Tale("s").whole().lines) == [("s", "deleted")]


async def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"hello\n")
    with pytest.raises(UsageError, match="is no trace file"):
        await follow_file(path, Filter(), ManualClock(), only=False, as_json=False)
    with pytest.raises(UsageError, match="cannot be read"):
        await follow_file(tmp_path, Filter(), ManualClock(), only=False, as_json=False)


def test_following_takes_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t", Tale().whole())
    for files in ((path, path), ("-",), (tmp_path / "t.gz",)):
        done = run("trace", "-f", *files)
        assert (done.code, done.err.splitlines()[0]) == (
            Exit.USAGE,
            "error: one file is followed, and all of its sessions",
        )


async def test_ctrl_c_ends_it_with_success(tmp_path: Path) -> None:
    path = write(tmp_path / "t", Tale("first").whole())
    process = await chatlease("trace", "-f", str(path), env={})
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert b"session" in await process.stdout.readline()
        assert b"first" in await process.stdout.readline()
        with path.open("ab") as file:
            file.write(encoded(Tale("second", 5).whole().lines))
        assert b"second" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"sessions 2: open 0, deleted 2")
