"""What adapters for HTTP services make requests of: addresses, ids in them, and the way of a login."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from yarl import URL

from chatlease.adapter import Credential
from chatlease.errors import UsageError


class Address:
    """
    A service's address, which paths are appended to: what `yarl` needs four times as long for by parsing.

    Args:
        base: Absolute, perhaps with a path prefix; already quoted, without a slash at its end.
    """

    __slots__ = ("_authority", "_prefix", "_scheme")

    def __init__(self, base: str) -> None:
        url = URL(base, encoded=True)
        self._scheme, self._authority = url.scheme, url.raw_authority
        self._prefix = url.raw_path.rstrip("/")

    def at(self, path: str, query: str = "") -> URL:
        """Return the address of a path below; both are sent as they are, so whatever they are made of is quoted."""
        return URL.build(
            scheme=self._scheme,
            authority=self._authority,
            path=f"{self._prefix}{path}",
            query_string=query,
            encoded=True,
        )


def base_url(address: str) -> str:
    """
    Return the address that a service's routes are appended to, without slash at its end.

    Args:
        address: An origin, with or without a path prefix.

    Raises:
        UsageError: No http or https address, or one with a login in it.
    """
    url = _parsed(address)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("url is the address of the service, such as http://127.0.0.1:8080")
    if url.raw_user is not None or url.raw_password is not None:
        raise UsageError("url holds a login", hint="Give the login by the adapter's own option, not in the address.")
    return str(url.origin()) + url.raw_path.rstrip("/")


def path_part(value: str) -> str:
    """Return an id as a part of a path or query: whatever it holds, it stays inside its place."""
    return quote(value, safe="")


def through(credential: Credential, proxy: str | None) -> Credential:
    """Return the login with that proxy, unless it has one of its own."""
    if proxy is None or credential.proxy is not None:
        return credential
    return dataclasses.replace(credential, proxy=proxy)


def _parsed(address: str) -> URL | None:
    try:
        return URL(address.strip())
    except ValueError:
        return None
