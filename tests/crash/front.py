"""
The real LangGraph Server, behind a front that breaks what passes it and writes down what the server did.

``python -m tests.crash.front`` starts the server (`tests.langgraph.server`), prints the front's address, and serves
until its standard input is closed. Its argument and its lines are those of `tests.crash.server`, and so are its journal
and its counts; but what it counts is asked from the server itself:

* ``chats``: the threads that there are;
* ``running``: the runs that go on when everybody is gone, those of deleted threads too (workers at one, and the queue);
* ``lost_messages``: runs that waited or went on in the moment in which their thread was deleted, and that nobody had
  asked to stop: they could never be stopped again;
* ``latest_create_s``: how long the slowest create took to take effect. One that is slower than the create deadline is
  slower than any ledger can know of.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec
from aiohttp import web

from chatlease_adapters.open_assistant._service._faults import Fault, Faults
from tests.crash.oracle import Entry, Page
from tests.crash.server import Planting, Setup
from tests.crash.terms import ACTOR, FAULTS, UNLUCKY
from tests.langgraph.server import Witness, serving, why_not

_AT_ONCE = 100
"""Runs: the server has no account that could be limited, and its queue is no part of what is tried."""
_STEPS = (
    ("POST", re.compile(r"/threads"), "create_chat"),
    ("DELETE", re.compile(r"/threads/(?P<chat>[^/]+)"), "delete_chat"),
    ("POST", re.compile(r"/threads/search"), "list_chats"),
    ("POST", re.compile(r"/threads/(?P<chat>[^/]+)/runs/stream"), "queue_assistant"),
    ("POST", re.compile(r"/threads/(?P<chat>[^/]+)/runs/[^/]+/cancel"), "stop_run"),
    ("GET", re.compile(r"/threads/(?P<chat>[^/]+)/(runs|state).*"), "read_answer"),
)
_FAULTY = frozenset({"create_chat", "delete_chat"})
_HOP = frozenset({"transfer-encoding", "connection", "content-length", "content-encoding"})
_ENDS_WITHIN_S = 3.0
"""A run that is stopped is over by then; one that nobody stops goes on for a minute."""


class Front:
    """
    The front.

    Args:
        url: Of the server behind it.
        http: For what is asked of that.
        setup: See `Setup`.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession, setup: Setup) -> None:
        self._url = url
        self._http = http
        self._witness = Witness(url, http)
        self._faults = Faults(setup.seed)
        for token in setup.unlucky:
            for item in UNLUCKY.split(","):
                step, _, rest = item.partition("=")
                fault, _, chance = rest.partition(":")
                self._faults.add(step, fault, times=None, user=token, probability=float(chance))
        self._faults.program(FAULTS)
        self._journal: list[Entry] = []
        self._numbers = count(1)
        self._lost_runs = 0
        self._deleted_at: dict[str, float] = {}
        self._create_s: dict[str, float] = {}
        self._recent = defaultdict[str, list[Entry]](list)
        self._under_way: set[asyncio.Task[web.Response]] = set()

    def app(self) -> web.Application:
        """Return its routes."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/_chatlease/journal", self._tell_journal)
        app.router.add_get("/_chatlease/counts", self._tell_counts)
        app.router.add_route("*", "/{path:.*}", self._pass)
        return app

    async def plant(self, planting: Planting) -> str:
        """Make a thread as another program would, without any fault; one with a run's mark where it is not empty."""
        name = str(uuid4())
        wanted = {"thread_id": name, "metadata": {} if planting.empty else {"graph_id": "agent"}}
        async with self._http.post(f"{self._url}/threads", json=wanted) as response:
            response.raise_for_status()
        return name

    # -- what the harness asks ----------------------------------------------------------------------------------------

    async def _tell_journal(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        page = Page(0, [entry for entry in self._journal if entry.number > after])
        self._journal = page.entries
        return web.Response(body=msgspec.json.encode(page))

    async def _tell_counts(self, request: web.Request) -> web.Response:
        await self._witness.idle(_ENDS_WITHIN_S)
        counts: dict[str, object] = {
            "chats": await self._witness.threads(),
            "running": await self._witness.runs(),
            "lost_messages": self._lost_runs,
            "latest_create_s": max(self._create_s.values(), default=0.0),
        }
        for chat in self._create_s.keys() - self._deleted_at.keys():
            sys.stderr.write(f"left: thread {chat}, made {self._create_s[chat]:.3f} s after it was asked for\n")
        return web.json_response(counts)

    # -- what passes --------------------------------------------------------------------------------------------------

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        step, chat = _step_of(request)
        body = await request.read()
        if step == "create_chat":
            chat = str(msgspec.json.decode(body)["thread_id"])
        if step == "queue_assistant":
            return await self._stream(request, body, chat)
        fault = self._faults.pick(step, request.headers.get("x-api-key", "")) if step in _FAULTY else None
        effect = asyncio.create_task(self._effect(request, body, step, chat, fault))
        self._under_way.add(effect)  # it happens although the client has left
        effect.add_done_callback(self._under_way.discard)
        return await _delivered(request, asyncio.shield(effect), fault)

    async def _effect(
        self, request: web.Request, body: bytes, step: str, chat: str, fault: Fault | None
    ) -> web.Response:
        came_at = time.monotonic()
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.value)
        if fault is not None and fault.kind == "before":
            self._note(request, step, chat, int(fault.value), fault=fault)
            return web.json_response({"detail": "the front wants it so"}, status=int(fault.value))
        if step == "delete_chat":
            await self._look_for_runs(chat, request.headers.get(ACTOR, ""))
        async with self._http.request(
            request.method, self._url + request.raw_path, data=body or None, headers=_headers(request)
        ) as answer:
            told = web.Response(status=answer.status, body=await answer.read(), headers=_passed_on(answer))
        effects = {("create_chat", HTTPStatus.OK): "created", ("delete_chat", HTTPStatus.NO_CONTENT): "deleted"}
        effect = effects.get((step, HTTPStatus(told.status)), "")
        if effect == "created":
            self._create_s[chat] = time.monotonic() - came_at
        if effect == "deleted":
            self._deleted_at[chat] = time.monotonic()
        if came_at >= self._deleted_at.get(chat, 0.0) or effect:  # else the chat was still there when this was asked
            self._note(request, step, chat, told.status, effect=effect, fault=fault)
        return told

    async def _look_for_runs(self, chat: str, actor: str) -> None:
        async with self._http.get(f"{self._url}/threads/{chat}/runs") as answer:
            runs: list[dict[str, str]] = await answer.json() if answer.status == HTTPStatus.OK else []
        going = [run["run_id"] for run in runs if run["status"] in {"pending", "running"}]
        self._lost_runs += len(going)
        if going:
            asked = [f"{each.time:.3f} {each.actor} {each.step} {each.status}" for each in self._recent[chat]]
            sys.stderr.write(f"{actor} deletes {chat} at {time.monotonic():.3f} though {going} go on; asked: {asked}\n")

    async def _stream(self, request: web.Request, body: bytes, chat: str) -> web.StreamResponse:
        """Pass a stream on as it comes; when its client leaves, the server's connection breaks, too."""
        async with self._http.post(self._url + request.raw_path, data=body, headers=_headers(request)) as answer:
            self._note(request, "queue_assistant", chat, answer.status)
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer))
            with suppress(ConnectionError):  # the client has left
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
        return response

    def _note(
        self, request: web.Request, step: str, chat: str, status: int, *, effect: str = "", fault: Fault | None = None
    ) -> None:
        actor, kind = request.headers.get(ACTOR, ""), fault.kind if fault else ""
        entry = Entry(next(self._numbers), time.monotonic(), step, chat, actor, status, effect, kind)
        self._journal.append(entry)
        self._recent[chat].append(entry)


async def _delivered(request: web.Request, effect: Awaitable[web.Response], fault: Fault | None) -> web.Response:
    response = await effect
    if fault is not None and fault.kind == "late":
        await asyncio.sleep(fault.value)
    if fault is not None and fault.kind == "drop" and request.transport is not None:
        request.transport.abort()
    return response


def _step_of(request: web.Request) -> tuple[str, str]:
    for method, path, step in _STEPS:
        match = path.fullmatch(request.path)
        if match and method == request.method:
            return step, match.groupdict().get("chat") or ""
    return "other", ""


def _headers(request: web.Request) -> dict[str, str]:
    return {"Content-Type": "application/json"} if request.can_read_body else {}


def _passed_on(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}


async def _serve(url: str, setup: Setup) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        front = Front(url, http, setup)
        runner = web.AppRunner(front.app(), handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _tell("http://{}:{}".format(*runner.addresses[0][:2]))
        while line := await asyncio.to_thread(sys.stdin.readline):
            _tell(await front.plant(msgspec.json.decode(line, type=Planting)))
        await runner.cleanup()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if why_not():
        sys.exit(why_not())
    with (
        tempfile.TemporaryDirectory(prefix="chatlease-langgraph-") as folder,
        serving(Path(folder), at_once=_AT_ONCE) as behind,
    ):
        asyncio.run(_serve(behind, msgspec.json.decode(sys.argv[1], type=Setup)))
