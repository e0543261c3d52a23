"""What happened to which chat, by whom and in which order: for harnesses that judge the service's clients.

Rules that live here:

* An entry is made in the moment of the effect, not of the reply, so their order is the order of the effects, also where
  the client had left or the effect came late.
* Off by default, and bounded: who reads it says up to where it has read, and that is forgotten.
"""

from __future__ import annotations

from collections import deque

import msgspec
from aiohttp import web


class Entry(msgspec.Struct, frozen=True, gc=False):
    """
    One request, at the moment of its effect (or of its answer, where it had none); no credential, no text.

    Attributes:
        number: Counts the entries from 1.
        time: By the service's monotonic clock, in seconds.
        method: Of the request.
        path: Of the request, without the query.
        step: Name of the step in the lifecycle table, or of the call where it is no step of its own.
        chat: Id of the chat that was asked for, or created; empty where there is none.
        user: Whose request it was; empty when the login was refused.
        actor: Value of the actor header (`ServiceOptions.actor_header`).
        status: Of the answer before any fault; 0 when the connection was cut instead.
        effect: ``created``, ``deleted``, ``done`` for everything else that was carried out, empty for nothing.
        fault: Kind of the fault that was made to happen, if any.
    """

    number: int
    time: float
    method: str
    path: str
    step: str
    chat: str
    user: str
    actor: str
    status: int
    effect: str
    fault: str


class Journal:
    """
    The latest entries that nobody has read yet.

    Args:
        size: How many it keeps.
        header: Name of the request header that tells who acts.
    """

    def __init__(self, size: int, header: str) -> None:
        self._header = header
        self._entries: deque[Entry] = deque(maxlen=size)
        self._number = 0

    def note(
        self,
        request: web.Request,
        time: float,
        step: str,
        user: str,
        *,
        chat: str = "",
        status: int,
        effect: str = "",
        fault: str = "",
    ) -> None:
        """Add an entry; the oldest falls out when there are too many."""
        self._number += 1
        actor = request.headers.get(self._header, "") if self._header else ""
        self._entries.append(
            Entry(self._number, time, request.method, request.path, step, chat, user, actor, status, effect, fault)
        )

    def after(self, number: int) -> bytes:
        """
        Return the entries after this one as JSON, and forget the others.

        ``lost`` tells how many of them had fallen out: 0 for a reader that keeps up.
        """
        while self._entries and self._entries[0].number <= number:
            self._entries.popleft()
        first = self._entries[0].number if self._entries else self._number + 1
        return msgspec.json.encode({"lost": max(first - number - 1, 0), "entries": list(self._entries)})
