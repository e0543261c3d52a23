"""HTTP as every adapter uses it, against raw servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import socket
import zlib
from collections.abc import Awaitable
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from chatlease.adapter import Credential, Deadlines
from chatlease.errors import (
    ProtocolChanged,
    Unavailable,
    UsageError,
)
from chatlease_adapters import _http_errors
from chatlease_adapters.http import Answer, HttpClient, decode, refusal
from tests.unit.aio import (
    ID,
    Reply,
    Request,
    call_of,
    chunked,
    closed_port,
    failure,
    faked_http,
    get,
    loopback,
    reply,
    shown,
)

ALICE = Credential(cookies={"session": "secret-of-alice"}, headers={"X-Key": "key-of-alice"})
BOB = Credential(cookies={"session": "secret-of-bob"})


class TestLogin:
    """The login travels with the call and with nothing else."""

    async def test_cookies_are_sent_as_they_are(self) -> None:
        odd = {"a": '"quoted"', "b": "x=y, z", "c": "sp ace", "d": "", "e[0]": "%7B\u00e9"}
        async with loopback(reply()) as server:
            await get(HttpClient(), server.url, Credential(cookies=odd))
        [cookie] = server.seen[0].all("Cookie")
        assert cookie.encode("latin-1").decode() == 'a="quoted"; b=x=y, z; c=sp ace; d=; e[0]=%7B\u00e9'

    async def test_no_cookie_is_remembered_and_none_is_added(self) -> None:
        client = HttpClient()
        setting = reply(b"", "200 OK", "Set-Cookie: tracking=1; Path=/")
        async with loopback(setting, setting, setting) as server:
            for login in (ALICE, BOB, Credential()):
                await client.call(call_of(login), "GET", server.url)
            await client.aclose()
        assert [seen.all("Cookie") for seen in server.seen] == [
            ["session=secret-of-alice"],
            ["session=secret-of-bob"],
            [],
        ]

    async def test_headers_of_the_login_are_sent_and_go_before_others(self) -> None:
        login = Credential(headers={"Authorization": "Bearer t", "user-agent": "bot/1"})
        async with loopback(reply()) as server:
            await get(HttpClient(), server.url, login, headers={"Authorization": "Bearer other", "X-More": "1"})
        request = server.seen[0]
        assert request.all("Authorization") == ["Bearer t"]
        assert request.all("User-Agent") == ["bot/1"]
        assert request.all("X-More") == ["1"]

    async def test_the_user_agent_is_a_browser_s(self) -> None:
        async with loopback(reply()) as server:
            await get(HttpClient(), server.url)
        assert server.seen[0].all("User-Agent")[0].startswith("Mozilla/5.0 (")

    async def test_a_body_is_sent_as_json_and_no_body_as_none(self) -> None:
        client = HttpClient()
        async with loopback(reply(), reply()) as server:
            await client.call(call_of(), "POST", server.url, b'{"a":1}')
            await client.call(call_of(), "POST", server.url)
            await client.aclose()
        first, second = server.seen
        assert (first.body, first.all("Content-Type")) == (b'{"a":1}', ["application/json"])
        assert (second.body, second.all("Content-Type"), second.all("Content-Length")) == (b"", [], ["0"])

    async def test_an_encoded_address_is_sent_as_it_is(self) -> None:
        async with loopback(reply()) as server:
            await get(HttpClient(), URL(f"{server.url}/a%2Fb?x=%20%3D", encoded=True))
        assert server.seen[0].target == "/a%2Fb?x=%20%3D"


class TestBotsOwnSession:
    """A session of the bot's own lends its connections and nothing else."""

    async def test_its_cookies_and_headers_are_not_sent_and_it_is_not_closed(self) -> None:
        async with loopback(reply(b"", "200 OK", "Set-Cookie: ours=1"), reply()) as server:
            jar = aiohttp.CookieJar(unsafe=True)
            jar.update_cookies({"bots": "own"}, URL(server.url))
            async with aiohttp.ClientSession(cookie_jar=jar, headers={"Authorization": "bots-own"}) as session:
                await get(HttpClient(session=session), server.url, ALICE)
                await get(HttpClient(session=session), server.url, ALICE)
                assert not session.closed
                assert {cookie.key for cookie in jar} == {"bots"}
        for request in server.seen:
            assert request.all("Cookie") == ["session=secret-of-alice"]
            assert request.all("Authorization") == []

    async def test_its_connections_are_used(self) -> None:
        class Everywhere(AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
                found = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)
                return [found]

            async def close(self) -> None:
                return

        async with loopback(reply(b"{}")) as server:
            connector = aiohttp.TCPConnector(resolver=Everywhere(), family=socket.AF_INET)
            async with aiohttp.ClientSession(connector=connector) as session:
                answer = await get(HttpClient(session=session), f"http://service.test:{server.port}")
        assert answer.body == b"{}"

    async def test_its_default_proxy_is_used(self) -> None:
        async with loopback(reply()) as proxy, aiohttp.ClientSession(proxy=proxy.url) as session:
            await get(HttpClient(session=session), "http://service.test/x")
        assert proxy.seen[0].target == "http://service.test/x"

    async def test_a_closed_one_is_the_callers_mistake(self) -> None:
        session = aiohttp.ClientSession()
        await session.close()
        assert isinstance(await failure(get(HttpClient(session=session), "http://127.0.0.1:1")), UsageError)

    def test_one_of_another_loop_is_the_callers_mistake(self) -> None:
        async def opened() -> aiohttp.ClientSession:
            return aiohttp.ClientSession()

        async def used(session: aiohttp.ClientSession) -> Any:
            return await failure(get(HttpClient(session=session), "http://127.0.0.1:1"))

        with asyncio.Runner() as one:
            session = one.run(opened())
            with asyncio.Runner() as other:
                assert isinstance(other.run(used(session)), UsageError)
            one.run(session.close())


class TestUnreached:
    """What never left is told apart from what may have arrived."""

    async def test_a_refused_connection(self) -> None:
        error = await failure(get(HttpClient(), f"http://127.0.0.1:{await closed_port()}/api", ALICE))
        assert isinstance(error, Unavailable)
        assert (error.code, error.sent, error.status) == ("connection-refused", False, None)
        assert "http://127.0.0.1:" in str(error)
        assert "/api" not in str(error)

    async def test_a_refused_connection_to_a_name_with_several_addresses(self) -> None:
        error = await failure(get(HttpClient(), f"http://localhost:{await closed_port()}"))
        assert (error.code, error.sent) in {("connection-refused", False), ("unreachable", False)}

    async def test_an_unknown_name(self) -> None:
        class Nowhere(AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
                raise OSError(None, "DNS lookup failed")

            async def close(self) -> None:
                return

        connector = aiohttp.TCPConnector(resolver=Nowhere())
        async with aiohttp.ClientSession(connector=connector) as session:
            error = await failure(get(HttpClient(session=session), "http://nowhere.test"))
        assert (error.code, error.sent) == ("dns", False)

    async def test_a_server_that_speaks_no_tls(self) -> None:
        async with await asyncio.start_server(_answer_plainly, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            error = await failure(get(HttpClient(), f"https://127.0.0.1:{port}"))
        assert (error.code, error.sent) == ("tls", False)
        assert "ssl=" in error.hint

    async def test_a_connection_that_takes_longer_than_its_deadline(self) -> None:
        client = HttpClient()
        async with loopback() as server:  # it reads the TLS greeting, waits for an end of line, and never answers
            call = call_of(deadlines=Deadlines(connect=0.02))
            error = await failure(client.call(call, "GET", f"https://127.0.0.1:{server.port}"))
            await client.aclose()
        assert (error.code, error.sent, call.http_status) == ("connect-timeout", False, None)

    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
    async def test_a_proxy_that_is_not_there(self, scheme: str) -> None:
        login = Credential(proxy=f"{scheme}://user:proxy-password@127.0.0.1:{await closed_port()}")
        error = await failure(get(HttpClient(), "http://127.0.0.1:1", login))
        assert (error.code, error.sent) == ("proxy", False)
        assert "proxy-password" not in shown(error)

    @pytest.mark.parametrize(
        ("status", "code"), [("407 Proxy Authentication Required", "proxy-auth"), ("502 No", "proxy")]
    )
    async def test_a_proxy_that_refuses_the_tunnel(self, status: str, code: str) -> None:
        async with loopback(reply(b"", status)) as proxy:
            login = Credential(proxy=f"http://user:proxy-password@127.0.0.1:{proxy.port}")
            error = await failure(get(HttpClient(), "https://service.test", login))
        assert (error.code, error.sent, error.status) == (code, False, int(status[:3]))
        assert "proxy-password" not in shown(error)

    def test_a_certificate_that_is_not_trusted(self) -> None:
        key = ConnectionKey("service.test", 443, True, True, None, None, None)
        cause = aiohttp.ClientConnectorCertificateError(key, ValueError("self-signed"))
        error = _http_errors.transport_error(cause, "https://service.test")
        assert isinstance(error, Unavailable)
        assert (error.code, error.sent) == ("tls", False)


async def _answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(16)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


class TestLost:
    """What may have arrived is never called unsent."""

    async def test_a_connection_closed_without_an_answer(self) -> None:
        client = HttpClient()
        async with loopback(Reply([])) as server:
            error = await failure(client.call(call_of(ALICE), "POST", server.url, b"{}"))
            await client.aclose()
        assert isinstance(error, Unavailable)
        assert (error.code, error.sent) == ("connection-lost", True)

    @pytest.mark.parametrize(
        "broken",
        [
            reply(b"half", length=8),
            Reply([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]),
            Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"], reset=True),
        ],
        ids=["short", "chunked", "reset"],
    )
    async def test_a_body_that_breaks_off(self, broken: Reply) -> None:
        async with loopback(broken) as server:
            error = await failure(get(HttpClient(), server.url, ALICE))
        assert (type(error), error.code, error.sent) == (Unavailable, "connection-lost", True)

    async def test_a_stream_that_breaks_off_gives_what_came_first(self) -> None:
        client = HttpClient()
        async with loopback(
            Reply([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n"])
        ) as server:
            stream = await client.stream(call_of(), "GET", server.url)
            assert await stream.read() == b"ab"
            error = await failure(stream.read())
            stream.close()
            await client.aclose()
        assert (error.code, error.sent) == ("connection-lost", True)

    async def test_what_is_no_http_is_another_service(self) -> None:
        async with loopback(Reply([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])) as server:
            error = await failure(get(HttpClient(), server.url, ALICE))
        assert isinstance(error, ProtocolChanged)


class TestUsage:
    """What cannot be sent at all is the caller's mistake, and no value is repeated."""

    @pytest.mark.parametrize("url", ["nonsense", "ftp://host/secret-path", "http://", "http://host:99999/secret-path"])
    async def test_an_address_that_is_none(self, url: str) -> None:
        error = await failure(get(HttpClient(), url))
        assert isinstance(error, UsageError)
        assert "secret-path" not in shown(error)

    @pytest.mark.parametrize(
        "login", [Credential(cookies={"a": "top\r\nsecret"}), Credential(headers={"X": "top\nsecret"})]
    )
    async def test_a_value_with_a_line_end(self, login: Credential) -> None:
        async with loopback(reply()) as server:
            error = await failure(get(HttpClient(), server.url, login))
        assert isinstance(error, UsageError)
        assert "secret" not in shown(error)
        assert server.seen == []

    @pytest.mark.parametrize(
        "proxy", ["127.0.0.1:8080", "gopher://h:secret@x:1", "socks5://u:secret@host", "http://u:secret@h:x"]
    )
    async def test_a_proxy_that_is_none(self, proxy: str) -> None:
        error = await failure(get(HttpClient(), "http://127.0.0.1:1", Credential(proxy=proxy)))
        assert isinstance(error, UsageError)
        assert "secret" not in shown(error)

    async def test_socks_without_its_extra_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> ModuleType:
            raise ImportError(name)

        monkeypatch.setattr(importlib, "import_module", absent)
        error = await failure(get(HttpClient(), "http://127.0.0.1:1", Credential(proxy="socks5://127.0.0.1:1")))
        assert isinstance(error, UsageError)
        assert "chatlease[socks]" in error.hint


class TestProxies:
    """Every call of a login goes through its proxy."""

    async def test_an_http_proxy_gets_the_whole_address_and_its_login(self) -> None:
        async with loopback(reply(b"{}")) as proxy:
            login = Credential(cookies=ALICE.cookies, proxy=f"http://user:pass@127.0.0.1:{proxy.port}")
            await get(HttpClient(), "http://service.test/api?x=1", login)
        [request] = proxy.seen
        assert request.target == "http://service.test/api?x=1"
        assert request.all("Proxy-Authorization") == ["Basic dXNlcjpwYXNz"]

    async def test_a_407_of_the_proxy_is_not_the_service_s_refusal(self) -> None:
        async with loopback(reply(b"who?", "407 Proxy Authentication Required")) as proxy:
            answer = await get(HttpClient(), "http://service.test", Credential(proxy=proxy.url))
        error = refusal(answer, "try")
        assert (type(error), error.code, error.sent) == (Unavailable, "proxy-auth", False)

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
    async def test_a_socks_proxy_is_gone_through_and_has_a_pool_of_its_own(self, scheme: str) -> None:
        client = HttpClient()
        async with loopback(reply(b"1"), reply(b"2")) as server, _socks() as (port, asked):
            through = Credential(proxy=f"{scheme}://127.0.0.1:{port}")
            assert (await client.call(call_of(through), "GET", server.url)).body == b"1"
            assert (await client.call(call_of(), "GET", server.url)).body == b"2"
            await client.aclose()
        assert asked == [server.port]

    @pytest.mark.parametrize("trusted", [True, False])
    async def test_the_environment_counts_only_where_it_is_trusted(
        self, trusted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with loopback(reply(b"proxy")) as proxy, loopback(reply(b"service")) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            answer = await get(HttpClient(trust_env=trusted), server.url)
        assert answer.body == (b"proxy" if trusted else b"service")


class _socks:  # noqa: N801  (used like a function)
    """A SOCKS5 proxy without login; gives its port and the ports that it was asked for."""

    async def __aenter__(self) -> tuple[int, list[int]]:
        self.asked: list[int] = []
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1], self.asked

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        await reader.readexactly(4 if kind == 1 else (await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(port)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        back.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await there.read())
        for end in (back, writer):
            end.close()

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()


class TestRedirects:
    """Nothing is followed."""

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Temp", "308 Perm"])
    async def test_a_redirect_names_the_target_s_origin_only(self, status: str) -> None:
        there = "Location: https://login.test:8443/in?token=secret-token#x"
        async with loopback(reply(b"", status, there)) as server:
            error = await failure(get(HttpClient(), server.url, ALICE))
        assert isinstance(error, ProtocolChanged)
        assert error.got == "a redirect to https://login.test:8443"
        assert (error.code, error.status) == ("redirect", int(status[:3]))
        assert "secret" not in shown(error)

    async def test_a_redirect_without_a_place_is_still_one(self) -> None:
        async with loopback(reply(b"", "302 Found", "Location: http://[")) as server:
            error = await failure(get(HttpClient(), server.url))
        assert error.got == "a redirect to an address that is none"


class TestBodies:
    """Answers come whole, decoded, and of a bearable size."""

    async def test_a_compressed_answer_is_decompressed(self) -> None:
        body = gzip.compress(b'{"id": "x"}')
        async with loopback(reply(body, "200 OK", "Content-Encoding: gzip")) as server:
            answer = await get(HttpClient(), server.url)
        assert decode(answer, ID, "an id").id == "x"

    @pytest.mark.parametrize(
        "large",
        [
            reply(b"x" * 101),
            chunked(b"x" * 50, b"x" * 51),
            reply(zlib.compress(b"x" * 5000), "200 OK", "Content-Encoding: deflate"),
        ],
        ids=["length", "chunked", "compressed"],
    )
    async def test_a_body_over_the_limit_is_refused(self, large: Reply) -> None:
        async with loopback(large) as server:
            error = await failure(get(HttpClient(body_limit=100), server.url))
        assert isinstance(error, ProtocolChanged)
        assert error.code == "body-too-large"

    @pytest.mark.parametrize("right", [reply(b"x" * 100), chunked(b"x" * 50, b"x" * 50)], ids=["length", "chunked"])
    async def test_a_body_of_the_limit_is_taken(self, right: Reply) -> None:
        async with loopback(right) as server:
            assert len((await get(HttpClient(body_limit=100), server.url)).body) == 100

    async def test_the_status_is_told_to_the_call_before_the_body(self) -> None:
        client, call = HttpClient(), call_of()
        async with loopback(chunked(b"x", status="418 Teapot", end=False)) as server:
            stream = await client.stream(call, "GET", server.url)
            assert (call.http_status, stream.status) == (418, 418)
            stream.close()
            stream.close()
            await client.aclose()

    async def test_an_answer_shows_no_content(self) -> None:
        answer = Answer(200, {"Content-Type": "Application/JSON; charset=utf-8"}, b'{"text": "of the user"}')
        assert repr(answer) == "<Answer 200, JSON object with keys text>"
        assert answer.content_type == "application/json"

    async def test_answers_without_a_server_serve_tests_of_single_steps(self) -> None:
        with faked_http() as faked:
            faked.add("GET", "http://service.test/x", status=404, body=b'{"detail": "Chat not found"}')
            answer = await get(HttpClient(), "http://service.test/x")
        assert str(refusal(answer, "look")) == "Chat not found"


class TestCancellation:
    """A cancelled call is over at once, and its connection with it."""

    @pytest.mark.parametrize(
        "held",
        [Reply([], hold=True), reply(b"half", length=8, hold=True), chunked(b"half", end=False)],
        ids=["no-head", "half-a-body", "half-a-chunked-body"],
    )
    async def test_the_connection_is_closed_at_once(self, held: Reply) -> None:
        client = HttpClient()
        async with loopback(held) as server:
            task = asyncio.create_task(client.call(call_of(ALICE), "POST", server.url, b"{}"))
            await server.arrived.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.left.wait(), 5)
            await client.aclose()

    async def test_a_cancelled_read_of_a_stream_loses_nothing(self) -> None:
        client = HttpClient()
        more = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await more.wait()
            writer.write(b"2\r\nab\r\n0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            stream = await client.stream(call_of(), "GET", url)
            with pytest.raises(asyncio.CancelledError):
                await _cancelled(stream.read())
            more.set()
            assert await stream.read() == b"ab"
            assert await stream.read() == b""
            stream.close()
            await client.aclose()


async def _cancelled(awaitable: Awaitable[object]) -> None:
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    task.cancel()
    await task


class TestSessions:
    """Connections are opened where they are used."""

    def test_a_client_serves_one_loop_after_another(self) -> None:
        client = HttpClient()

        async def once() -> bytes:
            async with loopback(reply(b"ok")) as server:
                return (await get(client, server.url)).body

        assert [asyncio.run(once()) for _ in range(3)] == [b"ok"] * 3

    async def test_closing_twice_and_calling_again_is_fine(self) -> None:
        client = HttpClient()
        async with loopback(reply(b"1"), reply(b"2")) as server:
            assert (await get(client, server.url)).body == b"1"
            await client.aclose()
            assert (await get(client, server.url)).body == b"2"

    async def test_waiting_streams_starve_no_call(self) -> None:
        client = HttpClient()

        def answer(request: Request) -> Reply:
            return reply(b"ok") if request.target == "/call" else chunked(b"x", end=False)

        async with loopback(answer=answer) as server:
            streams = [await client.stream(call_of(), "GET", f"{server.url}/stream") for _ in range(110)]
            assert (await client.call(call_of(), "GET", f"{server.url}/call")).body == b"ok"
            for stream in streams:
                stream.close()
            await client.aclose()

    async def test_a_connection_is_used_again(self) -> None:
        ports: set[int] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ports.add(writer.get_extra_info("peername")[1])
            for _ in range(3):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()
            writer.close()

        client = HttpClient()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for _ in range(3):
                await client.call(call_of(), "GET", url)
            await client.aclose()
        assert len(ports) == 1
