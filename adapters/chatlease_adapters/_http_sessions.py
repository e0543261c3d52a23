"""The client sessions behind `chatlease_adapters.http`: which one a call goes through.

Rules that live here:

* One session per running loop, opened by the first call; one more per SOCKS proxy, because there the proxy belongs to
  the connections. HTTP proxies share the first: aiohttp keeps their connections apart.
* A session of the bot's own lends its connections and how to reach the world (tracing, environment, default proxy),
  nothing that may hold a login. It is never closed.
* No session remembers a cookie.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, cast

import aiohttp

from chatlease.errors import UsageError

_KEEPALIVE_S = 4.0  # below the 5 s after which uvicorn closes an idle connection: a call on a dying one is lost
_HTTP = frozenset({"http", "https"})
_SOCKS = {"socks4": ("socks4", False), "socks4a": ("socks4", True), "socks5": ("socks5", False)}
_SOCKS["socks5h"] = ("socks5", True)


class SessionPool:
    """The sessions of one client; see `chatlease_adapters.http.HttpClient` for the arguments."""

    def __init__(self, given: aiohttp.ClientSession | None, *, trust_env: bool, connection_limit: int) -> None:
        self._given = given
        self._trust_env = trust_env
        self._limit = connection_limit
        self._sessions: dict[asyncio.AbstractEventLoop, dict[str | None, aiohttp.ClientSession]] = {}

    def route(self, proxy: str | None) -> tuple[aiohttp.ClientSession, str | None]:
        """
        Return the session for a login's proxy, and the proxy that the request itself has to name.

        Raises:
            UsageError: Not a proxy's address, or SOCKS without the extra.
        """
        if proxy is None:
            return self._session(None), None
        scheme = proxy.partition("://")[0].lower()
        if scheme in _HTTP:
            return self._session(None), proxy
        if scheme in _SOCKS:
            return self._session(proxy), None
        raise UsageError("a proxy is given as http://host:port, https://host:port or socks5://host:port")

    async def aclose(self) -> None:
        """Close what was opened on the running loop."""
        for session in self._sessions.pop(asyncio.get_running_loop(), {}).values():
            await session.close()

    def _session(self, socks: str | None) -> aiohttp.ClientSession:
        sessions = self._sessions.get(asyncio.get_running_loop())
        session = sessions.get(socks) if sessions else None
        return self._open(socks) if session is None or session.closed else session

    def _open(self, socks: str | None) -> aiohttp.ClientSession:
        for ended in [loop for loop in self._sessions if loop.is_closed()]:
            del self._sessions[ended]
        session = self._opened(socks)
        self._sessions.setdefault(asyncio.get_running_loop(), {})[socks] = session
        return session

    def _opened(self, socks: str | None) -> aiohttp.ClientSession:
        if socks is not None:
            return self._own(_socks_connector(socks, self._limit))
        if self._given is not None:
            return _beside(self._given)
        return self._own(aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=_KEEPALIVE_S))

    def _own(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )


def _beside(given: aiohttp.ClientSession) -> aiohttp.ClientSession:
    if given.closed:
        raise UsageError("the ClientSession given is closed", hint="Close it after the engine, not before.")
    if given._loop is not asyncio.get_running_loop():  # noqa: SLF001  (the public property is deprecated)
        raise UsageError("the ClientSession given belongs to another event loop")
    return aiohttp.ClientSession(
        connector=given.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=given.trust_env,
        trace_configs=given.trace_configs,
        proxy=given._default_proxy,  # noqa: SLF001  (not to be had otherwise; going past it would show the bot)
    )


def _socks_connector(proxy: str, limit: int) -> aiohttp.BaseConnector:
    library = _socks_library()
    scheme, _, address = proxy.partition("://")
    kind, remote_names = _SOCKS[scheme.lower()]
    try:
        connector = library.ProxyConnector.from_url(
            f"{kind}://{address}", rdns=remote_names, limit=limit, keepalive_timeout=_KEEPALIVE_S
        )
    except ValueError:
        connector = None  # raised below: the error would name the address, which may hold a password
    if connector is None:
        raise UsageError("a SOCKS proxy is given as socks5://user:password@host:port")
    return cast("aiohttp.BaseConnector", connector)


def _socks_library() -> Any:
    try:
        return importlib.import_module("aiohttp_socks")
    except ImportError:
        pass
    raise UsageError("a SOCKS proxy needs the extra socks", hint="pip install 'chatlease[socks]'")
