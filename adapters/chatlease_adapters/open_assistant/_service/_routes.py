"""What a dialect is made of: its routes, and how it reads, admits, refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from aiohttp import web

from ._records import Message
from ._refusal import Refusal
from ._replies import Reply
from ._rules import Rules


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was read and admitted."""

    rules: Rules
    user: str
    body: object
    query: Mapping[str, str]
    ids: Mapping[str, str]

    def field(self, name: str) -> str:
        """Return a text field of the body; empty when there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    @property
    def chat(self) -> str:
        """The id of the chat that is asked for, wherever the dialect has it; empty for none."""
        return self.ids.get("chat") or self.query.get("chat_id") or self.field("chat_id")

    @property
    def fields(self) -> Mapping[str, object]:
        """The body's fields; none when it is no object."""
        body = self.body
        return cast("Mapping[str, object]", body) if isinstance(body, dict) else {}


Answer: TypeAlias = Reply | Message
"""A reply, or the message whose events are to be streamed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    One call of a dialect.

    Attributes:
        step: Its name in faults and in the access log.
        answer: What it does; raises `Refusal`.
        open: Needs no login.
        telling: The website passes on why it is refused.
    """

    step: str
    answer: Callable[[Call], Answer]
    open: bool = False
    telling: bool = False


class Dialect(Protocol):
    """One of the two ways to speak to the service."""

    @property
    def direct(self) -> bool:
        """Without the website in between."""
        ...

    async def read(self, request: web.Request) -> object:
        """Return the body; raises `Refusal`, or `Unreadable` when the framework answers by itself."""
        ...

    def login(self, request: web.Request) -> str:
        """Return the user; raises `Refusal`."""
        ...

    def refused(self, endpoint: Endpoint, refusal: Refusal) -> Reply:
        """Show a refusal in this dialect."""
        ...

    def broken(self, endpoint: Endpoint, status: int) -> Reply:
        """Show a failure of the service itself with this status, as this dialect does with 500."""
        ...


class Unreadable(Exception):
    """The body cannot be read, and the framework has its own answer to that."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply
