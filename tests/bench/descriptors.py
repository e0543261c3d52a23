"""How many files this process, and the service that it starts, may have open."""

from __future__ import annotations

import resource

_OTHERS = 500
"""Files that a process has open besides the connections of its sessions."""


def allow(sessions: int) -> bool:
    """Raise the limit for so many sessions at once, with a connection each; returns whether that is allowed."""
    needed = sessions + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (ValueError, OSError):  # more than this user may
        return False
    return True
