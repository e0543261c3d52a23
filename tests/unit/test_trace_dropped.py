"""A session that its user dropped has an end in the trace, whether or not there is a chat."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from chatlease import Engine, MemoryLedger, TraceFile
from chatlease._cli._exits import Exit
from chatlease._registry import Registry
from chatlease.testing import FakeService, ManualClock, capture_trace

from .cli_kit import run_with


async def test_a_session_dropped_without_a_chat_is_not_left(clock: ManualClock, tmp_path: Path) -> None:
    path, service = tmp_path / "trace.jsonl", FakeService(clock=clock)
    async with Engine(
        service, clock=clock, ledger=MemoryLedger(clock=clock), hooks=[hook := TraceFile(path)]
    ) as engine:
        await engine.session().ready_cookies()
        gc.collect()
    hook.close()
    for options, said in (["--leaked"], "sessions 0 of 1: "), ([], "sessions 1: open 0, deleted 1, left 0"):
        done = run_with(Registry(), "trace", str(path), *options)
        assert (done.code, said in done.out) == (Exit.OK, True), done.out


async def test_its_end_is_told_at_once_warns_of_nothing_and_asks_the_service_nothing(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, clock=clock, ledger=MemoryLedger(clock=clock)) as engine:
        with capture_trace(engine) as trace, warnings.catch_warnings():
            warnings.simplefilter("error")
            await engine.session().ready_cookies()
            gc.collect()
            calls = dict(service.calls)
            await clock.settle()
        assert trace.names().count("session.closed") == 1
        assert dict(service.calls) == calls
        assert not engine.sessions
        assert not engine.keeper._adopted


async def test_one_that_did_nothing_is_told_nothing_of(clock: ManualClock) -> None:
    async with Engine(FakeService(clock=clock), clock=clock, ledger=MemoryLedger(clock=clock)) as engine:
        with capture_trace(engine) as trace:
            engine.session()
            gc.collect()
            await clock.settle()
        assert not [name for name in trace.names() if name.startswith("session.")]


async def test_one_with_a_chat_is_still_warned_of_and_given_back(clock: ManualClock) -> None:
    service = FakeService(clock=clock)
    async with Engine(service, clock=clock, ledger=MemoryLedger(clock=clock)) as engine:
        session = engine.session()
        await session.ready_cookies()
        await session.create_chat()
        with pytest.warns(ResourceWarning, match="never closed"):
            del session
        await clock.settle()
    assert not service.chats
