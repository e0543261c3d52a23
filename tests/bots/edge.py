"""
Run a bot's program with its framework's network replaced at the edge; runs in the bots' environment.

``python edge.py FRAMEWORK URL PROGRAM``: what the framework would ask of its platform's host is asked of ``URL``. The
framework is the real one, and so are its HTTP, its gateway, its signals and its tasks.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from typing import Any


def telegram(edge: str) -> None:
    """Of python-telegram-bot: the class that makes its requests."""
    httpx_request: Any = importlib.import_module("telegram.request").HTTPXRequest
    do_request = httpx_request.do_request

    async def elsewhere(self: object, url: str, *arguments: Any, **named: Any) -> Any:
        return await do_request(self, url.replace("https://api.telegram.org", edge), *arguments, **named)

    httpx_request.do_request = elsewhere


def aiogram(url: str) -> None:
    """Of aiogram: the addresses of the server that every session begins with."""
    production: Any = importlib.import_module("aiogram.client.telegram").PRODUCTION
    object.__setattr__(production, "base", production.base.replace("https://api.telegram.org", url))


def discord(url: str) -> None:
    """Of discord.py: the root of every route, and the gateway."""
    importlib.import_module("discord.http").Route.BASE = f"{url}/api/v10"
    gateway: Any = importlib.import_module("yarl").URL(f"{url}/gateway")
    importlib.import_module("discord.gateway").DiscordWebSocket.DEFAULT_GATEWAY = gateway


EDGES = {"telegram": telegram, "aiogram": aiogram, "discord": discord}


def main() -> None:
    framework, url, program = sys.argv[1:]
    EDGES[framework](url)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
