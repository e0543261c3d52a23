"""How a call is refused; each dialect shows the same refusal in its own way."""

from __future__ import annotations

from typing import TypeAlias

Problems: TypeAlias = list[dict[str, object]]
"""What is wrong with a body, as the server's validation lists it: ``loc``, ``msg``, ``type``, sometimes ``ctx``."""


class Refusal(Exception):
    """
    A call was refused.

    Attributes:
        status: The server's status.
        detail: What the server says; ``None`` where it says nothing.
        crashed: The server's code failed and its framework answered: plain text instead of an empty body.
    """

    def __init__(self, status: int, detail: str | Problems | None = None, *, crashed: bool = False) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.crashed = crashed


def failed() -> Refusal:
    """The server caught an exception of its own: 500 and an empty body."""
    return Refusal(500)


def crashed() -> Refusal:
    """The server did not even catch it: 500 and plain text."""
    return Refusal(500, crashed=True)
