"""LangGraph Server's HTTP surface in memory, over real HTTP on loopback.

Rules that live here:

* What it answers is what the real one was seen to answer (langgraph-api 0.16.7); its event frames are cut from a
  recording, with other words in them. `tests/langgraph/test_server.py` asks both the same questions.
* Its graph is that of ``stub/graph.py``, but nothing takes time: ``slow`` gives out two words and then waits until it
  is cancelled.
* A run whose thread is deleted goes on: it is a ghost, which nobody can see, and which neither a cancel nor the end of
  its connection stops. That is the harm to be avoided.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

RECORDED = Path(__file__).parents[1] / "recorded" / "langgraph"
_TEMPLATE: list[Any] = json.loads((RECORDED / "normal.sse").read_bytes().split(b"\r\n")[4].removeprefix(b"data: "))
_HEARTBEAT = b": heartbeat\r\n\r\n"
_END = b""
_GONE = "Thread with ID {} not found"
_BUSY = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."
_ASSISTANT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


@dataclass
class Run:
    """A run; ``frames`` grows while it goes."""

    prompt: dict[str, Any]
    body: dict[str, Any]
    metadata: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    status: str = "pending"
    frames: list[bytes] = field(default_factory=list[bytes])
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancels: bool = False

    @property
    def under_way(self) -> bool:
        """Whether it may still say something."""
        return self.status in {"pending", "running"}

    def say(self, frame: bytes) -> None:
        """Add a frame; an empty one is the end."""
        self.frames.append(frame)
        self.grown.set()

    def end(self, status: str) -> None:
        """Come to an end, once."""
        if self.under_way:
            self.status = status
            self.say(_END)
            self.ended.set()

    def json(self, thread: str) -> dict[str, Any]:
        return {"run_id": self.id, "thread_id": thread, "status": self.status, "metadata": self.metadata}


@dataclass
class Thread:
    """A thread."""

    id: str
    metadata: dict[str, Any]
    created_at: datetime
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    runs: list[Run] = field(default_factory=list[Run])
    interrupts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Server:
    """
    The server.

    Attributes:
        url: Its address.
        threads: What exists now, by id.
        ghosts: Runs whose threads were deleted while they went.
        keys: The API keys that it accepts; empty for no authentication.
        faults: By route, consumed one per request: ``drop`` (the effect happens, the connection breaks) or ``lost`` (it
            breaks without an effect), or a status. ``body``: the connection breaks behind the head of a run's stream.
        seen: The requests: route and JSON body.
        last: The headers of the last request.
        names_runs: The head of a run's stream says which run it is.
        lag: So often a thread is shown busy although no run goes on: the worker has not let go of it yet.
    """

    def __init__(self) -> None:
        self.url = ""
        self.threads: dict[str, Thread] = {}
        self.ghosts: list[Run] = []
        self.keys: set[str] = set()
        self.faults: defaultdict[str, deque[str | int]] = defaultdict(deque)
        self.seen: list[tuple[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.last: dict[str, str] = {}
        self.names_runs = True
        self.lag = 0
        self._clock = itertools.count(1)

    @property
    def runs_under_way(self) -> list[Run]:
        """Every run that goes on, those of deleted threads too."""
        runs = [run for thread in self.threads.values() for run in thread.runs]
        return [run for run in [*runs, *self.ghosts] if run.under_way]

    def app(self) -> web.Application:
        """Return its routes."""
        app = web.Application(middlewares=[self._middleware])
        thread = "/threads/{thread}"
        for method, path, handler in (
            ("POST", "/threads", self._create),
            ("POST", "/threads/search", self._search),
            ("GET", thread, self._thread_alone),
            ("DELETE", thread, self._delete),
            ("GET", f"{thread}/state", self._state),
            ("GET", f"{thread}/runs", self._runs),
            ("POST", f"{thread}/runs/stream", self._run),
            ("GET", f"{thread}/runs/{{run}}", self._look),
            ("GET", f"{thread}/runs/{{run}}/stream", self._join),
            ("POST", f"{thread}/runs/{{run}}/cancel", self._cancel),
            ("POST", "/assistants/search", self._assistants),
        ):
            app.router.add_route(method, path, handler)
        return app

    # -- every request ------------------------------------------------------------------------------------------------

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None:
            return _problem(404, "Not Found")
        route = f"{request.method} {resource.canonical}"
        self.calls[route] += 1
        self.last = dict(request.headers)
        self.seen.append((route, await request.json() if request.can_read_body else None))
        fault = self.faults[route].popleft() if self.faults[route] else ""
        if isinstance(fault, int):
            return _problem(fault, "as the test wants it")
        if self.keys and request.headers.get("x-api-key") not in self.keys:
            return _problem(403, "Invalid API key: " + request.headers.get("x-api-key", ""))
        if fault == "lost":
            return _broken(request)
        response = await handler(request)
        return _broken(request) if fault == "drop" else response

    def _thread(self, request: web.Request) -> Thread:
        name = request.match_info["thread"]
        if name not in self.threads:
            raise _Gone(name)
        return self.threads[name]

    # -- threads ------------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["thread_id"]
        try:
            UUID(name)
        except ValueError:
            return _problem(422, "Invalid thread ID: must be a UUID")
        if name in self.threads:
            return _problem(409, f"Thread with ID {name} already exists")
        return web.json_response(self._listed(self.plant(name, body.get("metadata"))))

    def plant(self, name: str, metadata: dict[str, Any] | None = None) -> Thread:
        """Make a thread."""
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._clock))
        thread = self.threads[name] = Thread(name, dict(metadata or {}), at)
        return thread

    def _listed(self, thread: Thread) -> dict[str, Any]:
        status = "busy" if self.lag or any(run.under_way for run in thread.runs) else "idle"
        self.lag = max(self.lag - 1, 0)
        return {
            "thread_id": thread.id,
            "created_at": thread.created_at.isoformat(),
            "metadata": thread.metadata,
            "status": status,
            "values": {"messages": thread.messages} if thread.messages else None,
        }

    async def _search(self, request: web.Request) -> web.Response:
        body = await request.json()
        wanted = body["metadata"].items()
        found = [each for each in reversed(self.threads.values()) if wanted <= each.metadata.items()]
        page = found[body["offset"] : body["offset"] + body["limit"]]
        return web.json_response([{key: self._listed(each)[key] for key in body["select"]} for each in page])

    async def _delete(self, request: web.Request) -> web.Response:
        try:
            thread = self._thread(request)
        except _Gone as gone:
            return gone.response
        del self.threads[thread.id]
        self.ghosts += [run for run in thread.runs if run.under_way]
        return web.Response(status=204)

    async def _thread_alone(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self._listed(self._thread(request)))
        except _Gone as gone:
            return gone.response

    async def _state(self, request: web.Request) -> web.Response:
        try:
            thread = self._thread(request)
        except _Gone as gone:
            return gone.response
        values = {"messages": thread.messages} if thread.messages else {}
        return web.json_response({"values": values, "next": [], "interrupts": thread.interrupts})

    async def _assistants(self, request: web.Request) -> web.Response:
        made: dict[str, Any] = {"assistant_id": str(UUID(int=7)), "graph_id": "agent", "metadata": {}}
        system = {"assistant_id": _ASSISTANT, "graph_id": "agent", "metadata": {"created_by": "system"}}
        return web.json_response([made, system])

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def _runs(self, request: web.Request) -> web.Response:
        try:
            thread = self._thread(request)
        except _Gone as gone:
            return gone.response
        return web.json_response([run.json(thread.id) for run in reversed(thread.runs)])

    async def _look(self, request: web.Request) -> web.Response:
        try:
            run = self._found(request)
        except _Gone as gone:
            return gone.response
        return web.json_response(run.json(request.match_info["thread"])) if run else _problem(404, "Not Found")

    def _found(self, request: web.Request) -> Run | None:
        return next((run for run in self._thread(request).runs if run.id == request.match_info["run"]), None)

    async def _cancel(self, request: web.Request) -> web.Response:
        try:
            run = self._found(request)
        except _Gone:
            run = None
        if run is None:
            return _problem(404, "No runs found to cancel.")
        if not run.under_way:
            return _problem(404, "No matching runs to cancel. Please verify the thread ID and run IDs are correct.")
        run.end("interrupted")
        return web.json_response({}, status=202)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        thread = self.threads.get(request.match_info["thread"])
        if body["assistant_id"] not in {"agent", _ASSISTANT}:
            words = f"Invalid assistant: '{body['assistant_id']}'. Must be either:\n- A valid assistant UUID"
            return _problem(422, f"{words}, or\n- One of the registered graphs: agent")
        if thread is None:
            return _problem(404, "Thread or assistant not found.")
        if any(run.under_way for run in thread.runs):
            return _problem(409, _BUSY)
        run = Run(body["input"]["messages"][0], body, {**thread.metadata, **body["metadata"]})
        thread.runs.append(run)
        thread.metadata |= {"graph_id": "agent", "assistant_id": _ASSISTANT}
        cut = bool(self.faults["body"] and self.faults["body"].popleft())
        if not cut or body["on_disconnect"] == "continue":
            _go(thread, run)
        run.cancels = body["on_disconnect"] == "cancel"
        return await self._stream(request, thread.id, run, cut=cut)

    async def _join(self, request: web.Request) -> web.StreamResponse:
        try:
            run = self._found(request)
        except _Gone:
            run = None
        if run is None:
            run = Run({}, {}, {})
            run.say(_frame("error", {"error": "HTTPException", "message": "404: Run not found"}))
            run.end("error")
        if run.frames[-1] == _END and run.status != "error":
            run.frames[:-1] = []
        return await self._stream(request, request.match_info["thread"], run)

    async def _stream(self, request: web.Request, thread: str, run: Run, *, cut: bool = False) -> web.StreamResponse:
        where = f"/threads/{thread}/runs/{run.id}"
        named = {"Location": f"{where}/stream", "Content-Location": where} if self.names_runs else {}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **named})
        await response.prepare(request)
        try:
            await response.write(_HEARTBEAT)
            if cut:
                _broken(request)
            await self._write(response, run)
        except (ConnectionError, asyncio.CancelledError):
            if run.cancels and run not in self.ghosts:
                run.end("interrupted")
            raise
        return response

    async def _write(self, response: web.StreamResponse, run: Run) -> None:
        written = 0
        while True:
            run.grown.clear()
            for frame in run.frames[written:]:
                if frame == _END:
                    return
                await response.write(frame)
                written += 1
            await run.grown.wait()


class _Gone(Exception):
    def __init__(self, thread: str) -> None:
        self.response = _problem(404, _GONE.format(thread))
        super().__init__(thread)


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


def _broken(request: web.Request) -> web.Response:
    """Break the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _frame(kind: str, data: object) -> bytes:
    return f"event: {kind}\r\ndata: {json.dumps(data, separators=(',', ':'))}\r\n\r\n".encode()


def _token(text: str, name: str, kind: str = "AIMessageChunk") -> bytes:
    message, about = _TEMPLATE
    return _frame("messages", [{**message, "content": text, "type": kind, "id": name}, about])


def _go(thread: Thread, run: Run) -> None:
    """What the graph of ``stub/graph.py`` does with a prompt."""
    text, name = str(run.prompt["content"]), f"lc_run--{run.id}"
    kind, words = text.partition(" ")[0], text.split(" ")
    run.status = "running"
    thread.messages.append({"type": "human", **run.prompt})
    run.say(_frame("metadata", {"run_id": run.id, "attempt": 1}))
    if kind == "wait":
        thread.interrupts = [{"value": "a person is asked"}]
        run.end("success")
        return
    if kind == "quiet":
        run.say(_token(text, name, "ai"))
    elif kind == "slow":
        words = ["w0", "w1"]
    if kind != "quiet":
        for piece in [*itertools.chain.from_iterable((word, " ") for word in words)][:-1]:
            run.say(_token(piece, name))
    if kind == "slow":
        return
    if kind == "boom":
        run.say(_frame("error", {"error": "RuntimeError", "message": f"stub model exploded over {text}"}))
        run.end("error")
        return
    thread.messages.append({"type": "ai", "content": text, "id": name})
    run.end("success")


@asynccontextmanager
async def running() -> AsyncGenerator[Server]:
    """Serve on loopback."""
    server = Server()
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        for run in server.runs_under_way:
            run.end("interrupted")
        await runner.cleanup()
