"""Reads the recordings in ``tests/recorded/open-assistant`` (their format is described beside the original files)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "recorded" / "open-assistant"


@dataclass(frozen=True)
class Note:
    """Something that happened at the service, or was observed, at a time."""

    t: float
    text: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """An event of a stream, or a comment (``kind`` is ``ping``)."""

    t: float
    kind: str
    raw: str

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.raw.removeprefix("data: "))
        return event


@dataclass(frozen=True)
class Exchange:
    """A request and what came back."""

    n: int
    via: str
    user: str | None
    label: str
    t: float
    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: str | None
    body_length: int | None
    status: int
    reason: str
    response_headers: dict[str, str]
    response: str
    frames: list[Frame]
    t_end: float
    end: str

    @property
    def streams(self) -> bool:
        """The answer was an event stream."""
        return bool(self.frames)

    @property
    def opened(self) -> float:
        """When the server got the request: 15 s before the first ping of a stream, where there is one."""
        pings = [frame.t for frame in self.frames if frame.kind == "ping"]
        return max(pings[0] - 15.0, self.t) if pings else self.t


@dataclass(frozen=True)
class Recording:
    """All that one file holds, in the order of time."""

    name: str
    items: list[Note | Exchange]

    @property
    def exchanges(self) -> list[Exchange]:
        return [item for item in self.items if isinstance(item, Exchange)]

    @property
    def notes(self) -> list[Note]:
        return [item for item in self.items if isinstance(item, Note)]


def names() -> list[str]:
    """Names of all recordings."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def load(name: str) -> Recording:
    """Read a recording."""
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]
    items = [item for item in map(_item, lines) if item is not None]
    return Recording(name, sorted(items, key=lambda item: item.t))


def split_frames(chunks: list[tuple[float, str]]) -> list[Frame]:
    """Put the pieces of a stream together and cut them into frames, each with the time of its last piece."""
    frames: list[Frame] = []
    rest = ""
    for t, data in chunks:
        *whole, rest = (rest + data).split("\r\n\r\n")
        frames += [Frame(t, _kind(raw), raw) for raw in whole]
    return frames


def _kind(raw: str) -> str:
    return "ping" if raw.startswith(": ping - ") else str(json.loads(raw.removeprefix("data: "))["event_type"])


def _query(query: dict[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (query or {}).items()}


def _item(line: dict[str, Any]) -> Note | Exchange | None:
    if line["kind"] == "about":
        return None
    if line["kind"] == "note":
        return Note(line["t"], line["text"], line)
    request, response = line["request"], line["response"]
    chunks = [(chunk["t"], chunk["data"]) for chunk in response.get("chunks", [])]
    text = response.get("body", "".join(data for _, data in chunks))
    is_stream = text.startswith(("data: ", ": ping"))
    return Exchange(
        n=line["n"],
        via=line["via"],
        user=line["user"],
        label=line["label"],
        t=line["t_send"],
        method=request["method"],
        path=request["path"],
        query=_query(request["query"]),
        headers=[(name, value) for name, value in request["headers"]],
        body=request["body"],
        body_length=request.get("body_length"),
        status=response["status"],
        reason=response["reason"],
        response_headers={name.lower(): value for name, value in response["headers"]},
        response=text,
        frames=split_frames(chunks) if is_stream else [],
        t_end=response["t_end"],
        end=line["end"],
    )
