"""The real LangGraph Server as a process of its own, with the stub graph, on loopback.

It is not installed with the project: `make test-langgraph` sets it up and says where it is. Nothing is sent anywhere
else by it: no analytics, no tracing, no look for newer versions, and no key for any of these.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = os.environ.get("TESTS_LANGGRAPH_SERVER", "")
"""Path of ``langgraph``; read when the tests are collected, before the environment is cleaned for them."""
STUB = Path(__file__).parent / "stub"
_QUIET = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_LANGGRAPH_API_VARIANT": "local_dev",
}
_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 10.0


def why_not() -> str:
    """Say why there is no server to be asked; empty where there is one."""
    if not PROGRAM:
        return "the real LangGraph Server is asked by `make test-langgraph`"
    return "" if Path(PROGRAM).exists() else "LangGraph Server could not be installed here"


@contextmanager
def serving(folder: Path, *, at_once: int = 10) -> Generator[str]:
    """
    Run the server, and yield its address.

    Args:
        folder: For its files and what it prints.
        at_once: How many runs go on at the same time.
    """
    shutil.copytree(STUB, folder / "stub")
    port = _free_port()
    command = [PROGRAM, "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "CHATLEASE_"))}
    with (folder / "server.txt").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--n-jobs-per-worker", str(at_once)],
            cwd=folder / "stub",
            env=environment | _QUIET,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/ok", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("LangGraph Server did not start; see server.txt")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Witness:
    """What the server itself says of its threads and runs."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def threads(self) -> int:
        """How many there are."""
        async with self._http.post(f"{self._url}/threads/count", json={}) as response:
            return int(await response.json())

    async def runs(self) -> int:
        """How many wait or go on, those of deleted threads too: the workers that are at one, and the queue."""
        async with self._http.get(f"{self._url}/metrics?format=json") as response:
            told: dict[str, Any] = await response.json()
        return int(told["workers"]["active"]) + int(told["queue"]["n_pending"])

    async def idle(self, seconds: float = 5.0) -> bool:
        """Wait until no run goes on: a worker comes to its end a moment after its run."""
        ends = time.monotonic() + seconds
        while await self.runs():
            if time.monotonic() > ends:
                return False
            await asyncio.sleep(0.05)
        return True
