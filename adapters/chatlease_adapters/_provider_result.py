"""The answer of the seeds' interface, and what is logged of it.

Rules that live here:

* It can be used in all ways in which an async generator can, and also be awaited first: the seeds do both.
* However it ends (read to the end, closed, dropped, an error thrown in, its reader cancelled), its chat is given back.
  Dropping it half read is no mistake here: it is how users of generators leave a loop.
* Everything raised by the service's doing is a RuntimeError, because `chatlease.errors.ChatleaseError` is one.
* Logged are class names, codes and counts; no secret, no prompt, no answer. The host's logging configuration is neither
  used nor touched.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Any, Self

from chatlease import Answer, get_logger
from chatlease.adapter import Adapter
from chatlease.errors import ChatleaseError, ServiceError, SessionClosed, StepInFlight

from ._provider_engines import Host, Question, host_of

logger = get_logger("chatlease.provider")
"""
Writes to the stdlib logger ``chatlease.provider``; its keys are attributes of the log record.

``provider.answer.opened`` and ``provider.answer.ended`` are information, ``provider.answer.failed`` is an error; an
answer that its reader gave up is ``provider.answer.closed``.
"""


class AsyncResult(AsyncGenerator[str, None]):
    """
    The tokens of an answer, as they come.

    Lazy: nothing happens before the first token is asked for, so it may be made without an event loop. It then belongs
    to the loop that it is iterated on. For one task at a time.

    It ends with its chat deleted. When it is closed, its reader is cancelled or an error is thrown in, a run that is
    going has to come to its end first; a cancelled reader waits for that for at most ``Deadlines.grace``, after which
    the engine goes on alone.

    Raises (while iterated):
        RuntimeError: A `chatlease.errors.ChatleaseError` that says what the service, or the way to it, did.
    """

    __slots__ = ("__weakref__", "_adapter", "_answer", "_ended", "_host", "_question", "_reading", "_token_count")

    def __init__(self, adapter: Adapter, question: Question) -> None:
        self._adapter = adapter
        self._question = question
        self._host: Host | None = None
        self._answer: Answer | None = None
        self._reading = False
        self._ended = False
        self._token_count = 0

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._answer else "not started"
        return f"<AsyncResult of {self._question.model} at {self._adapter.origin}: {state}>"

    def __await__(self) -> Generator[Any, None, Self]:
        """Return itself: awaiting the answer before it is iterated is allowed and changes nothing."""
        return self._itself().__await__()

    async def __anext__(self) -> str:
        self._begin_reading()
        try:
            answer = self._answer or await self._open()
            token = await answer.__anext__()
        except BaseException as error:
            self._end(error)
            if not _is_foreign(error):
                raise
            name = type(error).__name__
        else:
            self._token_count += 1
            return token
        finally:
            self._reading = False
        # Raised here, without the foreign error, because nobody knows what that one holds.
        raise ChatleaseError(f"an unexpected {name} ended the answer", hint="This is a bug; please report it.")

    async def asend(self, value: None) -> str:
        """
        Return the next token; the value has no effect.

        Raises:
            TypeError: A value other than ``None`` before the first token.
        """
        if value is not None and self._answer is None and not self._ended:
            raise TypeError("can't send non-None value to a just-started async generator")
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> str:
        """Give the chat back, waiting for at most ``Deadlines.grace``, and raise the error given."""
        error = _made(typ, val).with_traceback(tb)
        self._end(None)
        if self._answer is None:
            raise error
        async with self._answer:
            raise error

    async def aclose(self) -> None:
        """Give the chat back and wait for that; may be called twice, and while another task is reading."""
        self._end(None)
        if self._answer is not None:
            await self._answer.aclose()

    async def text(self) -> str:
        """
        Read what is left, and return the whole answer as the service's final event has it.

        Tokens need not add up to it: where they differ, this is what the service keeps as its answer.
        """
        async for _ in self:
            pass
        if self._answer is None or self._answer.final is None:
            raise SessionClosed("this answer was closed before its end", hint="Ask again for another answer.")
        return self._answer.final.text

    def __del__(self) -> None:
        if self._answer is not None and self._host is not None and not self._ended:
            self._host.drop(self._answer)

    async def _itself(self) -> Self:
        return self

    def _begin_reading(self) -> None:
        if self._reading:
            raise StepInFlight("another task is reading this answer", hint="Read an answer in one task.")
        if self._ended:
            raise StopAsyncIteration
        self._reading = True

    async def _open(self) -> Answer:
        host = self._host = host_of(self._adapter, self._question.deadlines)
        answer = await host.ask(self._question)
        if self._ended:  # closed from elsewhere meanwhile
            raise StopAsyncIteration
        self._answer = answer.__aiter__()
        host.keep(answer)
        self._log(logging.INFO, "provider.answer.opened")
        return answer

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._host is not None:
            self._host.end(self._answer)
        if isinstance(error, StopAsyncIteration):
            self._log(logging.INFO, "provider.answer.ended")
        elif isinstance(error, Exception):
            self._log(logging.ERROR, "provider.answer.failed", **_error_keys(error))
        elif self._host is not None:
            self._log(logging.INFO, "provider.answer.closed")

    def _log(self, level: int, event: str, **keys: object) -> None:
        if logger.isEnabledFor(level):
            basics = {"origin": self._adapter.origin, "model": self._question.model, "token_count": self._token_count}
            logger.log(level, event, **basics, **keys)


def _is_foreign(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, RuntimeError | TypeError | StopAsyncIteration)


def _made(typ: type[BaseException] | BaseException, val: object) -> BaseException:
    if isinstance(typ, BaseException):
        return typ
    if isinstance(val, BaseException):
        return val
    return typ() if val is None else typ(val)


def _error_keys(error: Exception) -> dict[str, object]:
    keys: dict[str, object] = {"error": type(error).__name__}
    if isinstance(error, ServiceError):
        keys |= {"error_code": error.code, "http_status": error.status}
    return keys
