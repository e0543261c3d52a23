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
from urllib.parse import quote

import msgspec
from yarl import URL

from chatlease.errors import UsageError
from chatlease_adapters.http import Address, Answer, own_words

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
        return Request("POST", self._at("/events", f"chat_id={_id(chat)}&message_id={_id(run)}"))

    def message(self, chat: str, run: str) -> Request:
        return Request("GET", self._at("/message", f"chat_id={_id(chat)}&message_id={_id(run)}"))

    def chat(self, chat: str) -> Request:
        return Request("GET", self._at("", f"chat_id={_id(chat)}"))

    def delete(self, chat: str) -> Request:
        return Request("DELETE", self._at("", f"chat_id={_id(chat)}"))

    def listing(self, after: str | None) -> Request:
        return Request("GET", self._at("", f"after={_id(after)}" if after else ""))

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
        return Request("POST", self._at(f"/chats/{_id(chat)}/prompter_message"), _encode(body))

    def assistant(self, chat: str, prompt: str, options: Mapping[str, object]) -> Request:
        body = {"parent_id": prompt, **options}
        return Request("POST", self._at(f"/chats/{_id(chat)}/assistant_message"), _encode(body))

    def events(self, chat: str, run: str) -> Request:
        return Request("GET", self._at(f"/chats/{_id(chat)}/messages/{_id(run)}/events"))

    def message(self, chat: str, run: str) -> Request:
        return Request("GET", self._at(f"/chats/{_id(chat)}/messages/{_id(run)}"))

    def chat(self, chat: str) -> Request:
        return Request("GET", self._at(f"/chats/{_id(chat)}"))

    def delete(self, chat: str) -> Request:
        return Request("DELETE", self._at(f"/chats/{_id(chat)}"))

    def listing(self, after: str | None) -> Request:
        # 100 is the most that it gives (recorded: list-chats-server).
        return Request("GET", self._at("/chats", f"after={_id(after)}&limit=100" if after else "limit=100"))

    def models(self) -> Request:
        return Request("GET", self._at("/configs/model_configs"))

    def is_gone(self, answer: Answer) -> bool:
        return answer.status == _NOT_FOUND and own_words(answer) == "Chat not found"


def _id(value: str) -> str:
    return quote(value, safe="")


def base_url(address: str, *, page: bool) -> str:
    """
    Return the address that the routes are appended to, without slash at its end.

    Args:
        address: An origin, with or without a path prefix.
        page: Whether it may be the address of the chat page, whose ``/chat`` is cut.

    Raises:
        UsageError: No http or https address, or one with a login in it.
    """
    url = _parsed(address)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("url is the address of the service, such as http://127.0.0.1:8080")
    if url.raw_user is not None or url.raw_password is not None:
        raise UsageError("url holds a login", hint="Give the login as cookies=, not in the address.")
    path = url.raw_path.rstrip("/")
    return str(url.origin()) + (path.removesuffix("/chat").rstrip("/") if page else path)


def _parsed(address: str) -> URL | None:
    try:
        return URL(address.strip())
    except ValueError:
        return None
