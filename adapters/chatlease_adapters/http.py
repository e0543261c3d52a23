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
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias, TypeVar, overload

import aiohttp
from yarl import URL

from chatlease.adapter import Call, Credential

from ._http_answers import (
    Answer,
    Problem,
    ProblemReader,
    check,
    check_done,
    decode,
    located,
    no_stream,
    own_words,
    plain,
    refusal,
    scrub,
    scrubber,
    shape,
    usual_problem,
)
from ._http_events import EventStream, FrameStream, Growing, Told
from ._http_keys import KeySource
from ._http_pages import pages
from ._http_requests import Address, base_url, path_part, through
from ._http_sessions import SessionPool
from ._http_streams import HttpStream, failure_of, no_answer, path_of, whole
from ._http_values import fit, given, utc

__all__ = [
    "BODY_LIMIT",
    "BROWSER",
    "FORM",
    "Address",
    "Answer",
    "EventStream",
    "FrameStream",
    "Growing",
    "HttpClient",
    "HttpStream",
    "KeySource",
    "Problem",
    "ProblemReader",
    "Tls",
    "Told",
    "base_url",
    "check",
    "check_done",
    "decode",
    "fit",
    "given",
    "located",
    "no_stream",
    "own_words",
    "pages",
    "path_part",
    "plain",
    "refusal",
    "scrub",
    "scrubber",
    "shape",
    "through",
    "usual_problem",
    "utc",
]

T = TypeVar("T")

FORM: Mapping[str, str] = MappingProxyType({"Content-Type": "application/x-www-form-urlencoded"})
"""``headers=`` of a call whose body is a form (``urlencode(given(fields)).encode()``) and not JSON."""

Tls: TypeAlias = bool | ssl.SSLContext | aiohttp.Fingerprint
"""True: the system's certificate authorities. A context of your own, a fingerprint, or False for no check at all."""

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/111.0.0.0 Safari/537.36"
)
"""The User-Agent sent unless told otherwise, the one of the recordings."""

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes that an answer (no stream) may have unless told otherwise."""


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
        problem: How this service says that it refuses, where that is not the usual way (`usual_problem`).
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
        problem: ProblemReader = usual_problem,
    ) -> None:
        self._pool = SessionPool(session, trust_env=trust_env, connection_limit=connection_limit)
        self._ssl = ssl
        self._user_agent = user_agent
        self._body_limit = body_limit
        self._problem = problem
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
            body: JSON, ready to be sent (or what the headers say); ``None`` for no body at all.
            headers: More headers (`FORM`); those of the login go before them.

        Returns:
            The answer, whatever its status; `refusal` makes an error of it.

        Raises:
            Unavailable: Not reached (``sent`` is False) or the connection broke (``sent`` is True).
            ProtocolChanged: A redirect, no HTTP, or a larger body than the limit.
            UsageError: The address, the proxy, a header or a cookie is not valid; nothing was sent.
        """
        return await whole(await self._send(call, method, url, body, headers), self._body_limit, self._problem)

    async def ask(
        self,
        call: Call,
        doing: str,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        hide: Iterable[str] = (),
        allow: Collection[str] = (),
    ) -> Answer:
        """
        Make a request and return its answer, or raise the error that it is; see `call`, `check` and `check_done`.

        Args:
            call: See `call`.
            doing: What is asked for, as it shall read in "the service answered HTTP 500 to ...".
            method: See `call`.
            url: See `call`.
            body: See `call`.
            headers: See `call`.
            hide: Texts in the body that the service may echo, besides `Call.hide`.
            allow: The service's own words (`Problem.code`) for refusals that are good answers here, and are returned;
                `Answer.code` tells which.
        """
        answer = await self.call(call, method, url, body, headers=headers)
        if answer.problem is None or answer.problem.code not in allow:
            check_done(call, answer, doing, hide)
        return answer

    @overload
    async def open(
        self,
        call: Call,
        doing: str,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        media_type: str = ...,
        headers: Mapping[str, str] | None = None,
        hide: Iterable[str] = (),
    ) -> HttpStream: ...
    @overload
    async def open(
        self,
        call: Call,
        doing: str,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        media_type: str = ...,
        headers: Mapping[str, str] | None = None,
        hide: Iterable[str] = (),
        allow: Collection[str],
    ) -> HttpStream | None: ...
    async def open(
        self,
        call: Call,
        doing: str,
        method: str,
        url: URL | str,
        body: bytes | None = None,
        *,
        media_type: str = "text/event-stream",
        headers: Mapping[str, str] | None = None,
        hide: Iterable[str] = (),
        allow: Collection[str] = (),
    ) -> HttpStream | None:
        """
        Make a request whose answer is a stream, or raise the error that it is.

        Args:
            call: See `call`.
            doing: See `ask`.
            method: See `call`.
            url: See `call`.
            body: See `call`.
            media_type: What the stream has to be; anything else is no stream.
            headers: See `call`.
            hide: See `ask`.
            allow: The service's own words for a refusal that means that there is no stream any more.

        Returns:
            The stream, whose head has been read; ``None`` for a refusal that is allowed.
        """
        stream = await self.stream(call, method, url, body, headers=headers)
        if stream.status < _REFUSED and stream.content_type == media_type:
            return stream
        answer = await stream.answer()
        if answer.code and answer.code in allow:
            return None
        raise no_stream(call, answer, doing, hide)

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
        return HttpStream(await self._send(call, method, url, body, headers), self._body_limit, self._problem)

    async def aclose(self) -> None:
        """Close the connections that were opened on the running loop. May be called twice."""
        await self._pool.aclose()

    # --------------------------------------------------------------------------------------------------- the request

    async def _send(
        self, call: Call, method: str, url: URL | str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        session, proxy = self._pool.route(call.login.credential.proxy)
        call.http_request = f"{method} {url.raw_path if isinstance(url, URL) else path_of(url)}"
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
            failure = failure_of(error, url)
        else:
            call.http_status, call.http_date = response.status, response.headers.get("Date")
            if response.status < 200 or 300 <= response.status < 400:  # noqa: PLR2004  (HTTP's classes of status)
                raise no_answer(response)
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


_REFUSED = 400
_NO_BODY = ("Content-Type",)  # aiohttp calls a body that is not there an octet stream
