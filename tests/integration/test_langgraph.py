"""LangGraph by the seeds' interface and by the command line, against the server's HTTP surface."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from chatlease_adapters import provider
from chatlease_adapters.provider import Messages
from tests.commands import command
from tests.langgraph.fake import Server, running

HELLO = Messages([{"role": "user", "content": "hello you"}])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server
        await provider.aclose()
        assert not server.threads
        assert not server.ghosts


@pytest.fixture
def asked(server: Server) -> type[provider.LangGraph]:
    class Asked(provider.LangGraph):
        url = server.url

    return Asked


class TestProvider:
    async def test_tokens_come_as_they_are_streamed(self, asked: type[provider.LangGraph]) -> None:
        assert [token async for token in asked.create_async_generator("", HELLO)] == ["hello", " ", "you"]
        assert await asked.create_async("agent", HELLO) == "hello you"

    async def test_an_answer_that_is_given_up_leaves_nothing(
        self, asked: type[provider.LangGraph], server: Server
    ) -> None:
        slow = Messages([{"role": "user", "content": "slow"}])
        async with aclosing(asked.create_async_generator("", slow)) as answer:
            async for _ in answer:
                break
        assert not server.threads
        assert not server.runs_under_way

    async def test_the_key_goes_with_the_question_and_further_arguments_to_the_graph(
        self, asked: type[provider.LangGraph], server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.keys = {"sk-right"}
        monkeypatch.setattr(asked, "api_key", "sk-right", raising=False)
        assert await asked.create_async("", HELLO, temperature=0.1) == "hello you"
        assert server.last["x-api-key"] == "sk-right"
        (body,) = [body for route, body in server.seen if route.endswith("/stream")]
        assert body["config"] == {"configurable": {"temperature": 0.1}}

    async def test_several_messages_are_rendered(self, asked: type[provider.LangGraph], server: Server) -> None:
        several = Messages([*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "again"}])
        await asked.create_async("", several)
        (body,) = [body for route, body in server.seen if route.endswith("/stream")]
        assert body["input"]["messages"][0]["content"] == "User: hello you\nAssistant: hi\nUser: again\nAssistant:"

    async def test_the_address_is_the_environments_where_the_class_has_none(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHATLEASE_LANGGRAPH_URL", server.url)
        assert await provider.LangGraph.create_async("", HELLO) == "hello you"


async def test_the_command_line_asks_it(server: Server) -> None:
    async with command("chat", "hello you", "--adapter", "langgraph", "--url", server.url) as asked:
        out, err = await asked.communicate()
    assert (asked.returncode, out, err) == (0, b"hello you\n", b"")
    assert not server.threads


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
async def test_the_command_line_interrupted_leaves_neither_thread_nor_run(server: Server) -> None:
    arguments = ("chat", "slow", "--adapter", "langgraph", "--url", server.url, "-o", "on_disconnect=continue")
    async with command(*arguments) as asked:
        assert asked.stdout is not None
        await asked.stdout.readuntil(b"w0")
        assert len(server.runs_under_way) == 1
        asked.send_signal(signal.SIGINT)
        await asked.communicate()
    assert asked.returncode == 130
    assert not server.threads
    assert not server.runs_under_way
