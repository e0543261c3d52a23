"""Listings over many pages, for adapters: whatever leads from one page to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from chatlease.errors import ProtocolChanged

P = TypeVar("P")
T = TypeVar("T")
PAGES = 1000
"""Pages that a listing may have: one that is longer does not end."""


async def pages(page: Callable[[P], Awaitable[tuple[Sequence[T], P | None]]], first: P) -> AsyncIterator[T]:
    """
    Iterate over what all pages hold.

    Args:
        page: Asks for one, by a cursor, a number, an offset or an address; returns what it holds, and which is the
            next, ``None`` after the last.
        first: The first one.

    Raises:
        ProtocolChanged: The listing does not end: a page leads to itself, or there are more than 1000.
    """
    wanted = first
    for _ in range(PAGES):
        found, following = await page(wanted)
        for each in found:
            yield each
        if following is None:
            return
        if following == wanted:
            break
        wanted = following
    raise ProtocolChanged(f"a listing that ends within {PAGES} pages", "one that goes on")
