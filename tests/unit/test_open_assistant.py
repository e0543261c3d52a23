"""The adapter of Open-Assistant where no recording reaches: odd answers, options, addresses, secrets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

import aiohttp
import pytest

from chatlease.adapter import Adapter, AnswerStream, Capabilities, Credential, RateBudget, RunOptions
from chatlease.errors import (
    Busy,
    NotAuthenticated,
    ProtocolChanged,
    Rejected,
    RunCancelled,
    RunFailed,
    ServiceError,
    Unavailable,
    UsageError,
)
from chatlease.events import Failed, Final, Pending, PluginStep, Reading, RunStatus
from chatlease_adapters import _http_pages
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant._options import body, check
from chatlease_adapters.open_assistant._stream import OpenAssistantStream
from tests.unit.aio import Loopback, Reply, Request, call_of, chunked, faked_http, foreign, loopback, reply, shown

SITE = "http://oa.test"
LOGIN = Credential(cookies={"__Secure-next-auth.session-token": "planted-cookie"})
SEEDS = {
    "top_k": 50,
    "top_p": None,
    "typical_p": None,
    "temperature": 0.35,
    "repetition_penalty": 1.1111111111111112,
    "max_new_tokens": 1024,
}
Dialect = Literal["website", "server"]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def message(**fields: object) -> dict[str, object]:
    return {"id": "r", "parent_id": "p", "content": None, "state": "complete", "role": "assistant", **fields}


@asynccontextmanager
async def serving(
    *replies: Reply, answer: Callable[[Request], Reply] | None = None, dialect: Dialect = "website"
) -> AsyncGenerator[tuple[OpenAssistant, Loopback]]:
    async with (
        loopback(*replies, answer=answer) as server,
        aclosing(OpenAssistant(server.url, dialect=dialect)) as adapter,
    ):
        yield adapter, server


async def refused(awaitable: Any) -> Any:
    with pytest.raises(ServiceError) as caught:
        await awaitable
    assert foreign(caught.value) == []
    assert "planted" not in shown(caught.value)
    return caught.value


def test_it_is_an_adapter() -> None:
    adapter: Adapter = OpenAssistant(SITE)
    assert adapter.service == "open-assistant"
    assert adapter.model == "OA_SFT_Llama_30B_6"
    assert adapter.capabilities == Capabilities(
        client_key=False,
        listing=True,
        stopping=False,
        deletion_during_run="harmful",
        second_delete="gone",
        runs_per_account=1,
        rate_budget=RateBudget(20, 660),
    )


class TestAddress:
    """An origin or the address of the chat page."""

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://open-assistant.io/chat", "https://open-assistant.io"),
            ("https://open-assistant.io/chat/", "https://open-assistant.io"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("https://host/prefix/chat?tab=1#x", "https://host/prefix"),
            ("https://host/prefix/", "https://host/prefix"),
            ("https://host/chatter", "https://host/chatter"),
            (" HTTPS://Host:443/chat ", "https://host"),
            ("http://[::1]:8080/chat", "http://[::1]:8080"),
            ("http://chat", "http://chat"),
        ],
    )
    async def test_the_page_is_cut_and_a_prefix_kept(self, url: str, origin: str) -> None:
        adapter = OpenAssistant(url)
        assert adapter.origin == origin
        with faked_http() as faked:
            faked.add("POST", f"{origin}/api/chat", body=b'{"id": "c"}')
            assert await adapter.create_chat(call_of(), "") == "c"
        await adapter.aclose()

    def test_a_server_s_address_keeps_its_path(self) -> None:
        assert OpenAssistant("http://host/inference/chat/", dialect="server").origin == "http://host/inference/chat"

    def test_the_default_is_the_environment_s_and_then_the_public_site(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CHATLEASE_OPEN_ASSISTANT_URL", raising=False)
        assert OpenAssistant().origin == "https://open-assistant.io"
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_URL", "http://127.0.0.1:9/chat")
        assert OpenAssistant().origin == "http://127.0.0.1:9"
        assert OpenAssistant(SITE).origin == SITE

    @pytest.mark.parametrize(
        "url", ["open-assistant.io", "ftp://host", "http://", "http://h:x", "//host/chat", "http://[", "x"]
    )
    def test_what_is_no_address_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="url is the address") as caught:
            OpenAssistant(url)
        assert foreign(caught.value) == []

    @pytest.mark.parametrize("url", ["http://user:planted@host", "http://planted@host", "http://:planted@host"])
    def test_a_login_in_the_address_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(UsageError, match="holds a login") as caught:
            OpenAssistant(url)
        assert "planted" not in shown(caught.value)

    def test_an_unknown_dialect_is_refused(self) -> None:
        with pytest.raises(UsageError, match="'website' or 'server'"):
            OpenAssistant(SITE, dialect="mobile")  # type: ignore[arg-type]  # (the mistake under test)

    async def test_ids_stay_inside_their_place(self) -> None:
        async with serving(reply(), reply(), dialect="server") as (adapter, server):
            await adapter.delete_chat(call_of(), "../a?b=c&d")
            await adapter.delete_chat(call_of(), "\u00e9 /")
        assert [seen.target for seen in server.seen] == ["/chats/..%2Fa%3Fb%3Dc%26d", "/chats/%C3%A9%20%2F"]


class TestLogins:
    """`ready_cookies` finds logins and adds the proxy; it asks nothing of the service."""

    async def test_given_cookies_are_the_default_account_s(self) -> None:
        assert await OpenAssistant(SITE, cookies={"a": "b"}).ready_cookies(None, None) == Credential(cookies={"a": "b"})

    async def test_a_given_credential_is_the_default_account_s_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = Credential(headers={"Authorization": "Bearer planted-token"})
        adapter = OpenAssistant(SITE, dialect="server", cookies=given)
        assert await adapter.ready_cookies(None, None) == given
        assert await adapter.ready_cookies(given.fingerprint(), None) == given
        await refused(adapter.ready_cookies("bob", None))

    async def test_what_the_service_refused_is_not_given_again(self) -> None:
        adapter = OpenAssistant(SITE, cookies=LOGIN)
        assert isinstance(await refused(adapter.ready_cookies(None, LOGIN)), NotAuthenticated)

    async def test_the_source_is_asked_for_the_host(self) -> None:
        asked: list[tuple[str, str | None]] = []

        def source(host: str, account: str | None) -> Credential:
            asked.append((host, account))
            return LOGIN

        await OpenAssistant("http://Host.test:8080/chat", cookies=source).ready_cookies("alice", None)
        assert asked == [("host.test", "alice")]

    async def test_the_proxy_is_for_logins_that_bring_none(self) -> None:
        own = Credential(cookies={"a": "b"}, proxy="http://own:1")
        assert (
            await OpenAssistant(SITE, cookies=own, proxy="http://x:1").ready_cookies(None, None)
        ).proxy == "http://own:1"
        adapter = OpenAssistant(SITE, cookies=LOGIN, proxy="http://x:1")
        assert (await adapter.ready_cookies(None, None)).proxy == "http://x:1"
        assert "planted" not in repr(adapter)


class TestOptions:
    """What cannot work is refused before a chat exists; what is sent is what the seeds sent."""

    def test_the_defaults_are_those_of_the_seeds_in_their_order(self) -> None:
        sent = body("m", {})
        assert list(sent) == ["model_config_name", "sampling_parameters", "plugins"]
        assert sent == {"model_config_name": "m", "sampling_parameters": SEEDS, "plugins": []}
        assert list(SEEDS) == list(sent["sampling_parameters"])  # type: ignore[call-overload]  # (a dict)

    def test_sampling_goes_over_the_typed_options_unknown_names_too(self) -> None:
        sent = body("m", {"top_k": 10, "temperature": None, "sampling": {"top_k": "x", "new": [1]}})
        assert sent["sampling_parameters"] == {**SEEDS, "top_k": "x", "temperature": None, "new": [1]}

    def test_other_options_are_sent_only_when_given(self) -> None:
        sent = body("m", {"system_prompt": None, "plugins": [{"url": "u"}], "used_plugin": {"name": "n"}})
        assert sent["plugins"] == [{"url": "u"}]
        assert list(sent)[3:] == ["used_plugin", "system_prompt"]

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {
                "top_k": 1,
                "top_p": 1.0,
                "typical_p": 0.2,
                "temperature": 2,
                "repetition_penalty": 0.1,
                "max_new_tokens": 1,
            },
            dict.fromkeys(["top_k", "top_p", "typical_p", "temperature", "repetition_penalty"]),
            {"system_prompt": "s", "user_profile": None, "user_response_instructions": ""},
            {"plugins": (), "used_plugin": None, "sampling": {"top_k": "anything"}},
        ],
    )
    def test_what_the_server_takes_is_fine(self, options: RunOptions) -> None:
        check("m", options)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("top_k", value) for value in (0, -1, 1.5, "planted", True)),
            *(("top_p", value) for value in (0, 1.1, "planted", float("nan"), True)),
            *(("temperature", value) for value in (0, -0.1, float("inf"), "planted")),
            *(("max_new_tokens", value) for value in (None, 0, 1.0)),
            *(("plugins", value) for value in (None, "planted", {"a": 1}, [1], [{"a": object()}])),
            *(("sampling", value) for value in (None, [("a", 1)], {"a": object()})),
            *(("system_prompt", value) for value in (1, ["planted"])),
            ("used_plugin", "planted"),
        ],
    )
    def test_what_cannot_work_is_refused_by_name_and_not_shown(self, option: str, value: object) -> None:
        options: Any = {option: value}
        with pytest.raises(UsageError, match=f"^{option} must be ") as caught:
            OpenAssistant(SITE).check_options("m", options)
        assert "planted" not in shown(caught.value)

    @pytest.mark.parametrize(
        ("name", "hint"), [("temprature", "Did you mean temperature?"), ("zzz", "Known are: top_k, ")]
    )
    def test_an_unknown_option_is_told_with_the_nearest_known_one(self, name: str, hint: str) -> None:
        options: Any = {name: 1}
        with pytest.raises(UsageError, match=f"unknown option '{name}'") as caught:
            check("m", options)
        assert caught.value.hint.startswith(hint)

    def test_a_model_has_a_name(self) -> None:
        with pytest.raises(UsageError, match="model"):
            check("", {})


class TestMaking:
    """Chats, prompts and runs: an id, or the service's own words."""

    @pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
    async def test_words_instead_of_an_id_are_the_error_whatever_the_status(self, status: str) -> None:
        async with serving(reply(b'{"message": "You may not."}', status)) as (adapter, _):
            error = await refused(adapter.queue_assistant(call_of(), "c", "p", "m", {}))
        assert (type(error), str(error), error.status) == (Rejected, "You may not.", int(status[:3]))

    @pytest.mark.parametrize(
        ("made", "got"),
        [
            (b"", "empty body"),
            (b"<html></html>", "HTML page"),
            (b'{"id": 7}', "JSON object with keys id"),
            (b'{"id": ""}', "JSON object with keys id"),
            (b'{"id": null, "text": "planted"}', "JSON object with keys id, text"),
            (b'["planted"]', "JSON array of 1"),
        ],
    )
    async def test_anything_else_is_another_protocol(self, made: bytes, got: str) -> None:
        async with serving(reply(made)) as (adapter, _):
            error = await refused(adapter.create_chat(call_of(), ""))
        assert isinstance(error, ProtocolChanged)
        assert (error.expected, error.got) == ("an object with an id", got)

    async def test_a_full_queue_is_busy(self) -> None:
        said = "The server is currently busy. Please try again later."
        async with serving(reply(as_json({"message": said}), "503 No", "Retry-After: 7")) as (adapter, _):
            error = await refused(adapter.queue_assistant(call_of(), "c", "p", "m", {}))
        assert (type(error), str(error), error.code, error.status) == (Busy, said, "queue-full", 503)
        assert error.retry_after_s == 7

    async def test_another_503_is_not(self) -> None:
        async with serving(reply(b"upstream gone", "503 No")) as (adapter, _):
            assert type(await refused(adapter.queue_assistant(call_of(), "c", "p", "m", {}))) is Unavailable

    @pytest.mark.parametrize(
        ("models", "hint"),
        [
            (
                reply(as_json([{"name": "_lorem"}, {"name": "OA_SFT_Llama_30B_6"}])),
                "nearest model that the service offers is OA_SFT_Llama_30B_6",
            ),
            (reply(as_json([{"name": "x"}, {"name": "y"}])), "The service offers: x, y."),
            (reply(b"[]"), "Ask the service which models it offers."),
            (reply(b"oops", "500 No"), "Ask the service which models it offers."),
            (Reply([]), "Ask the service which models it offers."),
        ],
        ids=["near", "far", "none", "failing", "broken"],
    )
    async def test_an_unknown_model_is_told_in_the_service_s_words_with_the_nearest(
        self, models: Reply, hint: str
    ) -> None:
        said = "Model oa_sft_llama_13b_6 not found"
        call = call_of()
        async with serving(reply(as_json({"message": said}), "422 No"), models) as (adapter, _):
            error = await refused(adapter.queue_assistant(call, "c", "p", "oa_sft_llama_13b_6", {}))
        assert (type(error), str(error), error.status) == (Rejected, said, 422)
        assert hint in error.hint
        assert call.http_status == 422

    async def test_an_unregistered_user_is_told_so(self) -> None:
        async with serving(reply(b'{"detail": "User not found"}', "404 No"), dialect="server") as (adapter, _):
            assert str(await refused(adapter.create_chat(call_of(), ""))) == "User not found"


class TestDeletion:
    """Deleted, gone, or neither; nothing else may look like success."""

    async def test_a_chat_that_is_still_there_was_not_deleted(self) -> None:
        async with serving(reply(b"Internal Server Error", "500 No"), reply(b'{"id": "c"}')) as (adapter, _):
            error = await refused(adapter.delete_chat(call_of(), "c"))
        assert (type(error), error.status) == (Unavailable, 500)
        assert "still there" in str(error)

    @pytest.mark.parametrize(
        ("look", "kind"),
        [
            (reply(b"<!doctype html>", "404 Not Found"), ProtocolChanged),
            (reply(b'{"message": "no"}', "404 Not Found"), Rejected),
            (reply(b"", "403 Forbidden"), NotAuthenticated),
            (reply(b"oops", "500 No"), Unavailable),
            (reply(b"{}"), ProtocolChanged),
            (Reply([]), Unavailable),
        ],
        ids=["page", "words", "login", "down", "shape", "broken"],
    )
    async def test_a_look_that_shows_nothing_proves_nothing(self, look: Reply, kind: type[ServiceError]) -> None:
        looks = [look, look]  # aiohttp repeats a GET whose connection was closed without a word

        async with serving(reply(b"Internal Server Error", "500 No"), *looks) as (adapter, _):
            assert type(await refused(adapter.delete_chat(call_of(), "c"))) is kind

    async def test_a_page_is_no_deletion(self) -> None:
        async with serving(reply(b"<!doctype html>", "200 OK", "Content-Type: text/html")) as (adapter, _):
            assert isinstance(await refused(adapter.delete_chat(call_of(), "c")), ProtocolChanged)

    async def test_a_404_of_the_website_is_looked_at_too(self) -> None:
        async with serving(reply(b"", "404 No"), reply(b'{"id": "c"}')) as (adapter, _):
            assert type(await refused(adapter.delete_chat(call_of(), "c"))) is Unavailable

    @pytest.mark.parametrize("said", [b"", b"<!doctype html>", b'{"detail": "Not Found"}'])
    async def test_a_404_of_somebody_else_is_no_gone_chat(self, said: bytes) -> None:
        async with serving(reply(said, "404 No"), dialect="server") as (adapter, _):
            assert isinstance(await refused(adapter.delete_chat(call_of(), "c")), Rejected | ProtocolChanged)


class TestLooking:
    """The answer without the stream."""

    async def test_the_newest_answer_to_the_prompt_counts(self) -> None:
        old = message(id="old", state="cancelled", created_at="2026-11-21T00:00:00.000001")
        new = message(id="new", content="yes", created_at="2026-11-21T00:00:00.000002")
        other = message(id="other", parent_id="q", created_at="2026-11-22T00:00:00")
        chat = as_json({"id": "c", "messages": [new, other, old]})
        async with serving(reply(chat)) as (adapter, _):
            assert await adapter.read_answer(call_of(), "c", "p", None) == Reading(RunStatus.ANSWERED, "yes", "new")

    @pytest.mark.parametrize(
        "look", [reply(b'{"id": "c", "messages": []}'), reply(b"", "404 No")], ids=["none", "gone"]
    )
    async def test_no_answer_is_absent(self, look: Reply) -> None:
        async with serving(look) as (adapter, _):
            assert await adapter.read_answer(call_of(), "c", "p", None) == Reading(RunStatus.ABSENT)

    async def test_a_complete_answer_without_text_is_an_empty_one(self) -> None:
        async with serving(reply(as_json(message()))) as (adapter, _):
            assert await adapter.read_answer(call_of(), "c", "p", "r") == Reading(RunStatus.ANSWERED, "", "r")

    async def test_an_unknown_state_is_another_protocol(self) -> None:
        async with serving(reply(as_json(message(state="planted")))) as (adapter, _):
            error = await refused(adapter.read_answer(call_of(), "c", "p", "r"))
        assert (type(error), error.code) == (ProtocolChanged, "unknown-state")

    async def test_stopping_sends_nothing(self) -> None:
        async with serving() as (adapter, server):
            await adapter.stop_run(call_of(), "c", "r")
        assert server.seen == []


def page(*chats: object, after: str | None = None) -> Reply:
    return reply(as_json({"chats": list(chats), "next": after, "prev": None}))


async def listed(adapter: OpenAssistant) -> list[tuple[str, datetime | None, bool | None]]:
    return [(chat.chat, chat.created_at, chat.empty) async for chat in adapter.list_chats(call_of())]


class TestListing:
    """All pages, once each."""

    async def test_cursors_are_followed_to_the_end_and_sent_as_they_are(self) -> None:
        first = {"id": "a", "title": "t", "created_at": "2026-11-21T00:22:14.648514"}
        second = {"id": "b", "title": None, "created_at": "2026-11-21T02:22:14+02:00"}
        async with serving(page(first, after="x/+="), page(second, {"id": "c"})) as (adapter, server):
            got = await listed(adapter)
        assert got == [
            ("a", datetime(2026, 11, 21, 0, 22, 14, 648514, UTC), False),
            ("b", datetime(2026, 11, 21, 2, 22, 14, tzinfo=timezone(timedelta(hours=2))), True),
            ("c", None, True),
        ]
        assert [seen.target for seen in server.seen] == ["/api/chat", "/api/chat?after=x%2F%2B%3D"]

    async def test_the_server_is_asked_for_large_pages(self) -> None:
        async with serving(page(after="x"), page(), dialect="server") as (adapter, server):
            assert await listed(adapter) == []
        assert [seen.target for seen in server.seen] == ["/chats?limit=100", "/chats?after=x&limit=100"]

    async def test_a_listing_that_turns_in_circles_is_another_protocol(self) -> None:
        async with serving(answer=lambda _: page(after="same")) as (adapter, server):
            assert isinstance(await refused(listed(adapter)), ProtocolChanged)
        assert len(server.seen) == 2

    async def test_a_listing_without_end_is_another_protocol(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_http_pages, "PAGES", 3)
        cursors = iter("abcdef")
        async with serving(answer=lambda _: page(after=next(cursors))) as (adapter, server):
            assert isinstance(await refused(listed(adapter)), ProtocolChanged)
        assert len(server.seen) == 3


def frame(**fields: object) -> bytes:
    return b"data: " + as_json(fields) + b"\r\n\r\n"


def token(text: str) -> bytes:
    return frame(event_type="token", text=text)


@asynccontextmanager
async def streaming(*pieces: bytes, end: bool = True) -> AsyncGenerator[AnswerStream]:
    async with serving(chunked(*pieces, end=end)) as (adapter, _):
        stream = await adapter.open_stream(call_of(LOGIN), "c", "r")
        assert stream is not None
        with closing(stream):
            yield stream


async def read_all(*pieces: bytes) -> list[Any]:
    got: list[Any] = []
    async with streaming(*pieces) as stream:
        while batch := await stream.read():
            got += batch
    return got


class TestStream:
    """The event stream, in Chatlease's words."""

    async def test_all_that_one_piece_holds_comes_in_one_batch(self) -> None:
        async with streaming(b"".join(token(str(n)) for n in range(1000))) as stream:
            assert await stream.read() == [str(n) for n in range(1000)]

    async def test_a_ping_does_not_end_the_wait(self) -> None:
        assert await read_all(b": ping - now\r\n\r\n", token("a"), b": ping\r\n\r\n", token("b")) == ["a", "b"]

    async def test_a_cancelled_read_loses_nothing(self) -> None:
        whole = token("whole")
        async with streaming(whole[:9], end=False) as stream:
            task = asyncio.ensure_future(stream.read())
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert isinstance(stream, OpenAssistantStream)
            assert stream._parser.feed_data(whole[9:]) == [whole[6:-4]]

    async def test_plugin_steps_and_pending_are_told(self) -> None:
        plugin = frame(
            event_type="plugin_intermediate",
            current_plugin_thought="hm",
            current_plugin_action_taken="search",
            current_plugin_action_input="x",
            current_plugin_action_response="y",
            message=None,
        )
        pending = frame(event_type="pending", queue_position=2, queue_size=5, new=1)
        assert await read_all(pending, plugin, token("")) == [Pending(2, 5), PluginStep("hm", "search"), ""]

    async def test_an_unknown_kind_is_skipped_and_counted(self) -> None:
        unknown = frame(event_type="safe_prompt", safe_prompt="planted")
        async with streaming(unknown, token("a") + unknown) as stream:
            assert await stream.read() == ["a"]
            assert isinstance(stream, OpenAssistantStream)
            assert stream.unknown == 2

    @pytest.mark.parametrize(
        "bad",
        [
            b"data: planted\r\n\r\n",
            b'data: {"event_type": "token"}\r\n\r\n',
            b'data: {"event_type": "token", "text": 7, "x": "planted"}\r\n\r\n',
            b'data: {"event_type": "message", "message": "planted"}\r\n\r\n',
            b'data: {"text": "a"}\r\n\r\n',
            b"data: []\r\n\r\n",
            b'data: {"event_type": "token", "text": "\xff planted"}\r\n\r\n',
            b"data: " + b"[" * 100_000 + b"\r\n\r\n",
        ],
    )
    async def test_a_broken_frame_is_another_protocol_and_not_shown(self, bad: bytes) -> None:
        async with streaming(bad) as stream:
            assert isinstance(await refused(stream.read()), ProtocolChanged)

    @pytest.mark.parametrize(("content", "text"), [("whole", "whole"), ("", ""), (None, "")])
    async def test_the_message_is_the_end_whatever_follows(self, content: str | None, text: str) -> None:
        final = frame(event_type="message", message=message(content=content))
        async with streaming(token("a") + final + token("late")) as stream:
            assert await stream.read() == ["a", Final(text)]

    @pytest.mark.parametrize(
        ("state", "kind", "code"),
        [
            ("aborted_by_worker", RunFailed, "aborted_by_worker"),
            ("timeout", RunFailed, "timeout"),
            ("cancelled", RunCancelled, "cancelled"),
        ],
    )
    async def test_a_message_in_a_failed_state_is_a_failure(
        self, state: str, kind: type[ServiceError], code: str
    ) -> None:
        [failed] = await read_all(frame(event_type="message", message=message(state=state)))
        assert isinstance(failed, Failed)
        assert (type(failed.error), failed.error.code) == (kind, code)

    @pytest.mark.parametrize("state", ["pending", "in_progress", "new-state"])
    async def test_a_message_that_is_no_end_says_nothing(self, state: str) -> None:
        assert await read_all(frame(event_type="message", message=message(state=state, content="x")), token("a")) == [
            "a"
        ]

    @pytest.mark.parametrize(
        ("told", "text", "code"),
        [
            ({"error": "Timeout", "message": message(state="timeout")}, "Timeout", "timeout"),
            ({"error": "CUDA out of memory", "message": None}, "CUDA out of memory", "run-failed"),
            ({"error": "no", "message": message(state="in_progress")}, "no", "run-failed"),
            ({"error": "", "message": message(state="timeout")}, "no worker took the prompt in time", "timeout"),
            ({"error": ""}, "the service gave the answer up", "run-failed"),
            ({"error": "bad planted-cookie"}, "bad [hidden]", "run-failed"),
        ],
    )
    async def test_an_error_is_a_failure_in_the_service_s_words(self, told: Any, text: str, code: str) -> None:
        [failed] = await read_all(frame(event_type="error", **told))
        assert (type(failed.error), str(failed.error), failed.error.code) == (RunFailed, text, code)

    @pytest.mark.parametrize("kind", ["text/html", "application/json; charset=utf-8"])
    async def test_a_page_or_an_object_is_no_stream(self, kind: str) -> None:
        async with serving(reply(b'{"a": "planted"}', "200 OK", f"Content-Type: {kind}")) as (adapter, _):
            error = await refused(adapter.open_stream(call_of(), "c", "r"))
        assert (error.expected, error.got) == ("an event stream", "JSON object with keys a")


class TestSecrets:
    """A refusing server echoes; the error does not."""

    PROMPT = "planted question of the user about something private"

    @pytest.mark.parametrize("dialect", ["website", "server"])
    @pytest.mark.parametrize(
        "status", ["400 No", "401 No", "404 No", "413 No", "422 No", "429 No", "500 No", "503 No", "200 OK"]
    )
    @pytest.mark.parametrize(
        "form", ["{}", '{{"message": "{}"}}', '{{"detail": [{{"loc": ["body"], "msg": "{}"}}]}}', "<html>{}"]
    )
    async def test_neither_login_nor_texts_come_back(self, dialect: Dialect, status: str, form: str) -> None:
        echo = form.format(f"{self.PROMPT} | planted-cookie | planted-token").encode()
        login = Credential(cookies={"s": "planted-cookie"}, headers={"Authorization": "Bearer planted-token"})
        options: RunOptions = {"system_prompt": self.PROMPT}
        async with serving(answer=lambda _: reply(echo, status), dialect=dialect) as (adapter, _):
            await refused(adapter.send_prompt(call_of(login), "c", self.PROMPT, None))
            await refused(adapter.queue_assistant(call_of(login), "c", "p", "m", options))

    async def test_a_proxy_s_password_does_not_come_back(self) -> None:
        login = Credential(cookies=LOGIN.cookies, proxy="http://user:planted-password@127.0.0.1:1")
        with faked_http() as faked:
            faked.add("POST", f"{SITE}/api/chat", status=502, body=b"proxy user:planted-password failed")
            adapter = OpenAssistant(SITE)
            await refused(adapter.create_chat(call_of(login), ""))
            await adapter.aclose()

    async def test_a_foreign_error_with_the_headers_in_it_stays_inside(self) -> None:
        with faked_http() as faked:
            faked.add("POST", f"{SITE}/api/chat", exception=aiohttp.ClientConnectionError("planted-cookie"))
            adapter = OpenAssistant(SITE)
            error = await refused(adapter.create_chat(call_of(LOGIN), ""))
            await adapter.aclose()
        assert (type(error), error.code, error.sent) == (Unavailable, "connection-lost", True)


async def test_a_session_of_the_bot_s_own_is_used_and_left_open() -> None:
    async with loopback(reply(b'{"id": "c"}')) as server, aiohttp.ClientSession() as session:
        adapter = OpenAssistant(server.url, session=session)
        assert await adapter.create_chat(call_of(), "") == "c"
        await adapter.aclose()
        await adapter.aclose()
        assert not session.closed
