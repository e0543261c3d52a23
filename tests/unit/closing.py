"""What the tests of closing share: a ledger that fails, and an engine that must have done everything in the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chatlease import Engine, MemoryLedger, Session
from chatlease.errors import LedgerUnavailable
from chatlease.ledger import Entry, Hold
from chatlease.testing import FakeService, ManualClock

PROMPT = "one two"


class Ledger(MemoryLedger):
    """A ledger whose writes can fail."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = set(failing)

    async def intent(self, entry: Entry) -> Hold:
        self._check("intent")
        return await super().intent(entry)

    async def bound(self, hold: Hold, chat: str) -> None:
        self._check("bound")
        await super().bound(hold, chat)

    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        self._check("hand_over")
        await super().hand_over(hold, attempts=attempts, error_code=error_code, retry_in_s=retry_in_s, dead=dead)

    def _check(self, write: str) -> None:
        if write in self.failing:
            raise LedgerUnavailable("the disk is full")


@asynccontextmanager
async def opened(
    service: FakeService, clock: ManualClock, ledger: MemoryLedger | None, *, strict: bool = False
) -> AsyncGenerator[Engine]:
    """Open an engine that must have ended its tasks, and done no harm, in the end."""
    async with Engine(service, clock=clock, ledger=ledger, strict_cleanup=strict) as engine:
        yield engine
    assert service.lost_messages == 0
    assert not engine.keeper._tasks


async def with_chat(engine: Engine) -> Session:
    """A session that has created its chat."""
    session = engine.session(prompt=PROMPT)
    await session.ready_cookies()
    await session.create_chat()
    return session
