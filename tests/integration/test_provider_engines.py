"""The engines behind the seeds' interface, against the local service: on one loop, on many loops, and on none."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import structlog

import chatlease
from chatlease import Deadlines
from chatlease.errors import UsageError
from chatlease_adapters import _provider_engines as engines
from chatlease_adapters import provider
from chatlease_adapters.open_assistant.service import Service
from chatlease_adapters.provider import AsyncResult, OpenAssistant
from tests.integration.asking import COOKIES, HELLO, TOKENS, asked, leaves_no_engine, read, scripted, speaking
from tests.integration.speaker import Speaker, served_from_another_thread
from tests.unit.aio import loopback

__all__ = ["leaves_no_engine"]


# ----------------------------------------------------------------------------------------------------------- engines


def hosts() -> dict[str, engines.Host]:
    return dict(engines._hosts.get(asyncio.get_running_loop(), {}))


class TestEngines:
    async def test_calls_to_one_origin_share_an_engine(self) -> None:
        async with speaking() as service:
            await asked().text()
            OpenAssistant.url = f"{service.url}/chat/"
            await asked().text()
            assert list(hosts()) == [service.url]

    async def test_origins_have_engines_of_their_own(self) -> None:
        async with loopback(answer=scripted) as one, loopback(answer=scripted) as two:
            for server in (one, two):
                OpenAssistant.url = server.url
                await asked().text()
            assert list(hosts()) == [one.url, two.url]
            await provider.aclose()

    async def test_it_is_closed_some_time_after_the_last_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engines, "LINGER_S", 0.0)
        async with speaking() as service:
            await asked().text()
            await hosts()[service.url].wait_closed()
            assert not engines._hosts
            assert await asked().text() == "Hello, world"

    async def test_the_next_call_stops_its_timer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engines, "LINGER_S", 0.0)
        async with speaking():
            for _ in range(3):
                assert await asked().text() == "Hello, world"

    async def test_an_answer_keeps_it_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engines, "LINGER_S", 0.0)
        speaker = Speaker(pause_after=1)
        async with speaking(speaker) as service:
            first, second = asked(), asked(cookies={"another": "login"})
            await anext(first)
            assert service.workers
            reader = asyncio.create_task(read(second))
            speaker.go.set()
            await read(first)
            assert list(hosts()) == [service.url]
            assert await reader == TOKENS
            await hosts()[service.url].wait_closed()

    async def test_a_call_in_time_finds_it_open(self) -> None:
        async with speaking() as service:
            await asked().text()
            host = hosts()[service.url]
            assert host._timer is not None
            answer = asked()
            await anext(answer)
            assert host._timer is None
            assert hosts() == {service.url: host}
            await answer.aclose()
        assert engines.LINGER_S == 5.0

    async def test_what_the_first_caller_has_bound_is_not_the_engines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[object] = []

        class Noting(chatlease.Engine):
            async def __aenter__(self) -> Self:
                seen.append(structlog.contextvars.get_contextvars())
                return await super().__aenter__()

        monkeypatch.setattr(engines, "Engine", Noting)
        async with speaking():
            with structlog.contextvars.bound_contextvars(request_id="first"):
                await asked().text()
        assert seen == [{}]

    async def test_closing_what_was_never_opened_is_nothing(self) -> None:
        await provider.aclose()
        assert not engines._hosts


def open_files() -> int:
    """How many files and sockets this process holds, where Linux lists them; else 0."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208  (lists at once)


class TestLoops:
    """Programs with loops of their own: nothing is left when a loop ends."""

    def test_ten_runs_in_a_row_leak_nothing(self) -> None:
        with served_from_another_thread(token_interval=0, answer_tokens=3) as service:
            OpenAssistant.url = service.url
            loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

            async def main() -> None:
                loops.append(weakref.ref(asyncio.get_running_loop()))
                await asked().text()

            files: list[int] = []
            for _ in range(10):
                asyncio.run(main())
                assert not engines._hosts
                assert not service.chats
                gc.collect()
                files.append(open_files())
            # The service closes its side of each connection in its own time, and in this process.
            assert min(files[5:]) <= min(files[:5])
            assert not [loop for loop in loops if loop() is not None]

    def test_the_timer_keeps_no_program_running(self) -> None:
        with served_from_another_thread(token_interval=0) as service:
            OpenAssistant.url = service.url
            began = time.monotonic()
            asyncio.run(asked().text())
            assert time.monotonic() - began < engines.LINGER_S

    @pytest.mark.parametrize("held", [False, True])
    def test_an_answer_left_half_read_when_the_loop_ends_is_given_back(self, *, held: bool) -> None:
        kept: list[AsyncResult] = []

        async def main() -> None:
            answer = asked()
            kept.extend([answer] if held else [])
            await anext(answer)

        with served_from_another_thread(token_interval=0.01, answer_tokens=20) as service:
            OpenAssistant.url = service.url
            asyncio.run(main())
            assert service.created == 1
            assert not service.chats
        kept.clear()

    def test_the_end_of_a_loop_waits_no_longer_than_grace_and_leaves_the_rest_to_the_ledger(self) -> None:
        OpenAssistant.deadlines = Deadlines(poll=0.01, grace=0.05)

        async def main() -> None:
            await anext(asked())

        with served_from_another_thread(token_interval=0.01, answer_tokens=1000) as service:
            OpenAssistant.url = service.url
            began = time.monotonic()
            asyncio.run(main())
            assert time.monotonic() - began < Deadlines().grace
            assert len(service.chats) == 1

    def test_a_consumer_that_is_cancelled_in_its_own_block_when_the_loop_ends(self) -> None:
        async def consume(has_one: asyncio.Event) -> None:
            async for _ in asked():
                has_one.set()
                await asyncio.Event().wait()

        async def main() -> None:
            has_one = asyncio.Event()
            consumer = asyncio.create_task(consume(has_one))
            await has_one.wait()
            consumer.cancel()

        with served_from_another_thread(token_interval=0.01, answer_tokens=20) as service:
            OpenAssistant.url = service.url
            asyncio.run(main())
            assert service.created == 1
            assert not service.chats

    def test_a_loop_that_ends_before_the_engine_is_open(self) -> None:
        async def main() -> None:
            reader = asyncio.create_task(read(asked()))
            await asyncio.sleep(0)
            assert not reader.done()

        OpenAssistant.url = "http://127.0.0.1:1"
        asyncio.run(main())
        assert not engines._hosts

    def test_a_loop_that_stands_still_is_run_once_more_at_the_end_of_the_program(self) -> None:
        loop = asyncio.new_event_loop()
        with served_from_another_thread(token_interval=0) as service, closing(loop):
            OpenAssistant.url = service.url
            loop.run_until_complete(asked().text())
            assert list(engines._hosts) == [loop]
            engines._close_stranded()
            assert not engines._hosts
            assert not asyncio.all_tasks(loop)


# ---------------------------------------------------------------------------------------------------------- blocking


def completed(**kwargs: Any) -> provider.Completion:
    return OpenAssistant.create_completion("", HELLO, cookies=COOKIES, **kwargs)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "chatlease completion"]


def was_stopped(service: Service) -> bool:
    """Whether the chat was given back without reading the answer: then its run is looked at before it is deleted."""
    return not service.chats and {record.step for record in service.log} >= {"read_answer", "delete_chat"}


class TestCompletion:
    def test_it_gives_the_tokens_and_leaves_nothing(self) -> None:
        with served_from_another_thread(token_interval=0.001, answer_tokens=5) as service:
            OpenAssistant.url = service.url
            tokens = list(completed())
            assert "".join(tokens).count(" ") == 4
            assert service.created == 1
            assert not service.chats
            assert not reading_threads()

    def test_it_can_wait_for_the_whole_answer(self) -> None:
        with served_from_another_thread(token_interval=0.001, answer_tokens=5) as service:
            OpenAssistant.url = service.url
            (answer,) = completed(stream=False)
            assert answer.count(" ") == 4

    def test_one_that_is_not_iterated_does_nothing(self) -> None:
        with served_from_another_thread() as service:
            OpenAssistant.url = service.url
            completed().close()
            assert not service.log

    def test_closed_early_it_waits_until_the_chat_is_deleted(self) -> None:
        with served_from_another_thread(token_interval=0.01, answer_tokens=20) as service:
            OpenAssistant.url = service.url
            with completed() as tokens:
                next(tokens)
                assert service.chats
            assert not service.chats
            assert list(tokens) == []
            assert not reading_threads()

    def test_dropped_early_it_is_closed_too(self) -> None:
        with served_from_another_thread(token_interval=0.01, answer_tokens=20) as service:
            OpenAssistant.url = service.url
            for _ in completed():
                break
            for thread in reading_threads():
                thread.join()
            assert was_stopped(service)

    def test_closing_waits_longer_than_a_loop_that_ends_would(self) -> None:
        OpenAssistant.deadlines = Deadlines(poll=0.01, grace=0.01)
        with served_from_another_thread(token_interval=0.01, answer_tokens=30) as service:
            OpenAssistant.url = service.url
            with completed() as tokens:
                next(tokens)
            assert not service.chats

    def test_an_error_is_raised_where_it_is_iterated(self) -> None:
        with served_from_another_thread() as service:
            OpenAssistant.url = service.url
            with pytest.raises(RuntimeError, match="Model nobody not found"):
                list(OpenAssistant.create_completion("nobody", HELLO, cookies=COOKIES))
            assert not service.chats

    def test_bad_arguments_are_refused_at_once(self) -> None:
        with pytest.raises(TypeError):
            OpenAssistant.create_completion("", "Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def test_under_a_running_loop_it_names_the_other_way(self) -> None:
        with pytest.raises(UsageError) as caught:
            completed()
        assert "create_async_generator" in caught.value.hint

    def test_made_outside_it_does_not_block_a_loop_either(self) -> None:
        tokens = completed()

        async def main() -> None:
            with pytest.raises(UsageError):
                next(tokens)

        asyncio.run(main())

    def test_an_interrupt_while_it_waits_gives_the_chat_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted() -> str:
            raise KeyboardInterrupt

        with served_from_another_thread(token_interval=0.01, answer_tokens=20) as service:
            OpenAssistant.url = service.url
            tokens = completed()
            next(tokens)
            with monkeypatch.context() as patch:
                patch.setattr(tokens._reader, "_pieces", SimpleNamespace(get=interrupted))
                with pytest.raises(KeyboardInterrupt):
                    next(tokens)
            tokens._reader.join()
            assert was_stopped(service)
