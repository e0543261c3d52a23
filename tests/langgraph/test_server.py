"""The real LangGraph Server, with a stub graph: what the adapter and its fake say of it holds, and nothing is left."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Literal, cast
from uuid import uuid4

import aiohttp
import pytest

from chatlease import Deadlines, Engine
from chatlease.adapter import AnswerStream, Call, Credential, Login, RunOptions
from chatlease.errors import Busy, Rejected, RunFailed
from chatlease.events import RunStatus
from chatlease.testing import check_adapter
from chatlease_adapters import provider
from chatlease_adapters.langgraph import LangGraph
from chatlease_adapters.provider import Messages
from tests.commands import command
from tests.langgraph import fake
from tests.langgraph.server import Witness, serving, why_not

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.slow]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("langgraph")) as url:
        yield url


@pytest.fixture
async def witness(real: str) -> AsyncIterator[Witness]:
    """Asks the server itself; every test begins and ends with no thread and no run."""
    async with aiohttp.ClientSession() as http:
        witness = Witness(real, http)
        assert await witness.idle()
        assert await witness.threads() == 0
        yield witness
        assert await witness.threads() == 0
        assert await witness.idle()


def engine_of(url: str) -> Engine:
    return Engine(LangGraph(url), ledger="memory", sweep=None)


def call_of(text: str) -> Call:
    call = Call(Login("bot", Credential()), Deadlines())
    call.text = text
    return call


async def begun(adapter: LangGraph, call: Call) -> tuple[str, str, AnswerStream]:
    """Have a run go on in a thread of its own; returns their ids, and its stream after the first word."""
    chat = await adapter.create_chat(call, str(uuid4()))
    run = await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    stream = await adapter.open_stream(call, chat, run)
    assert stream is not None
    while "w0" not in await stream.read():
        pass
    return chat, run, stream


async def test_the_adapter_keeps_the_contract(real: str, witness: Witness) -> None:
    await check_adapter(lambda: LangGraph(real), credential=Credential())


@pytest.mark.parametrize("prompt", ["hello you there", "quiet please"])
async def test_an_answer_comes_as_it_is_streamed(real: str, witness: Witness, prompt: str) -> None:
    async with engine_of(real) as engine:
        tokens = [token async for token in engine.ask(prompt)]
    assert "".join(tokens) == prompt
    assert len(tokens) == (1 if prompt.startswith("quiet") else 5)


async def test_turns_have_their_own_answers(real: str, witness: Witness) -> None:
    async with engine_of(real) as engine, engine.session() as session:
        assert [await session.ask(text).text() for text in ("one two", "three four")] == ["one two", "three four"]


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_cancelled_ask_leaves_neither_thread_nor_run(
    real: str, witness: Witness, on_disconnect: Literal["cancel", "continue"]
) -> None:
    """Also where the server would let the run go on: it is cancelled, and over before its thread is deleted."""

    async def read() -> None:
        async for _ in engine.ask("slow"):
            heard.set()

    heard = asyncio.Event()
    async with Engine(LangGraph(real, on_disconnect=on_disconnect), ledger="memory", sweep=None) as engine:
        reading = asyncio.create_task(read())
        async with asyncio.timeout(30):
            await heard.wait()
        assert (await witness.threads(), await witness.runs()) == (1, 1)
        reading.cancel()
        await asyncio.wait({reading})
        assert await witness.threads() == 0
        assert await witness.idle(1.0)


async def test_ten_asks_cancelled_at_once_at_any_moment_leave_neither_threads_nor_runs(
    real: str, witness: Witness
) -> None:
    async def read(after_s: float) -> None:
        async with asyncio.timeout(after_s):
            await engine.ask("slow").text()

    async with engine_of(real) as engine:
        ends = await asyncio.gather(*(read(0.15 * number) for number in range(10)), return_exceptions=True)
        assert all(isinstance(end, TimeoutError) for end in ends)
    assert await witness.threads() == 0
    assert await witness.idle(1.0)


async def test_errors_are_typed(real: str, witness: Witness) -> None:
    async with engine_of(real) as engine:
        with pytest.raises(RunFailed, match="stub model exploded") as failed:
            await engine.ask("boom says the planted prompt").text()
        assert "planted" not in str(failed.value)
        with pytest.raises(RunFailed) as waits:
            await engine.ask("wait for me").text()
        assert waits.value.code == "waits-for-a-person"
        with pytest.raises(Rejected, match="registered graphs: agent") as rejected:
            await engine.ask("hello", model="nobody").text()
        assert rejected.value.status == 422


async def test_a_client_that_goes_away_stops_its_run(real: str, witness: Witness) -> None:
    """As a process that is killed does: nobody says anything, the connection just breaks."""
    adapter, call = LangGraph(real), call_of("slow")
    chat, run, stream = await begun(adapter, call)
    with pytest.raises(Busy):
        await adapter.queue_assistant(call_of("two"), chat, "q", "agent", RunOptions())
    stream.close()
    assert await witness.idle(10.0)
    assert (await adapter.read_answer(call, chat, None, run)).status is RunStatus.CANCELLED
    await adapter.delete_chat(call, chat)
    await adapter.aclose()


async def test_what_is_said_of_deletion_during_a_run_is_true(real: str, witness: Witness) -> None:
    """The thread is gone, the run goes on, and neither a cancel nor the end of its connection stops it."""
    adapter, call = LangGraph(real), call_of("slow 60")
    chat, run, stream = await begun(adapter, call)
    assert await adapter.delete_chat(call, chat)
    await adapter.stop_run(call, chat, run)
    stream.close()
    assert not await witness.idle(2.0)
    assert await witness.idle(30.0), "it comes to its own end"
    await adapter.aclose()


async def test_the_seeds_interface(real: str, witness: Witness) -> None:
    class Asked(provider.LangGraph):
        url = real

    hello = Messages([{"role": "user", "content": "hello you"}])
    assert [token async for token in Asked.create_async_generator("", hello)] == ["hello", " ", "you"]
    slow = Messages([{"role": "user", "content": "slow"}])
    async with aclosing(Asked.create_async_generator("", slow)) as answer:
        async for _ in answer:
            break
    assert await witness.threads() == 0
    await provider.aclose()


async def test_the_command_line(real: str, witness: Witness) -> None:
    connection = ("--adapter", "langgraph", "--url", real)
    async with command("chat", "hello you", *connection) as asked:
        assert await asked.communicate() == (b"hello you\n", b"")
    async with command("chat", "slow", *connection) as asked:
        assert asked.stdout is not None
        await asked.stdout.readuntil(b"w0")
        asked.send_signal(signal.SIGINT)
        await asked.communicate()
    assert asked.returncode == 130


# -- the fake ---------------------------------------------------------------------------------------------------------

_THREAD = {"thread_id": str(uuid4()), "if_exists": "raise", "metadata": {"leased_by": "chatlease", "lease": "k"}}
_AT = f"/threads/{_THREAD['thread_id']}"
_RUN = {
    "assistant_id": "agent",
    "input": {"messages": [{"role": "user", "content": "quiet", "id": str(uuid4())}]},
    "stream_mode": ["messages-tuple"],
    "on_disconnect": "cancel",
    "multitask_strategy": "reject",
    "if_not_exists": "reject",
    "metadata": {"lease_prompt": "p"},
}
_SEARCH = {
    "metadata": {"leased_by": "chatlease"},
    "limit": 10,
    "offset": 0,
    "sort_by": "created_at",
    "sort_order": "desc",
    "select": ["thread_id", "created_at", "metadata"],
}
_OTHER = f"/threads/{uuid4()}"
_QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/threads", _THREAD),
    ("POST", "/threads", _THREAD),
    ("POST", "/threads", {"thread_id": "none"}),
    ("POST", "/threads/search", _SEARCH),
    ("GET", f"{_AT}/runs?limit=10", None),
    ("POST", f"{_AT}/runs/stream", {**_RUN, "assistant_id": "nobody"}),
    ("POST", f"{_OTHER}/runs/stream", _RUN),
    ("POST", f"{_AT}/runs/stream", _RUN),
    ("GET", f"{_AT}/runs?limit=10", None),
    ("GET", f"{_AT}/state", None),
    ("GET", _AT, None),
    ("POST", "/threads/search", _SEARCH),
    ("POST", f"{_AT}/runs/{uuid4()}/cancel?wait=0&action=interrupt", {}),
    ("GET", f"{_AT}/runs/{uuid4()}", None),
    ("GET", f"{_OTHER}/runs", None),
    ("DELETE", _AT, None),
    ("DELETE", _AT, None),
    ("GET", f"{_AT}/state", None),
    ("GET", "/nothing", None),
)


async def test_the_fake_answers_as_the_server_does(real: str, witness: Witness) -> None:
    """Statuses, types, the names in what is said, and the server's words wherever it refuses."""
    async with fake.running() as server:
        for method, path, body in _QUESTIONS:
            answers = [await _asked(url, method, path, body) for url in (server.url, real)]
            assert answers[0] == answers[1], (method, path)


async def _asked(url: str, method: str, path: str, body: Any) -> object:
    async with aiohttp.ClientSession() as http, http.request(method, url + path, json=body) as response:
        text = await response.text()
        head = (response.status, response.content_type, bool(response.headers.get("Content-Location")))
        if response.content_type == "text/event-stream":
            return head, [line for line in text.split("\r\n") if line.startswith("event:")]
        if response.status >= 400:
            return head, (await response.json())["detail"][:60]
        told: Any = await response.json() if text else None
        return head, _shape({"values": told["values"]} if path.endswith("/state") else told)


_TOLD = {"thread_id", "metadata", "lease", "leased_by", "lease_prompt", "run_id", "status", "values", "messages"}


def _shape(value: Any) -> object:
    """Return what the adapter relies on, without what differs from day to day."""
    if isinstance(value, dict):
        told = cast("dict[str, Any]", value)
        return {key: _shape(told[key]) for key in sorted(_TOLD & told.keys())}
    if isinstance(value, list):
        return [_shape(each) for each in cast("Sequence[Any]", value)]
    return type(value).__name__
