"""The events of an HTTP answer's body, as the engine wants them read: for the adapters' streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from chatlease.events import Batch


class Body(Protocol):
    """Where the bytes come from: an `chatlease_adapters.http.HttpStream`, or anything that does the same."""

    async def read(self) -> bytes:
        """Wait for bytes; empty at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection at once."""
        ...


class EventStream(ABC):
    """
    An answer under way (`chatlease.adapter.AnswerStream`); a service's own says what its bytes mean.

    Args:
        body: Read here, and closed here.
    """

    __slots__ = ("_body",)

    def __init__(self, body: Body) -> None:
        self._body = body

    async def read(self) -> Batch:
        """Wait for events; see `chatlease.adapter.AnswerStream.read`."""
        while chunk := await self._body.read():
            batch = self._batch(chunk)
            if batch:  # a chunk may hold pings alone, or half a frame
                return batch
        return ()

    def close(self) -> None:
        """Let go of the connection at once; may be called twice."""
        self._body.close()

    @abstractmethod
    def _batch(self, chunk: bytes) -> Batch:
        """Return the events that these bytes complete."""
