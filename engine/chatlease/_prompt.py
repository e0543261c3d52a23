"""Several messages as one prompt, for services that take one text a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from .errors import UsageError

Messages: TypeAlias = Sequence[Mapping[str, str]]
"""Each with ``role`` (``user``, ``assistant``, ``system``) and ``content``."""


def format_prompt(messages: Messages) -> str:
    """
    Render messages as one text.

    A single message is its content, unchanged. Otherwise one ``Role: content`` each, role capitalised, then
    ``Assistant:`` for the answer to come (as the seeds' interface documents it).

    Raises:
        UsageError: No messages, or one without role or content.
    """
    if not messages:
        raise UsageError("a prompt needs at least one message")
    for message in messages:
        if not isinstance(message.get("content"), str) or not isinstance(message.get("role"), str):
            raise UsageError("every message needs a role and a content, both strings")
    if len(messages) == 1:
        return messages[0]["content"]
    lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n".join([*lines, "Assistant:"])


def prompt_text(prompt: str | Messages) -> str:
    """Return what is sent for a string or for messages."""
    return prompt if isinstance(prompt, str) else format_prompt(prompt)
