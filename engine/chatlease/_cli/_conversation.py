"""Several turns on one chat, typed by a person.

Rules that live here:

* Ctrl-C while an answer comes stops that answer and nothing else; at the prompt it leaves. Ctrl-D and /quit leave too.
* A chat that cannot go on (a call of unknown outcome, a failed run) is given back, and the next prompt begins another.
* Lines are read by the event loop, not in a thread: a thread that waits for a line would outlive the conversation.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from chatlease._engine import Engine
from chatlease._interrupt import Interruptible
from chatlease._lifecycle import Run, State
from chatlease._session import Session
from chatlease.adapter import RunOptions
from chatlease.errors import ChatleaseError, NotAuthenticated, UsageError

from ._program import Program
from ._show import Screen

_READ_SIZE = 65536
_FRESH = frozenset({State.NEW, State.COOKIES_READY, State.CHAT_CREATED})
_QUIT = frozenset({"/quit", "/exit"})


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What is to be asked.

    Attributes:
        prompt: ``None`` for a conversation.
        model: ``None`` for the adapter's own.
        account: ``None`` for the default one.
        options: How answers are to be made.
    """

    prompt: str | None = None
    model: str | None = None
    account: str | None = None
    options: RunOptions = field(default_factory=RunOptions)


class _TurnStopped(Exception):
    """Ctrl-C while an answer came."""


class Conversation:
    """
    A conversation on a terminal.

    Args:
        engine: Open.
        wish: Whom to talk to.
        screen: Where everything is shown.
        program: Shows the errors of single turns, which do not end the conversation.
    """

    def __init__(self, engine: Engine, wish: Wish, screen: Screen, program: Program) -> None:
        self._engine = engine
        self._wish = wish
        self._screen = screen
        self._program = program
        self._lines = Lines(sys.stdin.fileno())
        self._turn: Interruptible | None = None
        self._session: Session | None = None

    async def run(self) -> None:
        """
        Talk until the person leaves; the chat is given back.

        Raises:
            NotAuthenticated: There is no login, so there is no use in going on.
            UsageError: An option that the service does not take.
        """
        self._session = self._new_session()
        self._take_ctrl_c()
        self._screen.note(f"{self._session.model}; /quit or Ctrl-D leaves, Ctrl-C stops an answer")
        try:
            while (prompt := await self._next_prompt()) is not None:
                await self._answered(prompt)
        finally:
            self._screen.end_line()
            self._screen.status("giving the chat back")
            await self._session.aclose()

    async def _next_prompt(self) -> str | None:
        while True:
            self._screen.close()
            sys.stderr.write("> ")
            sys.stderr.flush()
            line = await self._lines.read()
            if line is None:
                sys.stderr.write("\n")
                return None
            if line.strip() in _QUIT:
                return None
            if line.strip():
                return line.strip()

    async def _answered(self, prompt: str) -> None:
        """Do one turn; whatever goes wrong ends the turn, not the conversation."""
        session = await self._session_for_turn()
        try:
            with Interruptible() as self._turn:
                async for event in session.ask(prompt).events():
                    self._screen.event(event)
        except _TurnStopped:
            self._screen.note("stopped")
        except NotAuthenticated:
            raise
        except ChatleaseError as error:
            self._program.failed(error, self._screen)
        finally:
            self._turn = None

    async def _session_for_turn(self) -> Session:
        assert self._session is not None
        if not _can_go_on(self._session):
            self._screen.status("giving the chat back")
            await self._session.aclose()
            self._session = self._new_session()
            self._screen.note("the chat could not go on; this is another one")
        return self._session

    def _new_session(self) -> Session:
        wish = self._wish
        return self._engine.session(account=wish.account, model=wish.model, **wish.options)

    def _take_ctrl_c(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._on_ctrl_c, task)

    def _on_ctrl_c(self, task: asyncio.Task[object]) -> None:
        if self._turn is not None:
            self._turn.interrupt(_TurnStopped())
        else:
            task.cancel()


def _can_go_on(session: Session) -> bool:
    if session.closed or session.in_doubt:
        return False
    return session.state in _FRESH or (
        session.state in {State.ASSISTANT_QUEUED, State.STREAMING, State.STOPPED}
        and session.run in {Run.ANSWERED, Run.GOING}
    )


class Lines:
    """
    Lines of a terminal (or pipe), read by the event loop.

    Args:
        file: Its descriptor; not closed.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._left = b""
        self._ended = False

    async def read(self) -> str | None:
        """
        Wait for a line and return it without its end; ``None`` at the end of the input. Cancelling loses nothing.

        Raises:
            UsageError: The input cannot be waited for (a file).
        """
        while b"\n" not in self._left and not self._ended:
            await self._readable()
            more = os.read(self._file, _READ_SIZE)
            self._ended = not more
            self._left += more
        if not self._left:
            return None
        line, _, self._left = self._left.partition(b"\n")
        return line.decode(errors="replace").removesuffix("\r")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._file, ready.set)
        except (OSError, NotImplementedError) as error:
            raise UsageError("a conversation needs a terminal", hint="Give the prompt, or `-` for stdin.") from error
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._file)
