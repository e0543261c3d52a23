"""What `ask` gives: an answer that streams.

Rules that live here:

* An answer is an object, no async generator: nothing that must happen is ever written into a ``finally`` that only a
  garbage collector would run. The chat is the engine's; an answer that is dropped half read is given back by it.
* It is lazy: not iterated, nothing was created. It is iterated once.
* An *owned* answer (`Engine.ask`) is the whole session: it ends with the chat deleted, whatever happens. One of
  `Session.ask` ends with the chat ready for the next turn.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _cleanup
from ._lifecycle import State
from ._reader import Pieces, Reader
from .errors import StepInFlight, UsageError
from .events import Event, Final, Token

if TYPE_CHECKING:
    from ._session import Session

_STREAMING = State.STREAMING  # an attribute of an enum is looked up in Python, and this is asked for every read
_GIVE_WAY_S = 0.005
"""A flood of tokens holds the event loop no longer than this."""


class Answer:
    """
    An answer: ``async for token in answer`` gives its tokens, as they come.

    Made by `Engine.ask` and `Session.ask`. For one task at a time. When the iterating task is cancelled, an owned
    answer is given back first, for at most ``grace`` seconds, then the CancelledError goes on; the engine finishes what
    is left.

    Raises (while iterated):
        UsageError: It was iterated before.
        ServiceError: The service failed; what was created is given back first.
        SessionClosed: The session was closed from elsewhere.
    """

    __slots__ = ("__weakref__", "_gave_way_at", "_iterated", "_owned", "_pieces", "_prompt", "_reader", "_session")

    def __init__(self, session: Session, reader: Reader, *, owned: bool, prompt: str | None = None) -> None:
        self._session = session
        self._reader = reader
        self._owned = owned
        self._prompt = prompt
        self._iterated = False
        self._pieces: Iterator[object] = iter(())
        self._gave_way_at = 0.0

    @property
    def final(self) -> Final | None:
        """The final event, authoritative over the tokens; ``None`` until it has come."""
        return self._reader.final

    @property
    def session(self) -> Session:
        """The session that this is an answer of."""
        return self._session

    def __aiter__(self) -> Self:
        if self._iterated:
            raise UsageError("an answer can be iterated once", hint="Ask again for another answer.")
        self._iterated = True
        return self

    async def __anext__(self) -> str:
        while True:
            for piece in self._pieces:
                if type(piece) is str:
                    return piece
            await self._fill()

    def events(self) -> AsyncIterator[Event]:
        """Iterate over everything that happens, typed, queue positions too; instead of iterating over the tokens."""
        return _Events(self.__aiter__())

    async def text(self) -> str:
        """
        Read to the end and return the whole answer, as the service's final event has it.

        May be called after a part was iterated, and again.
        """
        await self.drain()
        assert self.final is not None
        return self.final.text

    async def drain(self) -> None:
        """Read what is left, to the end."""
        self._iterated = True
        async for _ in _Rest(self):
            pass

    async def aclose(self) -> None:
        """Give the chat back, if this answer is the whole session; otherwise only stop reading. May be called twice."""
        self._iterated = True
        self._pieces = iter(())
        if self._owned:
            await _cleanup.give_back(self._session, None)

    def let_go(self) -> None:
        """
        Have the chat given back without waiting for it, as `aclose` does; for callbacks, which cannot await.

        Called on the engine's event loop; nothing happens where this answer is not the whole session.
        """
        self._iterated = True
        self._pieces = iter(())
        if self._owned:
            _cleanup.start(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            await _cleanup.give_back(self._session, error)

    def __del__(self) -> None:
        if not self._owned or not _cleanup.is_left(self._session):
            return
        self._session.engine.keeper.adopt(self._session)
        if self.final is None:
            message = f"an answer of {self._session!r} was dropped half read"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    async def next_piece(self) -> object:
        """Return the next token or event; for `events` and `drain`."""
        while True:
            for piece in self._pieces:
                return piece
            await self._fill()

    async def _fill(self) -> None:
        """Get the next pieces; at the end, give the chat back if it is ours, and stop."""
        if self.final is not None:
            if self._owned:  # only now: a deletion that takes long must not withhold the last tokens
                await _cleanup.give_back(self._session, None)
            raise StopAsyncIteration
        try:
            self._pieces = iter(await self._read())
        except BaseException as error:
            if self._owned and not isinstance(error, StepInFlight):
                await _cleanup.give_back(self._session, error)
            if isinstance(error, StopAsyncIteration):  # as PEP 479: a cut answer must not look like a whole one
                raise RuntimeError("an adapter raised StopAsyncIteration") from error  # noqa: TRY004  (no type is checked)
            raise

    async def _read(self) -> Pieces:
        session = self._session
        now = session.clock.now()
        if now - self._gave_way_at > _GIVE_WAY_S:
            if self._gave_way_at:
                await asyncio.sleep(0)
            self._gave_way_at = now
        if self._prompt is not None:
            await self._open(self._prompt)
        if session.state is not _STREAMING:
            raise session.closed_error() if session.closed else UsageError("this answer is over")
        return await self._reader.read()

    async def _open(self, prompt: str) -> None:
        self._prompt = None
        await self._session.open(prompt)
        self._session.answer = None
        # Weakly: an answer and a session that hold each other would, when dropped, wait for the garbage collector.
        self._session.asked = None if self._owned else weakref.ref(self)


class _Rest:
    """What is left of an answer, piece by piece."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        return await self._answer.next_piece()


class _Events(_Rest):
    """The pieces of an answer as events."""

    async def __anext__(self) -> Event:
        piece = await self._answer.next_piece()
        return Token(piece) if isinstance(piece, str) else piece  # type: ignore[return-value]  # pieces are str or Event
