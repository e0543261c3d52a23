"""What an adapter over HTTP says of a failed call: typed, readable, and without anything secret."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import ClassVar

import msgspec
import pytest

from chatlease.adapter import Credential
from chatlease.errors import (
    NotAuthenticated,
    ProtocolChanged,
    RateLimited,
    Rejected,
    ServiceError,
    Unavailable,
)
from chatlease_adapters.http import HttpClient, decode, refusal, scrub, shape
from tests.unit.aio import (
    ID,
    Reply,
    answered,
    failure,
    foreign,
    get,
    loopback,
    reply,
    shown,
)


class TestRefusals:
    """A status becomes the error that says who is to blame."""

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            *((401, NotAuthenticated), (403, NotAuthenticated), (429, RateLimited)),
            *((408, Unavailable), (425, Unavailable), (500, Unavailable), (503, Unavailable), (599, Unavailable)),
            *((400, Rejected), (404, Rejected), (409, Rejected), (413, Rejected), (422, Rejected)),
        ],
    )
    @pytest.mark.parametrize("body", [b"", b'{"detail": "No."}', b"No.", b"\xff"])
    def test_by_status_whatever_the_body(self, status: int, kind: type[ServiceError], body: bytes) -> None:
        error = refusal(answered(status, body), "try")
        assert type(error) is kind
        assert (error.status, error.code, error.sent) == (status, f"http-{status}", True)

    @pytest.mark.parametrize("status", [404, 405])
    def test_a_page_instead_of_an_api_is_another_address(self, status: int) -> None:
        error = refusal(answered(status, b"<!DOCTYPE html><html>..."), "try")
        assert isinstance(error, ProtocolChanged)
        assert error.got == f"HTML page (HTTP {status})"

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b'{"message": "Model x not found"}', "Model x not found"),
            (b'{"detail": "Chat not found"}', "Chat not found"),
            (b'{"error": {"message": "bad key", "type": "auth"}}', "bad key"),
            (
                b'{"message": [{"loc": ["body", "a", 0], "msg": "field required"}, {"loc": ["q"], "msg": "no"}]}',
                "a.0: field required; q: no",
            ),
            (b"Invalid JSON", "the service answered HTTP 400 to try: Invalid JSON"),
            (b"", "the service answered HTTP 400 to try (empty body)"),
            (b"<html><body>secret</body></html>", "the service answered HTTP 400 to try (HTML page)"),
            (b'{"message": ""}', "the service answered HTTP 400 to try (JSON object with keys message)"),
            (b'{"detail": {"a": 1}}', "the service answered HTTP 400 to try (JSON object with keys detail)"),
            (b"[" * 100_000, "the service answered HTTP 400 to try (JSON that is broken or cut)"),
        ],
    )
    def test_the_service_s_own_words_are_the_error_s(self, body: bytes, text: str) -> None:
        assert str(refusal(answered(400, body), "try")) == text

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry_After": "120"}, 120.0),
            ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:30 GMT"}, 30.0),
            ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
            *(({"Retry_After": value}, None) for value in ("soon", "-1", "1.5", "\u0663")),
            ({}, None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(self, headers: dict[str, str], seconds: float | None) -> None:
        assert refusal(answered(429, b"", **headers), "try").retry_after_s == seconds
        assert refusal(answered(503, b"", **headers), "try").retry_after_s == seconds

    def test_long_words_are_cut(self) -> None:
        text = str(refusal(answered(400, b'{"detail": "' + b"no " * 200 + b'"}'), "try"))
        assert len(text) == 300
        assert text.endswith("\u2026")


class TestScrubbing:
    """A service may echo what it was sent; nobody sees it again."""

    PROMPT = 'Tell me about "Ren\u00e9" and the red fox that lives behind our house in Lyon.'

    @pytest.mark.parametrize(
        "echo",
        [
            PROMPT,
            f"<s>[INST]\n{PROMPT}\n[/INST]",
            PROMPT[:40],
            PROMPT[20:60],
            msgspec.json.encode(PROMPT).decode(),
            repr(PROMPT),
            ascii(PROMPT),
        ],
    )
    def test_an_echoed_prompt_is_hidden_whole_cut_or_quoted(self, echo: str) -> None:
        body = msgspec.json.encode({"detail": f"Cannot take {echo}, sorry"})
        text = str(refusal(answered(422, body), "try", hide=[self.PROMPT]))
        assert "[hidden]" in text
        assert text.startswith("Cannot take ")
        for part in ("red fox", "behind our house", "Tell me about"):
            assert part not in text

    def test_every_value_of_the_login_is_hidden(self) -> None:
        login = Credential(
            cookies={"s": "cookie-value"}, headers={"Authorization": "Bearer the-token"}, proxy="http://u:proxy-pw@h:1"
        )
        body = b'{"detail": "cookie-value the-token proxy-pw Bearer the-token"}'
        assert str(refusal(answered(400, body), "try", login=login)) == "[hidden] [hidden] [hidden] [hidden]"

    def test_tiny_values_are_no_secrets_and_small_ones_are_words(self) -> None:
        assert scrub("Model OA_SFT_Llama_30B_6 not found, en", ["6", "en"]) == "Model OA_SFT_Llama_30B_6 not found, en"
        assert scrub("dark darkness", ["dark"]) == "[hidden] darkness"

    def test_a_huge_echo_is_scrubbed_in_bearable_time(self) -> None:
        prompt = "".join(f"word{n} " for n in range(50_000))
        assert "word77" not in scrub(f"No: {prompt[5:]}", [prompt])


class TestDecoding:
    """An answer of another shape is told by its shape."""

    @pytest.mark.parametrize(
        ("body", "got"),
        [
            (b"", "empty body"),
            (b" \n", "empty body"),
            (b'{"a": "secret", "b": 1}', "JSON object with keys a, b"),
            (b"{}", "empty JSON object"),
            (b'{"some secret text": 1}', "JSON object with keys ?"),
            (b"[1, 2]", "JSON array of 2"),
            *((b"null", "JSON null"), (b'"secret"', "JSON string"), (b"1", "JSON number"), (b"true", "JSON boolean")),
            (b'{"id": 1}', "JSON object with keys id"),
            (b"\xef\xbb\xbf<!doctype html><p>secret", "HTML page"),
            (b"<error>secret", "XML or HTML"),
            (b"data: secret\n\n", "event stream"),
            (b'{"id": "sec', "JSON that is broken or cut"),
            (b"secret", "6 bytes that are no JSON"),
            (b'{"id": "\xff"}', "JSON that is broken or cut"),
        ],
    )
    def test_what_came_is_told_without_its_content(self, body: bytes, got: str) -> None:
        with pytest.raises(ProtocolChanged) as caught:
            decode(answered(200, body), ID, "an object with an id")
        error = caught.value
        assert (error.expected, error.got, error.status) == ("an object with an id", got, 200)
        assert error.got == shape(body)
        assert foreign(error) == []
        assert "secret" not in shown(error)

    def test_more_fields_than_expected_are_fine(self) -> None:
        assert decode(answered(200, b'{"new": [1], "id": "x"}'), ID, "an id").id == "x"


class TestPlantedSecrets:
    """Whatever fails, no error holds the login or the way."""

    LOGIN = Credential(cookies={"session": "planted-cookie"}, headers={"Authorization": "Bearer planted-token"})

    FAILURES: ClassVar[dict[str, Callable[[], Reply]]] = {
        "closed": lambda: Reply([]),
        "reset": lambda: Reply([], reset=True),
        "garbage": lambda: Reply([b"planted-cookie\r\n\r\n"]),
        "short": lambda: reply(b"planted-cookie", length=99),
        "redirect": lambda: reply(b"", "302 Found", "Location: /planted-cookie"),
        "bad-gzip": lambda: reply(b"planted-cookie", "200 OK", "Content-Encoding: gzip"),
        "bad-length": lambda: Reply([b"HTTP/1.1 200 OK\r\nContent-Length: planted-cookie\r\n\r\n"]),
        "long-header": lambda: reply(b"", "200 OK", "X: " + "planted-cookie" * 9000),
    }

    @pytest.mark.parametrize("name", FAILURES)
    async def test_no_failure_of_the_way_shows_them(self, name: str) -> None:
        async with loopback(self.FAILURES[name]()) as server:
            error = await failure(get(HttpClient(), f"{server.url}/planted-path", self.LOGIN))
        assert isinstance(error, ServiceError)
        assert "planted" not in shown(error)

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
    @pytest.mark.parametrize("form", ["{}", '{{"detail": "{}"}}', '{{"{}": 1}}', "<html>{}</html>"])
    def test_no_refusal_shows_them(self, status: int, form: str) -> None:
        body = form.format("planted-cookie planted-token planted-prompt-of-the-user").encode()
        error = refusal(answered(status, body), "try", login=self.LOGIN, hide=["planted-prompt-of-the-user"])
        assert "planted" not in shown(error)


def test_a_bot_without_socks_proxies_imports_no_socks_library() -> None:
    code = "import sys, chatlease_adapters.http; sys.exit(any('socks' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=_here()).returncode == 0


def _here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
