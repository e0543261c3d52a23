"""A ledger in memory: the whole contract but durability; for tests, and for bots that accept to lose it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatlease.ledger import Entry, EntryState


class MemoryLedger:
    """
    Open entries in a dict, oldest first; what is settled or absent is forgotten at once.

    One event loop at a time; may be shared by several engines of that loop, and outlives them.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    async def open(self) -> None:
        """Nothing to do: a dict is always ready."""

    async def intent(self, entry: Entry) -> None:
        """Note that a chat may come to be."""
        self._entries[entry.id] = entry

    async def bound(self, entry: str, chat: str) -> None:
        """Note the chat's id."""
        self._change(entry, state=EntryState.BOUND, chat=chat)

    def settled(self, entry: str) -> None:
        """Forget a chat whose deletion was confirmed."""
        self._entries.pop(entry, None)

    def absent(self, entry: str) -> None:
        """Forget a chat that never came to be."""
        self._entries.pop(entry, None)

    async def hand_over(self, entry: str, *, attempts: int, error_code: str) -> None:
        """Leave the chat to whoever reads `open_entries`."""
        self._change(entry, orphaned=True, attempts=attempts, error_code=error_code)

    async def open_entries(self) -> Sequence[Entry]:
        """Return the open entries, oldest first."""
        return tuple(self._entries.values())

    async def aclose(self) -> None:
        """Keep the entries: they are all that is known of chats left behind."""

    def _change(self, entry: str, **changes: object) -> None:
        self._entries[entry] = msgspec.structs.replace(self._entries[entry], **changes)
