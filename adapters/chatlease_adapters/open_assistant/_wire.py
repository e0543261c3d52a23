"""Open-Assistant's JSON, as far as it is needed, typed.

Rules that live here:

* The inference server and the website speak of the same objects; unknown fields are skipped, so that a later version
  may have more of them. What is declared is what the adapter relies on: its absence is `ProtocolChanged`.
* Times have no zone mark and are UTC (recorded everywhere).
* A frame of the event stream is told by its ``event_type``. A kind that is not listed here is no event: a new kind must
  not end an answer that is coming in well.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Created(msgspec.Struct, gc=False):
    """What comes back from creating a chat or a message; only the id matters."""

    id: Id


class Message(msgspec.Struct, gc=False):
    """
    A message of a chat.

    Attributes:
        state: ``manual`` (a prompt), ``pending``, ``in_progress``, ``complete``, ``aborted_by_worker``, ``cancelled``,
            ``timeout``.
        content: None for an answer that is not complete: no partial text is ever shown.
    """

    id: Id
    state: str
    parent_id: str | None = None
    content: str | None = None
    role: str = ""
    created_at: datetime | None = None


class Chat(msgspec.Struct, gc=False):
    """
    A chat.

    Attributes:
        title: The first prompt gives it; None means that nothing was ever sent.
        messages: In no dependable order; absent in a listing.
    """

    id: Id
    title: str | None = None
    created_at: datetime | None = None
    messages: list[Message] = []


class Page(msgspec.Struct, gc=False):
    """A page of the listing; ``next`` is the cursor of the page after it, None at the end."""

    chats: list[Chat]
    next: str | None = None


class Model(msgspec.Struct, gc=False):
    """A model offered."""

    name: str


class TokenFrame(msgspec.Struct, gc=False, tag_field="event_type", tag="token"):
    """A piece of the answer; may be empty."""

    text: str


class PendingFrame(msgspec.Struct, gc=False, tag_field="event_type", tag="pending"):
    """About once a second while the answer waits."""

    queue_position: int = 0
    queue_size: int = 0


class PluginFrame(msgspec.Struct, gc=False, tag_field="event_type", tag="plugin_intermediate"):
    """A plugin at work; an empty token follows."""

    current_plugin_thought: str = ""
    current_plugin_action_taken: str = ""


class MessageFrame(msgspec.Struct, gc=False, tag_field="event_type", tag="message"):
    """The last frame of a good stream: the whole message."""

    message: Message


class ErrorFrame(msgspec.Struct, gc=False, tag_field="event_type", tag="error"):
    """The last frame of a failed stream; the message has no content."""

    error: str
    message: Message | None = None


Frame: TypeAlias = TokenFrame | PendingFrame | PluginFrame | MessageFrame | ErrorFrame

KINDS = frozenset({"token", "pending", "plugin_intermediate", "message", "error"})


class AnyFrame(msgspec.Struct, gc=False):
    """A frame of any kind."""

    event_type: str


CREATED = msgspec.json.Decoder(Created)
MESSAGE = msgspec.json.Decoder(Message)
CHAT = msgspec.json.Decoder(Chat)
PAGE = msgspec.json.Decoder(Page)
MODELS = msgspec.json.Decoder(list[Model])
FRAME: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
ANY_FRAME = msgspec.json.Decoder(AnyFrame)
