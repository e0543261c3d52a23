"""Where logins come from: each place, their order, what is kept of a store, what is said when nothing is found."""

from __future__ import annotations

import http.cookiejar
import json
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from chatlease.adapter import Credential
from chatlease.errors import NotAuthenticated, UsageError
from chatlease_adapters.open_assistant._cookie_files import NoCookiesError, cookie_header, cookies_in
from chatlease_adapters.open_assistant._cookies import SESSION_COOKIE, CookieSource, find_cookies

HOST = "open-assistant.io"
NOW = 1_700_000_000.0
LATER = NOW + 1e9
SECRET = "PLANTED-SECRET"


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No login anywhere, and an empty configuration folder, which is returned."""
    for name in [name for name in os.environ if name.startswith("CHATLEASE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "browser_cookie3", None)

    def user_config_path(app: str, *, appauthor: bool) -> Path:
        return tmp_path / "config" / app

    monkeypatch.setattr("platformdirs.user_config_path", user_config_path)
    folder = tmp_path / "config" / "chatlease" / "open-assistant"
    folder.mkdir(parents=True)
    return folder


def netscape(
    domain: str = HOST, name: str = "a", value: str = "1", expires: str = "0", *, subdomains: bool = True
) -> str:
    return "\t".join([domain, str(subdomains).upper(), "/", "TRUE", expires, name, value]) + "\n"


async def missing(source: CookieSource | None = None, account: str | None = None) -> NotAuthenticated:
    """Return the error of a search that finds nothing."""
    with pytest.raises(NotAuthenticated) as caught:
        await find_cookies(HOST, source=source, account=account)
    error = caught.value
    assert (error.code, error.status, error.sent) == ("no-credentials", None, False)
    assert SECRET not in f"{error!r} {error} {error.hint}"
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


class TestStores:
    """What is kept of a file's cookies."""

    @pytest.mark.parametrize(
        ("domain", "host", "kept"),
        [
            (HOST, HOST, True),
            (f".{HOST}", HOST, True),
            (f".{HOST}", f"chat.{HOST}", True),
            (HOST.upper(), HOST, True),
            (f"chat.{HOST}", HOST, False),
            (HOST, f"evil-{HOST}", False),
            ("0.0.1", "127.0.0.1", False),
            ("127.0.0.1", "127.0.0.1", True),
            ("localhost", "localhost", True),
        ],
    )
    def test_a_cookie_belongs_to_a_host_by_domain_match(self, domain: str, host: str, *, kept: bool) -> None:
        text = netscape(domain, value="mine") + netscape(host, name="control")
        assert ("a" in cookies_in(text, host, NOW)) is kept

    def test_a_host_only_cookie_stays_with_its_host(self) -> None:
        text = netscape(HOST, subdomains=False) + netscape(f"chat.{HOST}", "b", "2")
        assert cookies_in(text, f"chat.{HOST}", NOW) == {"b": "2"}

    def test_an_exported_host_only_cookie_stays_with_its_host(self) -> None:
        text = json.dumps([{"name": "a", "value": "1", "domain": HOST, "hostOnly": True}])
        with pytest.raises(NoCookiesError, match=f"no cookie for chat.{HOST}"):
            cookies_in(text, f"chat.{HOST}", NOW)

    def test_expired_cookies_are_dropped_and_session_cookies_kept(self) -> None:
        text = netscape(name="old", expires="5") + netscape(name="session") + netscape(name="new", expires=str(LATER))
        assert cookies_in(text, HOST, NOW) == {"session": "1", "new": "1"}

    def test_only_expired_cookies_are_told_apart_from_none(self) -> None:
        with pytest.raises(NoCookiesError, match="have expired"):
            cookies_in(netscape(expires="5"), HOST, NOW)

    def test_every_name_is_kept_and_the_more_exact_domain_wins(self) -> None:
        text = (
            netscape(f"chat.{HOST}", "a", "exact") + netscape(f".{HOST}", "a", "wide") + netscape(f".{HOST}", "b", "2")
        )
        assert cookies_in(text, f"chat.{HOST}", NOW) == {"a": "exact", "b": "2"}

    def test_cookies_txt_with_http_only_cookies_comments_blank_lines_and_crlf(self) -> None:
        body = f"\ufeff# Netscape HTTP Cookie File\r\n\r\n#HttpOnly_{netscape(name='login')}# a comment\r\n{netscape()}"
        assert cookies_in(body.replace("\n", "\r\n"), HOST, NOW) == {"login": "1", "a": "1"}

    def test_a_value_may_be_empty_or_hold_tabs(self) -> None:
        empty = netscape(value="").rstrip("\t\n") + "\n"
        assert cookies_in(empty + netscape(name="tabs", value="x\ty"), HOST, NOW) == {"a": "", "tabs": "x\ty"}

    @pytest.mark.parametrize("field", ["expirationDate", "expires", "expiry"])
    def test_a_json_list_is_read_with_the_date_of_any_exporter(self, field: str) -> None:
        cookies = [
            {"name": "living", "value": "1", "domain": f".{HOST}", field: LATER, "sameSite": None, "id": 1},
            {"name": "dead", "value": "1", "domain": f".{HOST}", field: NOW - 1},
        ]
        assert cookies_in(json.dumps(cookies), HOST, NOW) == {"living": "1"}

    def test_a_storage_state_is_read(self) -> None:
        cookies = [
            {"name": "a", "value": "1", "domain": HOST, "path": "/", "expires": -1},
            {"name": "b", "value": "2", "domain": "other.example", "path": "/", "expires": -1},
        ]
        assert cookies_in(json.dumps({"cookies": cookies, "origins": []}), HOST, NOW) == {"a": "1"}

    def test_a_flat_object_is_taken_whole(self) -> None:
        assert cookies_in(' {"a": "1", "b": "2"}', HOST, NOW) == {"a": "1", "b": "2"}

    @pytest.mark.parametrize(
        "text",
        [
            f'{{"a": "{SECRET}"',
            f'[{{"name": "{SECRET}"}}]',
            f'{{"a": ["{SECRET}"]}}',
            f'{{"log": "{SECRET}"}}',
            f"{HOST} TRUE / TRUE 0 a {SECRET}",
            netscape(expires=SECRET),
            f"a={SECRET}",
            "",
        ],
    )
    def test_a_malformed_text_is_refused_without_a_word_of_it(self, text: str) -> None:
        with pytest.raises(NoCookiesError) as caught:
            cookies_in(text, HOST, NOW)
        assert SECRET not in repr(caught.value)
        assert caught.value.__context__ is None

    def test_a_malformed_line_is_told_by_its_number(self) -> None:
        with pytest.raises(NoCookiesError, match=r"line 2 is no line of a cookies\.txt"):
            cookies_in(f"{netscape()}broken\n", HOST, NOW)

    def test_a_cookie_header_is_taken_apart(self) -> None:
        assert cookie_header("Cookie: a=b; c=d==;; e=; =f; flag") == {"a": "b", "c": "d==", "e": ""}


def entry(when: str, host: str = HOST, header: str = "", **cookies: str) -> dict[str, object]:
    headers = [{"name": "cookie", "value": header}] if header else []
    listed = [{"name": name, "value": value, "expires": None} for name, value in cookies.items()]
    return {
        "startedDateTime": f"2026-01-01T{when}Z",
        "request": {"url": f"https://{host}/x", "cookies": listed, "headers": headers},
        "response": {"content": {"text": SECRET}},
    }


def har(*entries: Mapping[str, object]) -> str:
    return json.dumps({"log": {"version": "1.2", "entries": entries}})


class TestHar:
    """What is kept of a recording of the browser's requests."""

    def test_the_newest_cookie_wins_whatever_the_order_of_entries(self) -> None:
        text = har(entry("10:00:00", a="new"), entry("09:00:00", a="old", b="kept"))
        assert cookies_in(text, HOST, NOW) == {"a": "new", "b": "kept"}

    def test_the_cookie_header_is_read_and_wins_over_the_list(self) -> None:
        text = har(entry("10:00:00", header="a=sent; b=2", a="listed"))
        assert cookies_in(text, HOST, NOW) == {"a": "sent", "b": "2"}

    def test_requests_to_other_hosts_are_not_looked_at(self) -> None:
        text = har(entry("10:00:00", a="1"), entry("11:00:00", f"evil-{HOST}", a="2"), entry("11:00:00", "[", a="3"))
        assert cookies_in(text, HOST, NOW) == {"a": "1"}

    @pytest.mark.parametrize(
        ("text", "reason"),
        [(har(entry("10:00:00")), "sensitive data"), (har(entry("10:00:00", "x.example", a="1")), "no request to")],
    )
    def test_a_har_without_cookies_says_why(self, text: str, reason: str) -> None:
        with pytest.raises(NoCookiesError, match=reason):
            cookies_in(text, HOST, NOW)


class TestGiven:
    """Cookies, a file or a callable given by the program."""

    async def test_cookies_are_taken_as_they_are(self) -> None:
        assert await find_cookies(HOST, source={"session_id": "1", "b": "="}) == Credential(
            {"session_id": "1", "b": "="}
        )

    async def test_an_empty_mapping_means_not_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=b")
        assert (await find_cookies(HOST, source={})).cookies == {"a": "b"}

    @pytest.mark.parametrize("kind", [str, Path])
    async def test_a_path_is_read(self, tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
        path = tmp_path / "mine.json"
        path.write_text('{"a": "1"}')
        assert (await find_cookies(HOST, source=kind(path))).cookies == {"a": "1"}

    async def test_a_given_file_without_cookies_does_not_fall_back(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "somebody=else")
        error = await missing(tmp_path / "none.txt")
        assert f"{tmp_path / 'none.txt'}: no such file" in str(error)

    async def test_a_value_given_where_a_path_belongs_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "name not shown" in str(await missing(f"a={SECRET}.txt"))
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIES", f"eyJhbGciOiJkaXIi..{SECRET}")
        assert "name not shown" in str(await missing())

    async def test_files_are_read_in_a_thread(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        readers: list[int] = []

        def read_text(path: Path, encoding: str) -> str:
            readers.append(threading.get_ident())
            return '{"a": "1"}'

        monkeypatch.setattr(Path, "read_text", read_text)
        await find_cookies(HOST, source=tmp_path)
        assert len(readers) == 1
        assert threading.get_ident() not in readers

    async def test_a_callable_is_asked_for_host_and_account(self) -> None:
        asked: list[tuple[str, str | None]] = []

        def source(host: str, account: str | None) -> Mapping[str, str]:
            asked.append((host, account))
            return {"a": "1"}

        assert (await find_cookies("Open-Assistant.IO", source=source, account="alice")).cookies == {"a": "1"}
        assert asked == [(HOST, "alice")]

    async def test_a_callable_may_be_async_and_give_a_credential(self) -> None:
        credential = Credential(headers={"Authorization": "Bearer x"}, proxy="http://proxy.example")

        async def source(host: str, account: str | None) -> Credential:
            return credential

        assert await find_cookies(HOST, source=source) is credential

    @pytest.mark.parametrize("answer", [None, {}, Credential()])
    async def test_a_callable_that_gives_nothing_does_not_fall_back(
        self, monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, str] | Credential | None
    ) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "somebody=else")
        assert "the callable: gave nothing" in str(await missing(lambda host, account: answer))

    async def test_a_failing_callable_is_told_by_its_class_alone(self) -> None:
        def source(host: str, account: str | None) -> None:
            raise KeyError(SECRET)

        assert "the callable: raised KeyError" in str(await missing(source))

    async def test_an_error_of_ours_passes_through_a_callable(self) -> None:
        refusal = NotAuthenticated("the vault is locked")

        def source(host: str, account: str | None) -> None:
            raise refusal

        with pytest.raises(NotAuthenticated) as caught:
            await find_cookies(HOST, source=source)
        assert caught.value is refusal

    async def test_a_source_of_another_type_is_the_callers_error(self) -> None:
        wrong: CookieSource = [SECRET]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # the point
        with pytest.raises(UsageError, match="not as list") as caught:
            await find_cookies(HOST, source=wrong)
        assert caught.value.__context__ is None

    async def test_what_cannot_be_sent_in_a_header_is_refused(self) -> None:
        assert "control characters" in str(await missing({"a": f"{SECRET}\r\nX-Injected: 1"}))

    async def test_a_value_that_is_no_text_is_refused(self) -> None:
        number: Mapping[str, str] = {"a": 1}  # type: ignore[dict-item]  # pyright: ignore[reportAssignmentType]  # the point
        assert "is no text" in str(await missing(number))


class TestEnvironment:
    """Logins in environment variables."""

    @pytest.mark.parametrize("token", ["eyJhbGciOiJkaXIi..iv.text.tag", "cGFkZGVk==", "  eyJ \n"])
    async def test_a_bare_token_is_the_session_cookie(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", token)
        assert await find_cookies(HOST) == Credential({SESSION_COOKIE: token.strip()})

    async def test_a_cookie_header_is_taken_with_all_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=b; c=d")
        assert await find_cookies(HOST) == Credential({"a": "b", "c": "d"})

    async def test_a_variable_may_name_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "export").write_text(netscape())
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIES", str(tmp_path / "export"))
        assert (await find_cookies(HOST)).cookies == {"a": "1"}

    @pytest.mark.parametrize("value", ["token", "Bearer token", "bearer  token"])
    async def test_a_bearer_token_becomes_a_header(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_TOKEN", value)
        assert await find_cookies(HOST) == Credential(headers={"Authorization": "Bearer token"})

    async def test_a_value_that_is_neither_header_nor_token_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", f"={SECRET}")
        assert "COOKIE: neither a Cookie header nor a token" in str(await missing())


class TestOrder:
    """The first login found is the one."""

    async def test_cookie_then_file_then_bearer_then_folder_then_browsers(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Path
    ) -> None:
        found: list[str] = []

        async def look() -> None:
            credential = await find_cookies(HOST)
            found.extend([*credential.cookies.values(), *credential.headers.values()])

        install(monkeypatch, firefox=lambda: [cookie("session-token", "browser")])
        await look()
        (config / "cookies.json").write_text('{"a": "folder.json"}')
        await look()
        (config / "cookies.txt").write_text(netscape(value="folder.txt"))
        await look()
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_TOKEN", "token")
        await look()
        (tmp_path / "file.json").write_text('{"a": "file"}')
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIES", str(tmp_path / "file.json"))
        await look()
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=cookie")
        await look()
        assert found == ["browser", "folder.json", "folder.txt", "Bearer token", "file", "cookie"]

    async def test_a_refused_login_found_again_ends_the_search(
        self, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", f"a={SECRET}")
        (config / "cookies.json").write_text('{"a": "somebody else"}')
        rejected = Credential({"a": SECRET}, proxy="http://the.proxy.is.not.the.login")
        with pytest.raises(NotAuthenticated) as caught:
            await find_cookies(HOST, rejected=rejected)
        error = caught.value
        assert (error.code, error.status, error.sent) == ("credentials-refused", None, False)
        assert "environment CHATLEASE_OPEN_ASSISTANT_COOKIE" in str(error)
        assert SECRET not in f"{error!r}{error.hint}"

    async def test_a_renewed_login_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=new")
        assert (await find_cookies(HOST, rejected=Credential({"a": "old"}))).cookies == {"a": "new"}

    async def test_the_error_names_every_place_and_the_way_out(self, config: Path) -> None:
        error = await missing()
        assert str(error).splitlines() == [
            f"no login at {HOST} was found; looked at:",
            "- environment CHATLEASE_OPEN_ASSISTANT_COOKIE: not set",
            "- environment CHATLEASE_OPEN_ASSISTANT_COOKIES: not set",
            "- environment CHATLEASE_OPEN_ASSISTANT_TOKEN: not set",
            f"- file: {config / 'cookies.txt'}: no such file",
            f"- file: {config / 'cookies.json'}: no such file",
            f"- file: {config / 'cookies.har'}: no such file",
            "- the browsers: not asked: extra not installed (pip install 'chatlease[browser]')",
        ]
        assert "CHATLEASE_OPEN_ASSISTANT_COOKIE" in error.hint
        assert str(config / "cookies.txt") in error.hint

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (netscape("x.example").encode(), f"no cookie for {HOST}"),
            (netscape(expires="5").encode(), "have expired"),
            (f"broken {SECRET}".encode(), "line 1 is no line of a cookies.txt"),
            (b"\xff\xfe" + SECRET.encode(), "not a text file in UTF-8"),
            (None, "cannot be read (IsADirectoryError)"),
        ],
    )
    async def test_the_error_says_what_was_wrong_with_a_file(
        self, config: Path, content: bytes | None, reason: str
    ) -> None:
        path = config / "cookies.txt"
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        assert reason in str(await missing())


class TestAccounts:
    """A named account never gets the default account's login."""

    async def test_the_default_accounts_places_are_closed_to_a_named_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Path
    ) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=default")
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIES", str(tmp_path / "file.json"))
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_TOKEN", "default")
        (tmp_path / "file.json").write_text('{"a": "default"}')
        (config / "cookies.json").write_text('{"a": "default"}')
        install(monkeypatch, firefox=lambda: [cookie("session-token", "default")])
        error = await missing(account="alice")
        assert "no login for account 'alice'" in str(error)
        assert "the browsers: the default account's" in str(error)
        assert "CHATLEASE_OPEN_ASSISTANT_COOKIE_ALICE" in error.hint

    @pytest.mark.parametrize("source", [{"a": SECRET}, "given.json"])
    async def test_what_the_program_gave_is_the_default_accounts(
        self, monkeypatch: pytest.MonkeyPatch, source: CookieSource
    ) -> None:
        assert "given: the default account's" in str(await missing(source, account="alice"))
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE_ALICE", "a=alice")
        assert (await find_cookies(HOST, source=source, account="alice")).cookies == {"a": "alice"}

    async def test_an_account_has_variables_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_TOKEN_BOT_2", "two")
        assert (await find_cookies(HOST, account="bot-2")).headers == {"Authorization": "Bearer two"}

    async def test_an_account_has_files_of_its_own(self, config: Path) -> None:
        (config / "alice.txt").write_text(netscape())
        assert (await find_cookies(HOST, account="alice")).cookies == {"a": "1"}

    @pytest.mark.parametrize("account", ["cookies", "Cookies", "../open-assistant/cookies", "..", "a/b", "a\0b"])
    async def test_no_name_of_an_account_leads_to_another_accounts_file(self, config: Path, account: str) -> None:
        for name in ("cookies.txt", "Cookies.txt"):
            (config / name).write_text(netscape())
        assert "no file name of its own" in str(await missing(account=account))

    async def test_a_fingerprint_finds_the_login_that_it_names(
        self, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a=newer")
        (config / "cookies.json").write_text('{"a": "wanted"}')
        wanted = Credential({"a": "wanted"})
        assert await find_cookies(HOST, account=wanted.fingerprint()) == wanted

    async def test_a_fingerprint_of_another_login_finds_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", f"a={SECRET}")
        error = await missing(account=Credential({"a": "gone"}).fingerprint())
        assert "another login than the one asked for" in str(error)


def cookie(name: str, value: str, domain: str = f".{HOST}") -> http.cookiejar.Cookie:
    dot = domain.startswith(".")
    return http.cookiejar.Cookie(
        0, name, value, None, False, domain, dot, dot, "/", True, True, None, False, None, None, {}
    )


def install(monkeypatch: pytest.MonkeyPatch, **browsers: Callable[[], Iterable[http.cookiejar.Cookie]]) -> list[str]:
    """Put a library with these browsers in the place of browser_cookie3; returns the domains that it is asked for."""
    asked: list[str] = []

    def browser(name: str, cookies: Callable[[], Iterable[http.cookiejar.Cookie]]) -> Callable[..., object]:
        def load(*, domain_name: str) -> Iterable[http.cookiejar.Cookie]:
            assert threading.current_thread() is not threading.main_thread()
            asked.append(domain_name)
            return cookies()

        load.__name__ = name
        return load

    library = types.ModuleType("browser_cookie3")
    vars(library)["all_browsers"] = [browser(name, cookies) for name, cookies in browsers.items()]
    monkeypatch.setitem(sys.modules, "browser_cookie3", library)
    return asked


def locked() -> Iterable[http.cookiejar.Cookie]:
    raise PermissionError(SECRET)


class TestBrowsers:
    """The user's browsers, in threads (which the fake library asserts)."""

    async def test_each_browsers_failure_is_told_by_its_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, chrome=locked, firefox=lambda: [cookie("a", SECRET, "x.example")])
        text = str(await missing())
        assert "- browser chrome: PermissionError\n" in text
        assert text.endswith(f"- browser firefox: no cookie for {HOST}")

    async def test_a_failing_browser_does_not_hide_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, chrome=locked, firefox=lambda: [cookie("session-token", "1"), cookie("b", "2")])
        assert (await find_cookies(HOST)).cookies == {"session-token": "1", "b": "2"}

    async def test_a_browser_that_is_logged_in_goes_before_one_that_knows_the_site(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, chrome=lambda: [cookie("theme", "dark")], firefox=lambda: [cookie(SESSION_COOKIE, "1")])
        assert (await find_cookies(HOST)).cookies == {SESSION_COOKIE: "1"}

    async def test_other_cookies_are_taken_where_no_browser_is_logged_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, chrome=lambda: [cookie("sso", "1")], firefox=list)
        assert (await find_cookies(HOST)).cookies == {"sso": "1"}

    async def test_no_browser_is_opened_after_the_one_with_the_login(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = install(monkeypatch, chrome=lambda: [cookie("session-token", "1")], firefox=locked)
        await find_cookies(HOST)
        assert asked == [HOST]

    @pytest.mark.parametrize(
        ("host", "asked"), [(f"a.chat.{HOST}", HOST), ("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")]
    )
    async def test_the_library_is_asked_for_the_parent_domain_too(
        self, monkeypatch: pytest.MonkeyPatch, host: str, asked: str
    ) -> None:
        domains = install(monkeypatch, chrome=lambda: [cookie("session-token", "1", host)])
        await find_cookies(host)
        assert domains == [asked]

    async def test_a_library_that_cannot_be_imported_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def find_spec(self, name: str, *_: object) -> None:
                if name == "browser_cookie3":
                    raise ModuleNotFoundError(SECRET, name="dbus")

        monkeypatch.delitem(sys.modules, "browser_cookie3")
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        assert "browser_cookie3 cannot be imported (ModuleNotFoundError)" in str(await missing())
