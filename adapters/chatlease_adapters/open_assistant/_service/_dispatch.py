"""Carries a request through its stations: body, login, fault, effect, reply, access log.

Rules that live here:

* The effect is one synchronous call between two awaits, so it happens entirely or not at all, and a client that leaves
  in the middle does not take it back.
* An effect that a fault delays happens even when the client has left, as it does on a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from . import _server, _site
from ._core import Core, Record
from ._faults import Fault
from ._records import Message
from ._refusal import Refusal
from ._replies import Reply, send, server_json, server_refused, site_page
from ._routes import Answer, Call, Dialect, Endpoint, Unreadable
from ._stream import EventStream

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NO_FAULT = Fault("")
_EFFECTS = {"create_chat": "created", "delete_chat": "deleted"}


@dataclass(slots=True)
class _Visit:
    """One request on its way through the stations."""

    request: web.Request
    step: str = "other"
    user: str = ""
    fault: Fault = _NO_FAULT
    chat: str = ""
    journaled: bool = False


class Dispatcher:
    """Turns endpoints into request handlers over the state of a service."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._site = _site.SiteDialect(core.logins)
        self._server = _server.ServerDialect(core.logins)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the paths of both dialects, and the answers to unknown ones."""
        for path, endpoint in _site.ROUTES.items():
            router.add_route("*", path, self._handler(self._site, endpoint))
        router.add_route("*", "/api/chat", self._chat)
        for path, methods in _server.ROUTES.items():
            for method, endpoint in methods.items():
                router.add_route(method, path, self._handler(self._server, endpoint))
            router.add_route("*", path, self._always(_server.wrong_method(methods)))
        router.add_route("POST", "/auth/trusted", self._register)
        router.add_route("*", "/api/{rest:.*}", self._always(_site.not_found()))
        router.add_route("*", "/{rest:.*}", self._always(_server.not_found()))

    def _handler(self, dialect: Dialect, endpoint: Endpoint) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._answer(request, dialect, endpoint)

        return handler

    def _always(self, reply: Reply) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._reply(_Visit(request), reply)

        return handler

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        endpoint = _site.endpoint_of_chat(request.method, request.query)
        if endpoint is None:
            return await self._reply(_Visit(request), _site.wrong_method())
        return await self._answer(request, self._site, endpoint)

    async def _register(self, request: web.Request) -> web.StreamResponse:
        visit = _Visit(request, "ready_cookies")
        if self._core.down:
            return self._cut(visit)
        try:
            reply = server_json(self._core.logins.register(request))
        except Refusal as refusal:
            reply = server_refused(refusal)
        return await self._reply(visit, reply)

    async def _answer(self, request: web.Request, dialect: Dialect, endpoint: Endpoint) -> web.StreamResponse:
        visit = _Visit(request, endpoint.step)
        if self._core.down and dialect.direct:
            return self._cut(visit)
        try:
            body = await dialect.read(request)
            visit.user = "" if endpoint.open else dialect.login(request)
            visit.fault = self._core.faults.pick(endpoint.step, visit.user) or _NO_FAULT
            call = Call(self._core.rules, visit.user, body, request.query, request.match_info)
            visit.chat = call.chat
            answer = await self._effect(visit, dialect, endpoint, call)
        except Unreadable as unreadable:
            answer = unreadable.reply
        except Refusal as refusal:
            answer = dialect.refused(endpoint, refusal)
        return await self._deliver(visit, dialect, endpoint, answer)

    async def _effect(self, visit: _Visit, dialect: Dialect, endpoint: Endpoint, call: Call) -> Answer:
        if self._core.down:
            raise _site.unreachable()
        match visit.fault:
            case Fault("before", status):
                return dialect.broken(endpoint, int(status))
            case Fault("refuse"):
                raise Refusal(403, "Forbidden")
            case Fault("html"):
                return site_page(200, "Just a moment...")
            case Fault("delay", seconds):
                return await asyncio.shield(self._core.spawn(self._delayed(visit, dialect, endpoint, call, seconds)))
            case _:
                return self._carry_out(visit, dialect, endpoint, call)

    async def _delayed(self, visit: _Visit, dialect: Dialect, endpoint: Endpoint, call: Call, seconds: float) -> Answer:
        await self._core.clock.sleep(seconds)
        return self._carry_out(visit, dialect, endpoint, call)

    def _carry_out(self, visit: _Visit, dialect: Dialect, endpoint: Endpoint, call: Call) -> Answer:
        """Let the effect happen, and enter it into the journal in the same moment."""
        if self._core.journal is None:
            return endpoint.answer(call)
        try:
            answer = endpoint.answer(call)
        except Refusal as refusal:
            self._enter(visit, visit.chat, dialect.refused(endpoint, refusal).status)
            raise
        created = endpoint.step == "create_chat"
        chat = next(reversed(self._core.store.chats)) if created else visit.chat
        status = 200 if isinstance(answer, Message) else answer.status
        self._enter(visit, chat, status, _EFFECTS.get(endpoint.step, "done"))
        return answer

    def _enter(self, visit: _Visit, chat: str, status: int, effect: str = "") -> None:
        visit.journaled = True
        if self._core.journal is not None:
            self._core.journal.note(
                visit.request,
                self._core.clock.now(),
                visit.step,
                visit.user,
                chat=chat,
                status=status,
                effect=effect,
                fault=visit.fault.kind,
            )

    async def _deliver(self, visit: _Visit, dialect: Dialect, endpoint: Endpoint, answer: Answer) -> web.StreamResponse:
        match visit.fault:
            case Fault("late", seconds):
                await self._hold(seconds)
            case Fault("drop"):
                return self._cut(visit)
            case Fault("after", status):
                answer = dialect.broken(endpoint, int(status))
            case _:
                pass
        if isinstance(answer, Message):
            return await self._stream(visit, dialect, answer)
        return await self._reply(visit, answer)

    async def _hold(self, seconds: float) -> None:
        waiting = self._core.spawn(self._core.clock.sleep(seconds))
        try:
            await asyncio.wait({waiting})
        finally:
            waiting.cancel()

    async def _reply(self, visit: _Visit, reply: Reply) -> web.StreamResponse:
        self._note(visit, reply.status)
        return await send(visit.request, reply)

    async def _stream(self, visit: _Visit, dialect: Dialect, message: Message) -> web.StreamResponse:
        core = self._core
        stream = EventStream(
            visit.request,
            message,
            core.queue,
            core.clock,
            direct=dialect.direct,
            interval=core.options.pending_interval,
            ping=core.options.ping_interval,
            fault=visit.fault,
        )
        self._note(visit, 200)
        return await stream.run(lambda reading: core.read(stream, reading))

    def _cut(self, visit: _Visit) -> web.StreamResponse:
        self._note(visit, 0)
        if visit.request.transport is not None:
            visit.request.transport.close()
        return web.StreamResponse()

    def _note(self, visit: _Visit, status: int) -> None:
        request = visit.request
        if not visit.journaled:
            self._enter(visit, visit.chat, status)
        self._core.note(
            Record(
                time=self._core.clock.now(),
                method=request.method,
                path=request.path,
                query=request.query_string,
                status=status,
                step=visit.step,
                user=visit.user,
                fault=visit.fault.kind,
            )
        )
