"""A blocking iterator over an answer, for programs without an event loop.

Rules that live here:

* The answer is read on an event loop of its own, in a thread of its own, which ends when the chat is given back and the
  connections are closed. Tokens wait in a queue without limit, so that a slow reader holds up nobody.
* The thread refers to nothing that the reader holds: an iterator that is dropped ends it.
* The thread is no daemon: a program that ends while it is running waits for it, so that the chat is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from chatlease.errors import UsageError


def refuse_running_loop() -> None:
    """
    Refuse to block an event loop.

    Raises:
        UsageError: There is one in this thread.
    """
    if asyncio._get_running_loop() is None:  # noqa: SLF001  (documented; the public one raises, which costs more)
        return
    raise UsageError(
        "create_completion() blocks, and an event loop is running in this thread",
        hint="Use `async for token in create_async_generator(...)`, or `await create_async(...)`.",
    )


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


class Completion(Iterator[str]):
    """
    The tokens of an answer, as they come; iterating blocks the thread until the next one is there.

    Lazy: nothing happens before the first token is asked for. For one thread at a time. Read to its end, closed or
    dropped, it has its chat deleted; use it in a ``with`` block, or call `close`, to wait for that.

    Args:
        tokens: Not started yet; it will run on the thread's event loop.
        finish: Closes what ``tokens`` has opened on that loop.

    Raises (while iterated):
        RuntimeError: What ``tokens`` raised; all errors of Chatlease are RuntimeErrors.
    """

    def __init__(self, tokens: AsyncGenerator[str, None], finish: Callable[[], Awaitable[None]]) -> None:
        self._reader = _Reader(tokens, finish)
        self._ended = False

    def __next__(self) -> str:
        if self._ended:
            raise StopIteration
        refuse_running_loop()
        piece = self._reader.next()
        if isinstance(piece, str):
            return piece
        self.close()
        if piece.error is not None:
            raise piece.error
        raise StopIteration

    def close(self) -> None:
        """
        Give the chat back and wait for that; may be called twice.

        Takes as long as the run at the service goes on, for at most ``Deadlines.drain``.
        """
        self._ended = True
        self._reader.stop()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._reader.stop()


class _Reader:
    """Reads the answer in its thread; the other methods are called from the iterator's."""

    def __init__(self, tokens: AsyncGenerator[str, None], finish: Callable[[], Awaitable[None]]) -> None:
        self._tokens = tokens
        self._finish = finish
        self._pieces: SimpleQueue[str | _End] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._reading: asyncio.Task[None] | None = None

    def next(self) -> str | _End:
        """Wait for the next token or the end; an interrupt stops the reading."""
        if self._thread is None:
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._run,), name="chatlease completion")
            self._thread.start()
        try:
            piece = self._pieces.get()
        except BaseException:
            self.stop()
            raise
        if not isinstance(piece, str):
            self._pieces.put(piece)  # another thread that waits, against the rule, must not wait for ever
        return piece

    def stop(self) -> None:
        """Have the reading end, without waiting for that."""
        with self._lock:
            self._stopped = True
            reading = self._reading
        if reading is not None:
            # The loop may be closed already: then there is nothing left to stop.
            with contextlib.suppress(RuntimeError):
                reading.get_loop().call_soon_threadsafe(reading.cancel)

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001  (raised in the iterator's thread)
            self._pieces.put(_End(error))
        else:
            self._pieces.put(_End())

    async def _main(self) -> None:
        with self._lock:
            if self._stopped:
                return
            reading = self._reading = asyncio.create_task(self._read())
        await asyncio.wait({reading})
        await self._finish()
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        async for token in self._tokens:
            self._pieces.put(token)
