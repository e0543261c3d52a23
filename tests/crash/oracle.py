"""What may never happen, judged by the service's own journal and counts alone.

Rules that live here:

* A request of a chat's owner that meets the chat deleted by a sweeper means that it was deleted under a living owner,
  unless the owner was dead by then. An owner that was stopped for longer than its lease is allowed one request a chat:
  the one that was under way when it was stopped.
* Looking whether a failed deletion deleted belongs to the deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

OWNER, SWEEPER = "owner", "sweep"
_FORGOTTEN_AFTER_S = 60.0


class Entry(msgspec.Struct, frozen=True):
    """A line of the service's journal."""

    number: int
    time: float
    step: str
    chat: str
    actor: str
    status: int
    effect: str
    fault: str


class Page(msgspec.Struct, frozen=True):
    """What the service answers for its journal."""

    lost: int
    entries: list[Entry]


class Encounter(msgspec.Struct, frozen=True):
    """A request of an owner that met its chat deleted by a sweeper."""

    chat: str
    owner: str
    sweeper: str
    deleted_at: float
    step: str
    at: float


class _Chat(msgspec.Struct):
    owner: str
    deleted_by: str = ""
    deleted_at: float = 0.0
    last: tuple[str, str] = ("", "")


class Oracle:
    """
    Reads the journal as it comes.

    Attributes:
        counts: ``created``, ``swept`` (deleted by sweepers), ``lost replies`` and ``late creates`` (by the service's
            faults), ``gone`` (a sweeper met a chat that was gone), ``lost journal``.
        encounters: See `Encounter`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.encounters: list[Encounter] = []
        self.creates: Counter[str] = Counter()
        self._chats: dict[str, _Chat] = {}

    @property
    def held(self) -> int:
        """How many chats it keeps in mind."""
        return len(self._chats)

    def take(self, page: Page) -> None:
        """Take the next entries."""
        self.counts["lost journal"] += page.lost
        for entry in page.entries:
            self._take(entry)
        if page.entries:
            self._forget(page.entries[-1].time - _FORGOTTEN_AFTER_S)

    def judge(self, deaths: Mapping[str, float], stopped: Collection[str]) -> tuple[list[Encounter], list[Encounter]]:
        """
        Return the encounters that show a chat deleted under a living owner, and those that an owner was allowed.

        Args:
            deaths: When each worker died, by the clock of the journal; who is missing lives.
            stopped: Workers that were stopped for longer than their lease.
        """
        living = [each for each in self.encounters if deaths.get(each.owner, each.at) > each.deleted_at]
        first = {each.chat: each for each in reversed(living) if each.owner in stopped}
        hurt = [each for each in living if first.get(each.chat) is not each]
        return hurt, list(first.values())

    def _take(self, entry: Entry) -> None:
        who, _, role = entry.actor.partition("/")
        if entry.effect == "created":
            self._created(entry, who)
        chat = self._chats.get(entry.chat)
        if chat is None:
            return
        if role == OWNER and who == chat.owner and chat.deleted_by:
            self._met(entry, chat)
        if role == SWEEPER and entry.step == "delete_chat" and not entry.effect and chat.deleted_by:
            self.counts["gone"] += 1
        if entry.effect == "deleted":
            chat.deleted_at, chat.deleted_by = entry.time, who if role == SWEEPER else OWNER
            self.counts["swept"] += role == SWEEPER
        chat.last = (entry.actor, entry.step)

    def _created(self, entry: Entry, who: str) -> None:
        self._chats[entry.chat] = _Chat(who)
        self.creates[who] += 1
        self.counts["created"] += 1
        self.counts["lost replies"] += entry.fault == "drop"
        self.counts["late creates"] += entry.fault == "delay"

    def _met(self, entry: Entry, chat: _Chat) -> None:
        confirms = entry.step == "read_chat" and chat.last == (entry.actor, "delete_chat")
        if chat.deleted_by != OWNER and not confirms:
            self.encounters.append(
                Encounter(entry.chat, chat.owner, chat.deleted_by, chat.deleted_at, entry.step, entry.time)
            )

    def _forget(self, before: float) -> None:
        """Keep what the run has made from growing: chats are judged by what happens soon after their deletion."""
        over = [name for name, chat in self._chats.items() if chat.deleted_by and chat.deleted_at < before]
        for name in over:
            del self._chats[name]
