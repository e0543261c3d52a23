"""What an answer is made of, as adapters report it and `Answer.events` gives it out.

Rules that live here:

* These types are the same for every service; an adapter maps its wire format onto them and adds none of its own.
* A token on its way from an adapter to the engine is a bare ``str``, everything else an event: tokens are the hot path,
  and a ``str`` per token is what they cost anyway. `Token` exists only for those who ask for `Answer.events`.
* `Final` is authoritative: its text is the answer, whatever the tokens said (recorded: ``wire/open-assistant``,
  stand-in worker, tokens that do not add up to the final text).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from .errors import ServiceError

__all__ = ["Batch", "Event", "Failed", "Final", "Pending", "PluginStep", "Reading", "RunStatus", "Token"]


class Token(msgspec.Struct, frozen=True, gc=False):
    """
    A piece of the answer.

    Attributes:
        text: May be empty; white space belongs to it.
    """

    text: str


class Pending(msgspec.Struct, frozen=True, gc=False):
    """
    The answer waits in the service's queue; no sign of progress.

    Attributes:
        position: Place in the queue, 1 is the first; 0 where the service does not know (Open-Assistant: handed to a
            worker, dropped, or waiting for more than 60 s).
        size: Length of the queue.
    """

    position: int
    size: int


class PluginStep(msgspec.Struct, frozen=True, gc=False):
    """
    A plugin did something on the way to the answer.

    Attributes:
        thought: What the model said about it, for people.
        action: Name of the action taken.
    """

    thought: str
    action: str


class Final(msgspec.Struct, frozen=True, gc=False):
    """
    The answer is complete.

    Attributes:
        text: The whole answer, authoritative over the tokens.
    """

    text: str


class Failed(msgspec.Struct, frozen=True):
    """
    The service reported, inside the stream, that there will be no (whole) answer.

    Attributes:
        error: `RunFailed` or another `ServiceError`, ready to be raised.
    """

    error: ServiceError


Event: TypeAlias = Token | Pending | PluginStep | Final | Failed
"""What `Answer.events` gives out (`Failed` is raised instead)."""

Batch: TypeAlias = Sequence[str | Pending | PluginStep | Final | Failed]
"""What one read of a stream brings: a ``str`` is a token."""


class RunStatus(enum.Enum):
    """
    Where a queued answer stands, as `Adapter.read_answer` finds it.

    ``ABSENT``: the service knows of no such run. ``CANCELLED``: something other than this session stopped it before its
    first token.
    """

    ABSENT = "absent"
    PENDING = "pending"
    GOING = "going"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reading(msgspec.Struct, frozen=True):
    """
    What one look at a queued answer showed.

    Attributes:
        status: See `RunStatus`.
        text: The whole answer when ``ANSWERED``; else ``None``.
        run: Id of the run, also when it was only found by its prompt; ``None`` when ``ABSENT``.
        code: Short machine word for why it ``FAILED`` (``timeout``, ``aborted_by_worker``), else empty.
    """

    status: RunStatus
    text: str | None = None
    run: str | None = None
    code: str = ""
