"""The events of an HTTP answer's body, as the engine wants them read: for the adapters' streams."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

from chatlease.errors import ProtocolChanged
from chatlease.events import Batch, Failed, Final, Pending, PluginStep

from ._http_errors import shape

F = TypeVar("F")
Told: TypeAlias = str | Pending | PluginStep | Final | Failed | None
"""What a frame says: a token, an event, or nothing that counts."""


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


class FrameStream(EventStream, Generic[F]):
    """
    A stream of frames that are understood one by one; what follows a `Final` or a `Failed` is not looked at.

    Args:
        body: Read here, and closed here.
        feed: Cuts bytes into frames: ``SseParser().feed``, ``JsonLines().feed``, ... A new parser for every stream.
        tell: Says what a frame means; empty tokens and ``None`` are left out. Where it raises a ``ValueError``, as
            decoders do, the frame is `ProtocolChanged`.
    """

    __slots__ = ("_feed", "_tell")

    def __init__(self, body: Body, feed: Callable[[bytes], Sequence[F]], tell: Callable[[F], Told]) -> None:
        super().__init__(body)
        self._feed = feed
        self._tell = tell

    def _batch(self, chunk: bytes) -> Batch:
        batch: list[str | Pending | PluginStep | Final | Failed] = []
        for frame in self._feed(chunk):
            told = self._told(frame)
            if told:
                batch.append(told)
            if isinstance(told, Final | Failed):
                break
        return batch

    def _told(self, frame: F) -> Told:
        with contextlib.suppress(ValueError, RecursionError):
            return self._tell(frame)
        data: object = getattr(frame, "data", frame)
        raise ProtocolChanged("a frame of this service", shape(data if isinstance(data, bytes) else b""))


class Growing:
    """Tokens out of a text that comes anew with every frame, longer each time. One for every stream."""

    __slots__ = ("_text",)

    def __init__(self) -> None:
        self._text = ""

    def token(self, text: str) -> str:
        """
        Return what is new since the last time; empty where nothing is.

        A text that does not begin with the last one gives nothing from then on: the final text is read without the
        stream, or comes with its end, and is authoritative.
        """
        if not text.startswith(self._text):
            return ""
        token = text[len(self._text) :]
        self._text = text
        return token
