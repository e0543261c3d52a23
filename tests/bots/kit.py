"""A bot of engine/README.md as a process of its own: as printed, its platform and its chat service on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chatlease_adapters.open_assistant.service import Service, Work, running
from tests.pages import block

from . import fake_discord, fake_telegram
from .platforms import WITHIN_S, Platform

PYTHON = os.environ.get("TESTS_BOTS_PYTHON", "")
"""The interpreter of the bots' environment; read when the tests are collected."""
PAGE = "engine/README.md"
EDGE = Path(__file__).with_name("edge.py")
COMPLAINT = re.compile(r"Traceback|Warning|Error\b|ERROR|CRITICAL|never retrieved|[Uu]nclosed|was destroyed")
QUIET = (
    # discord.py imports it; from 3.13 on it has the package that took its place
    "ignore:'audioop' is deprecated:DeprecationWarning",
    # python-telegram-bot warns of its own RetryAfter.retry_after whenever it makes that exception
    "ignore:Deprecated since version v22.2",
)


def why_not() -> str:
    """Say why there is no bot to be run; empty where there are all."""
    if not PYTHON:
        return "the bots of engine/README.md are run by `make test-bots`"
    return "" if Path(PYTHON).exists() else "the bots' frameworks could not be installed here"


@dataclass(frozen=True)
class Framework:
    """
    A framework for bots.

    Attributes:
        name: As `edge` calls it.
        words: Which the printed program has, and no other block of the page.
        token: What the platform takes.
        platform: Runs the platform's fake.
        stop: What a user writes to stop his answer.
        longest: How many characters a message may have.
    """

    name: str
    words: str
    token: str
    platform: Callable[[], AbstractAsyncContextManager[Platform]]
    stop: str
    longest: int

    @property
    def program(self) -> str:
        """Return the program as printed."""
        return block(PAGE, self.words).source


FRAMEWORKS = (
    Framework(
        "telegram",
        "from telegram.ext import",
        fake_telegram.TOKEN,
        fake_telegram.fake_telegram,
        "/stop",
        fake_telegram.LONGEST,
    ),
    Framework(
        "aiogram",
        "from aiogram import",
        fake_telegram.TOKEN,
        fake_telegram.fake_telegram,
        "/stop",
        fake_telegram.LONGEST,
    ),
    Framework(
        "discord",
        "import discord\n",
        fake_discord.TOKEN,
        fake_discord.fake_discord,
        "!stop",
        fake_discord.LONGEST,
    ),
)


class Model:
    """What answers at the service: it says, to each prompt, what a test tells it to."""

    def __init__(self) -> None:
        self._tokens: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)

    def say(self, prompt: str, *tokens: str, end: bool = False) -> None:
        """Say these tokens in answer to a prompt; an empty one is its end."""
        for token in (*tokens, *([""] if end else [])):
            self._tokens[prompt].put_nowait(token)

    async def answer(self, work: Work) -> AsyncGenerator[str, None]:
        """Answer; an `AnswerSource`."""
        queue = self._tokens[work.thread[-1][1]]
        while token := await queue.get():
            yield token


@dataclass
class Stage:
    """
    Everything around a bot: the platform, the chat service, the model, and the folder with ledger and output.

    Attributes:
        processes: The bot's, oldest first.
        watches: What tells the platform's board of their ends.
    """

    framework: Framework
    platform: Platform
    service: Service
    model: Model
    folder: Path
    processes: list[Process] = field(default_factory=list[Process])
    watches: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    @property
    def output(self) -> str:
        """What the bot has printed."""
        return (self.folder / "output.txt").read_text()

    @property
    def ledger(self) -> str:
        """The bot's ledger, as a URL."""
        return f"sqlite:///{self.folder}/chats.sqlite3"

    def lose_the_ledger(self) -> None:
        """Remove it with all that is beside it, as the end of a container without a volume does."""
        for file in self.folder.glob("chats.sqlite3*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def complaints(self) -> list[str]:
        """Return the lines of the output that complain."""
        return [line for line in self.output.splitlines() if COMPLAINT.search(line)]

    async def start(self) -> Process:
        """Start the bot."""
        program = self.folder / "bot.py"
        program.write_text(self.framework.program)
        with (self.folder / "output.txt").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(PYTHON, "-W", "error", *(f"-W{each}" for each in QUIET)),
                *(str(EDGE), self.framework.name, self.platform.url, str(program)),
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        self.platform.board.output = lambda: self.output
        self.platform.board.gone = lambda: process.returncode is not None
        self.watches.append(asyncio.create_task(self._watch(process)))
        return process

    async def _watch(self, process: Process) -> None:
        await process.wait()
        await self.platform.board.tell()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHATLEASE_", "PYTHON"))}
        return kept | {
            "BOT_TOKEN": self.framework.token,
            "CHATLEASE_OPEN_ASSISTANT_URL": self.service.url,
            "CHATLEASE_OPEN_ASSISTANT_COOKIE": "anyone",
            "CHATLEASE_LEDGER": self.ledger,
            "CHATLEASE_SWEEP": "1",
            "CHATLEASE_TRACE": str(self.folder / "trace.jsonl"),
        }

    async def terminate(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.processes[-1].send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the bot's end; returns its exit code."""
        async with asyncio.timeout(WITHIN_S):
            return await self.processes[-1].wait()

    async def given_back(self) -> None:
        """Wait until there is no chat at the service."""
        async with asyncio.timeout(WITHIN_S):
            while self.service.chats:  # noqa: ASYNC110  (the service has no event for it, and needs none)
                await asyncio.sleep(0.01)
        assert self.service.created
        assert not self.service.lost_messages


@asynccontextmanager
async def staged(framework: Framework, folder: Path) -> AsyncGenerator[Stage]:
    """Set up everything but the bot; at the end no process of it is left."""
    model = Model()
    async with framework.platform() as platform, running(answers=model.answer, workers=4) as service:
        stage = Stage(framework, platform, service, model, folder)
        try:
            yield stage
        finally:
            for process in stage.processes:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*stage.watches)
