"""Cookies out of the texts that people have them in: cookies.txt, JSON exports, HAR, a Cookie header.

Rules that live here:

* Text in, cookies out: no file, no clock, no network.
* The kind is told by the content, never by a file's name.
* A cookie is chosen by host as RFC 6265 (5.1.3) says, and only while it lives; of those chosen every name is kept. Path
  and ``Secure`` are not looked at: the website reads its cookies on every route, and behind a TLS proxy also over plain
  HTTP.
* Where nothing usable is found, `NoCookiesError` says why without showing any value.

Why not `http.cookiejar.MozillaCookieJar`: it refuses a file without the magic first line, takes the ``0`` that curl and
most exporters write for a session cookie as expired in 1970, fails on a domain without a leading dot that includes
subdomains, and puts the whole offending line, value and all, into its exception and a warning.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

_T = TypeVar("_T")

_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_COOKIE_PREFIX = re.compile(r"^cookie:\s*", re.IGNORECASE)


class NoCookiesError(ValueError):
    """Why a text holds no usable cookies; the message shows no value."""


@dataclass(frozen=True, slots=True)
class StoredCookie:
    """
    A cookie as a store keeps it.

    Attributes:
        name: Its name.
        value: Its value, as it is sent.
        domain: Lower case, without a leading dot; empty where the store does not say, which every host matches.
        host_only: Its subdomains do not get it.
        expires: Unix time in seconds; ``None`` for a session cookie, which never expires here.
    """

    name: str
    value: str
    domain: str = ""
    host_only: bool = False
    expires: float | None = None

    def matches(self, host: str) -> bool:
        """Say whether the cookie belongs to this host (lower case, without port)."""
        if not self.domain or host == self.domain:
            return True
        return not self.host_only and host.endswith(f".{self.domain}") and not is_address(host)


def is_address(host: str) -> bool:
    """Say whether a host is an IP address, which has no subdomains."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def select(cookies: Iterable[StoredCookie], host: str, now: float) -> dict[str, str]:
    """
    Choose the living cookies of a host.

    Where a name comes twice, the more exact domain wins, then the later cookie.

    Raises:
        NoCookiesError: None is left.
    """
    own = [cookie for cookie in cookies if cookie.matches(host)]
    if not own:
        raise NoCookiesError(f"no cookie for {host}")
    living = [cookie for cookie in own if cookie.expires is None or cookie.expires > now]
    if not living:
        raise NoCookiesError(f"the cookies for {host} have expired")
    return {cookie.name: cookie.value for cookie in sorted(living, key=lambda cookie: len(cookie.domain))}


def cookies_in(text: str, host: str, now: float) -> dict[str, str]:
    """
    Choose a host's cookies from the text of a cookies.txt, a JSON export or a HAR.

    Args:
        text: The whole file.
        host: Lower case, without port.
        now: Unix time in seconds.

    Raises:
        NoCookiesError: The text is malformed, or holds no living cookie of this host.
    """
    body = text.lstrip("\ufeff\r\n ")
    if not body:
        raise NoCookiesError("the file is empty")
    if body.startswith("["):
        return select(_listed(_decode(body, list[_Exported])), host, now)
    if body.startswith("{"):
        return _from_object(body, host, now)
    return select(list(_netscape(body)), host, now)


def cookie_header(text: str) -> dict[str, str]:
    """Return the cookies of a ``Cookie`` header's value; with or without the header's name in front."""
    pairs = (piece.strip().partition("=") for piece in _COOKIE_PREFIX.sub("", text.strip()).split(";"))
    return {name: value for name, sign, value in pairs if name and sign}


def expiry(value: float | str | None) -> float | None:
    """
    Return the end of a cookie's life as Unix time in seconds.

    Stores write it as a number (0, or -1 in Playwright's, for a session cookie) or as an ISO 8601 date (HAR). What
    cannot be read is taken for a session cookie: the service will judge.
    """
    if isinstance(value, str):
        value = _iso(value)
    return value if value is not None and value > 0 else None


def _iso(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------------- cookies.txt


def _netscape(text: str) -> Iterator[StoredCookie]:
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.removeprefix(_HTTP_ONLY)
        if line.strip() and not line.startswith("#"):
            yield _netscape_line(number, line)


def _netscape_line(number: int, line: str) -> StoredCookie:
    fields = line.split("\t", _FIELDS - 1)
    # Editors that cut trailing blanks take the tab before an empty value with them.
    if len(fields) == _FIELDS - 1:
        fields.append("")
    if len(fields) != _FIELDS or _number(fields[4]) is None:
        raise NoCookiesError(
            f"line {number} is no line of a cookies.txt (7 fields with tabs between them), nor is this JSON"
        )
    domain, subdomains, _path, _secure, expires, name, value = fields
    host_only = subdomains.upper() != "TRUE" and not domain.startswith(".")
    return StoredCookie(name, value, _domain(domain), host_only, expiry(_number(expires)))


def _number(text: str) -> float | None:
    try:
        return float(text or 0)
    except ValueError:
        return None


def _domain(text: str) -> str:
    return text.strip().removeprefix(".").lower()


# -------------------------------------------------------------------------------------------------------------- JSON


class _Exported(msgspec.Struct, rename="camel"):
    """A cookie of EditThisCookie, Cookie-Editor, Playwright, Selenium or a HAR; they differ in how they date it."""

    name: str
    value: str
    domain: str | None = None
    host_only: bool | None = None
    expiration_date: float | None = None
    expires: float | str | None = None
    expiry: float | None = None


class _Header(msgspec.Struct):
    name: str
    value: str = ""


class _Request(msgspec.Struct):
    url: str
    cookies: list[_Exported] = []
    headers: list[_Header] = []


class _Entry(msgspec.Struct, rename="camel"):
    request: _Request
    started_date_time: str = ""


class _Log(msgspec.Struct):
    entries: list[_Entry]


class _Document(msgspec.Struct):
    """Either a HAR (``log``) or a storage state (``cookies``)."""

    log: _Log | None = None
    cookies: list[_Exported] | None = None


def _decode(text: str, kind: type[_T]) -> _T:
    found = _try_decode(text, kind)
    if found is None:
        raise NoCookiesError(
            "the JSON is malformed, or neither a cookie export, a storage state, a HAR nor {name: value}"
        )
    return found


def _try_decode(text: str, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


def _from_object(text: str, host: str, now: float) -> dict[str, str]:
    document = _decode(text, _Document)
    if document.log is not None:
        return _from_har(document.log, host, now)
    if document.cookies is not None:
        return select(_listed(document.cookies), host, now)
    return select([StoredCookie(*pair) for pair in _decode(text, dict[str, str]).items()], host, now)


def _listed(exported: Iterable[_Exported]) -> list[StoredCookie]:
    return [_stored(cookie) for cookie in exported]


def _stored(cookie: _Exported) -> StoredCookie:
    dates = (cookie.expiration_date, cookie.expires, cookie.expiry)
    expires = next((date for date in dates if date is not None), None)
    return StoredCookie(
        cookie.name, cookie.value, _domain(cookie.domain or ""), cookie.host_only is True, expiry(expires)
    )


# --------------------------------------------------------------------------------------------------------------- HAR


def _from_har(log: _Log, host: str, now: float) -> dict[str, str]:
    entries = [entry for entry in log.entries if _host(entry.request.url) == host]
    if not entries:
        raise NoCookiesError(f"the HAR has no request to {host}")
    entries.sort(key=lambda entry: _iso(entry.started_date_time) or 0.0)
    sent = [cookie for entry in entries for cookie in _sent(entry.request)]
    if not sent:
        raise NoCookiesError(f"the HAR has requests to {host}, but they show no cookie: export it with sensitive data")
    return select(sent, host, now)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _sent(request: _Request) -> Iterator[StoredCookie]:
    for cookie in request.cookies:
        yield StoredCookie(cookie.name, cookie.value, expires=expiry(cookie.expires))
    # After the list, so that it wins: the header is what really went over the wire.
    for header in request.headers:
        if header.name.lower() == "cookie":
            yield from (StoredCookie(*pair) for pair in cookie_header(header.value).items())
