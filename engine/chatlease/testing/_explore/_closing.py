"""An adapter's end, which has to come: `aclose` is given some patience, real seconds, and then given up."""

from __future__ import annotations

import asyncio

from chatlease.adapter import Adapter

__all__ = ["LAW", "came_to_its_end", "too_long"]

LAW = "the adapter keeps its contract"


def too_long(patience_s: float) -> str:
    """Return what is said of a close that was given up."""
    return f"aclose comes back within {patience_s:g} s (patience_s)"


async def came_to_its_end(adapter: Adapter, patience_s: float) -> bool:
    """
    Close an adapter; return whether it was done within a patience.

    What does not end is cancelled, given another patience to obey, and left alone then. What `aclose` raises is raised.
    """
    closing = asyncio.ensure_future(adapter.aclose())
    try:
        await asyncio.wait({closing}, timeout=patience_s)
        if closing.done():
            closing.result()
            return True
    finally:
        closing.cancel()
    await asyncio.wait({closing}, timeout=patience_s)
    return False
