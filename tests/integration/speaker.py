"""What the tests of the seeds' interface share: a worker that speaks when told to, and a service in another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from chatlease_adapters.open_assistant.service import FinalText, Piece, Service, ServiceOptions, Work


class Speaker:
    """
    An answer source that begins when somebody listens, so that the website's stream has something to show.

    Attributes:
        service: Set by whoever starts one with this source.
        heard: The prompts and sampling parameters of all answers so far.
        pause_after: Tokens after which it waits for ``go``; ``None`` not to wait.
        final: The final text, where it is not the tokens joined.
        for_nobody: Begin although nobody listens.
    """

    def __init__(
        self,
        tokens: Sequence[str] = ("Hello", ",", " world"),
        *,
        pause_after: int | None = None,
        final: str = "",
        for_nobody: bool = False,
    ) -> None:
        self.tokens = tokens
        self.pause_after = pause_after
        self.final = final
        self.for_nobody = for_nobody
        self.heard: list[tuple[str, dict[str, object]]] = []
        self.go = asyncio.Event()
        self.service: Service | None = None

    async def __call__(self, work: Work) -> AsyncGenerator[Piece, None]:
        self.heard.append((work.thread[-1][1], dict(work.sampling)))
        assert self.service is not None
        while not self.service.open_streams and not self.for_nobody:  # noqa: ASYNC110  (nothing to subscribe to, and no time passes)
            await asyncio.sleep(0)
        for number, token in enumerate(self.tokens):
            if number == self.pause_after:
                await self.go.wait()
            yield token
        if self.final:
            yield FinalText(self.final)


@contextmanager
def served_from_another_thread(**changes: Any) -> Generator[Service]:
    """A local service for programs that have event loops of their own, or none."""
    started = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    service = Service(ServiceOptions(**changes))

    async def serve() -> None:
        ended = asyncio.Event()
        stop.append((asyncio.get_running_loop(), ended))
        await service.start()
        started.set()
        await ended.wait()
        # A server that is closed one pass after it accepted a connection leaks it (CPython issue 109564). By now nobody
        # makes any more: one pass later all of them are known to the server.
        await asyncio.sleep(0)
        await service.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield service
    finally:
        loop, ended = stop[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join()
