"""What a `FakeService` keeps: chats, their runs, and the streams of these."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from chatlease._clock import Clock
from chatlease.events import Batch, Failed, Final, Pending, RunStatus

__all__ = ["HANG", "FakeChat", "FakeRun", "FakeStream"]


@dataclass(slots=True)
class FakeRun:
    """
    A queued answer.

    Attributes:
        id: Its id.
        prompt: Id of the prompt that it answers.
        text: The final text.
        batches: What the stream gives, read by read.
        ends_at: Clock time at which it is over by itself.
        status: Set where something else ended it (``CANCELLED``, ``FAILED``), else ``None``.
    """

    id: str
    prompt: str
    text: str
    batches: deque[Batch]
    ends_at: float
    status: RunStatus | None = None

    def status_at(self, now: float) -> RunStatus:
        """Return what the service says of it at that clock time."""
        if self.status is not None:
            return self.status
        if now >= self.ends_at:
            return RunStatus.ANSWERED
        return RunStatus.PENDING if self.batches and isinstance(self.batches[0][0], Pending) else RunStatus.GOING


@dataclass(slots=True)
class FakeChat:
    """A chat: who made it and when (by the service's clock), and its prompts and runs, oldest first."""

    account: str
    key: str
    created_at: float = 0.0
    prompts: list[str] = field(default_factory=list[str])
    runs: list[FakeRun] = field(default_factory=list[FakeRun])


class FakeStream:
    """The stream of a run."""

    def __init__(self, clock: Clock, run: FakeRun) -> None:
        self._clock = clock
        self._run = run
        self.closed = False

    async def read(self) -> Batch:
        """Return the next batch of the script; an empty one at its end; hang where the script says so."""
        await asyncio.sleep(0)
        if not self._run.batches:
            return ()
        batch = self._run.batches[0]
        if batch == HANG:
            await asyncio.get_running_loop().create_future()
        self._run.batches.popleft()
        if any(isinstance(piece, Failed) for piece in batch):
            self._run.status = RunStatus.FAILED
        elif any(isinstance(piece, str | Final) for piece in batch) and not self._run.batches:
            self._run.ends_at = self._clock.now()
        return batch

    def close(self) -> None:
        """Count the close."""
        self.closed = True


HANG: Batch = ("\0hang",)
"""A batch at which a `FakeStream` waits for ever."""
