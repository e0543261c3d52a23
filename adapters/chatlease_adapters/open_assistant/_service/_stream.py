"""Event streams: what they write, and what leaving one means by each route.

Rules that live here (recorded; the README of the recordings, "Event stream" and "Leaving and returning"):

* Directly, the headers go out at once and a client that leaves is noticed: what it did not read, the next stream gets.
* Through the website, the headers go out with the first frame and a client that leaves is not noticed: the website goes
  on reading, so a later stream of the same message gets only its share.
* After its last frame a stream ends properly. A killed server breaks direct streams and silences the website's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import web

from chatlease import Clock

from ._faults import Fault
from ._frames import Frame, Frames, Tap, Tick, frame
from ._ids import iso
from ._queue import WorkQueue
from ._records import Message
from ._replies import bare_response

_DIRECT_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
    "Content-Type": "text/event-stream; charset=utf-8",
}


class EventStream:
    """
    One client reading the events of one message.

    Args:
        request: The client's request.
        message: The message.
        queue: Where to look up its position.
        clock: The service's clock.
        direct: Not through the website.
        interval: Seconds between two ``pending``.
        ping: Seconds between two pings.
        fault: What shall go wrong with it.
    """

    def __init__(
        self,
        request: web.Request,
        message: Message,
        queue: WorkQueue,
        clock: Clock,
        *,
        direct: bool,
        interval: float,
        ping: float,
        fault: Fault,
    ) -> None:
        self.direct = direct
        self._request = request
        self._message = message
        self._queue = queue
        self._clock = clock
        self._fault = fault
        frames = Frames() if self._fault.kind == "pending" else message.frames
        self._tap = Tap(frames, clock, interval, ping)
        self._response: web.StreamResponse | None = None
        self._tokens = 0
        self._left = False
        self._mute = False

    async def run(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> web.StreamResponse:
        """
        Write the stream to its end, or until the client leaves.

        Args:
            spawn: Runs the reading of the frames as a task beside the request, which may end before it.
        """
        if self.direct:
            try:
                await self._open()
            except ConnectionError:  # the client has left before the first byte: nobody reads
                self._tap.close()
                return web.StreamResponse()
        reading = spawn(self._read())
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            self._leave(reading)
            raise
        if reading.cancelled():
            self.cut()
        else:
            reading.result()
        return self._response or web.StreamResponse()

    def cut(self) -> None:
        """Break the connection in the middle of the body."""
        transport = self._request.transport
        if transport is not None:
            transport.close()

    def silence(self) -> None:
        """Say nothing any more, not even a ping, and do not end."""
        self._mute = True
        self._tap.close()

    def finish(self) -> None:
        """End the stream properly, wherever it is."""
        self._tap.close()

    def _leave(self, reading: asyncio.Task[None]) -> None:
        self._left = True
        if self.direct or self._mute:
            self._tap.close()
            reading.cancel()

    async def _read(self) -> None:
        try:
            while not (self._left and self._message.deleted):
                said = await self._tap.next()
                if said is None or await self._said(said):
                    break
            if self._mute:
                await asyncio.Event().wait()
            await self._end()
        finally:
            self._tap.close()

    async def _said(self, said: Frame | Tick) -> bool:
        if self._swallows(said):
            return False
        if self._fault.kind == "cut" and isinstance(said, Frame) and self._tokens >= self._fault.value:
            self.cut()
            return self.direct
        if isinstance(said, Frame):
            self._tokens += said.kind == "token"
            await self._write(said.data)
            return said.last
        await self._write(self._ping() if said is Tick.PING else self._pending())
        return False

    def _swallows(self, said: Frame | Tick) -> bool:
        if self._tokens < self._fault.value:
            return False
        return self._fault.kind == "stall" or (self._fault.kind == "pings" and said is not Tick.PING)

    def _pending(self) -> bytes:
        position, size = self._queue.place(self._message)
        return frame("pending", queue_position=position, queue_size=size).data

    def _ping(self) -> bytes:
        return f": ping - {iso(self._clock.wall()).replace('T', ' ')}\r\n\r\n".encode()

    async def _open(self) -> web.StreamResponse:
        response = self._response
        if response is None:
            response = _direct_response() if self.direct else _site_response()
            response.enable_chunked_encoding()
            self._response = response
            await response.prepare(self._request)
        return response

    async def _write(self, data: bytes) -> None:
        if self._left:
            return
        try:
            await (await self._open()).write(data)
        except ConnectionError:
            self._left = True
            if self.direct:
                self._tap.close()

    async def _end(self) -> None:
        if self._left:
            return
        try:
            await (await self._open()).write_eof()
        except ConnectionError:
            self._left = True


def _direct_response() -> web.StreamResponse:
    return bare_response(200, None, _DIRECT_HEADERS, close=False, server="uvicorn")


def _site_response() -> web.StreamResponse:
    return bare_response(200, None, {}, close=True, server="")
