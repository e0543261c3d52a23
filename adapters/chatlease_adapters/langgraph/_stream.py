"""What LangGraph Server says in a run's event stream, told in Chatlease's words.

Rules that live here:

* Text comes from the frames ``messages`` (stream mode ``messages-tuple``: a message and where it comes from) of type
  ``AIMessageChunk``. The Python server repeats a message as a whole, type ``ai``, when a node gives it back under a
  new id, and the JavaScript server gives every piece the type ``ai`` (both recorded): so ``ai`` counts only in a stream
  that had no chunk. What is not told apart by that is told by the final text, which is read from the thread's state.
* ``error`` ends the stream although its status was 200.
* There is no event for a good end: the server just closes the stream, after a cancelled run as well. So the end is no
  event here either, and the engine looks at the run. (Other servers send ``end``, which says no more.)
* Heartbeats are comments, and no sign of life of the run. A run that no worker has taken yet sends nothing else, so
  what is said of it first is that it waits.
* ``metadata`` and every mode that was not asked for say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatlease.errors import ProtocolChanged, RunCancelled, RunFailed, ServiceError
from chatlease.events import Batch, Failed, Pending
from chatlease_adapters.http import EventStream, HttpStream, scrub, shape
from chatlease_adapters.sse import ServerSentEvent, SseParser

from ._wire import PIECE, PROBLEM, Message, Problem

_CANCELLED = frozenset({"CancelledError", "UserInterrupt", "UserRollback"})


class LangGraphStream(EventStream):
    """
    The events of one run.

    Args:
        body: Of the answer to the call that made the run, or that joined it.
        hide: Texts that an error of the graph may echo.
    """

    __slots__ = ("_begun", "_chunked", "_hide", "_parser")

    def __init__(self, body: HttpStream, hide: Sequence[str]) -> None:
        super().__init__(body)
        self._hide = hide
        self._parser = SseParser()
        self._begun = False
        self._chunked = False

    async def read(self) -> Batch:
        """Wait for events; see `chatlease.adapter.AnswerStream.read`."""
        if not self._begun:
            self._begun = True
            return (Pending(0, 0),)
        return await super().read()

    def _batch(self, chunk: bytes) -> list[str | Failed]:
        batch: list[str | Failed] = []
        for event in self._parser.feed(chunk):
            if event.type == "messages":
                text = self._text(event)
                if text:
                    batch.append(text)
            elif event.type == "error":
                batch.append(Failed(self._failure(event)))
                break
        return batch

    def _text(self, event: ServerSentEvent) -> str:
        message = _message(event.data)
        if message.type == "AIMessageChunk":
            self._chunked = True
            return message.text
        return message.text if message.type == "ai" and not self._chunked else ""

    def _failure(self, event: ServerSentEvent) -> ServiceError:
        problem = _problem(event.data)
        said = scrub(problem.message, self._hide)
        if problem.error in _CANCELLED:
            return RunCancelled(said or "the run was cancelled at the service", code="cancelled")
        return RunFailed(said or "the graph failed", code="run-failed")


def _message(data: bytes) -> Message:
    try:
        return PIECE.decode(data)[0]
    except (ValueError, RecursionError):  # of msgspec, and for what is no UTF-8
        pass
    raise ProtocolChanged("a message and its metadata", shape(data))


def _problem(data: bytes) -> Problem:
    try:
        return PROBLEM.decode(data)
    except (ValueError, RecursionError):
        return Problem()  # that the run failed is told by the frame's name
