"""What the tests of reading traces share: lines made by hand, and files of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from chatlease._traces import HELD, Counts, Gatherer, SessionTrace

START = 1_767_225_600.0
"""2026-01-01, midnight in UTC."""

HAPPY: Sequence[tuple[str, str, str]] = (
    ("ready_cookies", "new", "cookies-ready"),
    ("create_chat", "cookies-ready", "chat-created"),
    ("send_prompt", "chat-created", "prompt-sent"),
    ("queue_assistant", "prompt-sent", "assistant-queued"),
    ("open_stream", "assistant-queued", "streaming"),
    ("delete_chat", "streaming", "deleted"),
)


class Tale:
    """
    Tells what a session does, line by line; each line comes an eighth of a second after the one before it.

    Args:
        session: Its id.
        at: When it begins, in seconds after `START`.
        engine: The engine that traces it.
        account: Whose it is.
    """

    def __init__(
        self, session: str = "session-1", at: float = 0.0, *, engine: str = "aaaaaaaa", account: str = "me"
    ) -> None:
        self.session = session
        self.at = START + at
        self.engine = engine
        self.account = account
        self.lines: list[dict[str, Any]] = []

    def say(self, event: str, *, by: str | None = None, after: float = 0.125, **keys: Any) -> Tale:
        """Add a line."""
        self.at += after
        about = {"engine": by or self.engine, "session": self.session, "service": "fake", "account": self.account}
        self.lines.append({"v": 1, "at": self.at, "event": event, **about, **keys})
        return self

    def open(self, model: str = "fake-1") -> Tale:
        return self.say("session.opened", after=0.0, model=model)

    def step(self, trigger: str, source: str, dest: str, *, after: float = 0.125, **keys: Any) -> Tale:
        told: dict[str, Any] = {"elapsed_s": after, "http_status": 200, "chat": "chat-1"} | keys
        return self.say("session.transition.completed", after=after, trigger=trigger, source=source, dest=dest, **told)

    def steps(self, first: str = "ready_cookies", last: str = "delete_chat") -> Tale:
        """Add the usual steps, from one to another."""
        names = [name for name, _, _ in HAPPY]
        for trigger, source, dest in HAPPY[names.index(first) : names.index(last) + 1]:
            self.step(trigger, source, dest)
        return self

    def fail(self, trigger: str, source: str, *, after: float = 0.125, **keys: Any) -> Tale:
        failed = {"elapsed_s": after, "error": "Unavailable", "error_code": "http-503", "http_status": 503}
        told: dict[str, Any] = failed | keys
        return self.say("session.transition.failed", after=after, trigger=trigger, source=source, **told)

    def close(self, state: str = "deleted") -> Tale:
        lived = max(0.0, self.at - self.lines[0]["at"])
        return self.say("session.closed", after=0.0, state=state, elapsed_s=lived)

    def whole(self) -> Tale:
        """Add a whole session in which nothing goes wrong."""
        self.open().steps(last="open_stream")
        self.say("session.stream.first_token", waited_s=0.25)
        self.say("session.stream.ended", token_count=3, polled=False, elapsed_s=0.5)
        return self.steps("delete_chat").close()

    def hand_over(self, state: str = "prompt-sent") -> Tale:
        """Give the chat up."""
        self.step("hand_over", state, "orphaned", http_status=None).close("orphaned")
        return self.say("session.cleanup.handed_over", after=0.0, elapsed_s=1.0, attempts=2)

    def sweep(self, outcome: str = "chat.deleted", *, by: str = "bbbbbbbb", after: float = 60.0, **keys: Any) -> Tale:
        return self.say(f"sweep.{outcome}", by=by, after=after, **keys)


def engine_line(event: str, at: float = 0.0, engine: str = "aaaaaaaa", **keys: Any) -> dict[str, Any]:
    """Return a line about an engine."""
    about = {"pid": 4711, "host": "here", "version": "1.0", "ledger": "sqlite", "services": ["fake"]}
    return (
        {"v": 1, "at": START + at, "event": event, "engine": engine}
        | (about if event == "engine.opened" else {})
        | keys
    )


def encoded(lines: Iterable[dict[str, Any]]) -> bytes:
    """Return lines as they stand in a file."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def write(path: Path, *tales: Tale | Iterable[dict[str, Any]]) -> Path:
    """Write a trace file; lines of several tales in the order of time."""
    lines = [line for tale in tales for line in (tale.lines if isinstance(tale, Tale) else tale)]
    path.write_bytes(encoded(sorted(lines, key=lambda line: line["at"])))
    return path


class Gathered:
    """What a gatherer made of lines: those that ended on the way, and the rest."""

    def __init__(self, lines: Iterable[dict[str, Any]], *, in_order: bool = True, hold: int = HELD) -> None:
        self.gatherer = Gatherer(in_order=in_order, hold=hold)
        self.counts = Counts()
        read = self.counts.decoded(encoded(lines).splitlines())
        self.ended = [session for line in read for session in self.gatherer.feed(line)]
        self.held = len(self.gatherer.held)
        self.rest = list(self.gatherer.rest())

    @property
    def one(self) -> SessionTrace:
        """The only session."""
        (session,) = [*self.ended, *self.rest]
        return session
