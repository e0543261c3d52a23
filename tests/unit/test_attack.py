"""What a hostile adapter, ledger, credential or command line may not do; each was seen to do it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from chatlease import Credential, Deadlines, Engine, MemoryLedger, State
from chatlease.adapter import AnswerStream, Call
from chatlease.errors import StreamStalled, UsageError
from chatlease.events import Batch
from chatlease.ledger import Hold
from chatlease.testing import FakeService, ManualClock

FAST = Deadlines(answer=0.05, settle=0.05, poll=0.01, grace=0.5, drain=0.5)


class _Flood:
    """A stream that always has tokens: reading it never suspends the task."""

    async def read(self) -> Batch:
        return ["token "] * 10

    def close(self) -> None:
        pass


class _FloodingService(FakeService):
    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        await super().open_stream(call, chat, run)
        return _Flood()


async def test_a_flood_of_tokens_that_never_suspends_the_reader_meets_the_answer_deadline() -> None:
    async with Engine(_FloodingService(answer_s=1_000), deadlines=FAST) as engine:
        with pytest.raises(StreamStalled, match="answer"):
            await engine.ask("Hi").text()


class _CutInside(FakeService):
    """Its delete waits for a helper task of its own, which somebody cancels once (as `asyncio.run` does at the end)."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        if self.calls["delete_chat"] == 0:
            self.calls["delete_chat"] += 1
            helper = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(helper.cancel)
            await helper
        return await super().delete_chat(call, chat)


async def test_a_delete_whose_helper_task_is_cancelled_is_tried_again(clock: ManualClock) -> None:
    service, ledger = _CutInside(clock=clock), MemoryLedger()
    async with Engine(service, ledger=ledger, clock=clock) as engine, engine.session() as session:
        await session.ask("Hi").text()
    assert session.state is State.DELETED
    assert not service.chats
    assert not await ledger.open_entries()


class _Refusing(FakeService):
    async def create_chat(self, call: Call, client_key: str) -> str:
        raise UsageError("the proxy's address is none")


async def test_a_create_that_the_adapter_refuses_to_send_leaves_no_entry(clock: ManualClock) -> None:
    ledger = MemoryLedger()
    async with Engine(_Refusing(clock=clock), ledger=ledger, clock=clock) as engine:
        session = engine.session(prompt="Hi")
        with pytest.raises(UsageError, match="address"):
            await session.ask().text()
        await session.aclose()
    assert session.state is State.DELETED
    assert not await ledger.open_entries()


class _Stopping(FakeService):
    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        raise StopAsyncIteration


async def test_an_adapters_stop_async_iteration_does_not_pass_for_the_end_of_an_answer(clock: ManualClock) -> None:
    async with Engine(_Stopping(clock=clock), clock=clock) as engine:
        answer = engine.ask("Hi")
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            [token async for token in answer]


class _Stuck(FakeService):
    async def aclose(self) -> None:
        await asyncio.Event().wait()


class _Broken(FakeService):
    async def aclose(self) -> None:
        raise KeyError("aclose")


async def test_adapters_that_cannot_close_keep_neither_the_engine_nor_the_others_open(clock: ManualClock) -> None:
    healthy = FakeService(clock=clock)
    with pytest.warns(ResourceWarning, match="did not close: fake, fake"):
        async with Engine(_Stuck(clock=clock), _Broken(clock=clock), healthy, clock=clock):
            pass
    assert healthy.closed


class _StuckLedger(MemoryLedger):
    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        await asyncio.Event().wait()


class _Undeletable(FakeService):
    async def delete_chat(self, call: Call, chat: str) -> bool:
        raise UsageError("not deleted")


async def test_a_ledger_that_never_answers_does_not_keep_the_engine_open(clock: ManualClock) -> None:
    service, ledger = _Undeletable(clock=clock), _StuckLedger()
    async with Engine(service, ledger=ledger, clock=clock) as engine:
        await engine.ask("Hi").text()
    assert {entry.chat for entry in await ledger.open_entries()} == set(service.chats)


async def test_closing_a_closed_session_from_another_loop_returns(clock: ManualClock) -> None:
    async with Engine(FakeService(clock=clock), clock=clock) as engine:
        async with engine.session(prompt="Hi") as session:
            await session.ask().text()
        thread = threading.Thread(target=asyncio.run, args=(session.aclose(),), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()


def test_a_credential_with_a_lone_surrogate_has_a_fingerprint() -> None:
    assert Credential(cookies={"a": "\udcff"}).fingerprint().startswith("anon-")


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        (["chat", "-"], "<&-", 2),
        (["chat"], "<&-", 2),
        (["adapters"], ">&-", 0),
        (["serve", "--port", "99999"], "", 2),
        (["doctor", "--url", "http://127.0.0.1:9", "--proxy", "http://user:hidden-word@host:port"], "", 1),
        (["chat", "Hi", "--url", "http://127.0.0.1:9", "-o", "session=none"], "", 1),
    ],
)
def test_the_command_line_never_shows_a_traceback(arguments: list[str], closed: str, code: int) -> None:
    words = " ".join([sys.executable, "-m", "chatlease", *arguments, closed])
    environment = os.environ | {"CHATLEASE_OPEN_ASSISTANT_COOKIE": "hidden-word"}
    ended = subprocess.run(["/bin/sh", "-c", words], capture_output=True, env=environment, check=False, timeout=60)
    shown = ended.stdout + ended.stderr
    assert b"Traceback" not in shown
    assert b"hidden-word" not in shown
    assert ended.returncode == code
