"""LangGraph: one call is three steps, ids are ours, text comes from chunks, and no run goes on without its thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal
from uuid import uuid4

import pytest

from chatlease import Deadlines, Engine, MemoryLedger
from chatlease.adapter import Call, Credential, Login, RunOptions
from chatlease.errors import (
    Busy,
    NotAuthenticated,
    ProtocolChanged,
    Rejected,
    RunCancelled,
    RunFailed,
    Unavailable,
    UsageError,
)
from chatlease.events import Failed, Pending, RunStatus
from chatlease_adapters.http import HttpStream
from chatlease_adapters.langgraph import LangGraph
from chatlease_adapters.langgraph._stream import LangGraphStream
from tests.langgraph.fake import RECORDED, Server, running

STREAM = "POST /threads/{thread}/runs/stream"
CREATE = "POST /threads"
DELETE = "DELETE /threads/{thread}"
CANCEL = "POST /threads/{thread}/runs/{run}/cancel"
LOOK = "GET /threads/{thread}/runs/{run}"
QUICK = Deadlines(call=2, poll=0.05, settle=2, grace=2, drain=5)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server
        assert not server.ghosts, "no thread was deleted while its run went on"


def engine_of(server: Server, *, on_disconnect: Literal["cancel", "continue"] = "cancel", **options: Any) -> Engine:
    given: dict[str, Any] = {"ledger": "memory", "sweep": None, "deadlines": QUICK} | options
    return Engine(LangGraph(server.url, on_disconnect=on_disconnect), **given)


def call_of(credential: Credential | None = None) -> Call:
    call = Call(Login("bot", credential or Credential()), QUICK)
    call.text = "hello you"
    return call


def routes(server: Server) -> list[str]:
    return [route for route, _ in server.seen]


# ---------------------------------------------------------------------------------------------------------- the stream


class Body(HttpStream):
    """Bytes, cut as wanted."""

    def __init__(self, data: bytes, size: int = 1 << 20) -> None:
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]
        self.closed = 0

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.closed += 1


async def events_of(data: bytes, size: int = 1 << 20, hide: tuple[str, ...] = ()) -> list[Any]:
    stream = LangGraphStream(Body(data, size), hide)
    found: list[Any] = []
    while batch := await stream.read():
        found += batch
    return found


def frame(kind: str, data: object) -> bytes:
    return f"event: {kind}\r\ndata: {json.dumps(data)}\r\n\r\n".encode()


def piece(content: object, kind: str = "AIMessageChunk") -> bytes:
    return frame("messages", [{"type": kind, "content": content, "id": "m"}, {"langgraph_step": 1}])


class TestStream:
    @pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("normal", "hello from a stub model, one word at a time"),
            ("error-in-stream", "partial words before failure"),
            ("javascript-server-pretty-json", "hello from a stub"),
        ],
    )
    async def test_the_recorded_text_comes_once_however_the_bytes_are_cut(
        self, name: str, text: str, size: int
    ) -> None:
        events = await events_of((RECORDED / f"{name}.sse").read_bytes(), size)
        assert "".join(each for each in events if isinstance(each, str)) == text

    async def test_heartbeats_are_no_events_although_they_come_for_ever(self) -> None:
        """The run's thread was deleted: it goes on, and the stream hangs on comments."""
        recorded = (RECORDED / "deleted-while-streaming.sse").read_bytes()
        words = "".join(each for each in await events_of(recorded, 1000) if isinstance(each, str)).split()
        assert words == [f"w{number}" for number in range(len(words))]
        assert len(words) > 100
        assert await events_of(b": heartbeat\r\n\r\n" * 3) == [Pending(0, 0)]

    async def test_an_error_inside_a_good_answer_is_the_end_and_typed(self) -> None:
        recorded = (RECORDED / "error-in-stream.sse").read_bytes()
        last = (await events_of(recorded + piece("unheard")))[-1]
        assert isinstance(last, Failed)
        assert type(last.error) is RunFailed
        assert (str(last.error), last.error.code) == ("stub model exploded", "run-failed")

    async def test_an_error_shows_neither_prompt_nor_key(self) -> None:
        said = frame("error", {"error": "ValueError", "message": "cannot answer 'where is my cat' with sk-planted"})
        (*_, last) = await events_of(said, hide=("where is my cat", "sk-planted"))
        assert str(last.error) == "cannot answer '[hidden]' with [hidden]"

    @pytest.mark.parametrize("name", ["CancelledError", "UserInterrupt", "UserRollback"])
    async def test_a_run_that_was_cancelled_elsewhere_is_told_as_that(self, name: str) -> None:
        (*_, last) = await events_of(frame("error", {"error": name, "message": ""}))
        assert type(last.error) is RunCancelled

    async def test_an_error_that_cannot_be_read_is_an_error_all_the_same(self) -> None:
        (*_, last) = await events_of(b"event: error\r\ndata: [1\r\n\r\n")
        assert type(last.error) is RunFailed

    async def test_a_message_that_was_not_streamed_counts_as_a_whole(self) -> None:
        assert await events_of(piece("all at once", "ai")) == [Pending(0, 0), "all at once"]

    async def test_what_people_and_tools_say_is_no_answer(self) -> None:
        others = b"".join(piece("x", kind) for kind in ("human", "tool", "system", "ToolMessageChunk"))
        assert await events_of(others + piece("a")) == [Pending(0, 0), "a"]

    async def test_text_may_come_in_blocks(self) -> None:
        blocks = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "t"}, "b", {"type": "text", "text": "c"}]
        assert await events_of(piece(blocks) + piece("") + piece([])) == [Pending(0, 0), "abc"]

    async def test_other_frames_and_an_end_say_nothing(self) -> None:
        others = frame("metadata", {"run_id": "r"}) + frame("values", {"messages": []}) + frame("end", None)
        assert await events_of(others) == [Pending(0, 0)]

    @pytest.mark.parametrize("data", ["{}", "[]", '[{"content": 1}, {}]', '[{"type": "ai"}', "[null, {}]"])
    async def test_a_message_that_is_none_is_a_changed_protocol(self, data: str) -> None:
        with pytest.raises(ProtocolChanged, match="a message and its metadata"):
            await events_of(f"event: messages\r\ndata: {data}\r\n\r\n".encode())


# ----------------------------------------------------------------------------------------------------------- the login


class TestLogin:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CHATLEASE_LANGGRAPH_API_KEY", "CHATLEASE_LANGGRAPH_API_KEY_ALICE", "CHATLEASE_LANGGRAPH_URL"):
            monkeypatch.delenv(name, raising=False)

    async def found(self, account: str | None = None, rejected: Credential | None = None, **options: Any) -> Credential:
        return await LangGraph("http://host.test", **options).ready_cookies(account, rejected)

    async def test_without_a_key_none_is_sent(self) -> None:
        assert await self.found() == await self.found("alice") == Credential()

    async def test_the_key_given_goes_before_the_environments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_LANGGRAPH_API_KEY", " sk-environment ")
        assert (await self.found()).headers == {"x-api-key": "sk-environment"}
        assert (await self.found(api_key="sk-given")).headers == {"x-api-key": "sk-given"}

    async def test_a_named_account_has_its_own_key_and_never_the_default_accounts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(NotAuthenticated) as refused:
            await self.found("alice", api_key="sk-given")
        assert "CHATLEASE_LANGGRAPH_API_KEY_ALICE" in str(refused.value)
        assert "sk-given" not in f"{refused.value} {refused.value.hint}"
        monkeypatch.setenv("CHATLEASE_LANGGRAPH_API_KEY_ALICE", "sk-alice")
        assert (await self.found("alice", api_key="sk-given")).headers == {"x-api-key": "sk-alice"}

    @pytest.mark.parametrize("key", [None, "sk-refused"])
    async def test_what_was_refused_is_not_found_again(self, key: str | None) -> None:
        refused = await self.found(api_key=key)
        with pytest.raises(NotAuthenticated) as error:
            await self.found(rejected=refused, api_key=key)
        assert error.value.code == "credentials-refused"
        assert "sk-refused" not in f"{error.value} {error.value.hint}"

    async def test_a_proxy_is_every_logins_that_has_none(self) -> None:
        assert (await self.found(proxy="http://proxy.test:1")).proxy == "http://proxy.test:1"

    async def test_the_server_is_given_named_by_the_environment_or_where_langgraph_dev_listens(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert LangGraph().origin == "http://127.0.0.1:2024"
        monkeypatch.setenv("CHATLEASE_LANGGRAPH_URL", "https://host.test/prefix/")
        assert LangGraph().origin == "https://host.test/prefix"
        assert LangGraph("http://other.test").origin == "http://other.test"

    async def test_a_refused_key_is_in_no_error(self, server: Server) -> None:
        server.keys = {"right"}
        async with Engine(LangGraph(server.url, api_key="sk-planted-key"), ledger=None) as engine:
            with pytest.raises(NotAuthenticated) as refused:
                await engine.ask("hello").text()
        shown = f"{refused.value!r} {refused.value} {vars(refused.value)} {refused.value.__cause__!r}"
        assert "planted" not in shown


# --------------------------------------------------------------------------------------------------------- the options


class TestOptions:
    def test_only_sampling_is_known_and_the_hint_says_so(self) -> None:
        with pytest.raises(UsageError) as refused:
            LangGraph().check_options("agent", {"top_k": 5})
        assert "top_k" in str(refused.value)
        assert "sampling" in refused.value.hint

    @pytest.mark.parametrize("sampling", [{"a": object()}, {"a": float("nan")} | {"b": {1, object()}}])
    def test_what_is_no_json_is_refused_before_anything_is_sent(self, sampling: dict[str, object]) -> None:
        with pytest.raises(UsageError, match="sampling"):
            LangGraph().check_options("agent", {"sampling": sampling})

    def test_an_assistant_has_a_name(self) -> None:
        with pytest.raises(UsageError, match="assistant"):
            LangGraph().check_options("", {})

    def test_on_disconnect_is_one_of_two(self) -> None:
        with pytest.raises(UsageError, match="on_disconnect"):
            LangGraph(on_disconnect="whatever")  # type: ignore[arg-type]

    async def test_sampling_is_the_graphs_configurable(self, server: Server) -> None:
        async with engine_of(server) as engine:
            await engine.ask("hello", sampling={"temperature": 0.5}).text()
        (body,) = [body for route, body in server.seen if route == STREAM]
        assert body["config"] == {"configurable": {"temperature": 0.5}}


# ------------------------------------------------------------------------------------------------------------ sessions


async def test_a_session_is_these_requests_and_no_others(server: Server) -> None:
    async with engine_of(server) as engine:
        assert await engine.ask("hello you").text() == "hello you"
    assert routes(server) == [CREATE, STREAM, LOOK, "GET /threads/{thread}/state", DELETE]
    (_, thread), (_, run) = server.seen[:2]
    assert thread == {
        "thread_id": thread["thread_id"],
        "if_exists": "raise",
        "metadata": {"leased_by": "chatlease", "lease": thread["thread_id"]},
    }
    (message,) = run.pop("input")["messages"]
    assert (message["role"], message["content"]) == ("user", "hello you")
    assert run == {
        "assistant_id": "agent",
        "stream_mode": ["messages-tuple"],
        "on_disconnect": "cancel",
        "multitask_strategy": "reject",
        "if_not_exists": "reject",
        "metadata": {"lease_prompt": message["id"]},
    }
    assert not server.threads


async def test_which_step_makes_which_call(server: Server) -> None:
    """Queueing is what fires the one call; sending the prompt gives it an id, opening takes over its body."""
    async with engine_of(server) as engine, engine.session(prompt="hello") as session:
        made = {(await session.step()).trigger.value: len(server.seen) for _ in range(5)}
    assert made == {"ready_cookies": 0, "create_chat": 1, "send_prompt": 1, "queue_assistant": 2, "open_stream": 2}


async def test_turns_of_one_thread_have_their_own_answers(server: Server) -> None:
    async with engine_of(server) as engine, engine.session() as session:
        assert await session.ask("one two").text() == "one two"
        assert await session.ask("quiet three").text() == "quiet three"
    assert not server.threads


async def test_a_cancelled_reader_leaves_neither_thread_nor_run(server: Server) -> None:
    async def read() -> None:
        async for _ in engine.ask("slow"):
            heard.set()

    heard = asyncio.Event()
    async with engine_of(server) as engine:
        reading = asyncio.create_task(read())
        await heard.wait()
        assert len(server.runs_under_way) == 1
        reading.cancel()
        await asyncio.wait({reading})
        assert not server.threads
        assert not server.runs_under_way
    assert routes(server).index(CANCEL) < routes(server).index(DELETE)


async def test_a_session_that_ends_between_queueing_and_streaming_stops_its_run_first(server: Server) -> None:
    async with engine_of(server) as engine:
        session = engine.session(prompt="slow")
        for _ in range(4):
            await session.step()
        assert len(server.runs_under_way) == 1
        await session.aclose()
    assert routes(server).index(CANCEL) < routes(server).index(DELETE)
    assert not server.threads
    assert not server.runs_under_way


async def test_a_run_that_does_not_stop_keeps_its_thread_until_it_does(server: Server) -> None:
    """Deleted now, it would go on for ever; so the ledger has it, and a sweeper asks again."""
    ledger = MemoryLedger()
    server.faults[CANCEL].extend([503] * 10)
    async with engine_of(server, ledger=ledger, on_disconnect="continue") as engine:
        session = engine.session(prompt="slow", deadlines=Deadlines(settle=0.2, grace=2, drain=5))
        for _ in range(5):
            await session.step()
        await session.aclose()
        assert session.state.value == "orphaned"
        assert server.threads
    assert [entry.chat for entry in ledger.entries] == list(server.threads)
    server.faults.clear()
    async with engine_of(server, ledger=ledger) as engine:
        assert (await engine.sweep()).swept == 1
    assert not server.threads
    assert not server.runs_under_way


async def test_an_error_of_the_graph_is_run_failed_without_the_prompt(server: Server) -> None:
    async with engine_of(server) as engine:
        with pytest.raises(RunFailed) as failed:
            await engine.ask("boom goes the planted prompt").text()
    assert "exploded" in str(failed.value)
    assert "planted" not in str(failed.value)
    assert not server.threads


async def test_a_graph_that_waits_for_a_person_is_a_failed_run(server: Server) -> None:
    async with engine_of(server) as engine:
        with pytest.raises(RunFailed) as failed:
            await engine.ask("wait for me").text()
    assert failed.value.code == "waits-for-a-person"
    assert not server.threads


async def test_an_unknown_assistant_is_rejected_in_the_servers_words(server: Server) -> None:
    async with engine_of(server) as engine:
        with pytest.raises(Rejected, match="registered graphs: agent"):
            await engine.ask("hello", model="nobody").text()
    assert not server.threads


async def test_a_thread_that_is_busy_is_busy_and_nothing_was_queued(server: Server) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    call.text = "slow"
    await adapter.queue_assistant(call, chat, "p1", "agent", RunOptions())
    with pytest.raises(Busy) as busy:
        await adapter.queue_assistant(call_of(), chat, "p2", "agent", RunOptions())
    assert (busy.value.status, busy.value.code) == (409, "thread-busy")
    assert len(server.threads[chat].runs) == 1
    stream = call.take_stream()
    assert stream is not None
    stream.close()
    await adapter.stop_run(call, chat, None)
    assert (await adapter.read_answer(call, chat, None, None)).status is RunStatus.CANCELLED
    await adapter.aclose()


@pytest.mark.parametrize(("on_disconnect", "runs"), [("cancel", 2), ("continue", 1)])
async def test_an_answer_whose_connection_breaks_is_queued_again_or_fetched(
    server: Server, on_disconnect: Literal["cancel", "continue"], runs: int
) -> None:
    """Where the server cancels a run whose connection breaks, that costs nothing but time before the first token."""
    server.faults["body"].append("break")
    async with engine_of(server, on_disconnect=on_disconnect) as engine:
        assert await engine.ask("hello again").text() == "hello again"
    assert server.calls[STREAM] == runs
    assert not server.threads


async def test_a_run_whose_head_was_lost_is_stopped_before_its_thread_is_deleted(server: Server) -> None:
    """Its id is not known; what is under way in the thread is."""
    server.names_runs = False
    async with engine_of(server, on_disconnect="continue") as engine:
        with pytest.raises(ProtocolChanged, match="Content-Location"):
            await engine.ask("slow").text()
    assert not server.threads
    assert not server.runs_under_way


async def test_a_stream_of_an_unknown_run_is_let_go_of_at_once(server: Server) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    server.names_runs = False
    call.text = "slow"
    with pytest.raises(ProtocolChanged, match="Content-Location") as kept:  # what is raised keeps nothing alive
        await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    assert call.stream is None
    async with asyncio.timeout(5):
        await server.threads[chat].runs[0].ended.wait()
    assert kept.value.status == 200
    await adapter.aclose()


async def test_a_cancel_that_fails_is_no_stop(server: Server) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    run = await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    await adapter.stop_run(call, chat, run)
    assert server.calls[CANCEL] == 1, "and one that is over is nothing to be stopped"
    server.faults[CANCEL].append(503)
    with pytest.raises(Unavailable):
        await adapter.stop_run(call, chat, run)
    await adapter.aclose()


@pytest.mark.parametrize("fault", ["drop", "lost"])
async def test_a_create_whose_reply_is_lost_needs_no_listing(server: Server, fault: str) -> None:
    ledger = MemoryLedger(horizon=0.0)
    server.faults[CREATE].append(fault)
    async with engine_of(server, ledger=ledger) as engine:
        with pytest.raises(Unavailable):
            await engine.ask("hello").text()
        (entry,) = ledger.entries
        assert (entry.chat, bool(server.threads)) == (entry.id, fault == "drop")
        swept = await engine.sweep()
    assert (swept.swept, swept.absent) == ((1, 0) if fault == "drop" else (0, 1))
    assert not server.threads
    assert not ledger.entries
    if fault == "drop":
        assert "POST /threads/search" not in routes(server)


async def test_a_second_delete_says_that_there_is_no_such_thread(server: Server) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    assert [await adapter.delete_chat(call, chat) for _ in range(2)] == [True, False]
    await adapter.aclose()


async def test_a_404_of_somebody_else_does_not_make_a_thread_gone(server: Server) -> None:
    adapter, call, chat = LangGraph(f"{server.url}/prefix"), call_of(), str(uuid4())
    with pytest.raises(Rejected):
        await adapter.delete_chat(call, chat)
    await adapter.aclose()


async def test_a_run_that_the_server_has_lost_is_absent_and_its_thread_can_be_deleted(server: Server) -> None:
    """As after a crash of the server (seen): the thread is there, its runs are not."""
    async with engine_of(server) as engine:
        session = engine.session(prompt="slow")
        for _ in range(5):
            await session.step()
        (thread,) = server.threads.values()
        for run in thread.runs:
            run.end("interrupted")
        thread.runs.clear()
        await session.aclose()
        assert session.state.value == "deleted"
    assert not server.threads


async def test_threads_are_listed_page_by_page_ours_alone_newest_first(server: Server) -> None:
    adapter, call = LangGraph(server.url), call_of()
    server.plant("theirs", {"leased_by": "somebody"})
    ours = [f"ours-{number}" for number in range(201)]
    for name in ours:
        server.plant(name, {"leased_by": "chatlease", "lease": f"key of {name}"})
    server.threads["ours-7"].metadata["graph_id"] = "agent"
    listed = [each async for each in adapter.list_chats(call)]
    assert [each.chat for each in listed] == ours[::-1]
    assert [each.chat for each in listed if not each.empty] == ["ours-7"]
    assert all(each.client_key == f"key of {each.chat}" and each.created_at for each in listed)
    assert server.calls["POST /threads/search"] == 3
    await adapter.aclose()


async def test_models_are_graphs_by_name_and_assistants_of_people_by_id(server: Server) -> None:
    adapter = LangGraph(server.url)
    assert await adapter.models(call_of()) == ["agent", "00000000-0000-0000-0000-000000000007"]
    await adapter.aclose()


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], ""),
        ([("human", "p", "q"), ("ai", "a", "1")], "1"),
        ([("human", "o", "q"), ("ai", "x", "0"), ("human", "p", "q"), ("ai", "a", "1")], "1"),
        ([("human", "p", "q"), ("ai", "a", "1"), ("tool", "t", "t"), ("ai", "b", "2")], "12"),
        ([("human", "p", "q"), ("ai", "a", "1"), ("human", "later", "q"), ("ai", "b", "2")], "1"),
        ([("human", "renamed", "q"), ("ai", "a", "1")], "1"),
        ([("ai", "a", "1")], "1"),
    ],
)
async def test_the_answer_is_what_stands_behind_the_prompt(
    server: Server, messages: list[tuple[str, str, str]], text: str
) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    run = await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    thread = server.threads[chat]
    thread.messages = [{"type": kind, "id": name, "content": content} for kind, name, content in messages] or [
        {"type": "system", "content": "x"}
    ]
    reading = await adapter.read_answer(call, chat, None, run)
    assert (reading.status, reading.text) == (RunStatus.ANSWERED, text)
    await adapter.aclose()


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        ("pending", RunStatus.PENDING, ""),
        ("running", RunStatus.GOING, ""),
        ("error", RunStatus.FAILED, "error"),
        ("timeout", RunStatus.FAILED, "timeout"),
        ("interrupted", RunStatus.CANCELLED, ""),
    ],
)
async def test_what_a_runs_status_means(server: Server, status: str, expected: RunStatus, code: str) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    run = await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    server.threads[chat].runs[0].status = status
    for prompt, name in (("p", run), ("p", None), (None, None)):
        reading = await adapter.read_answer(call, chat, prompt, name)
        assert (reading.status, reading.run, reading.code) == (expected, run, code)
    assert (await adapter.read_answer(call, chat, "other", None)).status is RunStatus.ABSENT
    await adapter.aclose()


async def test_a_cancelled_run_goes_on_until_its_worker_lets_go_of_the_thread(server: Server) -> None:
    """Deleted in between, the thread would take the worker's last news of the run with it."""
    async with engine_of(server) as engine:
        session = engine.session(prompt="slow")
        for _ in range(5):
            await session.step()
        server.lag = 2
        await session.aclose()
        assert session.state.value == "deleted"
        assert server.lag == 0
    assert server.calls["GET /threads/{thread}"] == 3


async def test_an_unknown_status_is_a_changed_protocol(server: Server) -> None:
    adapter, call, chat = LangGraph(server.url), call_of(), str(uuid4())
    await adapter.create_chat(call, chat)
    run = await adapter.queue_assistant(call, chat, "p", "agent", RunOptions())
    server.threads[chat].runs[0].status = "paused"
    with pytest.raises(ProtocolChanged):
        await adapter.read_answer(call, chat, "p", run)
    await adapter.aclose()
