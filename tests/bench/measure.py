"""
CPU time of the peers, side by side.

Rules that live here:

* What is measured is `time.process_time`: CPU seconds of this process, all its threads, the server not included.
* In every round each peer does the same work, in an order that turns with the round; the ratio to the floor is taken
  within the round, so that a machine that grows slower hurts all alike. The median over the rounds is the result.
* Work that a peer leaves to threads or later tasks is waited for and counted as its own.
* A peer that loses a token or leaves a chat is no result but an error.
* Accounts are new in every round, for a service limits how often an account may ask, and Chatlease keeps to that.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from tests.bench.peers import Ask, Peer

_TAIL_S = 0.05
_LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What is asked of every peer in a round.

    Attributes:
        name: For the report.
        tokens: Tokens of one answer.
        per_write: How many of them the server writes together.
        at_once: Sessions side by side, each with an account of its own.
        in_turn: Sessions of each of these accounts, one after the other; a service allows about 20.
        per: What the report divides by: ``"session"`` or ``"token"``.
    """

    name: str
    tokens: int
    per_write: int
    at_once: int
    in_turn: int
    per: str

    @property
    def sessions(self) -> int:
        """Sessions in a round."""
        return self.at_once * self.in_turn

    @property
    def units(self) -> int:
        """How many of what the report divides by are in a round."""
        return self.sessions if self.per == "session" else self.sessions * self.tokens


SHAPES = (
    Shape("short sessions: 16 tokens, 16 accounts at once", 16, 1, at_once=16, in_turn=12, per="session"),
    Shape("short sessions: 16 tokens, 100 accounts at once", 16, 1, at_once=100, in_turn=12, per="session"),
    Shape("long answer, one token a write", 8_000, 1, at_once=1, in_turn=2, per="token"),
    Shape("long answer, 64 tokens a write", 32_768, 64, at_once=1, in_turn=4, per="token"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a peer needed in a shape.

    Attributes:
        seconds: CPU seconds, one number per round.
        ratios: The same, over the floor's of that round.
        unit_us: Median CPU microseconds per session or token.
    """

    seconds: list[float]
    ratios: list[float]
    unit_us: float

    def ratio(self) -> tuple[float, float, float]:
        """Return the median of the ratios, and the quartiles around it."""
        low, median, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return median, low, high


async def measure(shape: Shape, peers: Mapping[str, Peer], *, rounds: int, budget_s: float) -> dict[str, Result]:
    """
    Measure all peers in one shape.

    Args:
        shape: The work.
        peers: By name; the first is the floor.
        rounds: How many are wanted, after one that warms up.
        budget_s: Wall-clock seconds after which no further round begins, once there are three.
    """
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    until = time.monotonic() + budget_s
    async with _server(shape) as url, AsyncExitStack() as stack:
        asks = {name: await stack.enter_async_context(peer(url)) for name, peer in peers.items()}
        for number in range(rounds + 1):
            if number > _LEAST_ROUNDS and time.monotonic() > until:
                break
            for name in _turned(list(asks), number):
                used = await _round(asks[name], shape, f"{name}-{number}")
                if number:
                    seconds[name].append(used)
            await _check(url)
    return {name: _result(shape, used, seconds[next(iter(peers))]) for name, used in seconds.items()}


def _turned(names: list[str], by: int) -> list[str]:
    cut = by % len(names)
    return names[cut:] + names[:cut]


def _result(shape: Shape, used: list[float], floor: list[float]) -> Result:
    ratios = [mine / least for mine, least in zip(used, floor, strict=True)]
    return Result(used, ratios, statistics.median(used) / shape.units * 1e6)


async def _round(ask: Ask, shape: Shape, accounts: str) -> float:
    gc.collect()
    before = time.process_time()
    counts = await asyncio.gather(*(_account(ask, f"{accounts}-{each}", shape) for each in range(shape.at_once)))
    await asyncio.sleep(_TAIL_S)
    used = time.process_time() - before
    if sum(counts) != shape.sessions * shape.tokens:
        raise RuntimeError(f"{accounts}: {sum(counts)} tokens of {shape.sessions * shape.tokens}")
    return used


async def _account(ask: Ask, account: str, shape: Shape) -> int:
    count = 0
    for _ in range(shape.in_turn):
        async for _token in ask(account):
            count += 1
    return count


async def _check(url: str) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/counts") as response:
        counts = await response.json()
    if counts["created"] != counts["deleted"]:
        raise RuntimeError(f"chats were left: {counts}")


@asynccontextmanager
async def _server(shape: Shape) -> AsyncGenerator[str]:
    arguments = ("-m", "tests.bench.server", str(shape.tokens), str(shape.per_write))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server was started without pipes")
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        await process.wait()
