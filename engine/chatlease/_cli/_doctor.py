"""``chatlease doctor``: what works, what does not, and what to do about it.

Rules that live here:

* Every check says one thing, and a check that could not be made because an earlier one failed says so.
* A login is looked for and used, and never shown: only the names of its cookies and headers are.
* Nothing is created at the service and nothing is left on the disk.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
import platformdirs
import typer
from rich.console import Console
from rich.text import Text

from chatlease._engine import Engine
from chatlease._registry import Registry
from chatlease.adapter import Adapter, Credential
from chatlease.errors import ChatleaseError, NotAuthenticated

from . import _options as opt
from ._exits import Exit
from ._program import program
from ._show import print_json, printable

_PACKAGES = ("aiohttp", "transitions", "structlog", "msgspec", "tenacity", "typer", "rich")
_EXTRAS = {"browser": "browser-cookie3", "socks": "aiohttp-socks"}
_CONNECT_S = 10.0
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080}
_STYLES = {"ok": "green", "problem": "bold red", "skipped": "dim"}


class Check(msgspec.Struct, frozen=True):
    """
    What one check found.

    Attributes:
        name: What was checked.
        status: ``skipped`` where it could not be.
        found: What was found; may have several lines.
        do: What to do about a problem.
    """

    name: str
    status: Literal["ok", "problem", "skipped"]
    found: str
    do: str = ""


async def doctor(
    context: typer.Context,
    *,
    adapter: opt.AdapterName = None,
    url: opt.Url = None,
    account: opt.Account = None,
    cookie_file: opt.CookieFile = None,
    proxy: opt.Proxy = None,
    option: opt.AdapterOptions = None,
    as_json: opt.Json = False,
) -> Exit:
    """Check logins, the way to the service, the service, the ledger's folder and the versions; say what to do."""
    connection = opt.Connection(adapter, url, account, cookie_file, proxy, option or ())
    found: list[Check] = []
    async for check in _checks(program(context).registry, connection):
        found.append(check)
        if not as_json:
            _show(check)
    if as_json:
        print_json(found)
    return _code(found)


def _show(check: Check) -> None:
    console = Console(highlight=False, soft_wrap=True)
    first, *rest = printable(check.found).splitlines() or [""]
    line = Text(f"{check.status:<8}", style=_STYLES[check.status])
    line.append(f"{check.name:<12}", "default not bold").append(first, "default not bold")
    console.print(line)
    for more in (*rest, *([f"-> {check.do}"] if check.do else [])):
        console.print(Text(f"{'':20}{more}"))


def _code(found: list[Check]) -> Exit:
    problems = {check.name for check in found if check.status == "problem"}
    if problems == {"login"}:
        return Exit.NOT_AUTHENTICATED
    return Exit.FAILED if problems else Exit.OK


async def _checks(registry: Registry, connection: opt.Connection) -> AsyncIterator[Check]:
    yield _versions()
    yield _extras()
    try:
        adapter = connection.open(registry)
    except ChatleaseError as error:
        yield _problem("adapter", error)
        return
    yield Check("adapter", "ok", f"{adapter.service} at {adapter.origin}")
    yield _ledger(adapter)
    async with Engine(adapter, ledger="memory") as engine:
        async for check in _service(engine, adapter, connection.account):
            yield check


async def _service(engine: Engine, adapter: Adapter, account: str | None) -> AsyncIterator[Check]:
    credential: Credential | None = None
    try:
        credential = await adapter.ready_cookies(account, None)
    except ChatleaseError as error:
        yield _problem("login", error)
    else:
        yield Check("login", "ok", _names(credential))
    host = await _host(adapter.origin, credential)
    yield host
    if credential is None or host.status == "problem":
        yield Check("models", "skipped", "needs a login and a way to the service")
        return
    yield await _models(engine, account, credential)


# -- on this machine --------------------------------------------------------------------------------------------------


def _versions() -> Check:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _installed(("chatlease", *_PACKAGES))]
    return Check("versions", "ok", ", ".join([*versions, f"Python {platform.python_version()} on {platform.system()}"]))


def _extras() -> Check:
    there = [f"{extra} {'is' if list(_installed((name,))) else 'not'} installed" for extra, name in _EXTRAS.items()]
    return Check("extras", "ok", ", ".join(there))


def _installed(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield name


def _ledger(adapter: Adapter) -> Check:
    chosen = os.environ.get("CHATLEASE_LEDGER", "")
    try:
        Engine(adapter)
    except ChatleaseError as error:
        # What the variable holds is not shown: the address of a database may hold a password.
        return Check("ledger", "problem", "CHATLEASE_LEDGER names no ledger that this version has", error.hint)
    if chosen in {"memory", "none"} or "://" in chosen:
        return Check("ledger", "skipped", f"CHATLEASE_LEDGER is {chosen.partition('://')[0]}; no folder is needed")
    folder = Path(chosen).expanduser().parent if chosen else platformdirs.user_state_path("chatlease", appauthor=False)
    problem = _unwritable(folder)
    if not problem:
        kept = "" if chosen else "in memory in this version; "
        return Check("ledger", "ok", f"{kept}{folder} can be written")
    return Check("ledger", "problem", problem, "Make it writable, or set CHATLEASE_LEDGER.")


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written into a folder, which need not exist yet; empty when it can."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return f"{existing} cannot be written ({error.strerror or type(error).__name__})"


# -- at the service ---------------------------------------------------------------------------------------------------


def _names(credential: Credential) -> str:
    names = sorted([*credential.cookies, *credential.headers])
    via = ", through a proxy" if credential.proxy else ""
    return f"found {', '.join(names) or 'an empty one'}{via} (values are never shown)"


async def _host(origin: str, credential: Credential | None) -> Check:
    proxy = credential.proxy if credential else None
    try:
        address = urlsplit(proxy or origin)
        port = address.port or _PORTS.get(address.scheme)
    except ValueError:
        return Check("host", "problem", f"the address of the {'proxy' if proxy else 'service'} is none", "Check it.")
    # Of a proxy only host and port are shown: its address may hold a password.
    shown = f"{'proxy ' if proxy else ''}{address.hostname or ''}"
    if not address.hostname or port is None:
        return Check("host", "skipped", f"{shown or origin} is no address of the network")
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(address.hostname, port)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        do = "Check the address (--url), the network and the proxy (--proxy)."
        return Check("host", "problem", f"{shown}:{port} cannot be reached ({reason})", do)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Check("host", "ok", f"{shown}:{port} can be reached")


async def _models(engine: Engine, account: str | None, credential: Credential) -> Check:
    try:
        names = await engine.models(account=account, credential=credential)
    except ChatleaseError as error:
        name = "login" if isinstance(error, NotAuthenticated) else "models"
        return _problem(name, error)
    return Check("models", "ok", f"{len(names)} offered, {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")  # noqa: PLR2004  (a glimpse)


def _problem(name: str, error: ChatleaseError) -> Check:
    return Check(name, "problem", str(error), error.hint)
