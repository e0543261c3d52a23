"""A made-up service over HTTP, strict: what is not documented is refused, in the service's own way."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

from aiohttp import web

from chatlease.adapter import Credential

from .bodies import Scribe
from .faults import Faults, Kind
from .frames import Framer
from .operations import Operation, operations
from .plan import Plan
from .problems import problem
from .refused import Refused
from .store import Chat, Run, Store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BREAKS: Mapping[Kind, int] = {"drop": 0, "after": 1, "cut": 2}
"""Frames after which the connection of a stream breaks."""
_NEVER = 1_000_000
PAGE = b"<!doctype html><html><head><title>Down</title></head><body>We will be back.</body></html>"


def login(plan: Plan, token: str) -> Credential:
    """Return what logs in with a token; ``right-NAME`` is the one of account NAME, every other is wrong."""
    kind, name = plan.login
    match kind:
        case "bearer" | "scheme":
            return Credential(headers={"Authorization": f"{name} {token}"})
        case "header":
            return Credential(headers={name: token})
        case "cookie":
            return Credential(cookies={name: token})


class MadeUpServer:
    """
    The service's routes.

    Attributes:
        plan: What was decided.
        store: What it knows; the oracle of every test.
        faults: What goes wrong.
        asked: How often each step was asked for.
        url: Its address, once it runs, with the prefix that its documentation names as a part of every path left out.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.store = Store(plan)
        self.faults = Faults(plan.seed)
        self.asked: Counter[str] = Counter()
        self.url = ""
        self._scribe = Scribe(plan)
        self._framer = Framer(plan)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        for operation in operations(self.plan).values():
            app.router.add_route(operation.method, operation.path, self._handler(operation))
        return app

    # ------------------------------------------------------------------------------------------------- every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return self._refusal(refused)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return self._refusal(Refused("no_route", "there is no such endpoint"))

    def _refusal(self, refused: Refused) -> web.Response:
        status, kind, body = problem(self.plan, refused)
        return web.Response(status=status, body=body, content_type=kind)

    def _account(self, request: web.Request) -> str:
        kind, name = self.plan.login
        shown = request.cookies.get(name, "")
        if kind != "cookie":
            shown = request.headers.get("Authorization" if kind != "header" else name, "")
        token = shown.removeprefix(f"{name} ") if kind in {"bearer", "scheme"} else shown
        if not token.startswith("right-") or (kind in {"bearer", "scheme"} and token == shown):
            raise Refused("login", "who are you?")
        return token.removeprefix("right-")

    def _handler(self, operation: Operation) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.asked[operation.step] += 1
            fault = self.faults.next(operation.step)
            if fault == "before":
                raise Refused("broken", "something is broken")
            if fault == "page":
                return web.Response(body=PAGE, content_type="text/html")
            account = self._account(request)
            given = await self._given(operation, request)
            if fault == "echo":
                raise Refused("invalid", f"not this: {json.dumps(given)} {dict(request.headers)}")
            if operation.gives == "stream" or (operation.gives == "made-run" and self.plan.manners.streams_at_once):
                return await self._streamed(request, self._run(operation, account, given), fault)
            reply = self._reply(operation, request, account, given)
            if fault == "drop" and request.transport is not None:
                request.transport.abort()
            if fault == "after":
                raise Refused("broken", "something is broken")
            return reply

        return handle

    async def _given(self, operation: Operation, request: web.Request) -> dict[str, str]:
        given = dict(request.match_info)
        names = {self._scribe.name(each): each for each in operation.query}
        for name, value in request.query.items():
            if name not in names:
                raise Refused("invalid", f"unknown parameter {name}")
            given[names[name]] = value
        if "chat" in names.values() and "chat" not in given:
            raise Refused("invalid", f"{self._scribe.name('chat')} is missing")
        kind = request.content_type if request.can_read_body else ""
        return given | self._scribe.read(operation, kind, await request.read())

    def _run(self, operation: Operation, account: str, given: Mapping[str, str]) -> Run:
        if operation.step == "queue_assistant":
            return self.store.queue_assistant(account, given)
        return self.store.open_stream(account, given)

    # -------------------------------------------------------------------------------------------------------- replies

    def _reply(
        self, operation: Operation, request: web.Request, account: str, given: Mapping[str, str]
    ) -> web.Response:
        nouns = self.plan.nouns
        match operation.step:
            case "create_chat":
                chat = self.store.create_chat(account, given)
                return self._made(operation, request, nouns.chat, chat.id, self._fresh(chat))
            case "send_prompt":
                prompt = self.store.send_prompt(account, given)
                return self._made(operation, request, nouns.prompt, prompt, {"id": prompt, "text": given["text"]})
            case "queue_assistant":
                run = self.store.queue_assistant(account, given)
                return self._made(operation, request, nouns.run, run.id, self._shown(run))
            case "read_run":
                run = self.store.read_run(account, given)
                return self._json(operation, self._scribe.one(nouns.run, self._shown(run)))
            case "list_runs":
                runs = [self._shown(run) for run in self.store.list_runs(account, given)]
                return self._json(operation, self._scribe.many(nouns.run, runs))
            case "read_text":
                return web.Response(text=self.store.read_text(account, given))
            case "stop_run":
                self.store.stop_run(account, given)
                return self._done(operation)
            case "delete_chat":
                self.store.delete_chat(account, given)
                return self._done(operation)
            case "list_chats":
                return self._listing(operation, request, account, given)
            case _:
                models = [{"id": each} for each in self.plan.models]
                return self._json(operation, self._scribe.many(nouns.model, models))

    def _json(self, operation: Operation, value: object) -> web.Response:
        return web.Response(
            status=operation.status, body=self._scribe.written(value), content_type="application/json", charset="utf-8"
        )

    def _done(self, operation: Operation) -> web.Response:
        if operation.status == 204:
            return web.Response(status=204)
        return self._json(operation, {"ok": True})

    def _made(
        self, operation: Operation, request: web.Request, noun: str, name: str, values: Mapping[str, object]
    ) -> web.Response:
        if self.plan.looks.created_in == "body":
            return self._json(operation, self._scribe.one(noun, values))
        place = request.path_qs if operation.method == "PUT" else f"{request.rel_url.raw_path}/{quote(name, safe='')}"
        return web.Response(status=operation.status, headers={"Location": place})

    def _fresh(self, chat: Chat) -> dict[str, object]:
        shown: dict[str, object] = {"id": chat.id, "owner": chat.owner}
        if self.plan.manners.key == "field":
            shown["key"] = chat.key
        if self.plan.looks.moment != "none":
            shown["created"] = chat.born
        return shown

    def _shown(self, run: Run) -> dict[str, object]:
        shown: dict[str, object] = {"id": run.id, "state": self._scribe.state(run.state, run.id)}
        shown["why"] = "ran_out_of_ink" if run.state == "failed" else None
        if self.plan.manners.joined:
            shown["label"] = run.label
        else:
            shown["prompt"] = run.prompt
        if not self.plan.manners.text_apart:
            shown["answer"] = run.text if run.state == "answered" else None
        return shown

    def _listing(
        self, operation: Operation, request: web.Request, account: str, given: Mapping[str, str]
    ) -> web.Response:
        chats, size = self.store.list_chats(account), self.plan.manners.page_size
        if self.plan.manners.paging == "whole":
            listed = [self._listed(each) for each in chats]
            return self._json(operation, self._scribe.many(self.plan.nouns.chat, listed))
        start = self._start(chats, given)
        rest = chats[start + size :]
        records = [self._listed(each) for each in chats[start : start + size]]
        after = chats[start + size - 1].id if rest else None
        response = self._json(operation, self._scribe.many(self.plan.nouns.chat, records, after))
        if self.plan.manners.paging == "link" and after is not None:
            cursor = f"{self._scribe.name('cursor')}={quote(after, safe='')}"
            response.headers["Link"] = f'<{request.rel_url.raw_path}?{cursor}>; rel="next"'
        return response

    def _start(self, chats: Sequence[Chat], given: Mapping[str, str]) -> int:
        names = [chat.id for chat in chats]
        if "cursor" in given:
            if given["cursor"] not in names:
                raise Refused("invalid", f"unknown {self._scribe.name('cursor')}")
            return names.index(given["cursor"]) + 1
        number = given.get("page", given.get("offset", "0"))
        if not number.isdecimal():
            raise Refused("invalid", "that is no number")
        return (int(number) - 1) * self.plan.manners.page_size if "page" in given else int(number)

    def _listed(self, chat: Chat) -> dict[str, object]:
        shown = self._fresh(chat)
        if self.plan.manners.shows_count:
            shown["count"] = len(chat.prompts)
        return shown

    # -------------------------------------------------------------------------------------------------------- streams

    async def _streamed(self, request: web.Request, run: Run, fault: Kind | None) -> web.StreamResponse:
        headers = {"Content-Type": self._framer.content_type}
        if self.plan.manners.streams_at_once:
            headers[run_header(self.plan)] = quote(run.id, safe="")
        stream = web.StreamResponse(headers=headers)
        sent = 0
        with suppress(ConnectionResetError):  # the client has left
            await stream.prepare(request)
            async for frame in self._frames(run):
                if fault == "garble":
                    await stream.write(self._framer.garbled())
                if fault is not None and sent >= _BREAKS.get(fault, _NEVER) and request.transport is not None:
                    request.transport.abort()
                if fault == "stall" and sent > 1:
                    await asyncio.get_running_loop().create_future()
                await stream.write(frame)
                sent += 1
        return stream

    async def _frames(self, run: Run) -> AsyncIterator[bytes]:
        framer = self._framer
        if run.state == "pending":
            for frame in framer.waits(1):
                yield frame
        run.watched.set()
        yield framer.ping()
        yield framer.note()
        sent: list[str] = []
        while True:
            moved = run.moved
            while len(sent) < len(run.words):
                sent.append(run.words[len(sent)])
                yield framer.token(sent[-1], "".join(sent))
            if run.state == "answered":
                for frame in framer.ends(run.text):
                    yield frame
                return
            if run.state == "failed":
                yield framer.failed("ran_out_of_ink", f"no ink for: {''.join(run.order)}")
            if run.state in {"failed", "cancelled"}:
                return
            await moved.wait()


def run_header(plan: Plan) -> str:
    """Return the header that holds the id of a run whose stream is the reply."""
    return f"X-{plan.nouns.run.capitalize()}-Id"


@asynccontextmanager
async def made_up(plan: Plan, port: int = 0) -> AsyncGenerator[MadeUpServer]:
    """Run the service on this machine."""
    server = MadeUpServer(plan)
    runner = web.AppRunner(server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.store.close()
        await runner.cleanup()
