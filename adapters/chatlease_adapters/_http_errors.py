"""Failures of HTTP, told as errors of Chatlease.

Rules that live here:

* An error of aiohttp, of the operating system or of a proxy library never leaves: it holds the request's headers, and
  with them the login. What is kept is a code, whether anything was sent, and words of our own.
* ``sent=False`` only where the connection (to the service or its proxy) was never ready to carry the request.
* The service's own words are shown, for they say best what is wrong; scrubbed of the login and of every text that the
  caller names, because a service may echo what it refuses, and cut at 300 characters.
* Of an answer that cannot be understood only type and shape are told, never the content.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

import aiohttp
import msgspec

from chatlease.errors import (
    ChatleaseError,
    NotAuthenticated,
    ProtocolChanged,
    RateLimited,
    Rejected,
    ServiceError,
    Unavailable,
    UsageError,
)

TEXT_LIMIT = 300
_HIDDEN = "[hidden]"
_ECHO = 16  # characters in a row that a service and a hidden text do not share by chance
_WORD = 3  # shorter secrets ("1", "en") are no secrets, and hiding them would garble every message
_ANYWHERE = 6  # shorter ones are hidden only where they stand as a word of their own
_KEYS_SHOWN = 8
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_AGAIN = frozenset({408, 425})

_UNREACHED: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "its name, or the proxy's, is not known"),
    (aiohttp.ClientProxyConnectionError, "proxy", "the proxy does not take the connection"),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), "tls", "TLS failed"),
    (aiohttp.ConnectionTimeoutError, "connect-timeout", "no connection within the connect deadline"),
)
_HINTS = {
    "tls": "Check the address and the certificate; for an authority of your own pass its context as ssl=.",
    "proxy": "Check the proxy's address and that it runs; nothing was sent to the service.",
    "proxy-auth": "The proxy wants a user and password: http://user:password@host:port.",
}


def transport_error(error: Exception, origin: str) -> ChatleaseError | None:
    """Tell what went wrong on the way to ``origin``; ``None`` for an error that is none of HTTP's."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _unreached(origin, *_proxy_refusal(error.status), status=error.status)
    for kinds, code, words in _UNREACHED:
        if isinstance(error, kinds):
            return _unreached(origin, code, words)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unreached(origin, *_connector_failure(error.os_error))
    if _is_socks(error):
        return _unreached(origin, "proxy", "the proxy did not make the connection")
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return _unreached(origin, "tls", "TLS failed")
    if isinstance(error, aiohttp.ClientResponseError):
        return ProtocolChanged("an HTTP answer", "bytes that are none")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return Unavailable(f"the connection to {origin} broke before the answer was complete", code="connection-lost")
    if isinstance(error, ValueError | aiohttp.NonHttpUrlClientError):
        return UsageError("the request cannot be built: its address, a header, a cookie or the proxy is not valid")
    return None


def _unreached(origin: str, code: str, words: str, status: int | None = None) -> Unavailable:
    hint = _HINTS.get(code, "")
    return Unavailable(f"cannot reach {origin}: {words}", status=status, code=code, sent=False, hint=hint)


def _proxy_refusal(status: int) -> tuple[str, str]:
    if status == 407:  # noqa: PLR2004  (the number is the name)
        return "proxy-auth", "the proxy refused the login (HTTP 407)"
    return "proxy", f"the proxy did not make the connection (HTTP {status})"


def _connector_failure(cause: OSError) -> tuple[str, str]:
    if isinstance(cause, ConnectionRefusedError):
        return "connection-refused", "connection refused"
    if isinstance(cause, TimeoutError):
        return "connect-timeout", "the connection timed out"
    return "unreachable", f"no connection ({type(cause).__name__})"


def _is_socks(error: Exception) -> bool:
    # Told by name: the library is only imported where a SOCKS proxy is used.
    return type(error).__module__.partition(".")[0] in {"aiohttp_socks", "python_socks"}


# ---------------------------------------------------------------------------------------------------------- refusals


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, doing: str, *, words: str, hide: Iterable[str]
) -> ServiceError:
    """Tell a status of 400 and more; see `chatlease_adapters.http.refusal`."""
    got = shape(body)
    if status == 407:  # noqa: PLR2004  (the number is the name)
        return _unreached("the service", *_proxy_refusal(status), status=status)
    if status in {404, 405} and got == _HTML:
        return ProtocolChanged("an answer of the service's API", f"{got} (HTTP {status})", status=status)
    message = scrub(words, hide) if words else _silent(status, body, doing, hide)
    wait = _retry_after(headers)
    if status in {401, 403}:
        return NotAuthenticated(message, status=status)
    if status == 429:  # noqa: PLR2004  (the number is the name)
        return RateLimited(message, status=status, retry_after_s=wait)
    if status >= 500 or status in _AGAIN:  # noqa: PLR2004  (the number is the name)
        return Unavailable(message, status=status, retry_after_s=wait)
    return Rejected(message, status=status)


def _silent(status: int, body: bytes, doing: str, hide: Iterable[str]) -> str:
    text = _plain(body)
    said = f": {scrub(text, hide)}" if text else f" ({shape(body)})"
    return f"the service answered HTTP {status} to {doing}{said}"


def own_words(body: bytes) -> str:
    """Return what a JSON answer says about its failure: its ``message``, ``detail`` or ``error``; empty if nothing."""
    answer = _object(body)
    return _words(answer) or _first(answer, _words)


def own_code(body: bytes) -> str:
    """Return the ``code`` of a JSON answer's failure, of its ``error`` or the first of its ``errors``; or nothing."""
    answer = _object(body)
    return _code(answer) or _code(answer.get("error")) or _first(answer, _code)


def _object(body: bytes) -> dict[str, object]:
    try:
        answer: object = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", answer) if isinstance(answer, dict) else {}


def _first(answer: dict[str, object], read: Callable[[object], str]) -> str:
    errors = answer.get("errors")
    return read(cast("list[object]", errors)[0]) if isinstance(errors, list) and errors else ""


def _code(value: object) -> str:
    code = cast("dict[str, object]", value).get("code") if isinstance(value, dict) else None
    return str(code) if isinstance(code, str | int) and not isinstance(code, bool) else ""


def _words(value: object) -> str:
    match value:
        case str():
            return value.strip()
        case list():
            return "; ".join(filter(None, map(_problem, cast("list[object]", value))))
        case dict():
            said = cast("dict[str, object]", value)
            return next(filter(None, (_words(said.get(key)) for key in ("message", "detail", "error"))), "")
        case _:
            return ""


def _problem(value: object) -> str:
    # One of pydantic's: recorded in errors-site, as a list in place of the text.
    said: dict[str, object] = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    place, message = said.get("loc"), said.get("msg")
    if not isinstance(message, str) or not isinstance(place, list):
        return _words(value) if isinstance(value, str) else _words(said)
    where = ".".join(str(part) for part in cast("list[object]", place) if part != "body")
    return f"{where}: {message}" if where else message


def _plain(body: bytes) -> str:
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        return ""
    return "" if text.startswith(("<", "{", "[", '"')) else text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal() and value.isascii():
        return float(value)
    until = _date(value)
    # The answer's own date, where it has one: the two clocks may differ.
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else None


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


# ---------------------------------------------------------------------------------------------------------- scrubbing


def scrub(text: str, hide: Iterable[str]) -> str:
    """Return ``text`` without what is in ``hide``; see `chatlease_adapters.http.scrub`."""
    secrets = sorted({form for hidden in hide for form in _forms(hidden)}, key=len, reverse=True)
    for secret in secrets:
        text = _without(text, secret)
    text = text[: 2 * TEXT_LIMIT]  # looking for parts takes time, and no more than this is shown
    for secret in secrets:
        text = _without_parts(text, secret) if len(secret) > _ECHO else text
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def _forms(secret: str) -> Iterable[str]:
    # As it is, stripped, and as JSON and Python write it: how a server quotes what it refuses.
    quoted = msgspec.json.encode(secret.encode("utf-8", "replace").decode()).decode()[1:-1]
    ascii_only = repr(secret.encode("ascii", "backslashreplace").decode())[1:-1]
    return filter(None, (secret, secret.strip(), quoted, repr(secret)[1:-1], ascii_only))


def _without(text: str, secret: str) -> str:
    if len(secret) < _WORD:
        return text
    if len(secret) < _ANYWHERE:
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _HIDDEN, text)
    return text.replace(secret, _HIDDEN)


def _without_parts(text: str, secret: str) -> str:
    # An echo may be cut, or be the middle of what was sent.
    kept: list[str] = []
    at = 0
    while at < len(text):
        end = at + _ECHO
        if text[at:end] not in secret or end > len(text):
            kept.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in secret:
            end += 1
        kept.append(_HIDDEN)
        at = end
    return "".join(kept)


# ------------------------------------------------------------------------------------------------------------- shapes

_HTML = "HTML page"


def shape(body: bytes) -> str:
    """Return type and shape of an answer in words; see `chatlease_adapters.http.shape`."""
    if not body.strip():
        return "empty body"
    try:
        return _json_shape(msgspec.json.decode(body))
    except (ValueError, RecursionError):
        return _raw_shape(body)


def _json_shape(value: object) -> str:
    if isinstance(value, dict):
        return _object_shape(list(cast("dict[str, object]", value)))
    if isinstance(value, list):
        return f"JSON array of {len(cast('list[object]', value))}"
    return "JSON null" if value is None else f"JSON {_NAMES.get(type(value), 'value')}"


_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number"}


def _object_shape(keys: list[str]) -> str:
    # A key that is no name may be content.
    shown = [key if _KEY.fullmatch(key) else "?" for key in keys[:_KEYS_SHOWN]]
    more = ", ..." if len(keys) > _KEYS_SHOWN else ""
    return f"JSON object with keys {', '.join(shown)}{more}" if keys else "empty JSON object"


def _raw_shape(body: bytes) -> str:
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for sign, name in _SIGNS:
        if sign(start):
            return name
    return f"{len(body)} bytes that are no JSON"


_SIGNS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda start: start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in start, _HTML),
    (lambda start: start.startswith(b"<"), "XML or HTML"),
    (lambda start: start.startswith((b"data:", b"event:")), "event stream"),
    (lambda start: start.startswith((b"{", b"[")), "JSON that is broken or cut"),
)
