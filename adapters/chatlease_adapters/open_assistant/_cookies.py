"""Where an account's login comes from, and what is said when there is none.

Rules that live here:

* The default account is looked for in this order: the environment (``CHATLEASE_OPEN_ASSISTANT_COOKIE``, a Cookie header
  or a bare session token; ``..._COOKIES``, path of a file; ``..._TOKEN``, a bearer token), a file ``cookies.txt``,
  ``.json`` or ``.har`` in the user's configuration folder, the user's browsers (extra ``browser``).
* A named account never gets the default account's login, for a chat can only be deleted with the login that made it. It
  is looked for in the environment under its own name (``..._COOKIE_ALICE``, ``..._COOKIES_ALICE``, ``..._TOKEN_ALICE``)
  and in files of its own name (``alice.txt``) in that folder; cookies or a file given in the program are the default
  account's, and so are the browsers'. A callable is asked for every account.
* An account called ``anon-...`` is a fingerprint (`chatlease.adapter.Credential.fingerprint`): it is looked for where
  the default account is, and only a login with that fingerprint is taken.
* The first login found is the one. When the service has refused it, the search ends: the next place may hold somebody
  else's. Only among browsers one that is logged in goes before those that merely know the site.
* Every place that had nothing says so, in `NotAuthenticated`. No value is ever shown, nor a path that may be a value
  put in the wrong variable; a foreign error is told by its class name.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from http.cookiejar import Cookie
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import platformdirs

from chatlease.adapter import Credential
from chatlease.errors import ChatleaseError, NotAuthenticated, UsageError
from chatlease_adapters._environment import variable

from ._cookie_files import NoCookiesError, StoredCookie, cookie_header, cookies_in, expiry, is_address, select

__all__ = ["SESSION_COOKIE", "CookieAnswer", "CookieSource", "find_cookies"]

CookieAnswer: TypeAlias = Mapping[str, str] | Credential | None
"""What a callable source gives: cookies, a whole credential (with headers or a proxy), or ``None`` for none."""

CookieSource: TypeAlias = (
    Mapping[str, str] | str | os.PathLike[str] | Callable[[str, str | None], CookieAnswer | Awaitable[CookieAnswer]]
)
"""
Where to take the login from, instead of the default places.

Cookies by name; the path of a cookies.txt, a JSON export or a HAR (told by the content); or a callable that is given
the host and the account's name (``None`` for the default one). The callable runs on the event loop: it is ``async``
when it has to wait.
"""

SESSION_COOKIE = "__Secure-next-auth.session-token"
"""The website's login (recorded: ``auth-site``; without the prefix, the same token is refused)."""

_CLOSED = frozenset({"open-assistant.io", "www.open-assistant.io"})

_ENVIRONMENT = "CHATLEASE_OPEN_ASSISTANT_"
_SUFFIXES = (".txt", ".json", ".har")
_FINGERPRINT = re.compile(r"anon-[0-9a-f]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_Found: TypeAlias = tuple[str, Credential | str]
"""A place, and the credential it had or the reason why it had none."""


async def find_cookies(
    host: str,
    *,
    source: CookieSource | Credential | None = None,
    account: str | None = None,
    rejected: Credential | None = None,
) -> Credential:
    """
    Find the login of an account at a host.

    Files and browsers are read in threads. Cancelling gives up waiting at once; a browser's store that is being read in
    that moment is read to its end, unseen.

    Args:
        host: The website's host name or address, without port.
        source: Where to look, or the default account's login itself; ``None`` or an empty mapping for the default
            places.
        account: Its name; ``None`` for the default account.
        rejected: The credential that the service refused; finding it again ends the search.

    Returns:
        The credential; cookies with all names that the host would get.

    Raises:
        NotAuthenticated: None found (``no-credentials``) or only the refused one (``credentials-refused``); says where
            it looked and what to do. Nothing was sent.
        UsageError: ``source`` is nothing of what it may be.
    """
    host = host.lower().removesuffix(".")
    by_fingerprint = bool(account and _FINGERPRINT.fullmatch(account))
    looked: list[str] = []
    async with aclosing(_look(host, source, None if by_fingerprint else account)) as findings:
        async for place, found in findings:
            reason = found if isinstance(found, str) else _objection(found, account if by_fingerprint else None)
            if isinstance(found, Credential) and not reason:
                return _unless_rejected(found, rejected, host, place)
            looked.append(f"{place}: {reason}")
    raise _not_found(host, account, looked)


def _objection(found: Credential, fingerprint: str | None) -> str:
    values = [*found.cookies.items(), *found.headers.items()]
    if not values:
        return "gave nothing"
    if not all(_sendable(text) for pair in values for text in pair):
        return "a name or value is no text, or holds control characters"
    if fingerprint and found.fingerprint() != fingerprint:
        return "another login than the one asked for"
    return ""


def _sendable(text: object) -> bool:
    return isinstance(text, str) and not _CONTROL.search(text)


def _unless_rejected(found: Credential, rejected: Credential | None, host: str, place: str) -> Credential:
    if rejected is None or found.fingerprint() != rejected.fingerprint():
        return found
    raise NotAuthenticated(
        f"{host} refused the login from {place}, and nothing newer was found there",
        code="credentials-refused",
        sent=False,
        hint=f"Log in to {host} again and renew the login there.",
    )


def _not_found(host: str, account: str | None, looked: Iterable[str]) -> NotAuthenticated:
    whose = f"for account {account!r} " if account else ""
    places = "".join(f"\n- {line}" for line in looked)
    return NotAuthenticated(
        f"no login {whose}at {host} was found; looked at:{places}",
        code="no-credentials",
        sent=False,
        hint=_advice(host, account),
    )


def _advice(host: str, account: str | None) -> str:
    variable = f"set {_variable('COOKIE', account)} to the value of its cookie {SESSION_COOKIE}"
    export = f", or export its cookies to {_own_file(account, '.txt')}" if _has_files(account) else ""
    browsers = "" if account else "; with chatlease[browser] installed, the browser itself is asked"
    closed = (
        " (That site closed in 2023: give the address of another; `chatlease serve` is one.)" if host in _CLOSED else ""
    )
    return f"Log in to {host} in a browser, then {variable}{export}{browsers}.{closed}"


# ------------------------------------------------------------------------------------------------------------ places


async def _look(host: str, source: CookieSource | Credential | None, account: str | None) -> AsyncGenerator[_Found]:
    if callable(source):
        yield "the callable", await _ask(source, host, account)
        return
    if source is not None and source != {}:
        yield await _given(source, host, account)
        if account is None:
            return
    async for finding in _environment(host, account):
        yield finding
    async for finding in _files(host, account):
        yield finding
    async for finding in _browsers(host, account):
        yield finding


async def _given(
    source: Mapping[str, str] | Credential | str | os.PathLike[str], host: str, account: str | None
) -> _Found:
    place = "the cookies given" if isinstance(source, Mapping | Credential) else "the file given"
    if account is not None:
        return place, "the default account's"
    if isinstance(source, Credential):
        return place, source
    if isinstance(source, Mapping):
        return place, Credential(cookies=dict(source))
    return place, await _from_file(_path(source), host)


def _path(source: str | os.PathLike[str]) -> Path:
    try:
        return Path(source)
    except TypeError:
        kind = type(source).__name__
    raise UsageError(f"cookies come as a mapping, the path of a file, or a callable; not as {kind}")


async def _ask(
    source: Callable[[str, str | None], CookieAnswer | Awaitable[CookieAnswer]], host: str, account: str | None
) -> Credential | str:
    try:
        answer = source(host, account)
        if inspect.isawaitable(answer):
            answer = await answer
    except ChatleaseError:
        raise
    except Exception as error:  # noqa: BLE001  (it may hold what it was about to give, so only its class is told)
        return f"raised {type(error).__name__}"
    if answer is None or isinstance(answer, Credential):
        return answer or "gave nothing"
    return Credential(cookies=dict(answer))


# ------------------------------------------------------------------------------------------------------- environment


def _variable(kind: str, account: str | None) -> str:
    return variable(_ENVIRONMENT + kind, account)


async def _environment(host: str, account: str | None) -> AsyncGenerator[_Found]:
    for kind in ("COOKIE", "COOKIES", "TOKEN"):
        name = _variable(kind, account)
        value = os.environ.get(name, "").strip()
        yield f"environment {name}", await _from_variable(kind, value, host) if value else "not set"


async def _from_variable(kind: str, value: str, host: str) -> Credential | str:
    if kind == "COOKIES":
        return await _from_file(Path(value), host)
    return _cookie_value(value) if kind == "COOKIE" else _bearer(value)


def _cookie_value(text: str) -> Credential | str:
    # The token is base64 and may end in the padding "=".
    if "=" not in text.rstrip("="):
        return Credential(cookies={SESSION_COOKIE: text})
    cookies = cookie_header(text)
    return Credential(cookies=cookies) if cookies else "neither a Cookie header nor a token"


def _bearer(text: str) -> Credential:
    scheme, _, token = text.partition(" ")
    return Credential(headers={"Authorization": f"Bearer {token.strip() if scheme.lower() == 'bearer' else text}"})


# ------------------------------------------------------------------------------------------------------------- files


def _folder() -> Path:
    return platformdirs.user_config_path("chatlease", appauthor=False) / "open-assistant"


def _own_file(account: str | None, suffix: str) -> Path:
    return _folder() / f"{account or 'cookies'}{suffix}"


async def _files(host: str, account: str | None) -> AsyncGenerator[_Found]:
    if not _has_files(account):
        yield f"files in {_folder()}", "the account's name is no file name of its own"
        return
    for suffix in _SUFFIXES:
        yield "file", await _from_file(_own_file(account, suffix), host)


def _has_files(account: str | None) -> bool:
    if account is None:
        return True
    # An account called "cookies" would get the default account's file.
    return account.isprintable() and account == Path(account).name and account.casefold() not in {"", "..", "cookies"}


async def _from_file(path: Path, host: str) -> Credential | str:
    found = await asyncio.to_thread(_read, path, host)
    return f"{_shown(path)}: {found}" if isinstance(found, str) else found


def _shown(path: Path) -> str:
    # A value given where a path belongs must not come back in a message.
    is_path = path.suffix in _SUFFIXES and not {"=", ";"} & set(str(path))
    return str(path) if is_path else "(name not shown, as it does not end in .txt, .json or .har)"


def _read(path: Path, host: str) -> Credential | str:
    try:
        return Credential(cookies=cookies_in(path.expanduser().read_text("utf-8-sig"), host, time.time()))
    except NoCookiesError as error:
        return str(error)
    except FileNotFoundError:
        return "no such file"
    except UnicodeDecodeError:
        return "not a text file in UTF-8"
    except (OSError, RuntimeError, ValueError) as error:
        return f"cannot be read ({type(error).__name__})"


# ---------------------------------------------------------------------------------------------------------- browsers


class _Browser(Protocol):
    """A function of browser_cookie3, one per browser."""

    __name__: str

    def __call__(self, *, domain_name: str) -> Iterable[Cookie]: ...


async def _browsers(host: str, account: str | None) -> AsyncGenerator[_Found]:
    if account is not None:
        yield "the browsers", "the default account's"
        return
    browsers = await asyncio.to_thread(_installed_browsers)
    if isinstance(browsers, str):
        yield "the browsers", browsers
        return
    merely_known: list[_Found] = []
    for browser in browsers:
        finding = f"browser {browser.__name__}", await asyncio.to_thread(_open_browser, browser, host)
        if _knows_no_login(finding[1]):
            merely_known.append(finding)
        else:
            yield finding
    for finding in merely_known:
        yield finding


def _installed_browsers() -> list[_Browser] | str:
    try:
        library = importlib.import_module("browser_cookie3")
    except Exception as error:  # noqa: BLE001  (it looks for the system's key store while it is imported)
        if isinstance(error, ModuleNotFoundError) and error.name == "browser_cookie3":
            return "not asked: extra not installed (pip install 'chatlease[browser]')"
        return f"not asked: browser_cookie3 cannot be imported ({type(error).__name__})"
    return cast("list[_Browser]", library.all_browsers)


def _open_browser(browser: _Browser, host: str) -> Credential | str:
    try:
        stored = [_stored(cookie) for cookie in browser(domain_name=_registered(host))]
    except Exception as error:  # noqa: BLE001  (a browser's store fails in every way there is, and says what it read)
        return type(error).__name__
    try:
        return Credential(cookies=select(stored, host, time.time()))
    except NoCookiesError as reason:
        return str(reason)


def _registered(host: str) -> str:
    # The library keeps the cookies whose domain contains this text; a parent domain's cookies are wanted too.
    return host if is_address(host) else ".".join(host.split(".")[-2:])


def _stored(cookie: Cookie) -> StoredCookie:
    domain = cookie.domain.lower()
    host_only = not domain.startswith(".")
    return StoredCookie(cookie.name, cookie.value or "", domain.removeprefix("."), host_only, expiry(cookie.expires))


def _knows_no_login(found: Credential | str) -> bool:
    return isinstance(found, Credential) and not any("session-token" in name for name in found.cookies)
