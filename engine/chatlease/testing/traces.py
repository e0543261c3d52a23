"""Look at what sessions tell of themselves."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chatlease import Engine, State, TraceEvent

__all__ = ["CapturedTrace", "capture_trace", "read_trace"]

_LINE = msgspec.json.Decoder(dict[str, Any])


class CapturedTrace(list[TraceEvent]):
    """Trace events in order, oldest first."""

    def sessions(self) -> list[str]:
        """Return the ids of the sessions, in the order in which they were begun."""
        return list(dict.fromkeys(event.keys["session"] for event in self if event.event == "session.opened"))

    def of(self, session: str) -> CapturedTrace:
        """Return the events of one session, by its id."""
        return CapturedTrace(event for event in self if event.keys.get("session") == session)

    def names(self) -> list[str]:
        """Return the events' names."""
        return [event.event for event in self]

    def path(self, session: str | None = None) -> list[str]:
        """
        Return the states that a session went through, the first one included.

        Args:
            session: Its id; may be left out where there is only one.
        """
        steps = [
            event.keys
            for event in self
            if event.event == "session.transition.completed" and session in {None, event.keys["session"]}
        ]
        return [State.NEW.value, *(keys["dest"] for keys in steps)] if steps else []


@contextmanager
def capture_trace(engine: Engine) -> Generator[CapturedTrace]:
    """Collect the engine's trace events while the block runs."""
    captured = CapturedTrace()
    remove = engine.tracer.add(captured.append)
    try:
        yield captured
    finally:
        remove()


def read_trace(path: str | os.PathLike[str]) -> CapturedTrace:
    """Return the events of a trace file (`chatlease.TraceFile`); lines that are none, or cut, are passed over."""
    captured = CapturedTrace()
    with Path(path).open("rb") as lines:
        for line in lines:
            try:
                keys = _LINE.decode(line)
                captured.append(TraceEvent(str(keys.pop("event")), float(keys.pop("at")), keys))
            except (msgspec.DecodeError, KeyError, TypeError, ValueError):
                continue
    return captured
