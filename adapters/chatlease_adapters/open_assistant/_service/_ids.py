"""Ids and times in the shape in which the real server writes them, recorded in every file."""

from __future__ import annotations

import random
from datetime import UTC, datetime

_TICKS_PER_SECOND = 1 << 24


class Ids:
    """
    Makes UUIDs of version 7 in the early draft's layout that the server's library has.

    36 bits of seconds and 24 bits of their fraction around the version digit, a sequence that is always 0, 48 random
    bits. Ids sort as they were made, even within one instant: the listing's cursors rely on it.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._last = 0

    def make(self, wall: float) -> str:
        """Return an id for something created at that time (seconds since the epoch)."""
        self._last = max(self._last + 1, round(wall * _TICKS_PER_SECOND))
        time = f"{self._last:015x}"
        return f"{time[:8]}-{time[8:12]}-7{time[12:]}-8000-{self._rng.getrandbits(48):012x}"


def iso(wall: float) -> str:
    """Return the time in UTC with microseconds and without a zone mark."""
    return datetime.fromtimestamp(wall, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
