"""Named places at which a test may stop, fail or kill the process; generated from the lifecycle table.

Two for every trigger: ``<trigger>.started`` just before its effect, ``<trigger>.completed`` just after it and before
the state changes; two in the promise itself: ``create_chat.intended`` between the durable intent and the first byte,
``create_chat.bound`` once the chat's id is durable; and those of a sweep, each after what it is named for. Nothing
happens at any of them unless it is armed (`chatlease.testing.failpoints`).
"""

from __future__ import annotations

from collections.abc import Callable

from ._lifecycle import Trigger

NAMES: tuple[str, ...] = tuple(
    sorted(
        {f"{trigger.value}.{place}" for trigger in Trigger for place in ("started", "completed")}
        | {"create_chat.intended", "create_chat.bound"}
        | {f"sweep.{done}" for done in ("reaped", "claimed", "listed", "stopped", "deleted", "settled")}
    )
)
"""Every failpoint."""

armed: dict[str, Callable[[], object]] = {}
"""What to do where; empty in production."""


def reach(name: str) -> None:
    """Do what is armed at this place, if anything."""
    if armed and name in armed:
        armed[name]()
