"""Waiting for an answer: the stream while it lives, polling when it does not, and the deadlines of both.

Rules that live here:

* A stream may end without a final event, or never (eight ways are recorded, ``wire/open-assistant/README.md``). Whoever
  waits too long looks at the answer itself before giving up: finished is finished, cancelled is queued again, only a
  run that is still going (or waiting) has stalled.
* The final text is authoritative. What of it was not given out yet is given out; where the tokens given are no prefix
  of it, nothing more is given.
* Clocks run only while we wait on the service. ``pending`` is no progress, and a stream says ``pending`` for ever when
  another program cancels the run, so a waiting run is looked at now and then.
* A stream that was lost is not opened again: that loses tokens (recorded: every second frame). It is polled.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from ._interrupt import Deadline, Interruptible, lease_lost
from ._lifecycle import Run
from ._step import error_keys
from ._steps import look
from .errors import RunCancelled, RunFailed, ServiceError, StreamStalled, Unavailable, UsageError
from .events import Batch, Failed, Final, Pending, PluginStep, Reading, RunStatus

if TYPE_CHECKING:
    from ._core import Core
    from .adapter import AnswerStream

_REQUEUES = 2
_POLLS_PER_LOOK = 3
"""A run that waits is looked at once in this many ``poll`` intervals: its stream does not say that it was cancelled."""

_LOOK = "look"

T = TypeVar("T")
Pieces: TypeAlias = Sequence[str | Pending | PluginStep | Final]


class _TimeToLook(Exception):
    """The run has been waiting for a while."""


class Reader:
    """
    Reads one answer of a session; the state of the wait.

    Attributes:
        final: The final event, once it has come.
        token_count: Tokens given out so far.
    """

    __slots__ = (
        "_answer_s",
        "_error",
        "_given",
        "_going",
        "_looked_at_s",
        "_missed",
        "_moved_at_s",
        "_opened_at_s",
        "_polling",
        "_queue_s",
        "_queued_s",
        "_requeues",
        "_seen",
        "_seen_at_s",
        "_session",
        "_told",
        "_was_pending",
        "final",
        "token_count",
    )

    def __init__(self, session: Core) -> None:
        self._session = session
        self._given: list[str] = []
        self._seen = False
        self._going = False
        self._polling = False
        self._seen_at_s = 0.0
        self._moved_at_s = 0.0
        self._looked_at_s = 0.0
        self._opened_at_s = 0.0
        self._queue_s = 0.0
        self._was_pending = False
        self._queued_s = 0.0
        self._answer_s = 0.0
        self._requeues = 0
        self._missed = 0
        self._told = False
        self._error: ServiceError | None = None
        self.token_count = 0
        self.final: Final | None = None

    async def read(self) -> Pieces:
        """
        Wait for the next pieces of the answer; the last of them is the `Final`.

        Raises:
            StreamStalled: A deadline passed, and the run is still going or waiting.
            RunFailed: There will be no answer.
            RunCancelled: Something else cancels the run again and again.
            SessionClosed: The session was closed meanwhile.
        """
        session = self._session
        try:
            while self._error is None:
                if session.hold is not None and session.hold.lease.lost():
                    raise lease_lost()  # noqa: TRY301  (told of like all that ends the answer)
                try:
                    pieces = await (self._poll() if session.stream is None else self._stream(session.stream))
                except StreamStalled as stalled:
                    pieces = await self._last_look(stalled)
                except _TimeToLook:
                    pieces = await self._look()
                if pieces:
                    return pieces
            raise self._error  # noqa: TRY301
        except Exception as error:
            self._trace_failed(error)
            raise

    # -- the stream ---------------------------------------------------------------------------------------------------

    async def _stream(self, stream: AnswerStream) -> Pieces:
        try:
            batch = await self._wait(stream.read, streaming=True)
        except Unavailable as error:
            self._begin_polling(error)
            return ()
        if not batch:
            self._begin_polling(None)
            return ()
        self._seen, self._seen_at_s = True, self._answer_s
        try:
            text = "".join(cast("Sequence[str]", batch))  # the hot path: the cheapest way to ask whether all are tokens
        except TypeError:
            return self._take(batch)
        self._note_tokens(text, len(batch))
        return cast("Sequence[str]", batch)

    def _take(self, batch: Batch) -> Pieces:
        """Note what came, up to the end of the answer."""
        pieces: list[str | Pending | PluginStep | Final] = []
        tokens: list[str] = []
        for piece in batch:
            if isinstance(piece, str):
                tokens.append(piece)
                pieces.append(piece)
            elif isinstance(piece, Final):
                self._note_tokens("".join(tokens), len(tokens))
                return [*pieces, *self._finish(piece.text)]
            elif isinstance(piece, Failed):
                self._note_tokens("".join(tokens), len(tokens))
                self._error = self._failed(piece.error)
                return pieces
            else:
                if isinstance(piece, PluginStep):
                    self._moved_at_s = self._answer_s
                    self._note_begun()
                else:
                    self._was_pending = True
                pieces.append(piece)
        self._note_tokens("".join(tokens), len(tokens))
        return pieces

    def _note_tokens(self, text: str, count: int) -> None:
        if not count:
            return
        if not self.token_count:
            self._session.token_given = True
            self._trace_first_token()
        if not self._going or self._session.gate is not None:
            self._note_going()
        self.token_count += count
        self._moved_at_s = self._answer_s
        self._given.append(text)

    def _note_going(self) -> None:
        if not self._going:
            self._going, self._moved_at_s = True, self._answer_s
        self._session.end_turn()

    def _begin_polling(self, error: Unavailable | None) -> None:
        self._polling, self._seen_at_s = True, self._answer_s
        self._session.close_stream()
        keys = {} if error is None else error_keys(error)
        self._session.trace("session.stream.polling", token_count=self.token_count, **keys)

    # -- polling ------------------------------------------------------------------------------------------------------

    async def _poll(self) -> Pieces:
        """Look, and wait a while if there is nothing yet; also where no stream was opened, or it was lost."""
        if not self._polling:
            self._begin_polling(None)
        pieces = await self._look()
        if not pieces and self._polling:
            await self._wait(self._pause)
        return pieces

    async def _pause(self) -> None:
        await self._session.clock.sleep(self._session.deadlines.poll)

    async def _look(self) -> Pieces:
        """Look at the answer; a look that fails is as good as none, until nothing was seen for as long as ``idle``."""
        self._looked_at_s = self._answer_s
        try:
            reading = await self._wait(lambda: look(self._session))
        except Unavailable as error:
            self._missed += 1
            keys = {"attempt": self._missed, **error_keys(error)}
            self._session.trace("session.call.retried", trigger="read_answer", **keys)
            if self._answer_s - self._seen_at_s > self._session.deadlines.idle:
                raise
            return ()
        self._seen_at_s = self._answer_s
        self._missed = 0
        return await self._digest(reading)

    async def _last_look(self, stalled: StreamStalled) -> Pieces:
        try:
            with self._session.begin(Interruptible(loop=self._session.loop)):
                try:
                    reading = await look(self._session)
                finally:
                    self._session.end()
        except ServiceError:
            reading = Reading(RunStatus.GOING)
        if reading.status in {RunStatus.PENDING, RunStatus.GOING}:
            raise stalled
        return await self._digest(reading)

    async def _digest(self, reading: Reading) -> Pieces:
        match reading.status:
            case RunStatus.ANSWERED:
                self._session.note(reading)
                return self._finish(reading.text or "")
            case RunStatus.PENDING:
                self._was_pending = True
                return ()
            case RunStatus.GOING:
                self._note_begun()
                self._note_going()
                return ()
            case RunStatus.CANCELLED:
                return await self._requeue()
            case _:
                code = reading.code or reading.status.value
                raise self._failed(RunFailed(f"the service gave the answer up ({code})", code=code))

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _finish(self, text: str) -> Pieces:
        session = self._session
        session.run, session.parent = Run.ANSWERED, session.run_id
        session.close_stream()
        session.end_turn()
        given = "".join(self._given)
        self.final = Final(text)
        rest = text[len(given) :] if text.startswith(given) else ""
        if not text.startswith(given):
            session.trace("session.stream.differs", given_length=len(given), final_length=len(text))
        if rest:
            if not self.token_count:
                self._trace_first_token()
            self.token_count += 1
        if session.engine.tracer.wants("session.stream.ended"):
            self._trace_ended()
        return (rest, self.final) if rest else (self.final,)

    def _failed(self, error: ServiceError) -> ServiceError:
        self._session.run = Run.FAILED
        self._session.close_stream()
        self._session.end_turn()
        return error

    async def _requeue(self) -> Pieces:
        """Queue the answer again, unless tokens were given out or it was tried often enough."""
        session = self._session
        session.run = Run.FAILED
        session.close_stream()
        session.end_turn()
        if session.token_given or self._requeues >= _REQUEUES:
            raise RunCancelled("the run was cancelled at the service, and not by this session", code="cancelled")
        self._requeues += 1
        session.trace("session.run.requeued", attempt=self._requeues)
        await self._wait(lambda: session.clock.sleep(random.uniform(0.5, 1.5)))  # noqa: S311  (jitter)
        self._told = True  # what fails now is a step, and tells so itself
        await session.queue_again()
        self._polling = self._seen = self._going = self._was_pending = self._told = False
        self._queued_s = 0.0
        self._opened_at_s = self._looked_at_s = self._answer_s
        return ()

    # -- what is told of it --------------------------------------------------------------------------------------------

    def _note_begun(self) -> None:
        """Note that the run is seen to be no longer pending, if it was."""
        if self._was_pending and not self._queued_s:
            self._queued_s = self._answer_s - self._opened_at_s

    def _trace_first_token(self) -> None:
        if not self._session.engine.tracer.wants("session.stream.first_token"):
            return
        self._note_begun()
        queued = {"queued_s": round(self._queued_s, 6)} if self._queued_s else {}
        waited_s = round(self._answer_s - self._opened_at_s, 6)
        self._session.trace("session.stream.first_token", waited_s=waited_s, **queued)

    def _trace_ended(self) -> None:
        keys = {"token_count": self.token_count, "polled": self._polling, "elapsed_s": self._elapsed_s()}
        self._session.trace("session.stream.ended", **keys)

    def _trace_failed(self, error: Exception) -> None:
        """Tell of an error that no step tells of, once; one of the caller's own (it closed the session) is none."""
        if self._told or isinstance(error, UsageError):
            return
        self._told = True
        keys = {"token_count": self.token_count, "elapsed_s": self._elapsed_s(), **error_keys(error)}
        self._session.trace("session.stream.failed", **keys)

    def _elapsed_s(self) -> float:
        return round(self._session.clock.now() - self._session.stream_opened_at, 6)

    # -- deadlines ----------------------------------------------------------------------------------------------------

    async def _wait(self, start: Callable[[], Awaitable[T]], *, streaming: bool = False) -> T:
        """Wait on the service for as long as the answer's deadlines allow, and for an open stream its own."""
        session = self._session
        clock = session.clock
        seconds, name = self._limit(streaming=streaming)
        if seconds <= 0:  # a flood never suspends the reading task, so no timer could interrupt it
            raise self._late(name)
        began = clock.now()
        try:
            with session.begin(Deadline(clock, seconds, lambda: self._late(name), loop=session.loop)):
                try:
                    return await start()
                finally:
                    session.end()
        finally:
            waited = clock.now() - began
            self._answer_s += waited
            if not self._going:
                self._queue_s += waited

    def _limit(self, *, streaming: bool) -> tuple[float, str]:
        """Return how long the next wait may take, and which deadline says so."""
        deadlines = self._session.deadlines
        left = deadlines.answer - self._answer_s
        if streaming and self._going and self._moved_at_s == self._answer_s and deadlines.idle < left:
            return deadlines.idle, "idle"  # the hot path: between two reads of a stream that flows
        limits = [(left, "answer")]
        if not self._going:
            limits.append((deadlines.queue - self._queue_s, "queue"))
        if streaming:
            limits.append(self._stream_limit())
        seconds, name = min(limits)
        return max(seconds, 0.0), name

    def _stream_limit(self) -> tuple[float, str]:
        deadlines = self._session.deadlines
        if self._going:
            return deadlines.idle - (self._answer_s - self._moved_at_s), "idle"
        if not self._seen:
            return deadlines.first_event - (self._answer_s - self._opened_at_s), "first_event"
        return deadlines.poll * _POLLS_PER_LOOK - (self._answer_s - self._looked_at_s), _LOOK

    def _late(self, name: str) -> Exception:
        if name == _LOOK:
            return _TimeToLook()
        seconds: float = getattr(self._session.deadlines, name)
        waits = "no token came" if self._going else "the answer did not begin"
        return StreamStalled(name, seconds, f"{waits} within the deadline '{name}' ({seconds:g} s)")
