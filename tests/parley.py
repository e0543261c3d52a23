"""Parley, the service that adapters/README.md makes up, as small as it can be; and it counts its rooms."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Reply:
    """A reply: to which line, and how far it is."""

    id: str
    to: str
    words: list[str]
    state: str = "waiting"

    def shown(self) -> dict[str, str]:
        text = "".join(self.words) if self.state == "done" else ""
        return {"id": self.id, "to": self.to, "state": self.state, "text": text}


@dataclass
class Room:
    """A room: its owner's key, its lines by id, its replies by id."""

    id: str
    key: str
    lines: dict[str, str] = field(default_factory=dict[str, str])
    replies: dict[str, Reply] = field(default_factory=dict[str, Reply])


class ParleyServer:
    """
    The service's routes and what it knows.

    Attributes:
        rooms: What exists now, by id.
        asked: How often each route was asked, by method and last part of its pattern.
        hold: Replies stay half written until they are stopped.
        warmths: Of each reply that was asked for, in order; ``None`` where none was given.
        url: Its address, once it runs.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.asked: Counter[str] = Counter()
        self.hold = False
        self.warmths: list[float | None] = []
        self.url = ""
        self._ids = itertools.count(1)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/models", self._models)
        app.router.add_get("/rooms", self._list)
        app.router.add_post("/rooms", self._open)
        app.router.add_delete("/rooms/{room}", self._close)
        app.router.add_post("/rooms/{room}/lines", self._say)
        app.router.add_post("/rooms/{room}/replies", self._ask)
        app.router.add_get("/rooms/{room}/replies", self._look)
        app.router.add_get("/rooms/{room}/replies/{reply}/stream", self._stream)
        app.router.add_post("/rooms/{room}/stop", self._stop)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked[f"{request.method} {request.path.rpartition('/')[2]}"] += 1
        if request.headers.get("Authorization") != "Bearer right":
            return _said("who are you?", 401)
        room = request.match_info.get("room")
        if room is not None and room not in self.rooms:
            return _said("no such room", 404)
        return await handler(request)

    def _room(self, request: web.Request) -> Room:
        return self.rooms[request.match_info["room"]]

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._ids)}"

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(["parley-1"])

    async def _list(self, request: web.Request) -> web.Response:
        rooms = reversed(self.rooms.values())
        return web.json_response([{"id": room.id, "key": room.key, "lines": len(room.lines)} for room in rooms])

    async def _open(self, request: web.Request) -> web.Response:
        room = Room(self._id("room"), (await _body(request))["key"])
        self.rooms[room.id] = room
        return web.json_response({"id": room.id})

    async def _close(self, request: web.Request) -> web.Response:
        del self.rooms[request.match_info["room"]]
        return web.Response(status=204)

    async def _say(self, request: web.Request) -> web.Response:
        line, body = self._id("line"), await _body(request)
        room = self._room(request)
        if body["after"] is not None and body["after"] not in room.replies:
            return _said("no such reply", 400)
        room.lines[line] = body["text"]
        return web.json_response({"id": line})

    async def _ask(self, request: web.Request) -> web.Response:
        room, body = self._room(request), await _body(request)
        if body.keys() - {"to", "model", "warmth"} or None in body.values():
            return _said("unknown or null fields", 400)
        self.warmths.append(body.get("warmth"))
        to = body["to"]
        reply = Reply(self._id("reply"), to, room.lines[to].replace(" ", "\0 \0").split("\0"))
        room.replies[reply.id] = reply
        return web.json_response({"id": reply.id})

    async def _look(self, request: web.Request) -> web.Response:
        replies = self._room(request).replies.values()
        return web.json_response([reply.shown() for reply in replies if reply.to == request.query.get("to", reply.to)])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        reply = self._room(request).replies[request.match_info["reply"]]
        if reply.state in {"done", "failed"}:
            return _said("the reply is finished", 410)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        reply.state = "writing"
        await stream.write(b'data: {"place": 1}\n\n')
        for word in reply.words:
            await stream.write(b": ping\n\ndata: %s\n\n" % json.dumps({"token": word}).encode())
            if self.hold:
                await asyncio.get_running_loop().create_future()
        reply.state = "done"
        await stream.write(b"data: %s\n\n" % json.dumps({"text": "".join(reply.words)}).encode())
        return stream

    async def _stop(self, request: web.Request) -> web.Response:
        for reply in self._room(request).replies.values():
            reply.state = "done" if reply.state == "done" else "failed"
        return web.Response(status=204)


async def _body(request: web.Request) -> dict[str, Any]:
    body: dict[str, Any] = await request.json()
    return body


def _said(text: str, status: int) -> web.Response:
    return web.json_response({"message": text}, status=status)


@asynccontextmanager
async def parley() -> AsyncGenerator[ParleyServer, None]:
    """Run a Parley on a free port of this machine."""
    server = ParleyServer()
    runner = web.AppRunner(server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
