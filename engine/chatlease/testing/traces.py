"""Look at what sessions tell of themselves."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chatlease import Engine, State, TraceEvent
from chatlease._trace_events import SCHEMA_VERSION
from chatlease._traces._files import opened, raw_lines

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
    """
    Return the events of a trace file (`chatlease.TraceFile`), gzipped if its name ends in ``.gz``.

    Lines that are none, or cut, or of a later version of the format are passed over.

    Raises:
        OSError: It cannot be read.
    """
    with ExitStack() as stack:
        [[file]] = opened([[Path(path).absolute()]], stack)
        found = [_event(line) for line in raw_lines(file) if line is not None]
    return CapturedTrace(event for event in found if event is not None)


def _event(line: bytes) -> TraceEvent | None:
    try:
        keys = _LINE.decode(line)
        if keys.get("v", SCHEMA_VERSION) > SCHEMA_VERSION:
            return None
        return TraceEvent(str(keys.pop("event")), float(keys.pop("at")), keys)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):  # msgspec's errors are ValueErrors
        return None
