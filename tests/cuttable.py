"""
A way to a server that a test can cut: a TCP proxy on loopback, in a thread of its own.

Rules that live here:

* It passes on what it is given, until it is told otherwise: `cut` ends every connection and takes no new one, `stall`
  leaves them all open and passes nothing on (a cable that was pulled), `mend` undoes both; `snap` only ends them all.
* `cut_at` ends one connection at the next appearance of some bytes from the client: before they are passed on, or after
  them, with the answer thrown away.
* Its methods may be called from any thread, and what they say holds when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

_AFTER_S = 0.2
"""So long the server has for what it was given, before it finds the connection ended."""


class Cuttable:
    """
    The way to a server.

    Args:
        url: Of the server.

    Attributes:
        url: The same by this way.
        opened: How many connections were made.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port or 5432
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cuttable", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows: asyncio.Event | None = None
        self._is_cut = False
        self._marks: list[tuple[bytes, Literal["before", "after"]]] = []
        self.opened = 0
        self._thread.start()
        self._server: asyncio.Server = self._call(self._listen())
        port = self._server.sockets[0].getsockname()[1]
        who = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        self.url = urlunsplit(parts._replace(netloc=f"{who}127.0.0.1:{port}"))

    def cut(self) -> None:
        """End every connection, and take no new one."""
        self._do(self._cut)

    def snap(self) -> None:
        """End every connection, once."""
        self._do(self._snap)

    def stall(self) -> None:
        """Pass nothing on, either way."""
        assert self._flows is not None
        self._do(self._flows.clear)

    def mend(self) -> None:
        """Let everything through again."""
        self._do(self._mend)

    def cut_at(self, mark: bytes, when: Literal["before", "after"]) -> None:
        """End the connection over which the mark is sent next."""
        self._do(lambda: self._marks.append((mark, when)))

    def close(self) -> None:
        """End everything."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _do(self, work: Callable[[], object]) -> None:
        async def done() -> None:
            work()

        self._call(done())

    async def _listen(self) -> asyncio.Server:
        self._flows = asyncio.Event()
        self._flows.set()
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def _cut(self) -> None:
        self._is_cut = True
        self._snap()

    def _snap(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _mend(self) -> None:
        assert self._flows is not None
        self._is_cut = False
        self._flows.set()

    async def _end(self) -> None:
        self._cut()
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._is_cut:
            writer.transport.abort()
            return
        self.opened += 1
        try:
            there, away = await asyncio.open_connection(self._host, self._port)
        except OSError:  # the server is not there
            writer.transport.abort()
            return
        self._writers.add(writer)
        ways = [
            asyncio.ensure_future(self._pass_on(reader, away, writer)),
            asyncio.ensure_future(self._pass_on(there, writer, None)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._writers.discard(writer)
            writer.transport.abort()
            away.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        assert self._flows is not None
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flows.wait()
                when = None if client is None else self._marked(data)
                if when == "before":
                    return
                if when == "after" and client is not None:
                    client.transport.abort()
                sink.write(data)
                await sink.drain()
                if when == "after":
                    await asyncio.sleep(_AFTER_S)
                    return

    def _marked(self, data: bytes) -> Literal["before", "after"] | None:
        for each in self._marks:
            if each[0] in data:
                self._marks.remove(each)
                return each[1]
        return None


@contextmanager
def cuttable(url: str) -> Generator[Cuttable]:
    """Lead to a server by a way that can be cut."""
    way = Cuttable(url)
    try:
        yield way
    finally:
        way.close()
