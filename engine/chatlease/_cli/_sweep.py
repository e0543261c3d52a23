"""``chatlease sweep``: delete the chats that crashed processes and failed cleanups left behind.

Rules that live here:

* Only logins that are found here are used: the entries of every account that the adapter finds one for, and those that
  were made without a name by the same login.
* ``--once`` ends when nothing more is due, says what it did, and ends with code 4 while an orphan is left, for whatever
  reason; each reason is named with what to do about it. What living processes still use is theirs.
* Without it the command runs until it is told to end, which is no failure: a service manager sees code 0. It prints a
  line for every sweep that had something to do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

import typer

from chatlease._clock import SystemClock
from chatlease._engine import Engine
from chatlease._settings import DEFAULT, chosen_sweep
from chatlease._sweep import Sweep
from chatlease._trace import TraceEvent
from chatlease.adapter import Adapter, Credential
from chatlease.errors import UsageError
from chatlease.ledger import Entry, EntryState

from . import _ledgers
from . import _options as opt
from ._exits import Exit
from ._program import program
from ._show import Screen, age, print_json
from ._signals import cancelling

_SUMS = ("reaped", "claimed", "swept", "absent", "failed", "dead")

_NEWS: Mapping[str, tuple[str, str]] = {
    "sweep.account.parked": ("account {account}: its login was refused; its chats wait for another one", "bold red"),
    "sweep.account.unparked": ("account {account}: its login works again", "green"),
    "sweep.chat.dead": ("chat {chat} of account {account} is a dead letter now", "bold red"),
    "sweep.candidate.found": ("chat {chat} of account {account} is empty and probably ours; not deleted", "yellow"),
    "sweep.failed": ("the sweep failed ({error}); the next one tries again", "bold red"),
    "ledger.failed": ("the ledger cannot be written ({error_code})", "bold red"),
    "ledger.recovered": ("the ledger can be written again", "green"),
    "ledger.quarantined": ("the ledger's file was lost ({error_code}); a new one is begun", "bold red"),
}
"""Events that a person is told, as they happen."""


class Reconcile(enum.StrEnum):
    """What happens to an empty chat that is probably the one of a lost create reply."""

    DELETE = "delete"
    REPORT = "report"
    OFF = "off"


async def sweep(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="End when nothing more is due now.")] = False,
    every: Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS", help="Between two sweeps. [60]")] = None,
    reconcile: Annotated[
        Reconcile, typer.Option(help="What to do with an empty chat that is probably of a lost create reply.")
    ] = Reconcile.DELETE,
    ledger: opt.LedgerUrl = None,
    adapter: opt.AdapterName = None,
    url: opt.Url = None,
    account: opt.AddedAccount = None,
    cookie_file: opt.CookieFile = None,
    proxy: opt.Proxy = None,
    option: opt.AdapterOptions = None,
    as_json: opt.Json = False,
) -> Exit:
    """
    Delete the chats that crashed processes and failed cleanups left behind.

    Runs until SIGTERM or Ctrl-C, unless --once is given. Only chats of logins that are found here are touched.
    """
    if as_json and not once:
        raise UsageError("--json needs --once", hint="CHATLEASE_TRACE names a file that gets every sweep as JSON.")
    connection = opt.Connection(adapter, url, account, cookie_file, proxy, option or ())
    sweeping = _Sweeping(connection.open(program(context).registry), ledger, _settings(every, reconcile))
    if not once:
        return await sweeping.on(account)
    return await sweeping.once(account, as_json=as_json)


def _settings(every: float | None, reconcile: Reconcile) -> Sweep:
    usual = chosen_sweep(DEFAULT) or Sweep()
    return dataclasses.replace(usual, every=every or usual.every, reconcile=reconcile.value)


class _Sweeping:
    """One run of the command."""

    def __init__(self, adapter: Adapter, ledger: str | None, settings: Sweep) -> None:
        self._adapter = adapter
        self._ledger = _ledgers.named(ledger)
        self._settings = settings
        self._screen = Screen()
        self._once = False
        self._sums: Counter[str] = Counter()
        self._candidates: list[dict[str, Any]] = []

    async def once(self, account: str | None, *, as_json: bool) -> Exit:
        """Sweep until nothing more is due."""
        self._once = True
        open_entries: Sequence[Entry] = ()
        if _ledgers.exists(self._ledger):
            with cancelling():
                open_entries = await self._sweep_all(account)
        left = [entry for entry in open_entries if entry.orphaned]
        code = Exit.CHAT_LEFT if left else Exit.OK
        if as_json:
            print_json(self._result(open_entries, left, code))
        else:
            typer.echo(self._summary(len(open_entries), len(left)))
            self._explain(left)
        return code

    async def on(self, account: str | None) -> Exit:
        """Sweep until a signal comes."""
        try:
            with cancelling():
                async with self._engine(account, self._settings):
                    self._screen.note(f"sweeping {_ledgers.name_of(self._ledger)} every {self._settings.every:g} s")
                    await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._screen.note("ended")
        return Exit.OK

    @asynccontextmanager
    async def _engine(self, account: str | None, by_itself: Sweep | None) -> AsyncGenerator[Engine]:
        logins = None if account is None else await self._logins(account)
        engine = Engine(self._adapter, ledger=self._ledger, sweep=by_itself, credentials=logins, hooks=[self._hear])
        async with aclosing(self._ledger), engine:
            yield engine

    async def _logins(self, account: str) -> Mapping[str, Credential]:
        """Return a named login, also for those of its chats that were made without its name."""
        credential = await self._adapter.ready_cookies(account, None)
        return {account: credential, credential.fingerprint(): credential}

    async def _sweep_all(self, account: str | None) -> Sequence[Entry]:
        async with self._engine(account, None) as engine:
            engine.sweeper.settings = self._settings
            await engine.sweep()
            return await self._ledger.open_entries()

    # -- what is told -------------------------------------------------------------------------------------------------

    def _hear(self, event: TraceEvent) -> None:
        keys = event.keys
        if event.event == "sweep.completed":
            self._completed(keys)
        elif event.event == "sweep.candidate.found":
            self._candidates.append({name: keys[name] for name in ("service", "account", "chat") if name in keys})
        text, style = _NEWS.get(event.event, ("", ""))
        if text:
            self._screen.note(text.format_map(_Shown(keys)), style)

    def _completed(self, keys: Mapping[str, Any]) -> None:
        self._sums.update({name: keys[name] for name in _SUMS})
        if keys["claimed"] and not self._once:
            typer.echo(f"{_done(keys)}; open {keys['open']}")

    def _summary(self, open_: int, left: int) -> str:
        return f"{_done(self._sums)}; left {left}, in use {open_ - left}"

    def _result(self, open_entries: Sequence[Entry], left: Sequence[Entry], code: Exit) -> dict[str, Any]:
        return {
            "reaped": self._sums["reaped"],
            "deleted": self._sums["swept"],
            "absent": self._sums["absent"],
            "failed": self._sums["failed"],
            "died": self._sums["dead"],
            "candidates": self._candidates,
            "open": len(open_entries),
            "left": len(left),
            "parked": sum(entry.parked for entry in left),
            "dead": sum(entry.dead for entry in left),
            "exit_code": int(code),
        }

    def _explain(self, left: Sequence[Entry]) -> None:
        now = SystemClock().wall()
        reasons = Counter((entry.owner, self._reason(entry, now)) for entry in left)
        for (owner, reason), number in reasons.items():
            self._screen.note(f"{number} of {owner.service} at {owner.origin}, account {owner.account}: {reason}", "")

    def _reason(self, entry: Entry, now: float) -> str:
        if (entry.service, entry.origin) != (self._adapter.service, self._adapter.origin):
            return "of another service than the one swept; --adapter and --url name it"
        if entry.dead:
            return "dead letters, tried once a day; `chatlease ledger retry ID` has one tried by the next sweep"
        if entry.parked:
            return "the login was refused; log in again, then `chatlease ledger retry ID`"
        if entry.alive:
            return "another process is deleting them"
        return _wait(entry, now) if entry.next_try_at > now else "no login of that account was found here"


def _wait(entry: Entry, now: float) -> str:
    when = age(entry.next_try_at - now)
    if entry.state is EntryState.INTENT:
        return f"the reply to its create was lost; looked for in {when}, when it can take effect no more"
    return f"the deletion failed ({entry.error_code or 'no answer'}); tried again in {when}"


def _done(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {numbers[name]}" for word, name in _WORDS.items())


_WORDS = {"deleted": "swept", "never there": "absent", "failed": "failed", "given up": "dead"}


class _Shown(dict[str, Any]):
    """Keys of an event; one that is not there is shown as unknown."""

    def __missing__(self, key: str) -> str:
        return "unknown"
