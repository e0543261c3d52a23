"""How a command ends: the exit codes, and which error means which.

Rules that live here:

* A chat that is left outweighs everything else: it is the one thing that somebody has to do something about.
"""

from __future__ import annotations

import enum

from chatlease.errors import ChatleaseError, CleanupFailed, NotAuthenticated, UsageError


class Exit(enum.IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_AUTHENTICATED = 3
    CHAT_LEFT = 4
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done, and no chat is left",
    Exit.FAILED: "the service, the way to it, or the ledger failed",
    Exit.USAGE: "the command makes no sense as given; nothing was sent",
    Exit.NOT_AUTHENTICATED: "no login was found, or the service refused it",
    Exit.CHAT_LEFT: "a chat is left at the service: it could not be deleted, or not yet",
    Exit.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; every chat was given back",
}
"""What each exit code says, for ``--help``."""


def of_error(error: BaseException) -> Exit:
    """Return the exit code that an error means."""
    if isinstance(error, CleanupFailed):
        return Exit.CHAT_LEFT
    if isinstance(error, NotAuthenticated):
        return Exit.NOT_AUTHENTICATED
    return Exit.USAGE if isinstance(error, UsageError) else Exit.FAILED


def sentence(error: ChatleaseError) -> str:
    """
    Return an error as one sentence.

    Some messages go on with a list of what was tried, one line each; a long one is for ``chatlease doctor``.
    """
    first, *rest = str(error).splitlines() or [type(error).__name__]
    if len(rest) == 1 and first.endswith(":"):
        return f"{first} {rest[0].removeprefix('- ')}"
    if rest and first.endswith(":"):
        return first.rpartition("; ")[0] or first.rstrip(":")
    return first
