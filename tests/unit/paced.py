"""A service in memory whose streams take their time, by the clock."""

from __future__ import annotations

from collections.abc import Sequence

from chatlease import Answer
from chatlease.adapter import AnswerStream, Call
from chatlease.events import Batch, Final
from chatlease.testing import FakeService, ManualClock


class PacedStream:
    """A stream that waits before each of its batches."""

    def __init__(self, stream: AnswerStream, clock: ManualClock, every_s: float) -> None:
        self._stream = stream
        self._clock = clock
        self._every_s = every_s

    async def read(self) -> Batch:
        await self._clock.sleep(self._every_s)
        return await self._stream.read()

    def close(self) -> None:
        self._stream.close()


class PacedService(FakeService):
    """A `FakeService` that gives a batch every so many seconds."""

    def __init__(self, clock: ManualClock, batches: Sequence[Batch], every_s: float, answer_s: float = 1e9) -> None:
        super().__init__(clock=clock, batches=batches, answer_s=answer_s)
        self._every_s = every_s

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        stream = await super().open_stream(call, chat, run)
        return None if stream is None else PacedStream(stream, self._manual, self._every_s)

    @property
    def _manual(self) -> ManualClock:
        assert isinstance(self.clock, ManualClock)
        return self.clock

    def end_runs(self) -> None:
        """Finish every run that is going."""
        for chat in self.chats.values():
            for run in chat.runs:
                run.ends_at = min(run.ends_at, self.clock.now())


async def collect(answer: Answer, given: list[str]) -> None:
    """Read the answer to its end; the tokens are there also when it fails."""
    async for token in answer:
        given.append(token)  # noqa: PERF401  (a comprehension would lose them)


def words(text: str) -> list[Batch]:
    """The text word by word, and its final event."""
    pieces = [piece for word in text.split(" ") for piece in (word, " ")][:-1]
    return [*((piece,) for piece in pieces), (Final(text),)]
