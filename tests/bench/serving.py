"""The service's process, from outside: started, asked for its counts, ended."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import aiohttp

from tests.bench.server import Script


@dataclass(frozen=True, slots=True)
class Server:
    """
    A running service.

    Attributes:
        url: Its origin.
    """

    url: str
    _orders: asyncio.StreamWriter

    def release(self) -> None:
        """Let the streams that are parked go on to their end."""
        self._orders.write(b"\n")

    async def check(self) -> None:
        """
        Make sure that every chat was deleted.

        Raises:
            RuntimeError: One was left, or one deleted twice.
        """
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/counts") as response:
            counts: dict[str, int] = await response.json()
        if counts["created"] != counts["deleted"]:
            raise RuntimeError(f"chats were left: {counts}")


@asynccontextmanager
async def serving(script: Script) -> AsyncGenerator[Server]:
    """Run a service that answers by this script, in a process of its own."""
    arguments = ("-m", "tests.bench.server", json.dumps(asdict(script)))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server was started without pipes")
    try:
        port = int(await process.stdout.readline())
        yield Server(f"http://127.0.0.1:{port}", process.stdin)
    finally:
        process.stdin.close()
        await process.wait()
