"""Many sessions over real HTTP, cancelled and failing at random: no chat is left that the ledger does not know of."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from chatlease import Answer, Credential, Deadlines, Engine, MemoryLedger
from chatlease.errors import ChatleaseError
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import STEPS, Service, running

SESSIONS = 2_000
AT_ONCE = 50
SEED = 20260101
# Enough to drain on a machine that is busy: a chat handed over while its deletion was tried again may be gone already.
DEADLINES = Deadlines(
    connect=5, call=3, gate=60, queue=5, first_event=0.5, idle=0.5, answer=5, poll=0.05, settle=2, grace=0.5, drain=60
)


def _program(service: Service, rng: random.Random) -> None:
    """One call in ten goes wrong, in one of the ways of its step."""
    plain = ["500", "503-after", "drop", "html"]
    kinds = dict.fromkeys(STEPS, plain) | {"open_stream": [*plain, "cut(1)", "stall(1)", "pings(1)"]}
    kinds["delete_chat"] = ["500", "drop", "503-after"]
    for step, faults in kinds.items():
        for fault in rng.sample(faults, len(faults)):
            service.faults.add(step, fault, times=None, probability=0.1 / len(faults))


async def _cancel_twice(task: asyncio.Task[str], rng: random.Random) -> None:
    """Cancel at a random moment, and again at another."""
    for _ in range(2):
        await asyncio.wait({task}, timeout=rng.expovariate(1 / 0.05))
        task.cancel()


async def _one(answer: Answer, rng: random.Random, seen: Counter[str]) -> None:
    task = asyncio.ensure_future(answer.text())
    if rng.random() < 0.5:
        await _cancel_twice(task, rng)
    try:
        await task
    except asyncio.CancelledError:
        assert task.cancelled()
        seen["cancelled"] += 1
    except ChatleaseError as error:
        seen[type(error).__name__] += 1
    else:
        seen["answered"] += 1


async def _worker(engine: Engine, number: int, seen: Counter[str]) -> None:
    rng = random.Random(SEED + number)
    login = Credential(cookies={"__Secure-next-auth.session-token": f"bot-{number}"})
    for _ in range(SESSIONS // AT_ONCE):
        await _one(engine.ask("one two three", credential=login), rng, seen)


@pytest.mark.slow
async def test_2000_sessions_with_double_cancels_and_faults_leave_no_chat_unknown() -> None:
    """
    Chats at the service == open entries in the ledger, and every cancelled caller saw its CancelledError.

    A create that the service answered with an error before it had any effect is an open entry too: only the service,
    here asked for its faults, knows that there is no chat behind it.
    """
    ledger, seen = MemoryLedger(), Counter[str]()
    async with running(answers="echo", token_interval=0.001, workers=AT_ONCE, rate_limit=None) as service:
        _program(service, random.Random(SEED))
        async with Engine(OpenAssistant(url=service.url), ledger=ledger, deadlines=DEADLINES) as engine:
            await asyncio.gather(*(_worker(engine, number, seen) for number in range(AT_ONCE)))
        entries = await ledger.open_entries()
        print(dict(seen), "open entries:", len(entries), "chats:", len(service.chats), "seed:", SEED)
        bound = {entry.chat for entry in entries if entry.chat is not None}
        never_made = sum(service.faults.hits["create_chat", kind] for kind in ("before", "html"))
        assert bound <= service.chats.keys()
        assert len(service.chats) + never_made == len(entries)
        assert all(entry.orphaned for entry in entries)
        assert not service.lost_messages
        assert seen.total() == SESSIONS
        assert min(seen["answered"], seen["cancelled"]) > SESSIONS // 10
