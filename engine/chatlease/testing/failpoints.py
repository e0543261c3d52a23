"""Arm the engine's named places (`chatlease.testing.failpoints.NAMES`), generated from the lifecycle table."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from chatlease import _failpoints

__all__ = ["NAMES", "at"]

NAMES = _failpoints.NAMES
"""Every failpoint: ``<trigger>.started``, ``<trigger>.completed``, ``create_chat.intended``, ``create_chat.bound``."""


@contextmanager
def at(name: str, action: Callable[[], object]) -> Generator[None]:
    """
    Do something whenever a failpoint is reached: raise, count, or kill the process.

    Args:
        name: One of `NAMES`.
        action: Called in the session's own task; what it raises is raised there.

    Raises:
        ValueError: There is no such failpoint.
    """
    if name not in NAMES:
        raise ValueError(f"no failpoint {name!r}; there are {', '.join(NAMES)}")
    _failpoints.armed[name] = action
    try:
        yield
    finally:
        del _failpoints.armed[name]
