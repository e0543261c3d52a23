"""Session ids: UUID version 7 (RFC 9562), so that a ledger's entries sort by the time they were begun."""

from __future__ import annotations

import os

from ._clock import Clock


def new_id(clock: Clock) -> str:
    """Return a new id: 48 bits of milliseconds, then 74 random ones."""
    milliseconds = int(clock.wall() * 1000) & (1 << 48) - 1
    random = int.from_bytes(os.urandom(10), "big")
    number = milliseconds << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
