"""Several messages as one prompt, for services that take one text a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from .errors import UsageError

Messages: TypeAlias = Sequence[Mapping[str, object]]
"""Each with ``role`` (``user``, ``assistant``, ``system``) and ``content``, both texts; a TypedDict is one too."""


def format_prompt(messages: Messages) -> str:
    """
    Render messages as one text.

    A single message is its content, unchanged. Otherwise one ``Role: content`` each, role capitalised, then
    ``Assistant:`` for the answer to come (as the seeds' interface documents it).

    Raises:
        UsageError: No messages, or one without role or content.
    """
    if not _are_messages(messages):
        raise UsageError(
            f"a prompt is a text, or a list of messages; got {type(messages).__name__}",
            hint='A message is {"role": "user", "content": "..."}.',
        )
    if not messages:
        raise UsageError("a prompt needs at least one message")
    pairs = [_pair(message) for message in messages]
    if len(pairs) == 1:
        return pairs[0][1]
    lines = [f"{role.capitalize()}: {content}" for role, content in pairs]
    return "\n".join([*lines, "Assistant:"])


def _are_messages(given: object) -> bool:
    return isinstance(given, Sequence) and all(isinstance(each, Mapping) for each in cast("Sequence[object]", given))


def _pair(message: Mapping[str, object]) -> tuple[str, str]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise UsageError("every message needs a role and a content, both strings")
    return role, content


def prompt_text(prompt: str | Messages) -> str:
    """
    Return what is sent for a string or for messages.

    Raises:
        UsageError: It cannot be sent: no messages, or a lone surrogate in it (half of a character, often from a cut).
    """
    text = prompt if isinstance(prompt, str) else format_prompt(prompt)
    if not _is_sendable(text):
        raise UsageError("the prompt holds a lone surrogate, which is no character", hint="Do not cut UTF-16 text.")
    return text


def _is_sendable(text: str) -> bool:
    # The error is not let out: it would hold the prompt.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
