"""
CPU time of the peers, side by side.

Rules that live here:

* What is measured is `time.process_time`: CPU seconds of this process, all its threads, the server not included.
* In every round each peer does the same work, in an order that turns with the round.
* Work that a peer leaves to threads or later tasks is waited for and counted as its own.
* A peer that loses a token or leaves a chat is no result but an error.
* Accounts are new in every round, for a service limits how often an account may ask, and Chatlease keeps to that.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from tests.bench.figures import BUSY, Outcome, Spread, cpu_measures
from tests.bench.peers import Ask, Opened, Peers
from tests.bench.serving import serving
from tests.bench.shapes import Shape

T = TypeVar("T")

TAIL_S = 0.3
"""So long what a peer left to later tasks or threads is waited for: the ledger takes its time where nobody waits."""
_LEAST_ROUNDS = 3


async def measure(shape: Shape, rounds: int) -> list[Outcome]:
    """
    Measure all peers of a shape.

    Args:
        shape: The work.
        rounds: How many are wanted, after one that warms up; there are fewer when time runs out, at least three.
    """
    seconds: dict[str, list[float]] = {name: [] for name in shape.peers}
    busy: dict[str, list[float]] = {name: [] for name in shape.peers}
    until = time.monotonic() + shape.budget_s
    async with serving(shape.script) as server, opened(shape.peers, server.url) as peers:
        for number in range(rounds + 1):
            if number > _LEAST_ROUNDS and time.monotonic() > until:
                break
            for name in turned(list(peers), number):
                used, took = await _round(peers[name], shape, f"{name}-{number}")
                if number:
                    seconds[name].append(used)
                    busy[name].append(used / took)
            await server.check()
    count = len(seconds[next(iter(seconds))])
    measures = cpu_measures(seconds, shape.units)
    for name, ratios in busy.items():
        measures[name][BUSY] = Spread.of(ratios)
    notes = [f"{count} rounds", *filter(None, [shape.note])]
    return [Outcome(shape.name, shape.per, measures, notes=notes, raw=seconds)]


@asynccontextmanager
async def opened(peers: Peers, url: str) -> AsyncGenerator[Mapping[str, Opened]]:
    """Open peers side by side, at the same service."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(peer(url)) for name, peer in peers.items()}


def turned(items: Sequence[T], by: int) -> Sequence[T]:
    """Return the items in the same order, beginning with another one."""
    cut = by % len(items)
    return [*items[cut:], *items[:cut]]


async def _round(peer: Opened, shape: Shape, accounts: str) -> tuple[float, float]:
    """Return the CPU seconds of a round, and how long it took."""
    gc.collect()
    with peer.at_work():
        before, began = time.process_time(), time.perf_counter()
        count = await _worked(peer.ask, shape, accounts)
        took = time.perf_counter() - began
        await asyncio.sleep(TAIL_S)
        used = time.process_time() - before
    if count != shape.tokens:
        raise RuntimeError(f"{accounts}: {count} tokens of {shape.tokens}")
    return used, took


async def _worked(ask: Ask, shape: Shape, accounts: str) -> int:
    if not shape.one_account:
        return await side_by_side(ask, [f"{accounts}-{each}" for each in range(shape.at_once)], shape.in_turn)
    counts = [await side_by_side(ask, [f"{accounts}-{each}"] * shape.at_once, 1) for each in range(shape.in_turn)]
    return sum(counts)


async def side_by_side(ask: Ask, accounts: Sequence[str], in_turn: int) -> int:
    """Hold sessions, those of one account one after the other; returns how many tokens came."""
    return sum(await asyncio.gather(*(_one_by_one(ask, account, in_turn) for account in accounts)))


async def _one_by_one(ask: Ask, account: str, in_turn: int) -> int:
    count = 0
    for _ in range(in_turn):
        async for _token in ask(account):
            count += 1
    return count
