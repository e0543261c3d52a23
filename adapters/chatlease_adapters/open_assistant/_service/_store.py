"""Who there is, which chats they have, and what happened to them: the service's memory, without any rule of its own.

Rules that live here:

* Deleting a chat deletes its messages, but a worker or the queue may still hold one; `Message.deleted` tells them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from chatlease import Clock

from ._ids import Ids, iso
from ._records import Chat, Json, Message, State


@dataclass(frozen=True, slots=True)
class Loss:
    """
    A message that will never be answered because someone deleted a chat at the wrong moment.

    Attributes:
        message: Id of the message that was lost.
        user: Whose it is.
        chat: Id of the chat whose deletion did it.
        by: Who deleted that chat.
    """

    message: str
    user: str
    chat: str
    by: str


class Store:
    """
    Users, chats, messages and losses.

    Attributes:
        users: Names by which the inference server knows its users, and their display names.
        chats: The chats held now, by id.
        messages: The messages of these chats, by id.
        created: How many chats were ever created.
        losses: What deletions did to others' messages.
        worker_drops: How often a deletion made the server drop a worker's connection.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.users: dict[str, str] = {}
        self.chats: dict[str, Chat] = {}
        self.messages: dict[str, Message] = {}
        self.created = 0
        self.losses: list[Loss] = []
        self.worker_drops = 0
        self._clock = clock
        self._ids = Ids(rng)
        self._chats_of: dict[str, dict[str, Chat]] = {}

    def chats_of(self, user: str) -> Mapping[str, Chat]:
        """Return a user's chats in the order of their creation."""
        return self._chats_of.get(user, {})

    def pending_of(self, user: str) -> Iterator[Message]:
        """Iterate over a user's messages that wait for a worker, in any chat."""
        for chat in self.chats_of(user).values():
            for message in chat.messages.values():
                if message.state is State.PENDING:
                    yield message

    def add_chat(self, user: str) -> Chat:
        """Create an empty chat."""
        wall = self._clock.wall()
        chat = Chat(self._ids.make(wall), user, iso(wall), iso(wall))
        self.chats[chat.id] = chat
        self._chats_of.setdefault(user, {})[chat.id] = chat
        self.created += 1
        return chat

    def drop_chat(self, chat: Chat) -> None:
        """Delete a chat and its messages."""
        del self.chats[chat.id]
        of_user = self._chats_of[chat.user]
        del of_user[chat.id]
        if not of_user:
            del self._chats_of[chat.user]
        for message in chat.messages.values():
            del self.messages[message.id]
            message.deleted = True

    def add_message(
        self,
        chat: Chat,
        role: Literal["prompter", "assistant"],
        parent: str | None,
        *,
        content: str | None = None,
        parameters: Json | None = None,
    ) -> Message:
        """Add a message to a chat; an answer begins as ``pending``."""
        wall = self._clock.wall()
        state = State.MANUAL if role == "prompter" else State.PENDING
        message = Message(
            id=self._ids.make(wall),
            parent_id=parent,
            content=content,
            chat_id=chat.id,
            user=chat.user,
            created_at=iso(wall),
            created=self._clock.now(),
            role=role,
            state=state,
            parameters=parameters,
        )
        chat.messages[message.id] = message
        self.messages[message.id] = message
        return message

    def thread(self, message: Message) -> tuple[tuple[str, str], ...]:
        """Return role and text of the messages from the root to the prompt of this answer."""
        thread: list[tuple[str, str]] = []
        parent = message.parent_id
        while parent is not None:
            step = self.messages[parent]
            thread.append((step.role, step.content or ""))
            parent = step.parent_id
        return tuple(reversed(thread))
