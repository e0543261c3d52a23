"""Discord's HTTP interface and its gateway, as much of them as a bot that answers in text needs; on loopback.

After https://discord.com/developers/docs: the gateway says hello, is told who identifies itself, says that it is ready,
answers heartbeats, and dispatches messages with rising numbers. No message is empty or longer than 2000 characters, and
too many edits are 429 with the seconds to wait.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from .platforms import Board, Shown, listening

TOKEN = "a-token"
LONGEST = 2000
_BOT = {"id": "4321", "username": "a_bot", "discriminator": "0000", "avatar": None, "bot": True}
_DATE = "2026-01-01T00:00:00.000000+00:00"
_DISPATCH, _HEARTBEAT, _IDENTIFY, _HELLO, _ACKNOWLEDGED = 0, 1, 2, 10, 11


class FakeDiscord:
    """
    One bot and those who write to it; each user in a channel of his own with the same number.

    Attributes:
        url: Where it listens.
        board: What the bot has shown.
        closed: The code with which the bot left the gateway.
        mentions: What the bot's messages may mention, by their numbers.
    """

    def __init__(self) -> None:
        self.url = ""
        self.board = Board()
        self.closed: int | None = None
        self.mentions: dict[int, Any] = {}
        self._gateway: web.WebSocketResponse | None = None
        self._sent = 0
        self._ready = False

    async def ready(self) -> None:
        await self.board.until(lambda: self._ready)

    async def write(self, text: str, *, user: int = 1) -> int:
        number = next(self.board.numbers)
        await self._dispatch("MESSAGE_CREATE", _message(number, user, text))
        return number

    async def rewrite(self, number: int, text: str, *, user: int = 1) -> None:
        await self._dispatch("MESSAGE_UPDATE", _message(number, user, text) | {"edited_timestamp": _DATE})

    async def _dispatch(self, event: str, data: dict[str, Any]) -> None:
        await self.ready()
        assert self._gateway is not None
        self._sent += 1
        await self._gateway.send_json({"op": _DISPATCH, "t": event, "s": self._sent, "d": data})

    # -- the gateway --------------------------------------------------------------------------------------------------

    async def gateway(self, request: web.Request) -> web.WebSocketResponse:
        """Talk to the bot until it leaves."""
        socket = self._gateway = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": _HELLO, "d": {"heartbeat_interval": 41_250}})
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._hear(json.loads(message.data))
        self._ready = False
        self.closed = socket.close_code
        await self.board.tell()
        return socket

    async def _hear(self, told: dict[str, Any]) -> None:
        assert self._gateway is not None
        if told["op"] == _HEARTBEAT:
            await self._gateway.send_json({"op": _ACKNOWLEDGED})
        elif told["op"] == _IDENTIFY:
            assert told["d"]["token"] == TOKEN
            self._sent += 1
            await self._gateway.send_json({"op": _DISPATCH, "t": "READY", "s": self._sent, "d": self._welcome()})
            self._ready = True
            await self.board.tell()

    def _welcome(self) -> dict[str, Any]:
        gateway = self.url.replace("http", "ws") + "/gateway"
        application = {"id": _BOT["id"], "flags": 0}
        return {
            "v": 10,
            "user": _BOT,
            "guilds": [],
            "session_id": "a-session",
            "resume_gateway_url": gateway,
            "application": application,
        }

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def me(self, request: web.Request) -> web.Response:
        """Say who the bot is."""
        if request.headers.get("Authorization") != f"Bot {TOKEN}":
            return _json({"message": "401: Unauthorized", "code": 0}, status=401)
        return _json(_BOT)

    async def application(self, _: web.Request) -> web.Response:
        """Say what application the bot is of."""
        told = {"id": _BOT["id"], "name": "a bot", "description": "", "verify_key": "", "flags": 0, "icon": None}
        return _json(told | {"bot_public": True, "bot_require_code_grant": False, "owner": _BOT})

    async def post(self, request: web.Request) -> web.Response:
        """Take a message of the bot's."""
        told = await request.json()
        if (refusal := _refusal(told["content"])) is not None:
            return refusal
        shown = await self.board.post(int(request.match_info["channel"]), told["content"])
        self.mentions[shown.id] = told.get("allowed_mentions")
        return _json(_shown(shown))

    async def edit(self, request: web.Request) -> web.Response:
        """Take an edit of the bot's."""
        told = await request.json()
        if (refusal := _refusal(told["content"])) is not None:
            return refusal
        shown = await self.board.edit(int(request.match_info["message"]), told["content"])
        if shown is None:
            waits = {"message": "You are being rate limited.", "retry_after": 1.0, "global": False}
            return _json(waits, status=429, Via="1.1 google")
        return _json(_shown(shown))


def _json(told: object, *, status: int = 200, **headers: str) -> web.Response:
    # As Discord has it: without the charset, for which discord.py would take it for no JSON.
    body = json.dumps(told).encode()
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **headers})


def _refusal(content: str) -> web.Response | None:
    if 0 < len(content) <= LONGEST:
        return None
    return _json({"message": "Invalid Form Body", "code": 50035}, status=400)


def _message(number: int, user: int, text: str) -> dict[str, Any]:
    author = {"id": str(user), "username": f"user-{user}", "discriminator": "0000", "avatar": None, "bot": False}
    return _payload(number, user, text) | {"author": author}


def _shown(shown: Shown) -> dict[str, Any]:
    return _payload(shown.id, shown.chat, shown.text) | {"author": _BOT}


def _payload(number: int, channel: int, text: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        name: [] for name in ("attachments", "embeds", "mentions", "mention_roles", "components")
    }
    flags = {"pinned": False, "mention_everyone": False, "tts": False, "type": 0, "flags": 0, "edited_timestamp": None}
    return {"id": str(number), "channel_id": str(channel), "content": text, "timestamp": _DATE, **nothing, **flags}


@asynccontextmanager
async def fake_discord() -> AsyncGenerator[FakeDiscord]:
    """Run it for as long as the block lasts."""
    platform = FakeDiscord()
    app = web.Application()
    app.router.add_get("/gateway", platform.gateway)
    app.router.add_get("/api/v10/users/@me", platform.me)
    app.router.add_get("/api/v10/oauth2/applications/@me", platform.application)
    app.router.add_post("/api/v10/channels/{channel}/messages", platform.post)
    app.router.add_patch("/api/v10/channels/{channel}/messages/{message}", platform.edit)
    async with listening(app) as platform.url:
        yield platform
