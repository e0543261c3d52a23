"""
A made-up trace, the same for every seed: bots with a few accounts, some of which are killed, and who sweeps after them.

The tests need as many sessions as they like, and the picture in ``diagrams/`` one that does not change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from chatlease._trace_events import SCHEMA_VERSION

BEGAN = 1767225600.0
"""2026-01-01, midnight UTC."""

Line: TypeAlias = dict[str, Any]

_ACCOUNTS = ("support-bot", "weather", "night-owl", "translator")
_MODELS = ("OA_SFT_Llama_30B_6", "OA_SFT_Llama_30B_7")
_KILLED_AFTER_S = 41.0
_STEPS: tuple[tuple[str, str, str, float], ...] = (
    ("create_chat", "cookies-ready", "chat-created", 0.030),
    ("send_prompt", "chat-created", "prompt-sent", 0.045),
    ("queue_assistant", "prompt-sent", "assistant-queued", 0.025),
    ("open_stream", "assistant-queued", "streaming", 0.110),
)


class _Bot:
    """One engine and its sessions; ``dies_at`` is when its process is killed."""

    def __init__(self, rng: random.Random, number: int, began: float, dies_at: float = float("inf")) -> None:
        self.rng, self.dies_at, self.began = rng, dies_at, began
        self.engine = f"{rng.getrandbits(32):08x}"
        self.pid = 4100 + 37 * number
        self.turn: dict[str, float] = {}
        self.left: list[tuple[float, Line]] = []

    def line(self, at: float, event: str, **keys: Any) -> Line:
        return {"v": SCHEMA_VERSION, "at": round(at, 6), "event": event, "engine": self.engine, **keys}

    def opened(self) -> Line:
        about = {
            "pid": self.pid,
            "host": "bot-1",
            "version": "0.1.0",
            "ledger": "sqlite",
            "services": ["open-assistant"],
        }
        return self.line(self.began, "engine.opened", **about)

    def session(self, at: float) -> Iterator[Line]:
        """Yield the lines of a session until it is over, or its process is killed."""
        last: Line = {}
        for line in self._lived(at):
            if line["at"] > self.dies_at:
                if last.get("chat"):
                    self.left.append((self.dies_at, last))
                return
            last = line
            yield line

    def _lived(self, at: float) -> Iterator[Line]:
        rng = self.rng
        about: Line = {"session": _session_id(rng, at), "service": "open-assistant", "account": rng.choice(_ACCOUNTS)}
        took = rng.uniform(0.0003, 0.002)
        yield self.line(at, "session.opened", **about, model=rng.choice(_MODELS))
        opened, at = at, at + took
        yield self._step(at, about, ("ready_cookies", "new", "cookies-ready"), took)
        for trigger, source, dest, usual in _STEPS:
            yield self.line(at, "session.transition.started", **about, trigger=trigger, source=source)
            took, more = rng.lognormvariate(0.0, 0.5) * usual, {}
            if rng.random() < 0.02:
                at += took * 4
                failed = {"elapsed_s": round(took * 4, 6), "error": "Unavailable", "error_code": "server-error"}
                told = {"trigger": trigger, "source": source, "http_status": rng.choice((500, 502, 503))}
                yield self.line(at, "session.transition.failed", **about, **told, **failed)
                yield from self._given_back(at, opened, about, source)
                return
            if trigger == "queue_assistant" and (waited := self.turn.get(about["account"], 0.0) - at) > 0:
                yield self.line(at, "session.gate.waiting", **about, waits_for="turn")
                yield self.line(at + waited, "session.gate.acquired", **about, waited_s=round(waited, 6))
                took, more = took + waited, {"waited_s": round(waited, 6)}
            at += took
            if trigger == "create_chat":
                about["chat"] = f"{rng.getrandbits(64):016x}"
            yield self._step(at, about, (trigger, source, dest), took, http_status=200, **more)
            if trigger == "queue_assistant":
                self.turn[about["account"]] = at + 0.9
        yield from self._answered(at, opened, about)

    def _answered(self, at: float, opened: float, about: Line) -> Iterator[Line]:
        rng, began = self.rng, at
        queued = rng.expovariate(1.2) if rng.random() < 0.4 else 0.0
        waited = queued + rng.uniform(0.05, 0.25)
        at += waited
        more = {"queued_s": round(queued, 6)} if queued else {}
        yield self.line(at, "session.stream.first_token", **about, waited_s=round(waited, 6), **more)
        if rng.random() < 0.03:
            at += 5.0
            error = {"error": "StreamStalled", "error_code": "idle", "token_count": 0}
            yield self.line(at, "session.stream.polling", **about, **error)
        tokens = 1 + int(rng.lognormvariate(4.0, 0.7))
        at += tokens * 0.03
        ended = {"token_count": tokens, "polled": False, "elapsed_s": round(at - began, 6)}
        yield self.line(at, "session.stream.ended", **about, **ended)
        yield from self._given_back(at, opened, about, "streaming")

    def _given_back(self, at: float, opened: float, about: Line, state: str) -> Iterator[Line]:
        rng, trigger = self.rng, "delete_chat" if about.get("chat") else "abandon"
        yield self.line(at, "session.transition.started", **about, trigger=trigger, source=state)
        if rng.random() < 0.015 and about.get("chat"):
            at += 8.0
            error = {"error": "Unavailable", "error_code": "server-error", "http_status": 503}
            told = {"trigger": trigger, "source": state, "elapsed_s": 8.0}
            yield self.line(at, "session.transition.failed", **about, **told, **error)
            yield self._step(at, about, ("hand_over", state, "orphaned"), 0.0004)
            yield self.line(at, "session.closed", **about, state="orphaned", elapsed_s=round(at - opened, 6))
            self.left.append((at, about))
            return
        took = rng.lognormvariate(0.0, 0.4) * 0.022
        at += took
        more = {"http_status": 200} if trigger == "delete_chat" else {}
        yield self._step(at, about, (trigger, state, "deleted"), took, **more)
        yield self.line(at, "session.closed", **about, state="deleted", elapsed_s=round(at - opened, 6))

    def _step(self, at: float, about: Line, way: tuple[str, str, str], took: float, **more: Any) -> Line:
        told = dict(zip(("trigger", "source", "dest"), way, strict=True)) | {"elapsed_s": round(took, 6)}
        return self.line(at, "session.transition.completed", **about, **told, **more)


def _session_id(rng: random.Random, at: float) -> str:
    text = f"{int(at * 1000):012x}7{rng.getrandbits(76):019x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def lines(sessions: int = 220, seed: int = 7, *, seconds: float = 70.0) -> list[Line]:
    """
    Return the lines of a trace of three engines, one of which is killed and swept after by another, in order of time.

    Args:
        sessions: How many there are, about evenly in this time.
        seed: Of everything.
        seconds: How long it lasts.
    """
    rng = random.Random(seed)
    dies_at = BEGAN + min(_KILLED_AFTER_S, seconds / 2)
    bots = [_Bot(rng, 0, BEGAN), _Bot(rng, 1, BEGAN + 0.5, dies_at), _Bot(rng, 2, BEGAN + 1.0)]
    found = [bot.opened() for bot in bots]
    starts = sorted(rng.uniform(1.5, seconds) for _ in range(sessions))
    for number, start in enumerate(starts):
        living = [bot for bot in bots if BEGAN + start < bot.dies_at]
        found += living[number % len(living)].session(BEGAN + start)
    found += _swept(rng, bots[0], bots)
    return sorted(found, key=lambda line: line["at"])


def _swept(rng: random.Random, sweeper: _Bot, bots: list[_Bot]) -> Iterator[Line]:
    left = [each for bot in bots for each in bot.left]
    for number, (left_at, line) in enumerate(sorted(left, key=lambda each: each[0])):
        about = {key: line[key] for key in ("session", "service", "account", "chat")}
        swept_at, attempts = left_at + rng.uniform(2.0, 6.0), 1
        if number % 4 == 1:
            failed = {"error_code": "server-error", "attempts": 1, "retry_in_s": 5.0}
            yield sweeper.line(swept_at, "sweep.chat.failed", **about, **failed)
            swept_at, attempts = swept_at + 5.0, 2
        if number % 9 != 7:
            yield sweeper.line(swept_at, "sweep.chat.deleted", **about, age_s=9.0, attempts=attempts)


def write(path: Path, found: list[Line]) -> None:
    """Write lines into a trace file."""
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in found))
