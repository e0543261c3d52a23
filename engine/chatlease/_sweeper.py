"""The sweeper of an engine: takes over chats that nobody holds, and gives them back.

Rules that live here:

* A sweep declares dead who is, and works on every account that has something due, each by itself and all at once, so
  that one that hangs or fails costs the others nothing. Whatever happens to a sweep, its claims end.
* It runs in tasks of the engine's, in the background first when the engine opens and then every so often, never in the
  way of a session; sweeps of one engine never overlap. It ends when the engine closes, and what it had claimed is free.
* The ledger holds no credential: the login comes from the session that left the chat, from the engine's credentials by
  the account's name, or from the adapter; an account named by a fingerprint is only served by that very login, which
  the adapter is asked for by that name, and then by none.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import _failpoints
from ._account_sweep import AccountSweep
from ._clock import Timer
from ._interrupt import Deadline
from ._sweep import Sweep, Swept
from ._tasks import wait_patiently
from .adapter import Adapter, Credential
from .errors import NotAuthenticated, SessionClosed, Unavailable, UsageError
from .ledger import Account, Ledger

if TYPE_CHECKING:
    from ._core import Core
    from ._engine import Engine

_REMEMBERED = 1000


class Sweeper:
    """
    Sweeps for one engine.

    Args:
        engine: Whose.
        adapters: Of the services that can be reached.
        settings: How; ``None`` for never by itself.

    Attributes:
        places: How many more calls may be made now, by service.
    """

    def __init__(self, engine: Engine, adapters: Sequence[Adapter], settings: Sweep | None) -> None:
        self.engine = engine
        self.settings = sweep = settings or Sweep()
        self.places = defaultdict[tuple[str, str], asyncio.Semaphore](lambda: asyncio.Semaphore(sweep.at_once))
        self._adapters = adapters
        self._by_itself = settings is not None
        self._remembered: dict[Account, Credential] = {}
        self._lock = asyncio.Lock()
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._background: asyncio.Task[None] | None = None
        self._sweeps: set[asyncio.Task[Swept]] = set()
        self._stopped = False

    def start(self) -> None:
        """Begin to sweep in the background, after whoever opened the engine."""
        if self._by_itself and self.engine.ledger is not None:
            self._sweep_in(0.0)

    def stop(self) -> None:
        """Sweep no more; sweeps under way give up what they have claimed."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for sweep in self._sweeps:
            _cancel_once(sweep)

    def remember(self, session: Core) -> None:
        """Keep the login of a session whose chat is handed over: it may be known to nobody else."""
        account = Account(session.adapter.service, session.adapter.origin, session.call.login.account)
        self._remembered.pop(account, None)
        self._remembered[account] = session.call.login.credential
        if len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        if self._by_itself:
            self._sweep_in(self.settings.first_retry)

    async def sweep(self) -> Swept:
        """
        Sweep now, what is due now, after a sweep that is under way.

        Raises:
            LedgerUnavailable: The ledger cannot be used.
            SessionClosed: The engine is closing, or was closed meanwhile.
            UsageError: There is no ledger.
        """
        ledger = self.engine.ledger
        if ledger is None:
            raise UsageError("there is nothing to sweep: the engine has no ledger")
        if self._stopped:
            raise SessionClosed("the engine is closing or closed")
        task = self.engine.keeper.own(self._sweep_alone(ledger), "chatlease sweep")
        self._sweeps.add(task)
        task.add_done_callback(self._sweeps.discard)
        grace = self.engine.deadlines.grace
        await wait_patiently(task, self.engine.clock, grace=grace, on_cancel=lambda: _cancel_once(task))
        if task.cancelled():
            raise SessionClosed("the engine was closed during the sweep")
        return task.result()

    # -- for the sweeps of accounts -----------------------------------------------------------------------------------

    def trace(self, event: str, **keys: Any) -> None:
        """Send an event, if anybody listens."""
        self.engine.tracer.tell(event, **keys)

    async def together(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Run coroutines side by side, in tasks of the engine's, and end with all of them; then the first error."""
        tasks = [self.engine.keeper.own(work, "chatlease sweep of an account") for work in works]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                _cancel_once(task)
            await asyncio.wait(tasks)
            raise
        finally:
            errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        for error in errors:
            if error is not None:
                raise error

    async def login(self, adapter: Adapter, account: Account) -> Credential | None:
        """Return the login that made an account's chats, if it is known here."""
        remembered = self._remembered.get(account)
        return await self.find(adapter, account, None) if remembered is None else remembered

    async def find(self, adapter: Adapter, account: Account, refused: Credential | None) -> Credential | None:
        """Ask the engine's credentials, then the adapter, for the login of an account; not for the refused one."""
        if refused is not None and self._remembered.get(account) == refused:
            del self._remembered[account]
        try:
            with Deadline(self.engine.clock, self.engine.deadlines.call, _login_is_late):
                return await self._find(adapter, account, refused)
        except Exception:  # noqa: BLE001  (whatever a provider does wrong: this account's login is not known here)
            return None

    async def _find(self, adapter: Adapter, account: Account, refused: Credential | None) -> Credential | None:
        given = self.engine.logins.given(account.service, account.account)
        if given is not None and given != refused and _may_serve(given, account):
            return given
        for name in (account.account, None) if _is_anonymous(account) else (account.account,):
            with contextlib.suppress(NotAuthenticated):
                found = await adapter.ready_cookies(name, refused)
                if found != refused and _may_serve(found, account):
                    return found
        return None

    # -- by itself ----------------------------------------------------------------------------------------------------

    def _sweep_in(self, seconds: float) -> None:
        """Sweep after that time, or earlier where that was said before."""
        due_at = self.engine.clock.now() + min(seconds, self.settings.every)
        if self._stopped or (self._timer is not None and self._due_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = due_at
        self._timer = self.engine.clock.call_later(min(seconds, self.settings.every), self._begin)

    def _begin(self) -> None:
        self._timer = None
        if not self._stopped and (self._background is None or self._background.done()):
            self._background = self.engine.keeper.own(self._sweep_quietly(), "chatlease sweep in the background")

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except Exception as error:  # noqa: BLE001  (nobody waits for it; the next one may succeed)
            if not self._stopped:
                self.trace("sweep.failed", error=type(error).__name__)
        finally:
            self._sweep_in(self.settings.every * random.uniform(0.9, 1.0))  # noqa: S311  (jitter, no secret)

    # -- one sweep ----------------------------------------------------------------------------------------------------

    async def _sweep_alone(self, ledger: Ledger) -> Swept:
        async with self._lock:
            return await self._sweep(ledger)

    async def _sweep(self, ledger: Ledger) -> Swept:
        self.trace("sweep.started")
        began, done = self.engine.clock.now(), Counter[str]()
        done["reaped"] = await ledger.reap()
        if done["reaped"]:
            self.trace("sweep.holder.reaped", count=done["reaped"])
        _failpoints.reach("sweep.reaped")
        await self.together(self._works(ledger, await ledger.due(), done))
        counts = await ledger.counts()
        swept = Swept(
            **done,
            parked=counts.parked,
            open=counts.open,
            undeleted=counts.dead,
            elapsed_s=round(self.engine.clock.now() - began, 6),
        )
        self.trace("sweep.completed", **{name: getattr(swept, name) for name in swept.__struct_fields__})
        return swept

    def _works(
        self, ledger: Ledger, accounts: Iterable[Account], done: Counter[str]
    ) -> Iterable[Coroutine[Any, Any, None]]:
        for account in accounts:
            adapter = self._adapter(account)
            if adapter is not None:
                yield AccountSweep(self, ledger, adapter, account, done).work()

    def _adapter(self, account: Account) -> Adapter | None:
        for adapter in self._adapters:
            if (adapter.service, adapter.origin) == (account.service, account.origin):
                return adapter
        return None


def _is_anonymous(account: Account) -> bool:
    return account.account.startswith("anon-")


def _may_serve(credential: Credential, account: Account) -> bool:
    """Say whether a credential may be the one of an account; one named by a fingerprint has no other."""
    return not _is_anonymous(account) or credential.fingerprint() == account.account


def _cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task, but not in the middle of what it does because it was cancelled."""
    if not task.cancelling():
        task.cancel()


def _login_is_late() -> Exception:
    return Unavailable("the credentials were not found in time", code="deadline-call", sent=False)
