"""``chatlease doctor``: what works, what does not, and what to do about it.

Rules that live here:

* Every check says one thing, and a check that could not be made because an earlier one failed says so.
* A login is looked for and used, and never shown: only the names of its cookies and headers are.
* Nothing is created at the service and nothing is left on the disk.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from chatlease._engine import Engine
from chatlease._ledger import SqliteLedger
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease._registry import Registry
from chatlease._settings import DEFAULT, chosen_ledger
from chatlease.adapter import Adapter, Credential
from chatlease.errors import ChatleaseError, LedgerUnavailable, NotAuthenticated, UsageError
from chatlease.ledger import Entry, Ledger

from . import _ledgers
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
    """Check logins, the way to the service, the service, the ledger and the versions; say what to do."""
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
    yield await ledger_check()
    async with Engine(adapter, ledger=None) as engine:
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


async def ledger_check() -> Check:
    """Find out whether the ledger can be used, without making or changing more than an engine's start would."""
    try:
        ledger = chosen_ledger(DEFAULT)
    except UsageError as error:
        # What the variable holds is not shown: the address of a database may hold a password.
        return Check("ledger", "problem", "CHATLEASE_LEDGER names no ledger that this version has", error.hint)
    if ledger is None:
        return Check("ledger", "skipped", "CHATLEASE_LEDGER is none: a chat that cannot be deleted is only reported")
    if not ledger.shared:
        return Check("ledger", "skipped", "CHATLEASE_LEDGER is memory: after a crash the chats of that moment stay")
    try:
        return await _opened(_ledgers.unmigrated(ledger))
    except (LedgerUnavailable, OSError) as error:
        do = (error.hint if isinstance(error, LedgerUnavailable) else "") or LedgerUnavailable.hint
        return Check("ledger", "problem", str(error), do)


async def _opened(ledger: Ledger) -> Check:
    """Really open it; one that is not there yet, in a place that is gone afterwards."""
    if not isinstance(ledger, SqliteLedger):
        async with _ledgers.opened(ledger):
            return _healthy(_ledgers.name_of(ledger), await ledger.open_entries())
    if not ledger.path.exists():
        await _tried_beside(ledger)
        return Check("ledger", "ok", f"{ledger.path} can be made; there is none yet (schema {SCHEMA_VERSION})")
    schema = _ledgers.peek(ledger.path).schema  # raises for a damaged file, which opening would set aside
    async with _ledgers.opened(ledger):
        await ledger.reap()
        name = f"{ledger.path} can be written; schema {max(schema, SCHEMA_VERSION)}"
        return _healthy(name, await ledger.open_entries())


async def _tried_beside(ledger: SqliteLedger) -> None:
    folder = ledger.path.parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        scratch = tempfile.TemporaryDirectory(dir=existing)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LedgerUnavailable(f"the ledger {ledger.path} cannot be made: {existing}: {reason}") from error
    with scratch as place:
        async with _ledgers.opened(SqliteLedger(Path(place) / ledger.path.name)):
            pass


def _healthy(name: str, entries: Sequence[Entry]) -> Check:
    orphaned, dead = sum(entry.orphaned for entry in entries), sum(entry.dead for entry in entries)
    do = "`chatlease sweep --once` deletes what can be deleted; `chatlease ledger` shows the rest." if orphaned else ""
    return Check("ledger", "ok", f"{name}; {len(entries)} open, {orphaned} orphaned, {dead} dead", do)


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
