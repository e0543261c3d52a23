"""What the service keeps: chats and messages, and how each looks in JSON.

Rules that live here:

* The keys, their order and their types are the recorded ones; an adapter may be tested against them byte by byte.
* ``content`` of an assistant message is null until it is complete: neither a running nor an aborted one shows a part.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias, cast

from ._frames import Frames

Json: TypeAlias = dict[str, object]

_MOST_EXACT = 1 << 53  # JavaScript's numbers are exact up to here


class State(enum.Enum):
    """Where a message stands, spelled as on the wire."""

    MANUAL = "manual"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    ABORTED = "aborted_by_worker"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


FINISHED = frozenset({State.COMPLETE, State.ABORTED})
"""States whose events are refused with 204; ``cancelled`` and ``timeout`` are, as recorded, not among them."""


@dataclass(slots=True)
class Message:
    """
    A prompt or an answer.

    Attributes:
        user: Whose it is.
        created: When, by the service's monotonic clock, in seconds; the basis of its time-out.
        parameters: ``work_parameters`` of an answer.
        frames: What its event streams have to say and nobody has read yet; only an answer has any.
        deleted: Its chat was deleted; only the queue, a worker or an open stream may still hold it.
    """

    id: str
    parent_id: str | None
    content: str | None
    chat_id: str
    user: str
    created_at: str
    created: float
    role: Literal["prompter", "assistant"]
    state: State
    score: int = 0
    parameters: Json | None = None
    frames: Frames = field(default_factory=Frames)
    deleted: bool = False

    def as_json(self, *, javascript: bool = False) -> Json:
        """
        Return it as the answers show it.

        Args:
            javascript: As the website passes it on: through JavaScript's numbers, which round the seed.
        """
        parameters = self.parameters
        return {
            "id": self.id,
            "parent_id": self.parent_id,
            "content": self.content,
            "chat_id": self.chat_id,
            "created_at": self.created_at,
            "role": self.role,
            "state": self.state.value,
            "score": self.score,
            "reports": [],
            "work_parameters": through_javascript(parameters) if javascript and parameters else parameters,
            "safe_content": None,
            "safety_level": None,
            "safety_label": None,
            "safety_rots": None,
            "used_plugin": None,
        }


@dataclass(slots=True)
class Chat:
    """A chat and its messages, by id in the order of their creation."""

    id: str
    user: str
    created_at: str
    modified_at: str
    title: str | None = None
    hidden: bool = False
    allow_data_use: bool = True
    messages: dict[str, Message] = field(default_factory=dict[str, Message])

    def as_listed(self) -> Json:
        """Return it as a listing and the answer to its creation show it: without messages."""
        return {
            "id": self.id,
            "created_at": self.created_at,
            "modified_at": self.modified_at,
            "title": self.title,
            "hidden": self.hidden,
            "allow_data_use": self.allow_data_use,
            "active_thread_tail_message_id": None,
        }

    def as_json(self, *, javascript: bool = False) -> Json:
        """Return it with its messages, in an order that no client can depend on: that of the ids' random ends."""
        messages = sorted(self.messages.values(), key=lambda message: message.id[::-1])
        return {**self.as_listed(), "messages": [message.as_json(javascript=javascript) for message in messages]}


def through_javascript(value: object) -> object:
    """
    Return what is left of a JSON value after ``JSON.parse`` and ``JSON.stringify``.

    Whole numbers beyond 2**53 lose digits (recorded: a seed ending in 043604 became 044000), floats that are whole
    lose their point.
    """
    if isinstance(value, dict):
        return {key: through_javascript(item) for key, item in cast("Json", value).items()}
    if isinstance(value, list):
        return [through_javascript(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    if isinstance(value, int) and abs(value) > _MOST_EXACT:
        return int(Decimal(repr(float(value))))
    return value
