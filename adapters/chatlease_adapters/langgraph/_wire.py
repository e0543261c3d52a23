"""LangGraph Server's JSON, as far as it is needed, typed.

Rules that live here:

* Unknown fields are skipped. What is declared is what the adapter relies on: its absence is `ProtocolChanged`.
* The text of a message is a string, or a list of blocks of which those with a text count; models give either.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Block(msgspec.Struct, gc=False):
    """A part of a message: text, an image, a call of a tool, ..."""

    text: str | None = None


class Message(msgspec.Struct, gc=False):
    """
    A message of a thread, or a piece of one.

    Attributes:
        type: ``human``, ``ai``, ``tool``, ``system``; ``AIMessageChunk`` for a piece of an answer.
    """

    type: str
    content: str | list[str | Block] = ""
    id: str | None = None

    @property
    def text(self) -> str:
        """Its text, without anything else that it may hold."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part if isinstance(part, str) else part.text or "" for part in self.content)


class Thread(msgspec.Struct, gc=False):
    """
    A thread.

    Attributes:
        values: Its state; None before its first run.
    """

    thread_id: Id
    created_at: datetime | None = None
    metadata: dict[str, object] | None = None
    status: str = ""
    values: msgspec.Raw = msgspec.Raw(b"null")


class Run(msgspec.Struct, gc=False):
    """
    A run.

    Attributes:
        status: ``pending``, ``running``, ``success``, ``error``, ``timeout``, ``interrupted``.
    """

    run_id: Id
    status: str
    metadata: dict[str, object] | None = None


class Values(msgspec.Struct, gc=False):
    """What a graph keeps; the adapter wants messages."""

    messages: list[Message]


class State(msgspec.Struct, gc=False):
    """
    The state of a thread.

    Attributes:
        interrupts: Where the graph waits for a person.
    """

    values: Values
    interrupts: list[msgspec.Raw] = []


class Assistant(msgspec.Struct, gc=False):
    """A graph with its configuration; those that the server made itself go by the graph's name."""

    assistant_id: Id
    graph_id: str
    metadata: dict[str, object] | None = None


class Problem(msgspec.Struct, gc=False):
    """An error in a stream: the name of its class in the graph's program, and what it says."""

    error: str = ""
    message: str = ""


THREAD = msgspec.json.Decoder(Thread)
THREADS = msgspec.json.Decoder(list[Thread])
RUN = msgspec.json.Decoder(Run)
RUNS = msgspec.json.Decoder(list[Run])
STATE = msgspec.json.Decoder(State)
ASSISTANTS = msgspec.json.Decoder(list[Assistant])
PIECE = msgspec.json.Decoder(tuple[Message, msgspec.Raw])
PROBLEM = msgspec.json.Decoder(Problem)
