"""What is looked at whenever metrics are collected: how many sessions are open, and what the last sweep left.

Rules that live here:

* The SDK calls back the first observable instrument of a name only. So all hooks with one meter provider share what
  there is to look at, and whichever is called back answers for all of them.
* It is looked at in the exporter's thread: whatever changes in the engine's is copied first, in one go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from chatlease._lifecycle import FINAL, State

from ._keys import SERVICE, STATE

_OPEN = [state.value for state in State if state not in FINAL]


class HasSessions(Protocol):
    """Sessions that may be looked at from another thread."""

    def states(self) -> Iterable[tuple[str, str]]:
        """Return service and state of each open session."""
        ...


class Watched:
    """
    What the hooks with one meter provider have to show.

    Attributes:
        sessions: Of each hook.
        services: That there were ever sessions on; those that have none now are shown with 0.
        left: Counts of the last sweep, by their names in its trace; empty before the first.
    """

    def __init__(self) -> None:
        self.sessions: WeakSet[HasSessions] = WeakSet()
        self.services: set[str] = set()
        self.left: dict[str, int] = {}

    def open(self, _: CallbackOptions) -> Iterator[Observation]:
        """Count the open sessions, by service and state."""
        found = Counter(each for sessions in list(self.sessions) for each in sessions.states())
        for service in sorted(self.services):
            for state in _OPEN:
                yield Observation(found[service, state], {SERVICE: service, STATE: state})

    def count(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return what shows one of the counts."""
        return lambda _: [Observation(self.left[name])] if name in self.left else []


class _Global:
    """Stands for the global meter provider, which may still be set."""


_GLOBAL = _Global()
_watched: WeakKeyDictionary[MeterProvider | _Global, Watched] = WeakKeyDictionary()


def watched_by(provider: MeterProvider | None) -> Watched:
    """Return what the hooks with a meter provider share; ``None`` is the global one."""
    return _watched.setdefault(_GLOBAL if provider is None else provider, Watched())
