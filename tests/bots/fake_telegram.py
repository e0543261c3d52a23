"""Telegram's Bot API, as much of it as a bot that answers in text needs; in this process, on loopback.

After https://core.telegram.org/bots/api: ``getUpdates`` is asked again and again and waits for news, a message is not
edited to what it says already, no message is empty or longer than 4096 characters, and too many edits are 429 with the
seconds to wait.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from .platforms import Board, Shown, listening

TOKEN = "4321:a-token"
LONGEST = 4096
_BOT = {"id": 4321, "is_bot": True, "first_name": "Bot", "username": "a_bot"}
_DATE = 1_700_000_000


class Refused(Exception):
    """The API's own refusal."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.parameters = parameters


class FakeTelegram:
    """
    One bot and those who write to it; each user in a chat of his own with the same number.

    Attributes:
        url: Where it listens.
        board: What the bot has shown.
        refused: Methods that are refused, by name.
        asked: Methods that were called.
    """

    def __init__(self) -> None:
        self.url = ""
        self.board = Board()
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self._updates: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def ready(self) -> None:
        await self.board.until(lambda: "getUpdates" in self.asked)

    async def write(self, text: str, *, user: int = 1) -> int:
        number = next(self.board.numbers)
        self._add("message", _message(number, user, text))
        return number

    async def rewrite(self, number: int, text: str, *, user: int = 1) -> None:
        self._add("edited_message", _message(number, user, text) | {"edit_date": _DATE})

    def _add(self, kind: str, message: dict[str, Any]) -> None:
        self._updates.append({"update_id": len(self._updates) + 1, kind: message})
        self._news.set()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a call of a method."""
        method, fields = request.match_info["method"], await _fields(request)
        self.asked.append(method)
        try:
            result = await self._method(request.match_info["token"], method)(fields)
        except Refused as refused:
            told = {"ok": False, "error_code": refused.status, "description": str(refused)}
            return web.json_response(told | {"parameters": refused.parameters}, status=refused.status)
        finally:
            await self.board.tell()
        return web.json_response({"ok": True, "result": result})

    def _method(self, token: str, name: str) -> Callable[[dict[str, Any]], Awaitable[object]]:
        if token != TOKEN or name in self.refused:
            raise Refused(401, "Unauthorized")
        method: Callable[[dict[str, Any]], Awaitable[object]] = getattr(self, f"_{name}")
        return method

    async def _getMe(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  (Telegram's own names)
        return _BOT

    async def _deleteWebhook(self, _: dict[str, Any]) -> bool:  # noqa: N802
        return True

    async def _getUpdates(self, fields: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        self._news.clear()
        if not self._news_since(fields):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), float(fields.get("timeout", 0)))
        return self._news_since(fields)

    def _news_since(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [each for each in self._updates if each["update_id"] >= int(fields.get("offset") or 0)]

    async def _sendMessage(self, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return _shown(await self.board.post(int(fields["chat_id"]), _text(fields)))

    async def _editMessageText(self, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number, text = int(fields["message_id"]), _text(fields)
        if any(each.id == number and each.text == text for each in self.board.messages):
            raise Refused(400, "Bad Request: message is not modified")
        shown = await self.board.edit(number, text)
        if shown is None:
            raise Refused(429, "Too Many Requests: retry after 1", retry_after=1)
        return _shown(shown)


async def _fields(request: web.Request) -> dict[str, Any]:
    if request.content_type == "application/json":
        told: dict[str, Any] = await request.json()
        return told
    return {name: _value(str(value)) for name, value in (await request.post()).items()}


def _value(text: str) -> Any:
    """Return what a form says; python-telegram-bot writes JSON into it, but for texts."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(fields: dict[str, Any]) -> str:
    text = str(fields["text"]).strip()
    if not text or len(text) > LONGEST:
        raise Refused(400, "Bad Request: message is too long" if text else "Bad Request: message text is empty")
    return text


def _message(number: int, user: int, text: str) -> dict[str, Any]:
    who = {"id": user, "is_bot": False, "first_name": f"User {user}"}
    chat = {"id": user, "type": "private", "first_name": f"User {user}"}
    command = {"entities": [{"type": "bot_command", "offset": 0, "length": len(text)}]} if text[0] == "/" else {}
    return {"message_id": number, "date": _DATE, "chat": chat, "from": who, "text": text, **command}


def _shown(shown: Shown) -> dict[str, Any]:
    chat = {"id": shown.chat, "type": "private", "first_name": f"User {shown.chat}"}
    return {"message_id": shown.id, "date": _DATE, "chat": chat, "from": _BOT, "text": shown.text}


@asynccontextmanager
async def fake_telegram() -> AsyncGenerator[FakeTelegram]:
    """Run it for as long as the block lasts."""
    platform = FakeTelegram()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", platform.answer)
    async with listening(app) as platform.url:
        yield platform
