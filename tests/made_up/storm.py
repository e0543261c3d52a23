"""Many sessions on a made-up service that fails, cancelled at random: is a chat left that no ledger knows of?"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from chatlease import Answer, Deadlines, Engine, MemoryLedger
from chatlease.adapter import Adapter
from chatlease.errors import ChatleaseError

from .faults import Kind
from .operations import operations
from .server import MadeUpServer, login

PROMPT = "one two three"
DEADLINES = Deadlines(
    connect=5, call=3, gate=60, queue=5, first_event=0.5, idle=0.5, answer=5, poll=0.05, settle=2, grace=0.5, drain=60
)
_AT_ONCE = 8
_PLAIN: tuple[Kind, ...] = ("before", "after", "drop", "page")
_OF_STREAMS: tuple[Kind, ...] = ("cut", "stall")
_FAULTY = 0.1


def program(server: MadeUpServer) -> None:
    """Let one call in ten go wrong, in all the ways of its step."""
    for step, operation in operations(server.plan).items():
        streams = operation.gives == "stream" or (step == "queue_assistant" and server.plan.manners.streams_at_once)
        kinds: list[Kind] = [*_PLAIN, *(_OF_STREAMS if streams else ())]
        for kind in kinds:
            server.faults.add(step, kind, times=None, probability=_FAULTY / len(kinds))


async def storm(
    make: Callable[[], Adapter], server: MadeUpServer, *, sessions: int = 200, seed: int = 1
) -> Counter[str]:
    """
    Have sessions, eight at a time, half of them cancelled; return how they ended.

    Raises:
        AssertionError: A chat is left that the ledger does not know of, or a run was harmed.
    """
    seen, ledger = Counter[str](), MemoryLedger()
    program(server)
    async with Engine(make(), ledger=ledger, deadlines=DEADLINES) as engine:
        await asyncio.gather(
            *(_worker(engine, server, sessions // _AT_ONCE, seed + each, seen) for each in range(_AT_ONCE))
        )
    entries = await ledger.open_entries()
    bound = {entry.chat for entry in entries if entry.chat is not None}
    unknown = server.store.chats.keys() - bound
    assert len(unknown) <= sum(entry.chat is None for entry in entries), f"chats that no ledger knows of: {unknown}"
    assert not server.store.harmed, f"{server.store.harmed} runs lost their chat while they were going"
    assert set(seen) & {"answered"}, "no session was answered"
    return seen


async def _worker(engine: Engine, server: MadeUpServer, sessions: int, seed: int, seen: Counter[str]) -> None:
    rng = random.Random(seed)
    credential = login(server.plan, f"right-bot-{seed}")
    for _ in range(sessions):
        seen[await _one(engine.ask(PROMPT, credential=credential), rng)] += 1


async def _one(answer: Answer, rng: random.Random) -> str:
    task = asyncio.ensure_future(answer.text())
    if rng.random() < 0.5:
        await asyncio.wait({task}, timeout=rng.expovariate(1 / 0.02))
        task.cancel()
    try:
        text = await task
    except asyncio.CancelledError:
        return "cancelled"
    except ChatleaseError as error:
        return type(error).__name__
    assert text == PROMPT, "an answer is the service's own text, every word once"
    return "answered"
