"""What a command remembers of the sessions and sweeps that it runs, from their trace alone.

Rules that live here:

* Nothing is asked of a session: what its trace does not tell, the command does not know, so that ``--json`` and a trace
  file always agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from chatlease._lifecycle import State
from chatlease._trace import TraceEvent
from chatlease.errors import ChatleaseError

from ._exits import Exit, sentence
from ._show import Screen

PATIENCE_S = 10.0
"""How long a command waits at its end for the sweep that it began with."""

_STEP_KEYS = ("trigger", "source", "dest", "elapsed_s", "http_status")


class Journal:
    """
    A hook that keeps what the command needs for its result.

    Attributes:
        steps: The transitions made, oldest first, as traced.
        sessions: Ids of the sessions seen.
    """

    def __init__(self) -> None:
        self.steps: list[Mapping[str, Any]] = []
        self.sessions: list[str] = []
        self._left: dict[str, str | None] = {}
        self._first_token_s: float | None = None
        self._token_count = 0
        self._requeued = 0

    def __call__(self, event: TraceEvent) -> None:
        """Take an event in."""
        keys = event.keys
        match event.event:
            case "session.opened":
                self.sessions.append(keys["session"])
            case "session.transition.completed":
                self.steps.append({name: keys[name] for name in _STEP_KEYS if name in keys})
            case "session.cleanup.handed_over":
                self._left[keys["session"]] = keys.get("chat")
            case "sweep.chat.deleted" | "sweep.entry.absent":
                self._left.pop(keys["session"], None)
            case "session.stream.first_token":
                self._first_token_s = keys["waited_s"]
            case "session.stream.ended":
                self._token_count += keys["token_count"]
            case "session.run.requeued":
                self._requeued += 1
            case _:
                pass

    @property
    def handed_over(self) -> list[str | None]:
        """Ids of the chats that are left; ``None`` for one whose id was never learned."""
        return list(self._left.values())

    @property
    def state(self) -> str:
        """Where the last session stands."""
        return str(self.steps[-1]["dest"]) if self.steps else State.NEW.value

    @property
    def token_count(self) -> int:
        """Tokens of all answers that came to their end."""
        return self._token_count

    def exit(self, code: Exit) -> Exit:
        """Return the exit code, unless a chat is left."""
        return Exit.CHAT_LEFT if self.handed_over else code

    def result(self, *, text: str | None, error: ChatleaseError | None, code: Exit) -> dict[str, Any]:
        """
        Return what ``--json`` prints.

        Args:
            text: The whole answer; ``None`` when there is none.
            error: What went wrong.
            code: The command's exit code.
        """
        return {
            "text": text,
            "state": self.state,
            "session": self.sessions[-1] if self.sessions else None,
            "steps": self.steps,
            "token_count": self._token_count,
            "first_token_s": self._first_token_s,
            "requeued": self._requeued,
            "chats_left": self.handed_over,
            "error": None if error is None else _error(error),
            "exit_code": int(code),
        }


class FirstSweep:
    """
    A hook that knows whether the sweep that an engine begins with has ended.

    A short command would cut it, and a chat that the last run left behind would stay until a longer one.
    """

    def __init__(self) -> None:
        self._begun = False
        self._ended = asyncio.Event()

    def __call__(self, event: TraceEvent) -> None:
        """Take an event in."""
        self._begun = self._begun or event.event == "sweep.started"
        if event.event in {"sweep.completed", "sweep.failed"}:
            self._ended.set()

    async def wait(self, screen: Screen, seconds: float = PATIENCE_S) -> None:
        """Wait for its end, if it has begun; not for long, because the next start goes on where it stopped."""
        if not self._begun or self._ended.is_set():
            return
        screen.status("deleting chats that were left behind")
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            screen.note("chats that were left behind are still being deleted; the next start, or a sweep, goes on")


def _error(error: ChatleaseError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": sentence(error),
        "hint": error.hint,
        "code": getattr(error, "code", ""),
        "http_status": getattr(error, "status", None),
    }
