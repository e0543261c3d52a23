"""Look at what sessions tell of themselves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from chatlease import Engine, State
from chatlease._trace import TraceEvent

__all__ = ["CapturedTrace", "capture_trace"]


class CapturedTrace(list[TraceEvent]):
    """Trace events in order, oldest first."""

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
