"""What every call does, and how it is refused: the inference server's rules, without HTTP.

Rules that live here (all recorded in ``errors-server.jsonl``, ``two-sessions-*``, ``rate-limit-*``, ``list-chats-*``):

* A user has one pending answer: asking for another cancels those on other parents, in any chat, before most refusals
  are decided. Only what is refused earlier (rate limit, invalid body, unknown model) cancels nothing.
* A call refused for a full queue has by then stored an answer that nobody will ever work on.
* The rate limit counts every call for an answer, refused ones too, in a window that begins with its first call.
* The id of the chat is not looked at when an answer is asked for: only the parent counts.
"""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Mapping
from typing import cast

from chatlease import Clock

from ._model_list import model_config
from ._options import ServiceOptions
from ._queue import WorkQueue
from ._records import FINISHED, Chat, Json, Message, State
from ._refusal import Refusal, crashed, failed
from ._schema import ANSWER, PROMPT, UPDATE, VOTE, check
from ._store import Store


class Rules:
    """The inference server's decisions over a store and a queue."""

    def __init__(
        self, store: Store, queue: WorkQueue, clock: Clock, options: ServiceOptions, rng: random.Random
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._options = options
        self.models = options.models
        self._rng = rng
        self._windows: dict[str, tuple[float, int]] = {}

    def create_chat(self, user: str) -> Chat:
        """Create a chat for a user that the server knows."""
        if user not in self._store.users:
            raise Refusal(404, "User not found")
        return self._store.add_chat(user)

    def chat(self, user: str, chat: str) -> Chat:
        """Find a user's chat."""
        found = self._store.chats_of(user).get(chat)
        if found is None:
            raise Refusal(404, "Chat not found")
        return found

    def delete_chat(self, user: str, chat: str) -> None:
        """Delete a user's chat, whatever becomes of its messages."""
        self._store.drop_chat(self.chat(user, chat))

    def update_chat(self, user: str, chat: str, body: object) -> None:
        """Change a chat's title and flags."""
        fields = check(body, UPDATE)
        found = self._store.chats_of(user).get(chat)
        if found is None:
            raise failed()
        for name, value in fields.items():
            if value is not None:
                setattr(found, name, value)

    def list_chats(self, user: str, limit: int, query: Mapping[str, str]) -> Json:
        """Return one page of a user's chats, newest first, and the cursors to its neighbours."""
        after, before = query.get("after"), query.get("before")
        if after is not None and before is not None:
            raise Refusal(400, "Cannot specify both after and before.")
        hidden = query.get("include_hidden", "").lower() in ("true", "1", "on", "yes")
        chats = [chat for chat in self._store.chats_of(user).values() if hidden or not chat.hidden]
        return _page(chats, limit, after, before)

    def add_prompt(self, user: str, chat: str, body: object) -> Message:
        """Add a prompt to a user's chat."""
        fields = check(body, PROMPT)
        content, parent = cast("str", fields["content"]), cast("str | None", fields["parent_id"])
        if self._options.message_length is not None and len(content) > self._options.message_length:
            raise Refusal(413, "Message content exceeds max length")
        found = self._store.chats_of(user).get(chat)
        if found is None:
            raise failed()
        self._refuse_full(found)
        _check_parent(found, parent)
        if parent is None:
            found.title = content
        message = self._store.add_message(found, "prompter", parent, content=content)
        found.modified_at = message.created_at
        return message

    def queue_answer(self, user: str, body: object) -> Message:
        """Ask for an answer to a prompt."""
        self._count(user)
        fields = check(body, ANSWER)
        model, parent = cast("str", fields["model_config_name"]), cast("str", fields["parent_id"])
        if model not in self.models:
            raise Refusal(422, f"Model {model} not found")
        self._cancel_others(user, parent)
        prompt = self._store.messages.get(parent)
        if prompt is None or prompt.role != "prompter":
            raise failed()
        if prompt.user != user:
            raise Refusal(400, "Message not found")
        chat = self._store.chats[prompt.chat_id]
        self._refuse_full(chat)
        message = self._store.add_message(chat, "assistant", parent, parameters=self._parameters(model, fields))
        if self._queue.full:
            raise Refusal(503, "The server is currently busy. Please try again later.")
        self._queue.put(message)
        return message

    def message(self, user: str, chat: str, message: str) -> Message:
        """Find a message in a user's chat."""
        found = self._store.messages.get(message)
        if found is None or found.chat_id != chat or found.user != user:
            raise crashed()
        return found

    def streamed(self, user: str, chat: str, message: str) -> Message:
        """Find a message whose events may be read."""
        found = self.message(user, chat, message)
        if found.role != "assistant":
            raise Refusal(400, "Only assistant messages can be streamed.")
        if found.state in FINISHED:
            raise Refusal(204)
        return found

    def vote(self, message: str, user: str, body: object) -> None:
        """Score a user's answer, -1 to 1."""
        score = cast("int", check(body, VOTE)["score"])
        found = self._store.messages.get(message)
        if score not in (-1, 0, 1) or found is None or found.role != "assistant" or found.user != user:
            raise failed()
        found.score = score

    def _count(self, user: str) -> None:
        limit = self._options.rate_limit
        if limit is None:
            return
        now = self._clock.now()
        began, count = self._windows.get(user, (now, 0))
        if now - began >= self._options.rate_window:
            began, count = now, 0
        if count >= limit:
            raise crashed()
        self._windows[user] = (began, count + 1)

    def _cancel_others(self, user: str, parent: str) -> None:
        for message in self._store.pending_of(user):
            if message.parent_id != parent:
                message.state = State.CANCELLED

    def _refuse_full(self, chat: Chat) -> None:
        if self._options.chat_length is not None and len(chat.messages) >= self._options.chat_length:
            raise Refusal(413, "Maximum number of messages reached for this chat")

    def _parameters(self, model: str, fields: Mapping[str, object]) -> Json:
        sampling = cast("Json", fields["sampling_parameters"])
        return {
            "model_config": model_config(model),
            "sampling_parameters": sampling,
            "do_sample": True,
            "seed": self._rng.getrandbits(64),
            "system_prompt": fields["system_prompt"],
            "user_profile": fields["user_profile"],
            "user_response_instructions": fields["user_response_instructions"],
            "plugins": fields["plugins"],
            "plugin_max_depth": 4,
        }


def _check_parent(chat: Chat, parent: str | None) -> None:
    if parent is None:
        if chat.messages:
            raise Refusal(400, "Trying to add first message to non-empty chat")
        return
    message = chat.messages.get(parent)
    if message is None:
        raise Refusal(400, "Parent message not found")
    if message.role != "assistant":
        raise Refusal(400, "Parent message is not an assistant message")
    if message.state is not State.COMPLETE:
        raise Refusal(400, "Parent message is not complete")


def _page(chats: list[Chat], limit: int, after: str | None, before: str | None) -> Json:
    end, start = _decode(after), _decode(before)
    found = [chat for chat in chats if (end is None or chat.id < end) and (start is None or chat.id > start)]
    more = len(found) > limit
    page = found[:limit] if before is not None else found[-limit:]
    page.reverse()
    following = previous = None
    if page:
        previous = _cursor(page[0]) if after or (before and more) else None
        following = _cursor(page[-1]) if more or before else None
    else:
        previous, following = after, before
    return {"chats": [chat.as_listed() for chat in page], "next": following, "prev": previous}


def _cursor(chat: Chat) -> str:
    return base64.b64encode(chat.id.encode()).decode()


def _decode(cursor: str | None) -> str | None:
    try:
        return None if cursor is None else base64.b64decode(cursor).decode()
    except (binascii.Error, ValueError):
        pass
    raise crashed()
