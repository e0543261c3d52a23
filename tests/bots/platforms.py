"""What the fakes of chat platforms have in common: messages that a test writes, and what a bot shows for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

WITHIN_S = 60.0
"""For everything that is waited for; only a bot that starts on a busy machine takes more than a few seconds."""


@dataclass
class Shown:
    """
    A message of the bot's.

    Attributes:
        chat: Where it is.
        id: Its number.
        texts: What it said, one after the other, without white space around it.
    """

    chat: int
    id: int
    texts: list[str]

    @property
    def text(self) -> str:
        """What it says now."""
        return self.texts[-1]


@dataclass
class Board:
    """
    What the bot has shown, and a way to wait for more.

    Attributes:
        messages: The bot's, oldest first.
        floods: Refuse so many of the next edits as too many, with one second to wait.
        gone: Says whether the bot has ended, so that nothing more is to be waited for.
        output: Returns what the bot has printed.
        numbers: Gives out ids.
    """

    messages: list[Shown] = field(default_factory=list[Shown])
    floods: int = 0
    gone: Callable[[], bool] = bool
    output: Callable[[], str] = str
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def post(self, chat: int, text: str) -> Shown:
        """Show a new message of the bot's."""
        shown = Shown(chat, next(self.numbers), [text.strip()])
        self.messages.append(shown)
        await self.tell()
        return shown

    async def edit(self, number: int, text: str) -> Shown | None:
        """Change a message of the bot's; ``None`` for too many edits."""
        if self.floods:
            self.floods -= 1
            return None
        [shown] = [each for each in self.messages if each.id == number]
        shown.texts.append(text.strip())
        await self.tell()
        return shown

    async def tell(self) -> None:
        """Say that something has changed."""
        async with self._changed:
            self._changed.notify_all()

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until it is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN_S), self._changed:
                await self._changed.wait_for(lambda: self.gone() or so())
        assert so(), f"{[each.text for each in self.messages]}\n{self.output()}"

    async def says(self, text: str, *, chat: int | None = None) -> Shown:
        """Wait for a message of the bot's that says exactly this now."""

        def found() -> list[Shown]:
            return [each for each in self.messages if each.text == text and chat in {None, each.chat}]

        await self.until(lambda: bool(found()))
        return found()[0]


class Platform(Protocol):
    """A chat platform with one bot, on loopback."""

    url: str
    board: Board

    async def ready(self) -> None:
        """Wait until the bot listens."""
        ...

    async def write(self, text: str, *, user: int = 1) -> int:
        """Write a message to the bot, in a chat with it alone; returns the message's number."""
        ...

    async def rewrite(self, number: int, text: str, *, user: int = 1) -> None:
        """Edit a message."""
        ...


@asynccontextmanager
async def listening(app: web.Application) -> AsyncGenerator[str]:
    """Serve an application on loopback; yields its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()
