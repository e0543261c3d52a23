"""Workers: each takes a message from the queue, writes its answer, takes the next.

Rules that live here (all recorded):

* A worker that takes a message older than the time-out lets it time out; a cancelled one it passes over.
* A worker that takes, or finishes, a message whose chat was deleted makes the server fail: the server drops the
  worker's connection, and the next message in the queue, of whatever user, is lost in the act. The worker comes back.
* A worker lost before its first token: the message goes back to the end of the queue. After it: the message is aborted.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import cast

from chatlease import Clock

from ._answers import AnswerSource, FinalText, Piece, Thought, Work, WorkFailed
from ._frames import Frame, frame
from ._options import ServiceOptions
from ._queue import WorkQueue
from ._records import Json, Message, State
from ._store import Loss, Store

ABORTED_TEXT = "Aborted due to worker error."


class _Dropped(Exception):
    """The server dropped this worker's connection, because of a message whose chat was deleted."""

    def __init__(self, message: Message) -> None:
        super().__init__()
        self.message = message


class Worker:
    """
    One worker, doing one message at a time.

    Attributes:
        message: What it is writing, if anything.
        responses: How much of it the server has seen.
    """

    def __init__(self, crew: Crew) -> None:
        self.message: Message | None = None
        self.responses = 0
        self._crew = crew
        self._task = asyncio.create_task(self._run(), name="open-assistant worker")

    async def stop(self) -> None:
        """
        Go away without a word to the server, and wait until it is gone.

        Raises what its source of answers raised, if that was anything but `WorkFailed`: a fault of whoever wrote it.
        """
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        while True:
            try:
                await self._write(await self._crew.queue.take())
            except _Dropped as drop:
                self.message = None
                self._crew.dropped(drop.message)
                await self._crew.clock.sleep(self._crew.options.worker_reconnect)

    async def _write(self, message: Message) -> None:
        if message.deleted:
            raise _Dropped(message)
        if message.state is State.CANCELLED:
            return
        if self._crew.clock.now() - message.created > self._crew.options.message_timeout:
            self._crew.end(message, State.TIMEOUT, "Timeout")
            return
        await self._answer(message)

    async def _answer(self, message: Message) -> None:
        message.state = State.IN_PROGRESS
        self.message, self.responses = message, 0
        problem = ""
        try:
            text = await self._say(message)
        except WorkFailed as error:
            text, problem = "", str(error)
        self.message = None
        if message.deleted:
            raise _Dropped(message)
        if problem:
            self._crew.end(message, State.ABORTED, problem)
        else:
            self._crew.complete(message, text)

    async def _say(self, message: Message) -> str:
        tokens: list[str] = []
        final: str | None = None
        async with aclosing(self._crew.source(self._crew.work(message))) as pieces:
            async for piece in pieces:
                if isinstance(piece, FinalText):
                    final = piece.text
                    continue
                self.responses += 1
                for said in _frames_of(piece):
                    self._crew.say(message, said)
                if isinstance(piece, str):
                    tokens.append(piece)
        return "".join(tokens) if final is None else final


class Crew:
    """
    The workers and what the server does for them.

    Attributes:
        workers: Those connected, the one that works longest first.
    """

    def __init__(
        self, store: Store, queue: WorkQueue, clock: Clock, options: ServiceOptions, source: AnswerSource
    ) -> None:
        self.workers: list[Worker] = []
        self.store = store
        self.queue = queue
        self.clock = clock
        self.options = options
        self.source = source

    def add(self) -> Worker:
        """Let one more worker connect."""
        worker = Worker(self)
        self.workers.append(worker)
        return worker

    async def kill(self, worker: Worker) -> None:
        """Let a worker die, as by SIGKILL; the server notices at once and gives back or aborts what it was writing."""
        await self.forget(worker)
        message = worker.message
        if message is None or message.deleted:
            return
        if worker.responses:
            self.end(message, State.ABORTED, ABORTED_TEXT)
        else:
            message.state = State.PENDING
            self.queue.put(message)

    async def forget(self, worker: Worker) -> None:
        """Let a worker go although the server cannot notice it any more: its message stays as it is."""
        self.workers.remove(worker)
        await worker.stop()

    def work(self, message: Message) -> Work:
        """Return what a worker is given for this message."""
        parameters = message.parameters or {}
        sampling = cast("Json", parameters.get("sampling_parameters", {}))
        return Work(message.id, self.store.thread(message), sampling)

    def say(self, message: Message, said: Frame) -> None:
        """Add a frame for the message's event streams."""
        message.frames.put(said, self.clock.now(), self.options.queue_expire)

    def complete(self, message: Message, text: str) -> None:
        """Finish a message and tell its streams."""
        message.state = State.COMPLETE
        message.content = text
        self.say(message, frame("message", last=True, message=message.as_json()))

    def end(self, message: Message, state: State, error: str) -> None:
        """End a message without an answer and tell its streams why."""
        message.state = state
        self.say(message, frame("error", last=True, error=error, message=message.as_json()))

    def dropped(self, message: Message) -> None:
        """Drop a worker's connection for a message whose chat was deleted, and lose the next in the queue."""
        self.store.worker_drops += 1
        lost = self.queue.lose()
        if lost is not None and lost.state is State.PENDING and not lost.deleted:
            self.store.losses.append(Loss(lost.id, lost.user, message.chat_id, message.user))


def _frames_of(piece: Piece) -> tuple[Frame, ...]:
    if isinstance(piece, Thought):
        step = frame(
            "plugin_intermediate",
            current_plugin_thought=piece.thought,
            current_plugin_action_taken=piece.action,
            current_plugin_action_response=piece.action_response,
            current_plugin_action_input=piece.action_input,
        )
        return step, frame("token", text="")
    return (frame("token", text=piece if isinstance(piece, str) else ""),)
