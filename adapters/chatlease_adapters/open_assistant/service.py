"""A local Open-Assistant: the website's and the inference server's interface in one process, without a model.

It behaves like the recordings in ``tests/recorded/open-assistant``, refusals, oddities and harm included, so that a
bot, an adapter or a test has something real to talk to. ``chatlease serve`` runs it; tests use `running`::

    async with running(token_interval=0) as service:
        async with Engine(OpenAssistant(url=service.url, cookies={"any": "cookie"})) as engine:
            print(await engine.ask("Hello").text())
        assert not service.chats

Rules that live here:

* A service owns everything that it starts: its sockets, workers and streams end with `Service.close`, promptly,
  whatever its clients do.
* Everything it waits for is timed by one `Clock`; with a `ManualClock` a test decides when anything happens.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from chatlease import Clock, SystemClock
from chatlease.errors import UsageError

from ._service._answers import AnswerSource, FinalText, Piece, Thought, Upstream, Work, WorkFailed, echo, lorem
from ._service._core import Core, Record
from ._service._dispatch import Dispatcher
from ._service._faults import STEPS, Fault, Faults
from ._service._journal import Journal
from ._service._login import SESSION_COOKIE, Logins
from ._service._model_list import DOCUMENTED, MODELS
from ._service._options import Answers, Auth, ServiceOptions
from ._service._queue import WorkQueue
from ._service._records import Chat, Message, State
from ._service._replies import strip
from ._service._rules import Rules
from ._service._store import Loss, Store
from ._service._worker import Crew, Worker

__all__ = [
    "DOCUMENTED",
    "MODELS",
    "SESSION_COOKIE",
    "STEPS",
    "AnswerSource",
    "Answers",
    "Auth",
    "Chat",
    "Fault",
    "Faults",
    "FinalText",
    "Loss",
    "Message",
    "Piece",
    "Record",
    "Service",
    "ServiceOptions",
    "State",
    "Thought",
    "Work",
    "WorkFailed",
    "Worker",
    "running",
    "serve",
]


class Service:
    """
    A local Open-Assistant; `running` and `serve` are the usual ways to one.

    Args:
        options: How it behaves.
        clock: What it waits by; the machine's clock when not given.

    Attributes:
        options: As given.
        clock: As given.
        store: Its users, chats, messages and losses; may be looked into at any time.
        faults: What shall go wrong; may be changed at any time.
        log: The latest requests, oldest first.
    """

    def __init__(self, options: ServiceOptions | None = None, clock: Clock | None = None) -> None:
        self.options = options or ServiceOptions()
        self.clock: Clock = clock or SystemClock()
        rng = random.Random(self.options.seed)  # noqa: S311  (repeatable, not secret)
        self.store = Store(self.clock, rng)
        self.faults = Faults(self.options.seed)
        self.faults.program(self.options.faults)
        self.log: deque[Record] = deque(maxlen=self.options.log_size)
        self._rng = rng
        self._queue = WorkQueue(self.clock, self.options.queue_limit, self.options.queue_expire)
        self._core = Core(
            self.options,
            self.clock,
            self.store,
            self._queue,
            Rules(self.store, self._queue, self.clock, self.options, rng),
            Logins(self.options, self.store),
            self.faults,
            self.log,
            Journal(self.options.journal, self.options.actor_header) if self.options.journal else None,
        )
        self._http: aiohttp.ClientSession | None = None
        self._crew: Crew | None = None
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Origin of the service, e.g. ``http://127.0.0.1:8080``; empty before it was started."""
        return self._url

    @property
    def chats(self) -> Mapping[str, Chat]:
        """The chats that exist now, by id."""
        return self.store.chats

    @property
    def created(self) -> int:
        """How many chats were ever created."""
        return self.store.created

    @property
    def lost_messages(self) -> Sequence[Loss]:
        """The messages that the deletion of another chat took with it; they stay ``pending`` for ever."""
        return self.store.losses

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers connected, the oldest first."""
        return self._crew.workers if self._crew else ()

    @property
    def open_streams(self) -> int:
        """How many event streams are being written, those included that the website did not see its clients leave."""
        return len(self._core.streams)

    def user_of(self, token: str) -> str | None:
        """Return the name, in log and faults, of who logs in with this session token or bearer; ``None`` for nobody."""
        return self._core.logins.user_of(token)

    def counts(self) -> dict[str, object]:
        """Return what ``GET /_chatlease/counts`` answers."""
        return {
            "chats": len(self.store.chats),
            "created": self.store.created,
            "lost_messages": len(self.store.losses),
            "worker_drops": self.store.worker_drops,
            "waiting": len(self._queue),
            "workers": len(self.workers),
            "open_streams": self.open_streams,
            "requests": dict(self._core.requests),
            "faults": {f"{step}={kind}": count for (step, kind), count in self.faults.hits.items()},
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """
        Listen, and let the workers connect.

        Args:
            host: Address to listen on.
            port: 0 for any free one; `url` says which.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._crew = Crew(self.store, self._queue, self.clock, self.options, self._source())
        for _ in range(self.options.workers):
            self._crew.add()
        self._runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=4096)
        await site.start()
        bound = self._runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self._url = f"http://{shown}:{bound[1]}"

    async def close(self) -> None:
        """
        Cut what is open, end every task, free the port; may be called twice.

        Raises what an `AnswerSource` of the caller's own raised, after everything is closed.
        """
        runner, http = self._runner, self._http
        self._runner = self._http = None
        if runner is not None:
            await runner.cleanup()
        ends = await asyncio.gather(*(worker.stop() for worker in self.workers), return_exceptions=True)
        if self._crew is not None:
            self._crew.workers.clear()
        if http is not None:
            await http.close()
        for end in ends:
            if end is not None:
                raise end

    def add_worker(self) -> Worker:
        """Let one more worker connect."""
        return self._started().add()

    async def kill_worker(self, worker: Worker | None = None) -> None:
        """Kill a worker (the oldest when none is given); the server gives back or aborts what it was writing."""
        await self._started().kill(worker or self.workers[0])

    async def kill_server(self) -> None:
        """
        Kill the inference server as by SIGKILL; website and queue stay.

        Direct streams break, the website's fall silent, the workers are gone, what they were writing stays
        ``in_progress``. Until `start_server` the website fails and the server's own routes are cut.
        """
        self._core.down = True
        for stream in list(self._core.streams):
            (stream.cut if stream.direct else stream.silence)()
        for worker in list(self.workers):
            await self._started().forget(worker)

    async def stop_server(self) -> None:
        """Stop the inference server as by SIGTERM: all streams end properly, what was being written is aborted."""
        self._core.down = True
        for stream in list(self._core.streams):
            stream.finish()
        for worker in list(self.workers):
            await self._started().kill(worker)

    def start_server(self) -> None:
        """Start the inference server again; its workers are to be added anew."""
        self._core.down = False

    def _started(self) -> Crew:
        if self._crew is None:
            raise UsageError("the service was not started", hint="Await start(), or use running().")
        return self._crew

    def _source(self) -> AnswerSource:
        options = self.options
        if options.upstream is not None:
            if not options.upstream_model:
                raise UsageError("upstream needs upstream_model", hint="Name one of the models that the server has.")
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
            self._http = aiohttp.ClientSession(timeout=timeout)
            return Upstream(self._http, options.upstream, options.upstream_model, options.upstream_key)
        if options.answers == "echo":
            return echo(self.clock, options.token_interval)
        if options.answers == "lorem":
            return lorem(self.clock, options.token_interval, self._rng, options.answer_tokens)
        return options.answers

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/_chatlease/counts", self._show_counts)
        if self._core.journal is not None:
            app.router.add_get("/_chatlease/journal", self._show_journal)
        Dispatcher(self._core).add_routes(app.router)
        app.on_response_prepare.append(strip)
        app.on_shutdown.append(self._end_tasks)
        return app

    async def _show_counts(self, _request: web.Request) -> web.Response:
        return web.json_response(self.counts())

    async def _show_journal(self, request: web.Request) -> web.Response:
        assert self._core.journal is not None
        after = request.query.get("after", "0")
        if not after.isdecimal():
            raise web.HTTPBadRequest(text="after is the number of the last entry that was read")
        return web.Response(body=self._core.journal.after(int(after)), content_type="application/json")

    async def _end_tasks(self, _app: web.Application) -> None:
        tasks = list(self._core.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def running(
    options: ServiceOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock | None = None,
    **changes: Any,
) -> AsyncGenerator[Service, None]:
    """
    Run a local service for as long as the block lasts, in the same event loop.

    Args:
        options: How it behaves; the defaults of `ServiceOptions` when not given.
        host: Address to listen on.
        port: 0 for any free one.
        clock: What it waits by.
        **changes: Instead of ``options``: its fields by name, e.g. ``running(workers=0)``.
    """
    if options is not None and changes:
        raise UsageError("give options or single fields, not both")
    service = Service(options or ServiceOptions(**changes), clock)
    try:
        await service.start(host, port)
        yield service
    finally:
        await service.close()


async def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    options: ServiceOptions | None = None,
    *,
    on_ready: Callable[[Service], object] | None = None,
) -> None:
    """
    Run a local service until the caller is cancelled.

    Args:
        host: Address to listen on.
        port: 0 for any free one.
        options: How it behaves.
        on_ready: Called once when it listens, to show its address.

    Raises:
        OSError: The address cannot be listened on.
    """
    async with running(options, host=host, port=port) as service:
        if on_ready is not None:
            on_ready(service)
        await asyncio.Event().wait()
