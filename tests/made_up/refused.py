"""What a made-up service refuses, before it is written in the service's own way."""

from __future__ import annotations

FAILURES = (
    "login",
    "no_chat",
    "no_prompt",
    "no_run",
    "no_model",
    "no_route",
    "invalid",
    "busy",
    "over",
    "exists",
    "broken",
)


class Refused(Exception):
    """
    A call is refused.

    Args:
        failure: One of `FAILURES`.
        words: For people.
    """

    def __init__(self, failure: str, words: str) -> None:
        super().__init__(words)
        self.failure = failure
        self.words = words
