"""
The time from asking to the first token, by the wall clock.

Rules that live here:

* One session at a time, each peer in turn, so that all see the same machine. The service answers at once: what is
  measured is what the client adds.
* A round is some sessions of each peer, of which it has the median; ratios are taken within the round.
"""

from __future__ import annotations

import statistics
import time

from tests.bench import ours, plain
from tests.bench.figures import OVER_FLOOR, Measures, Outcome, Spread, over
from tests.bench.measure import opened, turned
from tests.bench.peers import DEFAULT, FLOOR, MEMORY, NONE, SEEDS, Ask, Peers
from tests.bench.server import Script
from tests.bench.serving import serving

NAME = "time to the first token"
WAITED = "ms"
_SCRIPT = Script(tokens=16)

PEERS: Peers = {
    FLOOR: plain.floor,
    SEEDS: plain.seeds,
    NONE: ours.chatlease(ledger=None),
    MEMORY: ours.chatlease(ledger="memory"),
    DEFAULT: ours.chatlease(),
}


async def measure(rounds: int, sessions: int) -> list[Outcome]:
    """
    Measure.

    Args:
        rounds: After one that warms up.
        sessions: Of each peer, in a round.
    """
    waits: dict[str, list[float]] = {name: [] for name in PEERS}
    async with serving(_SCRIPT) as server, opened(PEERS, server.url) as peers:
        for number in range(rounds + 1):
            times: dict[str, list[float]] = {name: [] for name in PEERS}
            for each in range(sessions):
                for name in turned(list(PEERS), each):
                    times[name].append(await _first_token(peers[name].ask, f"{name}-{number}-{each}"))
            if number:
                for name, its in times.items():
                    waits[name].append(statistics.median(its))
        await server.check()
    found = {name: _measures(waits, name) for name in PEERS}
    return [Outcome(NAME, "session", found, [f"{rounds} rounds"], raw=waits)]


def _measures(waits: dict[str, list[float]], name: str) -> Measures:
    return {WAITED: Spread.of([wait * 1000 for wait in waits[name]]), OVER_FLOOR: over(waits, name, FLOOR)}


async def _first_token(ask: Ask, account: str) -> float:
    """Return how long the first token took; the rest is read, so that the chat is deleted."""
    count, first, began = 0, 0.0, time.perf_counter()
    async for _token in ask(account):
        if not count:
            first = time.perf_counter() - began
        count += 1
    if count != _SCRIPT.tokens:
        raise RuntimeError(f"{account}: {count} tokens of {_SCRIPT.tokens}")
    return first
