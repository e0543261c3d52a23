"""What adapters are made of: refusals in any shape, streams by frames, pages, keys, options, times, ids in headers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import msgspec
import pytest

from chatlease.adapter import Credential
from chatlease.errors import (
    Busy,
    NotAuthenticated,
    ProtocolChanged,
    RateLimited,
    Rejected,
    ServiceError,
    Unavailable,
    UsageError,
)
from chatlease_adapters.http import (
    FORM,
    Answer,
    HttpClient,
    KeySource,
    Problem,
    check,
    fit,
    given,
    located,
    pages,
    plain,
    refusal,
    scrubber,
    usual_problem,
    utc,
)
from tests.unit.aio import answered, call_of, chunked, loopback, reply

# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"message": "No."}', "No.", "No."),
        (b'{"error": "No."}', "No.", "No."),
        (b'{"detail": "No.", "code": "nope"}', "nope", "No."),
        (b'{"error": {"message": "No.", "code": "nope"}}', "nope", "No."),
        (b'{"error": {"message": "No.", "code": 404}}', "404", "No."),
        (b'{"errors": [{"message": "No.", "code": "nope"}, {"code": "x"}]}', "nope", "No."),
        (b'{"errors": ["No."]}', "No.", "No."),
        (b'{"errors": []}', "", ""),
        (b'{"errors": {"code": "x"}}', "", ""),
        (b'{"code": true}', "", ""),
        (b'{"code": {"code": "x"}}', "", ""),
        (b'["No."]', "", ""),
        (b"No.", "", ""),
        (b"", "", ""),
        (b"[" * 100_000, "", ""),
    ],
)
def test_the_usual_refusals_are_read(body: bytes, code: str, words: str) -> None:
    assert usual_problem(answered(404, body)) == Problem(code, words)
    assert usual_problem(answered(200, body)) is None


@pytest.mark.parametrize(
    ("problem", "kind", "status"),
    [
        (Problem("nope", "No."), Rejected, 404),
        (Problem("nope", "No.", 401), NotAuthenticated, 401),
        (Problem("nope", "No.", 500), Unavailable, 500),
        (Problem("nope", "No.", 409, Busy), Busy, 409),
        (Problem("nope", "No.", None, RateLimited), RateLimited, 404),
    ],
)
def test_a_service_s_own_way_to_refuse_decides_status_and_error(
    problem: Problem, kind: type[ServiceError], status: int
) -> None:
    error = refusal(msgspec.structs.replace(answered(404, b"<p>No.</p>"), problem=problem), "try")
    assert (type(error), str(error), error.status, error.code) == (kind, "No.", status, f"http-{status}")


def test_a_refusal_with_status_200_is_one() -> None:
    answer = msgspec.structs.replace(answered(200, b"{}"), problem=Problem("nope", "No such room, right-secret.", 404))
    with pytest.raises(Rejected, match=r"No such room, \[hidden\]\.") as caught:
        check(call_of(Credential(headers={"X": "right-secret"})), answer, "try")
    assert caught.value.status == 404


def test_the_code_of_a_problem_is_never_shown() -> None:
    """It is compared with, and may hold anything."""
    error = refusal(msgspec.structs.replace(answered(404, b""), problem=Problem("a-secret", "")), "try")
    assert "a-secret" not in f"{error} {error!r} {vars(error)}"


def odd(answer: Answer) -> Problem | None:
    code = answer.body.decode() if answer.body.isalpha() else ""
    return Problem(code, "words", 409, Busy if code == "busy" else None) if code else None


async def test_what_a_client_is_told_of_refusals_holds_for_every_call() -> None:
    async with loopback(reply(b"busy"), reply(b"gone"), reply(b"gone"), reply(b"1"), reply(b"busy")) as server:
        client = HttpClient(problem=odd)
        with pytest.raises(Busy):
            await client.ask(call_of(), "try", "GET", server.url)
        with pytest.raises(Rejected):
            await client.ask(call_of(), "try", "GET", server.url, allow={"busy"})
        allowed = await client.ask(call_of(), "try", "GET", server.url, allow={"busy", "gone"})
        assert (allowed.code, allowed.problem is None) == ("gone", False)
        good = await client.ask(call_of(), "try", "GET", server.url, allow={"gone"})
        assert (good.code, good.problem) == ("", None)
        with pytest.raises(Busy):
            await client.open(call_of(), "try", "GET", server.url)
        await client.aclose()


async def test_a_page_is_never_a_good_answer() -> None:
    page = reply(b"<html>Log in</html>", "200 OK", "Content-Type: text/html; charset=utf-8")
    async with loopback(page) as server:
        client = HttpClient()
        with pytest.raises(ProtocolChanged):
            await client.ask(call_of(), "delete", "DELETE", server.url, allow={""})
        await client.aclose()


async def test_a_form_is_sent_as_one() -> None:
    async with loopback(reply(b"{}")) as server:
        client = HttpClient()
        await client.ask(call_of(), "try", "POST", server.url, b"a=1", headers=FORM)
        await client.aclose()
    [seen] = server.seen
    assert (seen.all("Content-Type"), seen.body) == (["application/x-www-form-urlencoded"], b"a=1")


# ------------------------------------------------------------------------------------------------------------- streams


async def test_a_stream_is_opened_or_refused() -> None:
    lines = reply(b"{}\n", "200 OK", "Content-Type: application/x-ndjson")
    over = reply(b'{"code": "over"}', "410 Gone")
    async with loopback(lines, over, over, lines, reply(b"{}")) as server:
        client = HttpClient()
        stream = await client.open(call_of(), "watch", "GET", server.url, media_type="application/x-ndjson")
        assert await stream.read() == b"{}\n"
        stream.close()
        assert await client.open(call_of(), "watch", "GET", server.url, allow={"over"}) is None
        with pytest.raises(Rejected):
            await client.open(call_of(), "watch", "GET", server.url, allow={"other"})
        for _ in range(2):  # other lines than asked for, and JSON
            with pytest.raises(ProtocolChanged, match="an event stream"):
                await client.open(call_of(), "watch", "GET", server.url, allow={"", "over"})
        await client.aclose()


def test_a_scrubber_outlives_its_call() -> None:
    call = call_of(Credential(headers={"X": "right-secret"}))
    call.hide = ("the whole prompt",)
    clean = scrubber(call, ["house rules"])
    call.hide = ()
    assert clean("right-secret, the whole prompt, house rules") == "[hidden], [hidden], [hidden]"


# ----------------------------------------------------------------------------------------------------- pages and values


async def listed(following: Callable[[int], int | None]) -> list[str]:
    async def page(number: int) -> tuple[list[str], int | None]:
        return [f"{number}a", f"{number}b"], following(number)

    return [each async for each in pages(page, 1)]


async def test_pages_are_iterated_to_the_last() -> None:
    assert await listed(lambda number: number + 1 if number < 3 else None) == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert await listed(lambda _: None) == ["1a", "1b"]


@pytest.mark.parametrize(("step", "asked"), [(0, 1), (1, 1000)])
async def test_pages_without_end_are_another_protocol(step: int, asked: int) -> None:
    numbers: list[int] = []

    def following(number: int) -> int:
        numbers.append(number)
        return number + step

    with pytest.raises(ProtocolChanged, match="a listing that ends"):
        await listed(following)
    assert len(numbers) == asked


async def test_pages_that_nobody_wants_are_not_asked_for() -> None:
    asked: list[int] = []

    async def page(number: int) -> tuple[list[int], int | None]:
        asked.append(number)
        return [number], number + 1

    listing: AsyncIterator[int] = pages(page, 1)
    assert await anext(listing) == 1
    assert asked == [1]
    del listing
    gc.collect()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("/rooms/7", "7"),
        ("https://host/rooms/a%2Fb%20%C3%A9?x=1", "a/b é"),
        ("/rooms/7/", "7"),
        ("7", "7"),
        ("a%2Fb", "a/b"),
    ],
)
def test_an_id_is_read_from_a_header(value: str, name: str) -> None:
    assert located(answered(201, b"", Location=value)) == name
    assert located(answered(201, b"", X_Job_Id=value), "X-Job-Id") == name


@pytest.mark.parametrize("headers", [{}, {"Location": ""}, {"Location": "/"}])
def test_a_header_without_an_id_is_another_protocol(headers: dict[str, str]) -> None:
    with pytest.raises(ProtocolChanged, match="Location"):
        located(answered(201, b"", **headers))


async def test_a_stream_without_its_id_is_let_go_of() -> None:
    stream = chunked(b"data: 1\n\n", headers=["Content-Type: text/event-stream"], end=False)
    async with loopback(stream) as server:
        client = HttpClient()
        body = await client.open(call_of(), "ask", "POST", server.url)
        with pytest.raises(ProtocolChanged):
            located(body, "X-Job-Id")
        async with asyncio.timeout(5):
            await server.left.wait()
        await client.aclose()


def test_text_is_text_and_no_page() -> None:
    assert plain(answered(200, b"Two  rivers\n", Content_Type="text/plain"), "a text") == "Two  rivers\n"
    for wrong in (answered(200, b"<html>", Content_Type="text/html"), answered(200, b"\xff")):
        with pytest.raises(ProtocolChanged, match="a text"):
            plain(wrong, "a text")


def test_times_are_aware() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    east = noon.astimezone(timezone(timedelta(hours=2)))
    assert [utc(each) for each in (noon, noon.replace(tzinfo=None), 1772366400, 1772366400.0)] == [noon] * 4
    assert (utc(east), utc(None)) == (east, None)


class Options(msgspec.Struct, forbid_unknown_fields=True):
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    system_prompt: str = ""


def test_options_are_those_that_the_service_has() -> None:
    assert fit({"temperature": 1}, Options, "Parley") == Options(1.0)
    assert fit({}, Options, "Parley") == Options()
    for wrong in ({"temperature": 2.5}, {"temperature": "1"}, {"top_k": 1}, {"system_prompt": None}):
        with pytest.raises(UsageError, match="Parley does not take") as caught:
            fit(wrong, Options, "Parley")
        assert caught.value.hint == "It has temperature, system_prompt."
        assert caught.value.__context__ is None


def test_fields_without_a_value_are_left_out_and_no_others() -> None:
    assert given({"after": None, "warmth": 0.0, "text": "", "plain": False}) == {
        "warmth": 0.0,
        "text": "",
        "plain": False,
    }


def test_an_option_s_value_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        fit({"temperature": "a text of the user's"}, Options, "Parley")
    assert "a text" not in f"{caught.value} {caught.value!r}"


# ---------------------------------------------------------------------------------------------------------------- keys

NAME = "CHATLEASE_PARLEY_API_KEY"


def login(key: str) -> Credential:
    return Credential(headers={"X-Key": key})


@pytest.mark.parametrize(
    ("given", "variables", "account", "found"),
    [
        ("k", {}, None, "k"),
        ("k", {NAME: "other"}, None, "k"),
        (None, {NAME: " e "}, None, "e"),
        (None, {NAME: "e", f"{NAME}_ALICE": "a"}, "alice", "a"),
        ("k", {f"{NAME}_A_B": "a"}, "a-b", "a"),
        ("k", {}, "alice", None),
        (None, {NAME: "e"}, "alice", None),
        (None, {}, None, None),
        (None, {NAME: "  "}, None, None),
    ],
)
def test_a_key_is_an_account_s_own(
    given: str | None,
    variables: dict[str, str],
    account: str | None,
    found: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    source = KeySource("Parley", NAME, login, given=given)
    if found is None:
        with pytest.raises(NotAuthenticated, match=NAME) as caught:
            source.find(account, None)
        assert (caught.value.code, caught.value.sent) == ("no-credentials", False)
        assert NAME in caught.value.hint
    else:
        assert source.find(account, None) == login(found)
        assert source.find(account, login("another")) == login(found), "the source has a newer one"
        with pytest.raises(NotAuthenticated, match="refuses the key") as caught:
            source.find(account, login(found))
        assert (caught.value.code, caught.value.sent) == ("credentials-refused", False)


def test_a_service_that_needs_no_key_is_used_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    source = KeySource("Parley", NAME, login, needed=False)
    assert source.find(None, None) == Credential()
    assert source.find("alice", None) == Credential()
    with pytest.raises(NotAuthenticated, match="refuses calls without a key"):
        source.find(None, Credential())
    monkeypatch.setenv(NAME, "e")
    with pytest.raises(NotAuthenticated, match="no key for account 'alice'"):
        source.find("alice", None)
