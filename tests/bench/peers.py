"""
What a peer is: a way to hold the same session, seen as ``ask(account)``, an async iterable of the answer's tokens.

Rules that live here, and hold for `plain` and `ours`:

* A peer is opened once per shape, and may keep between sessions what it would keep in a bot.
* Every peer sends the same five requests with the same login header and gives out every token.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import NamedTuple, TypeAlias

Ask: TypeAlias = Callable[[str], AsyncIterable[str]]
"""A whole session of an account, by name: its tokens."""


class Opened(NamedTuple):
    """
    A peer that is ready.

    Attributes:
        ask: Holds a session.
        at_work: Entered around its own rounds, for what counts for the whole process and must not touch the others.
    """

    ask: Ask
    at_work: Callable[[], AbstractContextManager[object]] = nullcontext


Peer: TypeAlias = Callable[[str], AbstractAsyncContextManager[Opened]]
"""Opens a peer at a URL."""

Peers: TypeAlias = Mapping[str, Peer]
"""By the name in the report; the first is what the others are measured against."""

FLOOR = "floor"
SEEDS = "seeds"
NONE = "chatlease, no ledger"
MEMORY = "chatlease, ledger in memory"
DEFAULT = "chatlease, default ledger"
LOGGED = "chatlease, no ledger, JSON log"
TRACED = "chatlease, no ledger, trace file"

PROMPT = "Hello, how are you?"
COOKIE = "__Secure-next-auth.session-token"
