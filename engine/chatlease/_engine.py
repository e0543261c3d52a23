"""The engine: owns sessions, their cleanup, the logins and the ledger, for one event loop.

Rules that live here:

* What must outlive a caller is the engine's: the tasks that create and delete chats, and the keeper, which stands for
  them when the loop ends (see `_tasks`).
* Sessions are only weakly held: a session that is dropped by its user is adopted and given back. Its chat is safe with
  its cleanup task, which holds it.
* An engine belongs to the loop that it was entered on, to its thread, and to its process: after a fork the child's
  sessions are closed objects that send nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack, cast

from . import _cleanup
from ._answer import Answer
from ._clock import Clock, SystemClock
from ._ids import new_id
from ._interrupt import Deadline, ledger_is_late
from ._introduction import introduction
from ._keeper import Keeper
from ._logins import Logins
from ._prompt import Messages
from ._session import Session
from ._settings import (
    DEFAULT,
    chosen_credential,
    chosen_deadlines,
    chosen_ledger,
    chosen_provider,
    chosen_sweep,
    chosen_trace_file,
)
from ._sweep import Sweep, Swept
from ._sweeper import Sweeper
from ._timers import Timers
from ._trace import Hook, Tracer
from ._trace_file import TraceFile
from ._turns import Turns
from .adapter import Adapter, Credential, CredentialProvider, Deadlines, RunOptions
from .errors import SessionClosed, UsageError
from .ledger import Ledger

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603  (a fork changes what every engine of the process is)
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Engine:
    """
    Opens sessions on one or more services, and gives every chat back.

    An async context manager; leaving it closes all sessions, waits for their cleanup (at most ``drain``) and closes the
    adapters. Everything else is only allowed in between, on the same loop.

    Args:
        adapters: The services; owned and closed by the engine. The first is the default.
        ledger: Where chats that must still be deleted are kept: ``sqlite:///PATH``, a `chatlease.ledger.Ledger` (not
            closed by the engine when given), ``"memory"`` (nothing survives the process), or ``None`` to give the
            promise up: then a chat that cannot be deleted is an error (`CleanupFailed`). By default what
            ``CHATLEASE_LEDGER`` says, else a SQLite file in the user's state folder, shared by all processes.
        sweep: How chats are deleted that others left (crashed processes, failed cleanups), in the background; ``None``
            for not at all. By default what ``CHATLEASE_SWEEP`` says, else at once and then every minute.
        deadlines: Of all sessions that are given none of their own.
        credentials: Of named accounts: a mapping of name to `Credential` (or to cookies), or a function of (service,
            account).
        hooks: Called with every trace event, or with those of a level (see `Hook`). ``CHATLEASE_TRACE`` names a
            `TraceFile` that gets them too, of the level that ``CHATLEASE_TRACE_LEVEL`` says.
        strict_cleanup: Raise `CleanupFailed` although a ledger holds the chat.
        clock: For tests.
    """

    def __init__(
        self,
        *adapters: Adapter,
        ledger: Ledger | str | None = DEFAULT,
        sweep: Sweep | str | None = DEFAULT,
        deadlines: Deadlines | None = None,
        credentials: CredentialProvider | Mapping[str, Credential | Mapping[str, str]] | None = None,
        hooks: Iterable[Hook] = (),
        strict_cleanup: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if not adapters:
            raise UsageError("an engine needs at least one adapter")
        self.deadlines = chosen_deadlines(deadlines)
        self.clock = Timers(clock or SystemClock(), dataclasses.astuple(self.deadlines))
        self.ledger = chosen_ledger(ledger, self.clock)
        self._owns_ledger = self.ledger is not ledger
        self.strict_cleanup = strict_cleanup
        self.tracer = Tracer(self.clock, hooks)
        self._trace_file: TraceFile | None = None
        self._opened_at = 0.0
        self.logins = Logins(chosen_provider(credentials))
        self._adapters = adapters
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._forks = _forks
        self._deafen: Callable[[], None] = lambda: None
        self.turns = Turns(self)
        self.sweeper = Sweeper(self, adapters, chosen_sweep(sweep))
        self.keeper = Keeper(self.clock, self.deadlines.grace, self._stop_work, self._close_parts)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def session(
        self,
        *,
        service: str | None = None,
        account: str | None = None,
        credential: Credential | None = None,
        model: str | None = None,
        prompt: str | Messages | None = None,
        deadlines: Deadlines | None = None,
        **options: Unpack[RunOptions],
    ) -> Session:
        """
        Make a session; nothing is sent before its first step.

        Args:
            service: `Adapter.service` (or ``service@origin``) of one of the engine's adapters; the first one if left
                out.
            account: Name of the account; its credential comes from ``credentials`` or from where the adapter finds it.
            credential: Use this one; its account is ``account``, or named by its fingerprint.
            model: Empty or ``None`` for the adapter's own.
            prompt: For `Session.step` and `Session.ask` without arguments.
            deadlines: Instead of the engine's.
            **options: How the answer is to be made; checked now.

        Raises:
            UsageError: An option that the service does not take, no such service, the engine is not open.
        """
        self.check_loop()
        if self.keeper.closing:
            raise SessionClosed("the engine is closing or closed")
        adapter = self._adapter(service)
        name = model or adapter.model
        adapter.check_options(name, options)
        session = Session(
            self,
            adapter,
            account=account,
            credential=None if credential is None else chosen_credential(credential),
            model=name,
            prompt=prompt,
            deadlines=self.deadlines if deadlines is None else chosen_deadlines(deadlines),
            options=options,
        )
        self.keeper.add(session)
        return session

    def ask(
        self,
        prompt: str | Messages,
        *,
        service: str | None = None,
        account: str | None = None,
        credential: Credential | None = None,
        model: str | None = None,
        deadlines: Deadlines | None = None,
        **options: Unpack[RunOptions],
    ) -> Answer:
        """
        Ask once: a whole session, opened, streamed, deleted.

        Lazy: nothing happens before the answer is iterated. Arguments as for `session`; the prompt is a text, or
        messages (one is its text, several are rendered by `format_prompt`).
        """
        session = self.session(
            service=service,
            account=account,
            credential=credential,
            model=model,
            prompt=prompt,
            deadlines=deadlines,
            **options,
        )
        return session.whole()

    async def models(
        self, *, service: str | None = None, account: str | None = None, credential: Credential | None = None
    ) -> Sequence[str]:
        """Return the names of the models that a service offers to an account."""
        session = self.session(service=service, account=account, credential=credential)
        return await session.offered_models()

    async def sweep(self) -> Swept:
        """
        Delete the chats that others left, now, as far as their time has come and their logins are known here.

        The same happens in the background by itself (see ``sweep`` above). Chats of living sessions are never touched.
        Cancelling it leaves what was not done to the next sweep.

        Raises:
            LedgerUnavailable: The ledger cannot be used now.
            UsageError: The engine has no ledger, or is not open.
        """
        self.check_loop()
        return await self.sweeper.sweep()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """
        What runs now, oldest first: the sessions that are not over, those that are being given back too.

        For a status page. A session that is kept longer than it takes to look is one that its user cannot drop.
        """
        return tuple(sorted((cast("Session", each) for each in self.keeper.sessions), key=attrgetter("id")))

    # -- opening and closing ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise UsageError("an engine is entered once", hint="Make another Engine.")
        self._trace_file = chosen_trace_file()
        if self._trace_file is not None:
            self.tracer.add(self._trace_file)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        if self.ledger is not None:
            await self._open_ledger(self.ledger)
        self._opened_at = self.clock.now()
        if self.tracer.wants("engine.opened"):
            self.tracer.tell("engine.opened", **introduction(self.ledger, self._adapters))
        self.keeper.start()
        self.sweeper.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, GeneratorExit):  # the coroutine is being closed: nothing can be awaited any more
            self.keeper.release()
            return
        if error is not None and not self.keeper.closing:
            self.keeper.hurry()
        await self.aclose()

    async def aclose(self) -> None:
        """
        Close all sessions, wait for their cleanup, close the adapters. May be called twice.

        Takes at most ``drain`` and a little; when the caller is cancelled, or leaves its ``async with`` with an
        exception, at most ``grace`` from then: what is not deleted by then is handed over. Sessions that their
        users forgot are named in a `ResourceWarning`.
        """
        if self._loop is None:
            return
        self.check_loop()
        self._warn_forgotten()
        await self.keeper.closed()

    def install_signal_handlers(self) -> None:
        """
        Have SIGTERM and SIGINT cancel the task that calls this, so that its ``async with`` blocks give every chat back.

        Offered, never done unasked: many bots have handlers of their own. A second signal is handled as if this had
        never been called (it ends the process at once; the ledger keeps what is left). Not on Windows.

        Raises:
            UsageError: Not called in a task of the engine's loop, or the platform has no such handlers.
        """
        self.check_loop()
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self.loop.add_signal_handler(number, self._on_signal, task)
            except NotImplementedError:
                raise UsageError("this platform's event loop has no signal handlers") from None

    def _on_signal(self, task: asyncio.Task[Any]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.remove_signal_handler(number)
        task.cancel()

    # -- for the other modules of the engine --------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the engine was entered on."""
        if self._loop is None:
            raise _not_open()
        return self._loop

    def check_loop(self) -> None:
        """
        Refuse to be used from anywhere but the engine's loop, thread and process.

        Raises:
            UsageError: Another loop or thread, or not entered yet.
            SessionClosed: In a forked child.
        """
        # What runs in this thread is this loop, or it does not run: asking asyncio which would cost a system call.
        loop = self._loop
        if loop is None or threading.get_ident() != self._thread or not loop.is_running() or self._forks != _forks:
            self._refuse_use()

    def new_id(self) -> str:
        """Return an id for a session."""
        return new_id(self.clock)

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that entered the engine."""
        return self._forks != _forks

    # -- inside -------------------------------------------------------------------------------------------------------

    def _refuse_use(self) -> NoReturn:
        if self.forked:
            raise SessionClosed("this process is a fork; the engine and its chats belong to its parent")
        if self._loop is None:
            raise _not_open()
        raise UsageError(
            "an engine is used on the event loop that it was entered on", hint="Make one Engine per loop and thread."
        )

    async def _open_ledger(self, ledger: Ledger) -> None:
        try:
            with Deadline(self.clock, self.deadlines.call, ledger_is_late):
                await ledger.open()
        except BaseException:
            self._loop = None
            if self._trace_file is not None:
                self._trace_file.close()
            raise
        self._deafen = ledger.listen(self._on_ledger_event)

    def _on_ledger_event(self, event: str, keys: Mapping[str, object]) -> None:
        """Hear of something that happened to the ledger; in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(self._hear, event, dict(keys))

    def _hear(self, event: str, keys: dict[str, object]) -> None:
        self.tracer.tell(event, **keys)
        for session in self.keeper.sessions:
            if session.lost:
                _cleanup.start(session)

    def _stop_work(self) -> None:
        self.sweeper.stop()
        self.turns.close()

    async def _close_parts(self) -> None:
        parts = [(adapter.service, adapter.aclose) for adapter in self._adapters]
        if self.ledger is not None and self._owns_ledger:
            parts.append(("the ledger", self.ledger.aclose))
        stuck = [name for name, close in parts if not await self._is_closed(close)]
        self._deafen()
        self.tracer.tell("engine.closed", elapsed_s=round(self.clock.now() - self._opened_at, 6))
        if self._trace_file is not None:
            self._trace_file.close()
        self.clock.close()
        if stuck:
            warnings.warn(f"parts of the engine did not close: {', '.join(stuck)}", ResourceWarning, stacklevel=2)

    async def _is_closed(self, close: Callable[[], Awaitable[None]]) -> bool:
        """Close a part; one that cannot (its disk hangs, say) keeps neither the engine nor the other parts open."""
        try:
            with Deadline(self.clock, self.deadlines.grace, TimeoutError):
                await close()
        except Exception:  # noqa: BLE001  (whatever an adapter does wrong)
            return False
        return True

    def _warn_forgotten(self) -> None:
        forgotten = [session for session in self.keeper.sessions if _cleanup.is_left(session)]
        if forgotten and not self.keeper.closing:
            names = ", ".join(session.id for session in forgotten[:3])
            warnings.warn(
                f"{len(forgotten)} sessions were not closed ({names}...)",
                ResourceWarning,
                stacklevel=3,
                source=forgotten[0],
            )

    def _adapter(self, service: str | None) -> Adapter:
        if service is None:
            return self._adapters[0]
        for adapter in self._adapters:
            if service in {adapter.service, f"{adapter.service}@{adapter.origin}"}:
                return adapter
        names = ", ".join(adapter.service for adapter in self._adapters)
        raise UsageError(f"the engine has no service {service!r}; it has {names}")


def _not_open() -> UsageError:
    return UsageError("the engine is not open", hint="Use it inside `async with Engine(...) as engine:`.")
