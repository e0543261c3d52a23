"""How a made-up service streams: five formats of the same events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from .bodies import Scribe
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Frame:
    """An event of a stream: its kind (`words.EVENTS`), and its fields by their meaning."""

    kind: str
    fields: dict[str, object]


class Framer:
    """Writes the frames of one service."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scribe = Scribe(plan)
        self._end = "\r\n" if plan.looks.crlf else "\n"

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self.plan.looks.wire.startswith("sse") else "application/x-ndjson"

    # --------------------------------------------------------------------------------------------------- what happens

    def waits(self, place: int) -> Iterator[bytes]:
        """Write that the run waits; ``place`` counts from 1."""
        if self.plan.looks.waits == "places":
            position = place - 1 + self.plan.looks.first_place
            yield self.frame(Frame("wait", {"position": position, "size": place}))
        elif self.plan.looks.waits == "plain":
            yield self.frame(Frame("wait", {}))

    def token(self, piece: str, sofar: str) -> bytes:
        fields: dict[str, object] = {"sofar": sofar} if self.plan.looks.cumulative else {"piece": piece}
        return self.frame(Frame("token", fields))

    def ping(self) -> bytes:
        """Write a sign of life that says nothing."""
        if self.plan.looks.wire.startswith("sse"):
            return f": still here{self._end * 2}".encode()
        return self._end.encode()

    def note(self) -> bytes:
        return self.frame(Frame("note", {"note": 7}))

    def ends(self, text: str) -> Iterator[bytes]:
        """Write the good end."""
        if self.plan.looks.ends_with == "final":
            yield self.frame(Frame("final", {"answer": text}))
        elif self.plan.looks.ends_with == "end" and self.plan.looks.wire != "sse-done":
            yield self.frame(Frame("end", {}))
        if self.plan.looks.wire == "sse-done":
            yield f"data: [DONE]{self._end * 2}".encode()

    def failed(self, code: str, words: str) -> bytes:
        return self.frame(Frame("failed", {"code": code, "said": words}))

    def garbled(self) -> bytes:
        """Write a frame that is none."""
        broken = '{"this is": "cut'
        return self._event("", broken) if self.plan.looks.wire.startswith("sse") else f"{broken}{self._end}".encode()

    # ----------------------------------------------------------------------------------------------------- as written

    def frame(self, frame: Frame) -> bytes:
        kind = self.plan.events[frame.kind]
        fields = {self._scribe.name(each): value for each, value in frame.fields.items()}
        match self.plan.looks.wire:
            case "sse-event":
                return self._event(f"event: {kind}{self._end}", self._json(fields))
            case "sse-type":
                return self._event("", self._json({self._scribe.name("type"): kind, **fields}))
            case "sse-done":
                return self._event("", self._json({kind: fields}))
            case "ndjson-type":
                return self._line({**fields, self._scribe.name("type"): kind})
            case "ndjson-key":
                return self._line({kind: fields})

    def _json(self, value: object) -> str:
        return json.dumps(value, indent=1 if self.plan.looks.pretty else None)

    def _event(self, head: str, data: str) -> bytes:
        lines = "".join(f"data: {line}{self._end}" for line in data.split("\n"))
        return f"{head}{lines}{self._end}".encode()

    def _line(self, value: object) -> bytes:
        return f"{json.dumps(value)}{self._end}".encode()
