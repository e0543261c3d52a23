"""The two ways to reach Open-Assistant: through its website, or the inference server itself.

Rules that live here:

* Methods, paths, queries and bodies are those of the recordings (``*-site``, ``*-server``) and, through the website,
  the five requests of the seeds, key for key.
* Ids are opaque; whatever they hold, they stay inside their place in the address.
* When a chat is gone, the website says so by an empty 404 and only to a look at it (deleting it again is the same 500
  as every other failure); the server by a 404 with its own words. A 404 that looks otherwise comes from somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import msgspec
from yarl import URL

from chatlease_adapters.http import Address, Answer, base_url, own_words, path_part

_NOT_FOUND = 404
_encode = msgspec.json.Encoder().encode


class Request(NamedTuple):
    """A request, ready to be sent."""

    method: str
    url: URL
    body: bytes | None = None


class Dialect(Protocol):
    """Where each call goes."""

    base: str
    unsure: ClassVar[frozenset[int]]
    """Statuses of a deletion that may mean that the chat is gone, which a look at it decides."""

    def create(self) -> Request: ...
    def prompt(self, chat: str, content: str, parent: str | None) -> Request: ...
    def assistant(self, chat: str, prompt: str, options: Mapping[str, object]) -> Request: ...
    def events(self, chat: str, run: str) -> Request: ...
    def message(self, chat: str, run: str) -> Request: ...
    def chat(self, chat: str) -> Request: ...
    def delete(self, chat: str) -> Request: ...
    def listing(self, after: str | None) -> Request: ...
    def models(self) -> Request: ...
    def is_gone(self, answer: Answer) -> bool: ...


class Website:
    """The website's routes below ``/api/chat``."""

    unsure: ClassVar[frozenset[int]] = frozenset({404, 500})

    def __init__(self, base: str) -> None:
        self.base = base
        self._at = Address(f"{base}/api/chat").at
        # Made once: aiohttp asks an address for its parts, which are worked out at the first time.
        self._chats = self._at("")
        self._prompts = self._at("/prompter_message")
        self._assistants = self._at("/assistant_message")

    def create(self) -> Request:
        return Request("POST", self._chats)

    def prompt(self, chat: str, content: str, parent: str | None) -> Request:
        body = {"chat_id": chat, "content": content, "parent_id": parent}
        return Request("POST", self._prompts, _encode(body))

    def assistant(self, chat: str, prompt: str, options: Mapping[str, object]) -> Request:
        body = {"chat_id": chat, "parent_id": prompt, **options}
        return Request("POST", self._assistants, _encode(body))

    def events(self, chat: str, run: str) -> Request:
        return Request("POST", self._at("/events", f"chat_id={path_part(chat)}&message_id={path_part(run)}"))

    def message(self, chat: str, run: str) -> Request:
        return Request("GET", self._at("/message", f"chat_id={path_part(chat)}&message_id={path_part(run)}"))

    def chat(self, chat: str) -> Request:
        return Request("GET", self._at("", f"chat_id={path_part(chat)}"))

    def delete(self, chat: str) -> Request:
        return Request("DELETE", self._at("", f"chat_id={path_part(chat)}"))

    def listing(self, after: str | None) -> Request:
        return Request("GET", self._at("", f"after={path_part(after)}" if after else ""))

    def models(self) -> Request:
        return Request("GET", self._at("/models"))

    def is_gone(self, answer: Answer) -> bool:
        return answer.status == _NOT_FOUND and not answer.body


class Server:
    """The inference server's own routes."""

    unsure: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, base: str) -> None:
        self.base = base
        self._at = Address(base).at

    def create(self) -> Request:
        return Request("POST", self._at("/chats"), b"{}")

    def prompt(self, chat: str, content: str, parent: str | None) -> Request:
        body = {"content": content, "parent_id": parent}
        return Request("POST", self._at(f"/chats/{path_part(chat)}/prompter_message"), _encode(body))

    def assistant(self, chat: str, prompt: str, options: Mapping[str, object]) -> Request:
        body = {"parent_id": prompt, **options}
        return Request("POST", self._at(f"/chats/{path_part(chat)}/assistant_message"), _encode(body))

    def events(self, chat: str, run: str) -> Request:
        return Request("GET", self._at(f"/chats/{path_part(chat)}/messages/{path_part(run)}/events"))

    def message(self, chat: str, run: str) -> Request:
        return Request("GET", self._at(f"/chats/{path_part(chat)}/messages/{path_part(run)}"))

    def chat(self, chat: str) -> Request:
        return Request("GET", self._at(f"/chats/{path_part(chat)}"))

    def delete(self, chat: str) -> Request:
        return Request("DELETE", self._at(f"/chats/{path_part(chat)}"))

    def listing(self, after: str | None) -> Request:
        # 100 is the most that it gives (recorded: list-chats-server).
        return Request("GET", self._at("/chats", f"after={path_part(after)}&limit=100" if after else "limit=100"))

    def models(self) -> Request:
        return Request("GET", self._at("/configs/model_configs"))

    def is_gone(self, answer: Answer) -> bool:
        return answer.status == _NOT_FOUND and own_words(answer) == "Chat not found"


def origin_of(page: str) -> str:
    """Return the website's address, given that or the one of its chat page, whose ``/chat`` is cut."""
    base = base_url(page)
    origin = str(URL(base).origin())
    return origin + base.removeprefix(origin).removesuffix("/chat").rstrip("/")
