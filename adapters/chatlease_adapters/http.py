"""HTTP for adapters: one connection pool, one login per call, and every failure told as an error of Chatlease.

Rules that live here:

* The login travels with the call, never with the connection: no cookie is remembered, none of another account is added,
  and given values are sent as they are.
* No deadline but the connection's. The engine keeps the others; aiohttp's own are off (its ``total`` costs a timer per
  call, its ``sock_read`` takes a ping for progress).
* Nothing is followed: a redirect means that the address is not the service's API, and following it would carry the
  login to another place.
* An answer is read whole and has a largest size; a stream is read as it comes.
* A cancelled call closes its connection at once: what was on its way cannot reach the next call.
* Nothing is repeated here, but aiohttp itself sends a GET or DELETE once more when its connection was closed without a
  word (RFC 9112, 9.3.1); never a POST.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

import aiohttp
from yarl import URL

from chatlease.adapter import Call, Credential
from chatlease.errors import ProtocolChanged

from . import _http_errors
from ._http_answers import (
    Answer,
    check,
    check_done,
    decode,
    media_type,
    no_stream,
    own_words,
    refusal,
    scrub,
    shape,
)
from ._http_events import EventStream
from ._http_requests import Address, base_url, path_part, through
from ._http_sessions import SessionPool

__all__ = [
    "BODY_LIMIT",
    "BROWSER",
    "Address",
    "Answer",
    "EventStream",
    "HttpClient",
    "HttpStream",
    "Tls",
    "base_url",
    "check",
    "check_done",
    "decode",
    "no_stream",
    "own_words",
    "path_part",
    "refusal",
    "scrub",
    "shape",
    "through",
]

T = TypeVar("T")

Tls: TypeAlias = bool | ssl.SSLContext | aiohttp.Fingerprint
"""True: the system's certificate authorities. A context of your own, a fingerprint, or False for no check at all."""

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/111.0.0.0 Safari/537.36"
)
"""The User-Agent sent unless told otherwise, the one of the recordings."""

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes that an answer (no stream) may have unless told otherwise."""


class HttpStream:
    """
    An answer whose head has been read and whose body is on its way.

    Owned by who opened it, who closes it; one task at a time reads.

    Attributes:
        status: HTTP status, no redirect.
        headers: Case-insensitive.
    """

    __slots__ = ("_content", "_limit", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, limit: int) -> None:
        self._response = response
        self._content = response.content
        self._limit = limit
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty where the service gave none."""
        return media_type(self.headers)

    async def read(self) -> bytes:
        """
        Wait for bytes and return all that are there, cut anywhere; empty at the end of the body.

        Cancelling it loses nothing.

        Raises:
            Unavailable: The connection broke (``connection-lost``).
        """
        try:
            return await self._content.readany()
        except Exception as error:  # noqa: BLE001  (raised below: a context would keep it)
            failure = _failure(error, self._response.url)
        raise failure

    async def answer(self) -> Answer:
        """
        Read the rest and return it as a whole; the connection is let go of, in any case.

        Raises:
            Unavailable: The connection broke (``connection-lost``).
            ProtocolChanged: The body is larger than the client's limit (``body-too-large``).
        """
        return await _answer(self._response, self._limit)

    def close(self) -> None:
        """Let go of the connection at once, without waiting; may be called twice."""
        self._response.close()


class HttpClient:
    """
    Calls one service, for any number of logins.

    Opens a client session when it is first used on a running loop (one more per SOCKS proxy) and keeps it until
    `aclose`, after which the next call opens it anew. Not for several threads.

    Args:
        session: A session of the bot's own. Its connections (with their limits, resolver and TLS settings), tracing,
            ``trust_env`` and default proxy are used; its cookies, headers and middlewares belong to the bot's other
            work and are not. It is never closed here, and has to outlive the adapter.
        ssl: See `Tls`; for the service, and for a proxy that speaks TLS.
        trust_env: Whether the environment's proxies (``HTTPS_PROXY``, ...) and ``~/.netrc`` count where a login has no
            proxy of its own. Off: a login must not take a way that nobody named.
        user_agent: Sent with every call whose login names none; the default is a browser's.
        connection_limit: Connections at once; 0 for no limit, because streams that wait for their answer would starve
            every other call. Nothing with a session of the bot's own.
        body_limit: Largest answer, in bytes; streams have no limit.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession | None = None,
        ssl: Tls = True,
        trust_env: bool = False,
        user_agent: str = BROWSER,
        connection_limit: int = 0,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._pool = SessionPool(session, trust_env=trust_env, connection_limit=connection_limit)
        self._ssl = ssl
        self._user_agent = user_agent
        self._body_limit = body_limit
        self._timeout = aiohttp.ClientTimeout(total=None)

    async def call(
        self,
        call: Call,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        Make a request and read its whole answer.

        Args:
            call: Its login is sent, its connect deadline kept, its ``http_request`` and ``http_status`` set.
            method: ``GET``, ``POST``, ...
            url: Absolute, with its query. A ``URL`` made with ``encoded=True`` is sent as it is.
            body: JSON, ready to be sent; ``None`` for no body at all.
            headers: More headers; those of the login go before them.

        Returns:
            The answer, whatever its status; `refusal` makes an error of it.

        Raises:
            Unavailable: Not reached (``sent`` is False) or the connection broke (``sent`` is True).
            ProtocolChanged: A redirect, no HTTP, or a larger body than the limit.
            UsageError: The address, the proxy, a header or a cookie is not valid; nothing was sent.
        """
        return await _answer(await self._send(call, method, url, body, headers), self._body_limit)

    async def ask(
        self,
        call: Call,
        doing: str,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        hide: Iterable[str] = (),
    ) -> Answer:
        """Make a request and return its answer, or raise the error that it is; see `call` and `check`."""
        answer = await self.call(call, method, url, body)
        check(call, answer, doing, hide)
        return answer

    async def stream(
        self,
        call: Call,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> HttpStream:
        """Make a request and read the head of its answer; arguments and errors are those of `call`."""
        return HttpStream(await self._send(call, method, url, body, headers), self._body_limit)

    async def aclose(self) -> None:
        """Close the connections that were opened on the running loop. May be called twice."""
        await self._pool.aclose()

    # --------------------------------------------------------------------------------------------------- the request

    async def _send(
        self, call: Call, method: str, url: URL | str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        session, proxy = self._pool.route(call.login.credential.proxy)
        call.http_request = f"{method} {url.raw_path if isinstance(url, URL) else _path(url)}"
        if self._timeout.connect != call.deadlines.connect:
            self._timeout = aiohttp.ClientTimeout(total=None, connect=call.deadlines.connect)
        try:
            response = await session.request(
                method,
                url,
                data=body,
                headers=self._headers(call.login.credential, headers, has_body=body is not None),
                skip_auto_headers=_NO_BODY if body is None else None,
                proxy=proxy,
                ssl=self._ssl,
                allow_redirects=False,
                timeout=self._timeout,
            )
        except Exception as error:  # noqa: BLE001  (raised below: a context would keep it)
            failure = _failure(error, url)
        else:
            call.http_status, call.http_date = response.status, response.headers.get("Date")
            if response.status < 200 or 300 <= response.status < 400:  # noqa: PLR2004  (HTTP's classes of status)
                raise _no_answer(response)
            return response
        raise failure

    def _headers(self, login: Credential, headers: Mapping[str, str] | None, *, has_body: bool) -> dict[str, str]:
        merged = {"User-Agent": self._user_agent}
        if has_body:
            merged["Content-Type"] = "application/json"
        if headers:
            merged.update(headers)
        if login.headers:
            merged.update(login.headers)
        if login.cookies:
            # Written here, because a cookie jar quotes values, drops names and remembers.
            merged["Cookie"] = "; ".join([f"{name}={value}" for name, value in login.cookies.items()])
        return merged


_NO_BODY = ("Content-Type",)  # aiohttp calls a body that is not there an octet stream


async def _answer(response: aiohttp.ClientResponse, limit: int) -> Answer:
    """Read an answer to its end; the connection is let go of, in any case."""
    try:
        length = response.content_length
        if length and length <= limit and "Content-Encoding" not in response.headers:
            body = await response.read()
        else:
            body = await _pieces(response, limit)
    except Exception as error:  # noqa: BLE001  (raised below: a context would keep it)
        response.close()
        failure = _failure(error, response.url)
    except BaseException:
        response.close()
        raise
    else:
        return Answer(response.status, response.headers, body)
    raise failure


async def _pieces(response: aiohttp.ClientResponse, limit: int) -> bytes:
    declared = 0 if "Content-Encoding" in response.headers else response.content_length or 0
    pieces: list[bytes] = []
    size = 0
    while max(size, declared) <= limit:
        piece = await response.content.readany()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    raise ProtocolChanged(
        f"an answer of at most {limit} bytes", "a larger one", status=response.status, code="body-too-large"
    )


# ------------------------------------------------------------------------------------------------------------ failures


def _failure(error: Exception, url: URL | str) -> Exception:
    return _http_errors.transport_error(error, _origin(url)) or error


def _origin(url: URL | str) -> str:
    try:
        return str(URL(url).origin())
    except ValueError:
        return "the address given"


def _path(url: URL | str) -> str:
    try:
        return URL(url).raw_path
    except ValueError:
        return "?"


def _no_answer(response: aiohttp.ClientResponse) -> ProtocolChanged:
    """Return the error for a redirect, and for what no server may say (101, ...), having let go of the connection."""
    response.close()
    if response.status < 200:  # noqa: PLR2004  (the informational ones)
        return ProtocolChanged("an HTTP answer", "a status that ends none", status=response.status)
    return _redirect(response)


def _redirect(response: aiohttp.ClientResponse) -> ProtocolChanged:
    # Path and query of the target may hold a token.
    try:
        target = str(response.url.join(URL(response.headers.get("Location", ""))).origin())
    except ValueError:
        target = "an address that is none"
    return ProtocolChanged(
        f"an answer of {response.url.origin()}", f"a redirect to {target}", status=response.status, code="redirect"
    )
