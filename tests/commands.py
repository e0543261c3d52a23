"""The command line in a process of its own, for tests."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def command(*arguments: str, **pipes: int) -> AsyncGenerator[Process]:
    """Run the command line in a process of its own, which is killed if it is still there at the end."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm", "NO_COLOR": "1"}
    env["CHATLEASE_OPEN_ASSISTANT_COOKIE"] = "anyone"
    streams: dict[str, int] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | pipes
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "chatlease", *arguments, env=env, **streams)  # type: ignore[arg-type]  # descriptors and PIPE are numbers
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
