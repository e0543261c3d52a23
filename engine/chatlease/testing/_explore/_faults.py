"""What goes wrong at a call between the engine and an adapter; the order here is the order of the exploration.

Rules that live here:

* A fault is truthful: what it says of the service is so. An error *before* the effect means that the adapter was never
  called, one *after* it that the adapter did its work and its reply is lost. A run that is said to have failed is over.
* A hang ends by the engine's deadline: the clock jumps when nothing else can happen.
* A lasting fault begins at its call and hits every later one, until the engine has given the chat up. After one that
  cancels the caller the service is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from chatlease.errors import NotAuthenticated, ProtocolChanged, RateLimited, Rejected, RunFailed, Unavailable

__all__ = ["FAULTS", "READ", "Fault", "applicable", "lost", "run_failed"]

READ = "read"
"""Name of a stream's call, beside those of the adapter."""

_WORDS = "as the exploration wants it"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Something that goes wrong, once or from then on.

    Attributes:
        what: It in words, for the report.
        act: What is done: an error is raised, the call hangs, its caller is cancelled, its session is closed from
            elsewhere, the call takes effect only after its error, the stream ends, the run fails, or the service itself
            is told to fail.
        where: Before the adapter is called, while it works, or after that.
        error: Makes what is raised.
        lasting: Every later call fails, too.
    """

    what: str
    act: Literal["raise", "hang", "cancel", "close", "late", "end", "fail", "arm"]
    where: Literal["before", "in", "after"] = "before"
    error: Callable[[], Exception] | None = None
    lasting: bool = False


def lost() -> Exception:
    """Return the error for a reply that was lost."""
    return Unavailable(f"the connection broke, {_WORDS}", code="connection-lost")


def _failed() -> Exception:
    return Unavailable(f"the service is out of order, {_WORDS}", status=503)


def _unsent() -> Exception:
    return Unavailable(f"not reached, {_WORDS}", code="connection-refused", sent=False)


def _refused() -> Exception:
    return Rejected(f"refused, {_WORDS}", status=400)


def _logged_out() -> Exception:
    return NotAuthenticated(f"who are you? {_WORDS}", status=401)


def _limited() -> Exception:
    return RateLimited(f"too many requests, {_WORDS}", status=429, retry_after_s=1.0)


def _garbled() -> Exception:
    return ProtocolChanged("an answer", f"something else, {_WORDS}", status=200)


def run_failed() -> RunFailed:
    """Return the error for a run of which the stream says that it failed."""
    return RunFailed(f"the run failed, {_WORDS}", code="explored")


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "refused": Fault("the service refuses (400)", "raise", error=_refused),
        "unsent": Fault("the service is not reached, once", "raise", error=_unsent),
        "503": Fault("the service fails before the effect (503)", "raise", error=_failed),
        "429": Fault("the service limits the rate (429)", "raise", error=_limited),
        "401": Fault("the service refuses the login, once", "raise", error=_logged_out),
        "lost": Fault("the reply is lost after the effect", "raise", "after", error=lost),
        "503-after": Fault("the service fails after the effect (503)", "raise", "after", error=_failed),
        "garbled": Fault("the reply cannot be read", "raise", "after", error=_garbled),
        "hang": Fault("no answer before the effect, until the deadline", "hang"),
        "hang-after": Fault("no answer after the effect, until the deadline", "hang", "after"),
        "cancel-before": Fault("the caller is cancelled before the call", "cancel"),
        "cancel-in": Fault("the caller is cancelled during the call", "cancel", "in"),
        "cancel-after": Fault("the caller is cancelled after the effect", "cancel", "after"),
        "close-before": Fault("the session is closed from elsewhere before the call", "close"),
        "close-in": Fault("the session is closed from elsewhere during the call", "close", "in"),
        "close-after": Fault("the session is closed from elsewhere after the effect", "close", "after"),
        "down": Fault("the service fails for good from here on (503)", "raise", error=_failed, lasting=True),
        "silent": Fault("the service never answers again from here on", "hang", lasting=True),
        "late": Fault("the reply is lost, and the effect comes half a second later", "late", error=lost),
        "cancel-silent": Fault("the caller is cancelled, and the service never answers again", "cancel", lasting=True),
        "end": Fault("the stream ends without the final text", "end"),
        "failed": Fault("the service says in the stream that the run failed", "fail"),
    }
)
"""Every fault that is put between engine and adapter, by its name in paths."""

_OF_EFFECTS = frozenset({"create_chat", "send_prompt", "queue_assistant", "delete_chat"})
_OF_STREAMS = frozenset({"end", "failed"})
_OF_READS = frozenset({"lost", "garbled", "hang", "down", "silent"}) | _OF_STREAMS
_MOVED = frozenset({"cancel", "close"})


def applicable(name: str, call: str) -> bool:
    """Say whether a fault makes sense at a call."""
    if call == READ:
        fault = FAULTS[name]
        return name in _OF_READS or (fault.act in _MOVED and fault.where != "after" and not fault.lasting)
    return name not in _OF_STREAMS and (name != "late" or call in _OF_EFFECTS)
