"""Two processes with one login against the local service, with a ledger on PostgreSQL between them."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Any

import pytest

from chatlease_adapters.open_assistant._service import _rules
from chatlease_adapters.open_assistant.service import Service, running

_PROCESS = """
    import asyncio, json, sys
    from collections import Counter

    from chatlease import Credential, Deadlines, Engine
    from chatlease.errors import ChatleaseError
    from chatlease_adapters.open_assistant import OpenAssistant

    async def main(url, ledger, number, gate):
        ended = Counter()

        async def ask(engine):
            try:
                ended[await engine.ask("one two", account="bot", credential=login).text()] += 1
            except ChatleaseError as error:
                ended[type(error).__name__] += 1

        login = Credential(cookies={"__Secure-next-auth.session-token": "bot"})
        deadlines = Deadlines(gate=float(gate), poll=0.02)
        names = Counter()
        options = {"ledger": ledger, "sweep": None, "deadlines": deadlines}
        async with Engine(OpenAssistant(url), hooks=[lambda each: names.update([each.event])], **options) as engine:
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            await asyncio.gather(*(ask(engine) for _ in range(int(number))))
        print(json.dumps([ended, names]), flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


class Cancelled:
    """Counts the pending answers that asking for another one cancelled at the service."""

    def __init__(self) -> None:
        self.number = 0


@pytest.fixture
def cancelled(monkeypatch: pytest.MonkeyPatch) -> Cancelled:
    """What is cancelled at every service of the test."""
    found, cancel = Cancelled(), _rules.Rules._cancel_others

    def counted(self: _rules.Rules, user: str, parent: str) -> None:
        found.number += sum(each.parent_id != parent for each in self._store.pending_of(user))
        cancel(self, user, parent)

    monkeypatch.setattr(_rules.Rules, "_cancel_others", counted)
    return found


@asynccontextmanager
async def _busy() -> AsyncGenerator[Service]:
    """A service on which an answer is pending for a while before it is taken."""
    async with running(answers="echo", token_interval=0.02, pending_interval=0.05, workers=1) as service:
        yield service
        assert not service.chats
        assert not service.lost_messages


async def _two(service: Service, ledgers: tuple[str, str], number: int, *, gate: float) -> list[list[dict[str, int]]]:
    """Have two processes ask so many times each, all at once; returns how the answers ended, and the traces' events."""
    path = ":".join(each for each in sys.path if each)
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(_PROCESS), service.url, ledger, str(number), str(gate)),
            stdin=PIPE,
            stdout=PIPE,
            env={"PYTHONPATH": path},
        )
        for ledger in ledgers
    ]
    try:
        for each in processes:
            assert each.stdout is not None
            assert await each.stdout.readline() == b"ready\n"
        for each in processes:
            assert each.stdin is not None
            each.stdin.write(b"\n")
        async with asyncio.timeout(90):
            return [json.loads((await each.communicate())[0]) for each in processes]
    finally:
        for each in processes:
            if each.returncode is None:
                each.kill()
                await each.wait()


async def test_without_a_ledger_between_them_they_cancel_each_others_answers(cancelled: Cancelled) -> None:
    """The harm that the turns are there against; the next test can see it."""
    async with _busy() as service:
        await _two(service, ("memory", "memory"), 5, gate=60)
    assert cancelled.number > 0


async def test_no_answer_of_theirs_is_ever_cancelled_by_the_other(cancelled: Cancelled, postgres_url: str) -> None:
    async with _busy() as service:
        told = await _two(service, (postgres_url, postgres_url), 8, gate=60)
    assert [ended for ended, _ in told] == [{"one two": 8}] * 2
    for _, events in told:
        assert events["session.closed"] == 8
        assert "session.run.requeued" not in events
        assert "session.gate.alone" not in events
    assert cancelled.number == 0


async def test_the_budget_of_the_account_holds_for_both_together(cancelled: Cancelled, postgres_url: str) -> None:
    """Twenty answers in eleven minutes; the twenty-first is refused here, and never asked for there."""
    async with _busy() as service:
        told = await _two(service, (postgres_url, postgres_url), 14, gate=60)
        counts: dict[str, Any] = service.counts()
    total = {name: sum(ended.get(name, 0) for ended, _ in told) for name in ("one two", "RateLimited")}
    assert total == {"one two": 20, "RateLimited": 8}
    assert counts["requests"]["queue_assistant"] == 20
    assert min(ended["one two"] for ended, _ in told) > 0
    assert cancelled.number == 0
