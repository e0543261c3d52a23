"""The two programs that the harness runs, from outside: the service and the nursery of the workers."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Self

import aiohttp
import msgspec

from chatlease_adapters.open_assistant.service import SESSION_COOKIE
from tests.crash.nursery import Event, Order
from tests.crash.oracle import Page
from tests.crash.server import Planting, Setup
from tests.crash.worker import Job

_ROOT = Path(__file__).parents[2]
_ENDS_WITHIN_S = 10.0


class _Program:
    """A program of this folder: ends when its standard input is closed."""

    def __init__(self, module: str, *arguments: str, errors: IO[bytes]) -> None:
        self._command = ("-m", f"tests.crash.{module}", *arguments)
        self._errors = errors
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running program."""
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._command, stdin=PIPE, stdout=PIPE, stderr=self._errors, cwd=_ROOT
        )
        await self.started()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stopped()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def started(self) -> None:
        """Do what is to be done once it runs."""

    async def stopped(self) -> None:
        """Do what is to be done before it ends."""

    async def line(self) -> bytes:
        """Return its next line; empty at its end."""
        assert self.process.stdout is not None
        return await self.process.stdout.readline()


class Server(_Program):
    """
    The service.

    Attributes:
        url: Its address.
    """

    def __init__(self, setup: Setup, errors: IO[bytes], *, module: str = "server") -> None:
        super().__init__(module, msgspec.json.encode(setup).decode(), errors=errors)
        self.url = ""
        self._http: aiohttp.ClientSession | None = None
        self._read = 0
        self._pages = msgspec.json.Decoder(Page)
        self._one_at_a_time = asyncio.Lock()

    @property
    def http(self) -> aiohttp.ClientSession:
        """For requests of the harness's own."""
        assert self._http is not None
        return self._http

    async def started(self) -> None:
        """Learn the address."""
        self.url = (await self.line()).decode().strip()
        if not self.url:
            raise RuntimeError("the service did not start")
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

    async def stopped(self) -> None:
        """Let go of the connections."""
        await self.http.close()

    async def journal(self) -> Page:
        """Return what was entered since the last time."""
        async with self.http.get(f"{self.url}/_chatlease/journal?after={self._read}") as response:
            page = self._pages.decode(await response.read())
        if page.entries:
            self._read = page.entries[-1].number
        return page

    async def plant(self, planting: Planting) -> str:
        """Have another program make a chat; returns its id."""
        assert self.process.stdin is not None
        async with self._one_at_a_time:
            self.process.stdin.write(msgspec.json.encode(planting) + b"\n")
            return (await self.line()).decode().strip()

    async def has_chat(self, token: str, chat: str) -> bool:
        """Say whether a chat of this login is there."""
        cookie = {"Cookie": f"{SESSION_COOKIE}={token}"}
        async with self.http.get(f"{self.url}/api/chat?chat_id={chat}", headers=cookie) as response:
            return response.status == HTTPStatus.OK

    async def counts(self) -> dict[str, Any]:
        """Return the service's own counts."""
        async with self.http.get(f"{self.url}/_chatlease/counts") as response:
            counts: dict[str, Any] = await response.json()
            return counts


class LangGraphServer(Server):
    """The real LangGraph Server, behind a front."""

    def __init__(self, setup: Setup, errors: IO[bytes]) -> None:
        super().__init__(setup, errors, module="front")

    async def has_chat(self, token: str, chat: str) -> bool:
        """Say whether a thread is there."""
        async with self.http.get(f"{self.url}/threads/{chat}") as response:
            return response.status == HTTPStatus.OK


class Nursery(_Program):
    """The nursery: starts workers, and sends them signals."""

    def __init__(self, errors: IO[bytes]) -> None:
        super().__init__("nursery", errors=errors)
        self._ends: dict[str, asyncio.Future[Event]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def started(self) -> None:
        """Begin to listen."""
        self._reading = asyncio.create_task(self._read())

    async def stopped(self) -> None:
        """Listen no more."""
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait({self._reading})

    def start(self, job: Job) -> asyncio.Future[Event]:
        """Start a worker; returns its end."""
        end = self._ends[job.life.name] = asyncio.get_running_loop().create_future()
        self._order(Order(job=job))
        return end

    def signal(self, name: str, number: int) -> None:
        """Send a worker a signal, if it still lives."""
        self._order(Order(name=name, signal=number))

    def _order(self, order: Order) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def _read(self) -> None:
        decoder = msgspec.json.Decoder(Event)
        while line := await self.line():
            event = decoder.decode(line)
            self._ends.pop(event.name).set_result(event)
        for end in self._ends.values():
            end.set_exception(RuntimeError("the nursery ended before its workers"))
