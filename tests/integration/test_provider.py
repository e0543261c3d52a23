"""The seeds' interface, member by member, against the local service over real HTTP."""

from __future__ import annotations

import asyncio
import collections.abc
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog

import chatlease
from chatlease import Deadlines
from chatlease.errors import Busy, NotAuthenticated, Rejected, SessionClosed, StepInFlight, Unavailable, UsageError
from chatlease_adapters import _provider_engines as engines
from chatlease_adapters import provider
from chatlease_adapters.open_assistant.service import SESSION_COOKIE, Service
from chatlease_adapters.provider import AsyncGeneratorProvider, AsyncResult, Messages, OpenAssistant
from tests.integration.asking import COOKIES, HELLO, TOKENS, asked, leaves_no_engine, read, scripted, speaking
from tests.integration.scenarios.client import until
from tests.integration.speaker import Speaker
from tests.unit.aio import Request, closed_port, loopback, reply, shown

__all__ = ["leaves_no_engine"]


def calls(service: Service) -> list[tuple[str, str]]:
    return [(record.method, record.path) for record in service.log]


# ------------------------------------------------------------------------------------------------------- the members


class TestMembers:
    def test_the_class_is_what_the_seeds_say(self) -> None:
        assert issubclass(OpenAssistant, AsyncGeneratorProvider)
        assert OpenAssistant.url == "https://open-assistant.io/chat"
        assert OpenAssistant.needs_auth is True
        assert OpenAssistant.working is False
        assert OpenAssistant.model == "OA_SFT_Llama_30B_6"

    def test_messages_is_a_list_and_can_be_called(self) -> None:
        assert Messages([{"role": "user", "content": "x"}]) == [{"role": "user", "content": "x"}]

    def test_format_prompt_leaves_a_single_message_and_writes_several_out(self) -> None:
        assert provider.format_prompt(Messages([{"role": "user", "content": " x\n"}])) == " x\n"
        several = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
        assert provider.format_prompt(several) == "User: Hi\nAssistant: Yes?\nAssistant:"
        assert provider.format_prompt is chatlease.format_prompt

    def test_a_provider_without_a_generator_is_none(self) -> None:
        class Nothing(AsyncGeneratorProvider):
            pass

        with pytest.raises(TypeError, match="abstract"):
            Nothing()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]  (that is what is tested)

    def test_asking_needs_no_loop_and_sends_nothing(self) -> None:
        answer = asked()
        assert isinstance(answer, AsyncResult)
        assert isinstance(answer, collections.abc.AsyncGenerator)
        assert isinstance(answer, collections.abc.Awaitable)
        assert "not started" in repr(answer)
        assert "Hello" not in repr(answer)

    @pytest.mark.parametrize("messages", ["Hello", None, {"role": "user", "content": "x"}, [["user", "x"]], ["x"]])
    def test_messages_of_a_wrong_type_are_a_type_error(self, messages: object) -> None:
        with pytest.raises(TypeError, match=r"messages?"):
            _ = asked(messages=messages)

    @pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "user", "content": ["a part"]}]])
    def test_messages_without_text_are_refused(self, messages: object) -> None:
        with pytest.raises(UsageError, match="message"):
            _ = asked(messages=messages)

    @pytest.mark.parametrize("cookies", ["a=b", [("a", "b")], {"a": 1}, {1: "a"}])
    def test_cookies_of_a_wrong_type_are_a_type_error(self, cookies: object) -> None:
        with pytest.raises(TypeError, match="cookies"):
            _ = asked(cookies=cookies)


# ---------------------------------------------------------------------------------------------------------- the wire


class TestWire:
    async def test_it_sends_the_five_requests_of_the_seeds(self) -> None:
        async with loopback(answer=scripted) as server:
            OpenAssistant.url = f"{server.url}/chat"
            cookies = {"a": "1", "b": '"2"', SESSION_COOKIE: "x="}
            assert await read(asked(cookies=cookies, top_p=0.8, temperature=0.5, seed=7)) == ["Hi"]
            await provider.aclose()
        bodies = [json.loads(request.body) if request.body else None for request in server.seen]
        assert [(request.method, request.target) for request in server.seen] == [
            ("POST", "/api/chat"),
            ("POST", "/api/chat/prompter_message"),
            ("POST", "/api/chat/assistant_message"),
            ("POST", "/api/chat/events?chat_id=id-of-chat&message_id=id-of-assistant_message"),
            ("DELETE", "/api/chat?chat_id=id-of-chat"),
        ]
        prompt = "<s>[INST]\nHello, how are you?\n[/INST]"
        assert bodies[1] == {"chat_id": "id-of-chat", "content": prompt, "parent_id": None}
        assert bodies[2] == {
            "chat_id": "id-of-chat",
            "parent_id": "id-of-prompter_message",
            "model_config_name": "OA_SFT_Llama_30B_6",
            "sampling_parameters": {
                "top_k": 50,
                "top_p": 0.8,
                "typical_p": None,
                "temperature": 0.5,
                "repetition_penalty": 1.1111111111111112,
                "max_new_tokens": 1024,
                "seed": 7,
            },
            "plugins": [],
        }
        assert (bodies[0], bodies[3], bodies[4]) == (None, None, None)
        for request in server.seen:
            assert request.all("Cookie") == [f'a=1; b="2"; {SESSION_COOKIE}=x=']
            assert request.all("User-Agent")[0].startswith("Mozilla/5.0 ")

    @pytest.mark.parametrize(
        ("page", "path"),
        [
            ("", "/api/chat"),
            ("/", "/api/chat"),
            ("/chat", "/api/chat"),
            ("/chat/", "/api/chat"),
            ("/oa/chat", "/oa/api/chat"),
            ("/oa", "/oa/api/chat"),
        ],
    )
    async def test_url_is_an_origin_or_a_page_and_a_prefix_is_kept(self, page: str, path: str) -> None:
        async with loopback(answer=scripted) as server:
            OpenAssistant.url = server.url + page
            await asked().text()
            await provider.aclose()
        assert server.seen[0].target == path

    async def test_an_url_that_is_not_set_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with loopback(answer=scripted) as server:
            monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_URL", server.url)
            assert await asked().text() == "Hi"
            await provider.aclose()

    async def test_a_subclass_may_have_another_url_and_model(self) -> None:
        class Mine(OpenAssistant):
            model: ClassVar[str] = "mine"

        OpenAssistant.url = f"http://127.0.0.1:{await closed_port()}"
        async with loopback(answer=scripted) as server:
            Mine.url = server.url
            assert await Mine.create_async("", HELLO, cookies=COOKIES) == "Hi"
            await provider.aclose()
        assert json.loads(server.seen[2].body)["model_config_name"] == "mine"

    @pytest.mark.parametrize("url", ["nowhere", "ftp://x", "http://user:password@x"])
    async def test_an_url_that_is_none_is_refused_without_being_told(self, url: str) -> None:
        OpenAssistant.url = url
        with pytest.raises(UsageError) as caught:
            _ = asked()
        assert "password" not in shown(caught.value)

    @pytest.mark.parametrize("cookies", [None, {}])
    async def test_cookies_not_given_are_looked_for(self, cookies: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "one=1; two=2")
        async with loopback(answer=scripted) as server:
            OpenAssistant.url = server.url
            await asked(cookies=cookies).text()
            await provider.aclose()
        assert {request.all("Cookie")[0] for request in server.seen} == {"one=1; two=2"}

    async def test_cookies_that_were_found_go_through_the_proxy_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "one=1")
        async with loopback(answer=scripted) as proxy:
            OpenAssistant.url = "http://service.test"
            await asked(cookies=None, proxy=proxy.url).text()
            await provider.aclose()
        assert len(proxy.seen) == 5
        assert all(request.target.startswith("http://service.test/api/chat") for request in proxy.seen)
        assert {request.all("Cookie")[0] for request in proxy.seen} == {"one=1"}

    async def test_without_cookies_anywhere_it_says_where_it_looked(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        async with speaking() as service:
            with pytest.raises(NotAuthenticated, match="CHATLEASE_OPEN_ASSISTANT_COOKIE"):
                await asked(cookies=None).text()
            assert not service.log

    async def test_the_prompt_and_the_parameters_reach_the_worker(self) -> None:
        speaker = Speaker()
        async with speaking(speaker):
            several = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
            assert await read(asked(messages=several, top_k=10, top_p=0.8, temperature=0.5)) == TOKENS
        prompt, sampling = speaker.heard[0]
        assert prompt == "<s>[INST]\nUser: Hi\nAssistant: Yes?\nAssistant:\n[/INST]"
        assert (sampling["top_k"], sampling["top_p"], sampling["temperature"]) == (10, 0.8, 0.5)


# -------------------------------------------------------------------------------------------------------- the answer


class TestAnswer:
    async def test_it_is_iterated_at_once_or_awaited_first(self) -> None:
        async with speaking() as service:
            assert await read(asked()) == TOKENS
            answer = await asked()
            assert isinstance(answer, AsyncResult)
            assert await read(answer) == TOKENS
            assert [path.removeprefix("/api/chat") for _, path in calls(service)] == [
                *("", "/prompter_message", "/assistant_message", "/events", "")
            ] * 2

    async def test_when_it_has_ended_its_chat_is_deleted(self) -> None:
        async with speaking() as service:
            answer = asked()
            assert await read(answer) == TOKENS
            assert not service.chats
            assert "ended" in repr(answer)

    async def test_it_is_iterated_once(self) -> None:
        async with speaking():
            answer = asked()
            await read(answer)
            assert await read(answer) == []

    async def test_one_that_is_never_iterated_creates_nothing(self) -> None:
        async with speaking() as service:
            await (await asked()).aclose()
            _ = asked()
            assert not service.log

    async def test_it_takes_what_a_generator_takes(self) -> None:
        async with speaking():
            answer = asked()
            with pytest.raises(TypeError, match="just-started"):
                await answer.asend("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            assert await answer.asend(None) == "Hello"
            assert await anext(answer) == ","
            assert await answer.asend(None) == " world"
            with pytest.raises(StopAsyncIteration):
                await answer.asend(None)

    async def test_two_readers_get_in_no_ones_way(self) -> None:
        speaker = Speaker(pause_after=1)
        async with speaking(speaker):
            answer = asked()
            await anext(answer)
            waiting = asyncio.create_task(read(answer))
            await asyncio.sleep(0)
            with pytest.raises(StepInFlight):
                await anext(answer)
            speaker.go.set()
            assert await waiting == TOKENS[1:]

    async def test_create_async_returns_the_whole_answer(self) -> None:
        async with speaking():
            assert await OpenAssistant.create_async("", HELLO, cookies=COOKIES) == "Hello, world"

    async def test_create_async_believes_the_final_text_and_not_the_tokens(self) -> None:
        async with speaking(Speaker(final="Good morning")):
            assert await OpenAssistant.create_async("", HELLO, cookies=COOKIES) == "Good morning"

    async def test_an_answer_that_was_closed_has_no_text(self) -> None:
        async with speaking():
            answer = asked()
            await answer.aclose()
            with pytest.raises(SessionClosed):
                await answer.text()

    async def test_twenty_at_once_with_one_login_all_get_their_answer(self) -> None:
        async with speaking() as service:
            answers = await asyncio.gather(*(read(asked()) for _ in range(20)))
            assert answers == [TOKENS] * 20
            assert service.created == 20
            assert not service.lost_messages


# ---------------------------------------------------------------------------------------------------------- the ends


async def _break(answer: AsyncResult) -> None:
    async for _ in answer:
        break


async def _close(answer: AsyncResult) -> None:
    await anext(answer)
    await answer.aclose()
    await answer.aclose()
    assert await read(answer) == []


async def _close_block(answer: AsyncResult) -> None:
    async with aclosing(answer):
        await anext(answer)


async def _throw(answer: AsyncResult) -> None:
    await anext(answer)
    with pytest.raises(KeyError, match="mine"):
        await answer.athrow(KeyError("mine"))
    assert await read(answer) == []


async def _throw_the_old_way(answer: AsyncResult) -> None:
    await anext(answer)
    with pytest.raises(KeyError, match="mine"):
        await answer.athrow(KeyError, "mine", None)


async def _generator_exit(answer: AsyncResult) -> None:
    await anext(answer)
    with pytest.raises(GeneratorExit):
        await answer.athrow(GeneratorExit)


async def _error_in_the_loop(answer: AsyncResult) -> None:
    with suppress(ZeroDivisionError):
        async for _ in answer:
            _ = 1 / 0


async def _reader_cancelled(answer: AsyncResult) -> None:
    await anext(answer)
    reader = asyncio.create_task(read(answer))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await read(answer) == []


async def _consumer_cancelled(answer: AsyncResult) -> None:
    has_one = asyncio.Event()

    async def consume(answer: AsyncResult) -> None:
        async for _ in answer:
            has_one.set()
            await asyncio.Event().wait()

    consumer = asyncio.create_task(consume(answer))
    del answer
    await has_one.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def _timed_out(answer: AsyncResult) -> None:
    await anext(answer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(answer), 0.01)
    assert await read(answer) == []


async def _closed_while_reading(answer: AsyncResult) -> None:
    await anext(answer)
    reader = asyncio.create_task(read(answer))
    await asyncio.sleep(0)
    await answer.aclose()
    with pytest.raises(SessionClosed):
        await reader


async def _engine_closed(answer: AsyncResult) -> None:
    await anext(answer)
    await provider.aclose()
    with pytest.raises(SessionClosed):
        await anext(answer)


async def _dropped_in_another_thread(answer: AsyncResult) -> None:
    await anext(answer)
    box = [answer]
    del answer
    await asyncio.to_thread(box.clear)


ENDS = [
    *(_break, _close, _close_block, _throw, _throw_the_old_way, _generator_exit, _error_in_the_loop),
    *(_reader_cancelled, _consumer_cancelled, _timed_out, _closed_while_reading, _engine_closed),
    _dropped_in_another_thread,
]


class TestEnds:
    """However an answer ends half read, its chat is deleted, and only after its run has come to its end."""

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.removeprefix("_"))
    async def test_the_chat_is_given_back(self, end: Callable[[AsyncResult], Coroutine[Any, Any, None]]) -> None:
        speaker = Speaker(pause_after=1)
        async with speaking(speaker) as service:
            asyncio.get_running_loop().call_later(0.05, speaker.go.set)
            await end(asked())
            await until(lambda: not service.chats)
            assert service.created == 1
            assert not service.lost_messages

    async def test_before_the_first_token_an_error_thrown_in_just_ends_it(self) -> None:
        async with speaking() as service:
            answer = asked()
            with pytest.raises(KeyError):
                await answer.athrow(KeyError())
            assert await read(answer) == []
            assert not service.log

    async def test_cancelled_while_it_is_being_opened(self) -> None:
        async with speaking() as service:
            reader = asyncio.create_task(read(asked()))
            await asyncio.sleep(0)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            assert not service.log

    async def test_closed_while_it_is_being_opened(self) -> None:
        async with speaking() as service:
            answer = asked()
            reader = asyncio.create_task(read(answer))
            await asyncio.sleep(0)
            await answer.aclose()
            assert await reader == []
            assert not service.log


# ---------------------------------------------------------------------------------------------------------- failures


class TestErrors:
    async def test_the_services_message_is_the_text_of_the_error(self) -> None:
        async with speaking():
            with pytest.raises(RuntimeError) as caught:
                await asked("OA_SFT_Llama_13B_6").text()
            assert str(caught.value) == "Model OA_SFT_Llama_13B_6 not found"
            assert isinstance(caught.value, Rejected)

    async def test_a_message_instead_of_an_id_is_the_text_of_the_error_whatever_the_status(self) -> None:
        def refusing(request: Request) -> Any:
            if request.target.endswith("assistant_message"):
                return reply(b'{"message": "Too tired."}')
            return scripted(request)

        async with loopback(answer=refusing) as server:
            OpenAssistant.url = server.url
            with pytest.raises(RuntimeError) as caught:
                await asked().text()
            await provider.aclose()
        assert str(caught.value) == "Too tired."
        assert server.seen[-1].method == "DELETE"

    @pytest.mark.parametrize("step", ["send_prompt", "queue_assistant", "open_stream"])
    @pytest.mark.parametrize("fault", ["500", "html", "refuse", "drop"])
    async def test_whatever_fails_is_a_runtime_error_and_the_chat_is_deleted(self, step: str, fault: str) -> None:
        async with speaking(Speaker(for_nobody=True)) as service:
            service.faults.add(step, fault)
            with pytest.raises(RuntimeError) as caught:
                await asked().text()
            assert COOKIES["session_id"] not in shown(caught.value)
            assert "how are you" not in shown(caught.value)

    async def test_how_long_it_waits_can_be_set(self) -> None:
        speaker = Speaker(pause_after=0)
        async with speaking(speaker):
            first = asyncio.create_task(asked().text())
            await until(lambda: bool(speaker.heard))
            OpenAssistant.deadlines = Deadlines(gate=0.01)
            with pytest.raises(Busy):
                await asked().text()
            speaker.go.set()
            assert await first == "Hello, world"

    async def test_a_service_that_is_not_there(self) -> None:
        OpenAssistant.url = f"http://127.0.0.1:{await closed_port()}"
        with pytest.raises(Unavailable) as caught:
            await asked().text()
        assert isinstance(caught.value, RuntimeError)
        await provider.aclose()

    @pytest.mark.parametrize("proxy", ["nonsense", "gopher://x:1"])
    async def test_a_proxy_that_is_none(self, proxy: str) -> None:
        async with speaking() as service:
            with pytest.raises(RuntimeError, match="proxy"):
                await asked(proxy=proxy).text()
            assert not service.log

    async def test_text_that_is_no_unicode(self) -> None:
        async with speaking():
            with pytest.raises(RuntimeError) as caught:
                await asked(messages=[{"role": "user", "content": "my secret \ud800"}]).text()
            assert "secret" not in shown(caught.value)

    async def test_a_parameter_that_is_no_json(self) -> None:
        async with speaking() as service:
            with pytest.raises(UsageError, match="sampling"):
                await asked(top_k=object()).text()
            assert not service.log

    async def test_an_error_of_a_foreign_kind_is_a_runtime_error_that_tells_its_class(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> str:
            raise LookupError("my secret")

        monkeypatch.setattr("chatlease_adapters.open_assistant.OpenAssistant.send_prompt", broken)
        async with speaking():
            with pytest.raises(RuntimeError, match="LookupError") as caught:
                await asked().text()
            assert "secret" not in shown(caught.value)

    async def test_an_engine_that_cannot_be_opened_fails_the_call_and_is_tried_again_by_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise chatlease.errors.LedgerUnavailable("no room")

        async with speaking():
            with monkeypatch.context() as patch:
                patch.setattr(engines, "Engine", broken)
                with pytest.raises(chatlease.errors.LedgerUnavailable):
                    await asked().text()
            assert await asked().text() == "Hello, world"


# ----------------------------------------------------------------------------------------------------------- logging


def provider_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "chatlease.provider"]


class TestLogger:
    async def test_it_logs_information(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with speaking() as service:
            await asked().text()
            opened, ended = provider_records(caplog)
            assert (opened.getMessage(), opened.levelname) == ("provider.answer.opened", "INFO")
            assert (ended.getMessage(), ended.levelname) == ("provider.answer.ended", "INFO")
            assert vars(ended)["token_count"] == 3
            assert vars(ended)["origin"] == service.url
            assert vars(ended)["model"] == "OA_SFT_Llama_30B_6"

    async def test_it_logs_errors_by_class_and_code(self, caplog: pytest.LogCaptureFixture) -> None:
        async with speaking():
            with pytest.raises(RuntimeError):
                await asked("nobody").text()
            (failed,) = provider_records(caplog)
            assert (failed.getMessage(), failed.levelname) == ("provider.answer.failed", "ERROR")
            assert (vars(failed)["error"], vars(failed)["error_code"], vars(failed)["http_status"]) == (
                *("Rejected", "http-422", 422),
            )

    async def test_it_logs_what_was_given_up_as_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with speaking():
            answer = asked()
            await anext(answer)
            await answer.aclose()
            assert [record.getMessage() for record in provider_records(caplog)][1:] == ["provider.answer.closed"]

    async def test_it_logs_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with loopback(answer=scripted) as proxy:
            OpenAssistant.url = "http://service.test"
            await asked(proxy=f"http://user:proxy-password@127.0.0.1:{proxy.port}").text()
            await provider.aclose()
        logged = "\n".join(str(vars(record)) for record in caplog.records)
        assert "provider.answer.ended" in logged
        for secret in (COOKIES["session_id"], "proxy-password", "how are you", "Hi"):
            assert secret not in logged

    async def test_it_carries_what_the_bot_has_bound(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with speaking():
            with structlog.contextvars.bound_contextvars(request_id="r1", module="reserved"):
                await asked().text()
        record = provider_records(caplog)[0]
        assert (vars(record)["request_id"], vars(record)["module_"]) == ("r1", "reserved")

    async def test_with_nothing_configured_nothing_is_printed(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        async with speaking():
            with pytest.raises(RuntimeError):
                await asked("nobody").text()
        assert capfd.readouterr() == ("", "")

    def test_it_is_the_users_logger_too_and_the_host_is_left_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        provider.logger.error("mine", kind="test")
        assert provider_records(caplog)[0].getMessage() == "mine"
        assert not structlog.is_configured()
