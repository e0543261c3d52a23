"""What is left of a step when it is over: its record, or what a trace tells of its error."""

from __future__ import annotations

from typing import Any

import msgspec

from ._lifecycle import State, Trigger
from .errors import ServiceError


class Step(msgspec.Struct, frozen=True):
    """
    A transition that was made.

    Attributes:
        trigger: Which.
        source: State before.
        dest: State after.
        elapsed_s: How long it took, in seconds.
        http_status: Status of the service's (last) answer; ``None`` for a step without a call.
    """

    trigger: Trigger
    source: State
    dest: State
    elapsed_s: float
    http_status: int | None


def error_keys(error: BaseException) -> dict[str, Any]:
    """Return what a trace tells of an error: never its text."""
    keys: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, ServiceError):
        if error.code:
            keys["error_code"] = error.code
        if error.status is not None:
            keys["http_status"] = error.status
    return keys
