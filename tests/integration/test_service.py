"""What the recordings do not show of the local service: limits, faults, sources of answers, counts, shutdown.

All waiting is done by a `ManualClock`, so nothing here takes time or depends on it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chatlease.errors import UsageError
from chatlease.testing import ManualClock
from chatlease_adapters.open_assistant._service._queue import WorkQueue
from chatlease_adapters.open_assistant._service._store import Store
from chatlease_adapters.open_assistant.service import (
    FinalText,
    Piece,
    Service,
    ServiceOptions,
    State,
    Thought,
    Work,
    running,
)
from tests.integration.scenarios.client import SiteClient, Stream, site_client, until


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=0.0)


@asynccontextmanager
async def one_user(
    clock: ManualClock, *, direct: bool = False, **options: Any
) -> AsyncGenerator[tuple[Service, SiteClient], None]:
    options = {"answer_tokens": 5, **options}
    async with running(clock=clock, **options) as service, site_client(service, direct=direct) as client:
        yield service, client


# What deleting a chat does to others


async def test_deleting_a_chat_under_way_loses_the_next_users_message_for_ever(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice), site_client(service, "bob") as bob:
        chat, _ = await alice.ask()
        victim = await bob.ask()
        await clock.advance(0.3)
        assert await alice.delete(chat) == 200
        await clock.advance(600)
        assert await bob.state(*victim) == "pending"
        (loss,) = service.lost_messages
        assert (loss.message, loss.chat) == (victim[1], chat)
        assert loss.user != loss.by
        assert service.counts()["worker_drops"] == 1


async def test_the_worker_comes_back_after_a_deletion_and_answers_who_asks_later(clock: ManualClock) -> None:
    async with one_user(clock, worker_reconnect=1.0) as (service, alice):
        chat, _ = await alice.ask()
        await alice.delete(chat)
        await clock.advance(2.5)
        assert await alice.state(*await alice.ask()) == "in_progress"
        assert not service.lost_messages


async def test_deleting_a_finished_chat_hurts_nobody(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice), site_client(service, "bob") as bob:
        chat, _ = await alice.ask()
        other = await bob.ask()
        await clock.advance(1.1)
        await alice.delete(chat)
        await clock.advance(2)
        assert await bob.state(*other) == "complete"
        assert service.counts()["worker_drops"] == 0


async def test_with_no_message_waiting_a_deletion_under_way_costs_only_a_connection(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        chat, _ = await alice.ask()
        await alice.delete(chat)
        await clock.advance(2)
        assert service.counts()["worker_drops"] == 1
        assert not service.lost_messages


# One pending message per user


async def test_a_second_question_cancels_the_first_that_waits_on_another_prompt(clock: ManualClock) -> None:
    async with one_user(clock, workers=0) as (service, alice), site_client(service, "bob") as bob:
        first, others = await alice.ask(), await bob.ask()
        second = await alice.ask()
        assert [await alice.state(*first), await alice.state(*second)] == ["cancelled", "pending"]
        assert await bob.state(*others) == "pending"


async def test_drafts_on_one_prompt_do_not_cancel_one_another(clock: ManualClock) -> None:
    async with one_user(clock, workers=0) as (_, alice):
        chat = await alice.create()
        prompt = await alice.prompt(chat)
        drafts = [(await alice.queue(chat, prompt))[1]["id"] for _ in range(3)]
        assert [await alice.state(chat, draft) for draft in drafts] == ["pending"] * 3


async def test_an_unknown_model_cancels_nothing_and_an_unknown_parent_does(clock: ManualClock) -> None:
    async with one_user(clock, workers=0) as (_, alice):
        first = await alice.ask()
        assert (await alice.queue(first[0], "nobody", model_config_name="none"))[0] == 422
        assert await alice.state(*first) == "pending"
        assert await alice.queue(first[0], "nobody") == (500, {"message": "Something went wrong"})
        assert await alice.state(*first) == "cancelled"


async def test_a_full_queue_refuses_but_has_stored_a_message_and_cancelled_others(clock: ManualClock) -> None:
    async with one_user(clock, workers=0, queue_limit=1) as (_, alice):
        first = await alice.ask()
        chat = await alice.create()
        status, answer = await alice.queue(chat, await alice.prompt(chat))
        assert (status, answer) == (503, {"message": "The server is currently busy. Please try again later."})
        messages = (await alice.call("GET", params={"chat_id": chat}))[1]["messages"]
        assert {message["state"] for message in messages} == {"manual", "pending"}
        assert await alice.state(*first) == "cancelled"


async def test_the_rate_limit_counts_every_call_and_forgets_after_its_window(clock: ManualClock) -> None:
    async with one_user(clock, rate_limit=2, rate_window=660.0) as (service, alice), site_client(service, "bob") as bob:
        assert (await alice.queue("x", "nobody"))[0] == 500
        await alice.ask()
        assert await alice.queue("x", "nobody", model_config_name="none") == (500, {"message": "Something went wrong"})
        assert (await bob.queue("x", "nobody", model_config_name="none"))[0] == 422
        await clock.advance(659)
        assert (await alice.queue("x", "nobody", model_config_name="none"))[0] == 500
        await clock.advance(1)
        assert (await alice.queue("x", "nobody", model_config_name="none"))[0] == 422


async def test_a_message_handed_to_a_worker_that_dies_in_that_moment_keeps_its_place(clock: ManualClock) -> None:
    """Cancelled between being given a message and taking it, a worker gives it back to the front of the queue."""
    queue = WorkQueue(clock, None, 60.0)
    store = Store(clock, random.Random(0))
    first, second = (store.add_message(store.add_chat("alice"), "assistant", None) for _ in range(2))
    dying = asyncio.create_task(queue.take())
    await clock.settle()
    queue.put(first)
    queue.put(second)
    dying.cancel()
    await clock.settle()
    assert dying.cancelled()
    assert (queue.place(first), queue.place(second)) == ((1, 2), (2, 2))
    assert await queue.take() is first


async def test_a_message_put_in_again_waits_at_the_end_and_its_place_lives_anew(clock: ManualClock) -> None:
    queue = WorkQueue(clock, None, 60.0)
    store = Store(clock, random.Random(0))
    chat = store.add_chat("alice")
    first, second = (store.add_message(chat, "assistant", None) for _ in range(2))
    queue.put(first)
    assert await queue.take() is first
    queue.put(second)
    await clock.advance(30)
    queue.put(first)
    await clock.advance(30)
    queue.put(store.add_message(chat, "assistant", None))
    assert (queue.place(second), queue.place(first)) == ((0, 3), (2, 3))


async def test_lengths_are_limited_by_characters_and_by_messages(clock: ManualClock) -> None:
    async with one_user(clock, workers=0, message_length=3, chat_length=1) as (_, alice):
        chat = await alice.create()
        too_long = {"chat_id": chat, "content": "äöüß", "parent_id": None}
        answer = await alice.call("POST", "/prompter_message", json=too_long)
        assert answer == (413, {"message": "Message content exceeds max length"})
        prompt = await alice.prompt(chat, "äöü")
        full = {"message": "Maximum number of messages reached for this chat"}
        assert await alice.queue(chat, prompt) == (413, full)


# Streams


async def test_a_direct_stream_that_was_left_is_continued_exactly_where_it_stopped(clock: ManualClock) -> None:
    async with one_user(clock, direct=True) as (_, alice):
        message = await alice.ask()
        first = alice.open(*message)
        await clock.advance(0.4)
        await first.leave()
        await clock.advance(0.4)
        second = alice.open(*message)
        await clock.advance(1)
        assert (len(first.tokens), len(second.tokens), second.kinds[-1]) == (2, 3, "message")
        text = (await alice.message(*message))["content"]
        assert "".join(first.tokens + second.tokens) == text


async def test_a_website_stream_that_was_left_goes_on_taking_its_share(clock: ManualClock) -> None:
    async with one_user(clock, answer_tokens=8) as (service, alice):
        message = await alice.ask()
        first = alice.open(*message)
        await clock.advance(0.2)
        await first.leave()
        second = alice.open(*message)
        await clock.advance(3)
        assert len(first.tokens) == 1
        assert 2 <= len(second.tokens) <= 4
        assert await alice.state(*message) == "complete"
        assert service.open_streams == 1


async def test_two_streams_share_the_frames_and_one_of_them_never_ends(clock: ManualClock) -> None:
    async with one_user(clock, answer_tokens=10, direct=True) as (_, alice):
        message = await alice.ask()
        streams = [alice.open(*message), alice.open(*message)]
        await clock.advance(20)
        assert [len(stream.tokens) for stream in streams] == [5, 5]
        assert sorted(stream.ended for stream in streams) == [False, True]
        unended = next(stream for stream in streams if not stream.ended)
        assert unended.kinds[-1] == "ping"


async def test_a_finished_message_has_no_events_even_if_nobody_read_them(clock: ManualClock) -> None:
    async with one_user(clock) as (_, alice):
        chat, message = await alice.ask()
        await clock.advance(2)
        assert await alice.call("POST", "/events", params={"chat_id": chat, "message_id": message}) == (200, "")


async def test_unread_frames_are_forgotten_after_a_minute(clock: ManualClock) -> None:
    async def hang(_work: Work) -> AsyncGenerator[Piece, None]:
        yield "forgotten"
        await asyncio.Event().wait()

    async with one_user(clock, answers=hang, direct=True) as (_, alice):
        message = await alice.ask()
        await clock.advance(60)
        stream = alice.open(*message)
        await clock.advance(2)
        assert stream.kinds == ["pending", "pending"]


async def test_a_worker_lost_before_its_first_token_costs_nothing_but_the_place(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        message = await alice.ask()
        await service.kill_worker()
        assert await alice.state(*message) == "pending"
        stream = alice.open(*message)
        await clock.advance(1)
        assert stream.events == [{"event_type": "pending", "queue_position": 1, "queue_size": 1}]
        service.add_worker()
        await clock.advance(2)
        assert stream.kinds[-1] == "message"


async def test_a_stopped_server_ends_its_streams_properly_and_aborts_what_was_written(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        message = await alice.ask()
        stream = alice.open(*message)
        await clock.advance(0.2)
        await service.stop_server()
        await clock.settle()
        assert (stream.ended, stream.error, stream.kinds) == (True, None, ["token"])
        assert (await alice.call("POST"))[0] == 500
        service.start_server()
        assert await alice.state(*message) == "aborted_by_worker"


async def test_a_source_may_think_and_say_something_else_in_the_end(clock: ManualClock) -> None:
    async def think(_work: Work) -> AsyncGenerator[Piece, None]:
        await clock.sleep(0.5)
        yield Thought("look it up", "search")
        yield "almost"
        yield FinalText("")

    async with one_user(clock, answers=think) as (_, alice):
        message = await alice.ask()
        stream = alice.open(*message)
        await clock.advance(1)
        assert stream.kinds == ["plugin_intermediate", "token", "token", "message"]
        assert stream.events[0]["current_plugin_thought"] == "look it up"
        assert stream.tokens == ["", "almost"]
        assert (await alice.message(*message))["content"] == ""


# Answers


async def test_echo_gives_the_prompt_back_word_by_word(clock: ManualClock) -> None:
    async with one_user(clock, answers="echo") as (_, alice):
        message = await alice.ask("one  two\nthree ")
        stream = alice.open(*message)
        await clock.advance(1)
        assert stream.tokens == ["one  ", "two\n", "three "]
        assert (await alice.message(*message))["content"] == "one  two\nthree "


async def test_the_same_seed_gives_the_same_latin(clock: ManualClock) -> None:
    texts: list[str] = []
    for seed in (7, 7, 8):
        async with one_user(clock, seed=seed, answer_tokens=None) as (_, alice):
            message = await alice.ask()
            await clock.advance(20)
            texts.append((await alice.message(*message))["content"])
    assert texts[0] == texts[1] != texts[2]
    assert 30 <= len(texts[0].split()) <= 68


@asynccontextmanager
async def model_server(seen: list[Any], go: asyncio.Event, status: int = 200) -> AsyncGenerator[str, None]:
    """A tiny OpenAI-compatible server: an empty delta, two others, a usage chunk, the end; each answer waits for go."""

    async def complete(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers.get("Authorization"), await request.json()))
        await go.wait()
        go.clear()
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for delta in ({"role": "assistant", "content": ""}, {"content": "Bon"}, {"content": "jour"}):
            chunk = {"choices": [{"index": 0, "delta": delta}]}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def read_all(service: Service, client: SiteClient, message: tuple[str, str], go: asyncio.Event) -> Stream:
    """Let the model answer once the stream is open, and read it to its end."""
    stream = client.open(*message)
    await until(lambda: service.open_streams > 0)
    go.set()
    assert stream.task is not None
    await stream.task
    return stream


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_any_openai_compatible_server_can_answer(suffix: str) -> None:
    """By the machine's clock: nothing waits. The whole thread is handed over, sampling parameters with it."""
    seen: list[Any] = []
    go = asyncio.Event()
    async with (
        model_server(seen, go) as url,
        running(upstream=url + suffix, upstream_model="tiny", upstream_key="k3y") as service,
        site_client(service) as alice,
    ):
        chat = await alice.create()
        prompt = await alice.prompt(chat, "Say hello")
        _, message = await alice.queue(chat, prompt, sampling_parameters={"temperature": 0.5, "max_new_tokens": 7})
        stream = await read_all(service, alice, (chat, message["id"]), go)
        assert stream.tokens == ["Bon", "jour"]
        prompt = await alice.prompt(chat, "Again", parent=message["id"])
        _, message = await alice.queue(chat, prompt)
        stream = await read_all(service, alice, (chat, message["id"]), go)
        assert stream.events[-1]["message"]["content"] == "Bonjour"
    key, request = seen[0]
    assert (key, request["model"], request["stream"]) == ("Bearer k3y", "tiny", True)
    assert (request["temperature"], request["max_tokens"], "top_p" in request) == (0.5, 7, False)
    assert [(step["role"], step["content"]) for step in seen[1][1]["messages"]] == [
        ("user", "Say hello"),
        ("assistant", "Bonjour"),
        ("user", "Again"),
    ]


async def test_a_failing_model_server_ends_the_stream_with_its_status() -> None:
    go = asyncio.Event()
    async with (
        model_server([], go, status=503) as url,
        running(upstream=url, upstream_model="tiny") as service,
        site_client(service) as alice,
    ):
        message = await alice.ask()
        stream = await read_all(service, alice, message, go)
        assert (stream.kinds, stream.events[0]["error"]) == (["error"], "The model server answered 503.")
        assert await alice.state(*message) == "aborted_by_worker"


async def test_a_model_server_that_is_not_there_aborts_the_message() -> None:
    async with running(upstream="http://127.0.0.1:9", upstream_model="tiny") as service, site_client(service) as alice:
        message = await alice.ask()
        await until(lambda: service.store.messages[message[1]].state is State.ABORTED)


async def test_upstream_without_a_model_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="upstream_model"):
        async with running(upstream="http://127.0.0.1:1"):
            pass


async def test_a_source_with_a_mistake_in_it_is_heard_of_when_the_service_closes(clock: ManualClock) -> None:
    async def mistaken(_work: Work) -> AsyncGenerator[Piece, None]:
        yield "one"
        raise LookupError("a mistake")

    with pytest.raises(LookupError, match="a mistake"):
        async with one_user(clock, answers=mistaken) as (_, alice):
            await alice.ask()


# Logins


async def test_any_credential_is_an_account_of_its_own_and_none_is_refused(clock: ManualClock) -> None:
    async with running(clock=clock) as service, aiohttp.ClientSession() as http:

        async def create(path: str, **headers: str) -> int:
            async with http.post(service.url + path, headers=headers, json={}) as response:
                return response.status

        assert await create("/api/chat") == 403
        assert await create("/chats") == 403
        assert await create("/api/chat", Cookie="anything=1") == 200
        assert await create("/api/chat", Cookie="anything=2") == 200
        assert await create("/chats", Authorization="Bearer one") == 200
        assert await create("/api/chat", Authorization="Bearer one") == 200
        assert len({chat.user for chat in service.chats.values()}) == 3


async def test_neither_log_nor_users_nor_options_show_a_credential(clock: ManualClock) -> None:
    options = ServiceOptions(auth="strict", sessions={"s3cret": "alice"}, upstream_key="s3cret")
    async with running(options, clock=clock) as service, site_client(service, "s3cret") as alice:
        await alice.create()
        assert "s3cret" not in f"{service.log}{options}{service.counts()}"
        assert service.log[-1].user == "alice"
    async with one_user(clock) as (service, alice):
        await alice.create()
        assert "alice" not in f"{service.log}{service.store.users}"


# Faults


async def test_a_dropped_reply_leaves_a_chat_that_nobody_was_told_of(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        service.faults.add("create_chat", "drop")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await alice.create()
        assert len(service.chats) == 1
        assert await alice.create()
        assert [(record.status, record.fault) for record in service.log] == [(0, "drop"), (200, "")]


@pytest.mark.parametrize(("fault", "created"), [("500", 0), ("502-after", 1), ("refuse", 0), ("html", 0)])
async def test_a_failing_create_has_its_effect_or_not(clock: ManualClock, fault: str, created: int) -> None:
    status = {"500": 500, "502-after": 502, "refuse": 403, "html": 200}[fault]
    async with one_user(clock) as (service, alice):
        service.faults.add("create_chat", fault)
        answer = await alice.call("POST")
        assert answer[0] == status
        assert isinstance(answer[1], str)
        assert service.created == created


async def test_a_late_reply_comes_after_its_effect_and_a_delayed_effect_with_its_reply(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        for fault, created in (("late(5)", 1), ("delay(5)", 1)):
            service.faults.add("create_chat", fault)
            creating = asyncio.create_task(alice.create())
            await clock.advance(4.9)
            assert (creating.done(), service.created) == (False, created)
            await clock.advance(0.2)
            assert await creating in service.chats
        assert service.created == 2


async def test_a_delayed_effect_happens_although_the_client_has_left(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        service.faults.add("create_chat", "delay(5)")
        creating = asyncio.create_task(alice.create())
        await clock.advance(1)
        creating.cancel()
        await clock.advance(1)
        assert service.created == 0
        await clock.advance(4)
        assert service.created == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_a_cut_stream_breaks_after_its_tokens(clock: ManualClock, direct: bool) -> None:
    async with one_user(clock, direct=direct) as (service, alice):
        service.faults.add("open_stream", "cut(3)")
        stream = alice.open(*await alice.ask())
        await clock.advance(2)
        assert isinstance(stream.error, aiohttp.ClientPayloadError)
        assert stream.kinds == ["token"] * 3


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [("stall(2)", ["token", "token"]), ("pings(2)", ["token", "token", "ping"]), ("pings", ["ping"])],
)
async def test_a_stalled_stream_says_nothing_more_or_only_pings(
    clock: ManualClock, fault: str, kinds: list[str]
) -> None:
    async with one_user(clock) as (service, alice):
        service.faults.add("open_stream", fault)
        message = await alice.ask()
        stream = alice.open(*message)
        await clock.advance(16)
        assert (stream.kinds, stream.ended) == (kinds, False)
        assert await alice.state(*message) == "complete"


async def test_endless_pending_hides_an_answer_that_is_there(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        service.faults.add("open_stream", "pending")
        message = await alice.ask()
        stream = alice.open(*message)
        await clock.advance(14.5)
        assert stream.kinds == ["pending"] * 14
        assert await alice.state(*message) == "complete"


async def test_a_refused_delete_leaves_the_chat_as_often_as_programmed(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        chat = await alice.create()
        service.faults.add("delete_chat", "500", times=2, skip=1)
        other = await alice.create()
        assert [await alice.delete(other), await alice.delete(chat), await alice.delete(chat)] == [200, 500, 500]
        assert chat in service.chats
        assert await alice.delete(chat) == 200
        assert service.faults.hits == {("delete_chat", "before"): 2}


async def test_a_fault_may_be_meant_for_one_user(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice), site_client(service, "bob") as bob:
        await bob.create()
        assert service.log[-1].user == service.user_of("bob")
        service.faults.add("create_chat", "500", times=None, user=service.user_of("bob"))
        assert ((await alice.call("POST"))[0], (await bob.call("POST"))[0]) == (200, 500)
        service.faults.clear()
        assert (await bob.call("POST"))[0] == 200


async def test_chance_can_be_repeated(clock: ManualClock) -> None:
    runs: list[list[int]] = []
    for _ in range(2):
        async with one_user(clock, faults="create_chat=500:0.5, delete_chat=drop:0.1", seed=3) as (_, alice):
            runs.append([(await alice.call("POST"))[0] for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


@pytest.mark.parametrize(
    "text",
    [
        "create=drop",
        "create_chat=explode",
        "create_chat=drop:2",
        "create_chat=late",
        "create_chat",
        "create_chat=cut(1)",
    ],
)
def test_a_fault_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Service(ServiceOptions(faults=text))


# The wire


async def test_long_answers_are_gzipped_for_those_who_accept_it(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        for wanted, encoding in (("gzip", "gzip"), ("identity", None)):
            async with alice.http.get(f"{alice.url}/models", headers={"Accept-Encoding": wanted}) as response:
                assert response.headers.get("Content-Encoding") == encoding
                assert len(await response.json()) == 25
        async with alice.http.post(alice.url) as response:
            assert "Content-Encoding" not in response.headers
        assert service.created == 1


async def test_text_is_utf8_in_answers_and_ascii_in_frames(clock: ManualClock) -> None:
    text = "Grüße 🙂\r\n"
    async with one_user(clock, answers="echo") as (_, alice):
        chat, message = await alice.ask(text)
        params = {"chat_id": chat, "message_id": message}
        reading = asyncio.create_task(alice.call("POST", "/events", params=params))
        await clock.advance(1)
        _, frames = await reading
        assert '"text": "Gr\\u00fc\\u00dfe "' in frames
        assert '"text": "\\ud83d\\ude42\\r\\n"' in frames
        async with alice.http.get(alice.url, params={"chat_id": chat}) as response:
            assert "Grüße 🙂".encode() in await response.read()


# Counting, shutting down


async def test_counts_are_there_for_other_processes(clock: ManualClock) -> None:
    async with one_user(clock) as (service, alice):
        await alice.delete(await alice.create())
        await alice.create()
        async with alice.http.get(f"{service.url}/_chatlease/counts") as response:
            counts = await response.json()
        assert (counts["chats"], counts["created"], counts["lost_messages"]) == (1, 2, 0)
        assert counts["requests"] == {"create_chat": 2, "delete_chat": 1}


async def test_closing_ends_open_streams_and_held_replies_and_leaves_no_task(clock: ManualClock) -> None:
    before = asyncio.all_tasks()
    service = Service(ServiceOptions(workers=3), clock)
    await service.start()
    service.faults.add("list_chats", "late(1000)")
    service.faults.add("read_chat", "delay(1000)")
    async with site_client(service) as alice, site_client(service, "bob", direct=True) as bob:
        streams = [alice.open(*await alice.ask()), bob.open(*await bob.ask())]
        held = [asyncio.create_task(alice.call("GET", params=params)) for params in ({}, {"chat_id": "x"})]
        await clock.advance(0.2)
        await service.close()
        await asyncio.wait(held)
        await clock.settle()
        assert [stream.ended for stream in streams] == [True, True]
        assert all(isinstance(stream.error, aiohttp.ClientPayloadError) for stream in streams)
        await asyncio.gather(*held, return_exceptions=True)
    await clock.settle()
    gc.collect()
    assert asyncio.all_tasks() == before
    await service.close()


async def test_hundreds_of_sessions_at_once_leave_nothing_behind() -> None:
    """By the machine's clock: as fast as it goes."""

    async def whole(alice: SiteClient) -> str:
        chat, message = await alice.ask()
        await alice.call("POST", "/events", params={"chat_id": chat, "message_id": message})
        assert await alice.delete(chat) == 200
        return message

    options = ServiceOptions(workers=8, token_interval=0, answer_tokens=4)
    async with running(options) as service:

        async def as_user(number: int) -> str:
            async with site_client(service, f"user-{number}") as client:
                return await whole(client)

        answered = await asyncio.gather(*map(as_user, range(300)))
        assert len(set(answered)) == 300
        assert (len(service.chats), service.created, len(service.lost_messages)) == (0, 300, 0)
        assert not service.store.messages
        assert not service.open_streams
