"""The ledger contract: what must be written down so that no chat is left, whatever happens to the process.

Rules that live here:

* The order of writes is the promise: `Ledger.intent` is durable before the first byte of ``create_chat`` leaves,
  `bound` before the first prompt, `settled` after the confirmed deletion (and nobody waits for it: losing it costs one
  more deletion of a chat that is gone).
* An entry is *open* until it is settled or absent. Chats at the service == open entries: the oracle of every test.
* A ledger holds names, ids, times and error codes; no cookie, no key, no prompt, no answer, no body of any reply.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

__all__ = ["Entry", "EntryState", "Ledger"]


class EntryState(enum.Enum):
    """
    What is known of an entry's chat.

    ``INTENT``: create may have been sent. ``BOUND``: the chat's id is known. ``SETTLED``: its deletion was confirmed.
    ``ABSENT``: it never came to be.
    """

    INTENT = "intent"
    BOUND = "bound"
    SETTLED = "settled"
    ABSENT = "absent"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """
    One chat in the ledger.

    Attributes:
        id: The session's id; also the ``client_key`` handed to services that take one.
        service: `Adapter.service`.
        origin: `Adapter.origin`.
        account: Name of the login that creates the chat; only that login may delete it.
        state: See `EntryState`.
        chat: The chat's id at the service, once known.
        orphaned: No session will use the chat any more; it waits for a sweeper.
        attempts: Failed cleanup calls so far.
        error_code: Why the last of them failed, as a code.
    """

    id: str
    service: str
    origin: str
    account: str
    state: EntryState = EntryState.INTENT
    chat: str | None = None
    orphaned: bool = False
    attempts: int = 0
    error_code: str = ""


class Ledger(Protocol):
    """
    Keeps the entries. Used from one event loop; every coroutine may be cancelled without losing what was accepted.

    Raises:
        LedgerUnavailable: From any coroutine below, when the write could not be made durable.
    """

    async def open(self) -> None:
        """Make ready for use; called once, before anything else."""
        ...

    async def intent(self, entry: Entry) -> None:
        """Return once the entry is durable."""
        ...

    async def bound(self, entry: str, chat: str) -> None:
        """Return once the chat's id is durable."""
        ...

    def settled(self, entry: str) -> None:
        """Note that the deletion was confirmed; made durable in its own time."""
        ...

    def absent(self, entry: str) -> None:
        """Note that the create call was certainly refused; made durable in its own time."""
        ...

    async def hand_over(self, entry: str, *, attempts: int, error_code: str) -> None:
        """Leave the chat to the sweepers; return once that is durable."""
        ...

    async def open_entries(self) -> Sequence[Entry]:
        """Return the entries that are neither settled nor absent, oldest first."""
        ...

    async def aclose(self) -> None:
        """Make everything durable and let go; may be called twice."""
        ...
