"""Compares what the local service answers with what was recorded, value by value.

Equal are: status, reason, the names of all headers and the values of those that matter, the order of JSON keys, and
every JSON value, with these exceptions, which differ from run to run by their nature:

* ids and cursors: the first time a recorded one appears, the local one in the same place is learned as its counterpart;
  from then on they must match;
* times (must be of the same form) and seeds (must be numbers, rounded where the website rounds them);
* the text of the page for an unknown route.
"""

from __future__ import annotations

import base64
import json
import re
from itertools import groupby
from typing import Any, cast

from .recording import Exchange, Frame

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8000-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_PING = re.compile(r": ping - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_UNKNOWN_ID = "06b00000-0000-7000-8000-000000000000"
_NAMED = ("content-type", "transfer-encoding", "connection", "vary", "allow", "server", "cache-control")
_DIGITS_OF_A_DOUBLE = 17


class Counterparts:
    """Which local id stands for which recorded one."""

    def __init__(self) -> None:
        self.local: dict[str, str] = {}
        self.recorded: dict[str, str] = {}

    def learn(self, recorded: str, local: str) -> None:
        """Match an id that appeared, or check it against what is known."""
        assert _ID.fullmatch(local), local
        assert self.local.setdefault(recorded, local) == local
        assert self.recorded.setdefault(local, recorded) == recorded
        self.local.setdefault(_cursor(recorded), _cursor(local))

    def translate(self, text: str) -> str:
        """Replace all recorded ids and cursors in a request by the local ones."""
        for recorded, local in self.local.items():
            text = text.replace(recorded, local)
        return text


def compare_head(recorded: Exchange, status: int, reason: str | None, headers: dict[str, str]) -> None:
    """Status line and headers."""
    assert (status, reason) == (recorded.status, recorded.reason)
    assert set(headers) == set(recorded.response_headers)
    for name in _NAMED:
        assert headers.get(name) == recorded.response_headers.get(name), name


def compare_body(recorded: Exchange, text: str, known: Counterparts) -> None:
    """JSON by value, everything else by its text."""
    kind = recorded.response_headers.get("content-type", "")
    if kind.startswith("application/json"):
        value = json.loads(text)
        assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        compare_json(json.loads(recorded.response), value, known, site=recorded.via == "site")
    elif kind.startswith("text/html"):
        assert text.startswith("<!DOCTYPE html>")
    else:
        assert text == recorded.response


def compare_json(recorded: Any, local: Any, known: Counterparts, *, site: bool, key: str = "") -> None:
    """One JSON value and all in it."""
    if isinstance(recorded, dict):
        _compare_objects(cast("dict[str, Any]", recorded), local, known, site)
    elif isinstance(recorded, list):
        _compare_lists(recorded, local, known, site)  # pyright: ignore[reportUnknownArgumentType]  (Any for mypy)
    else:
        _compare_plain(recorded, local, known, site, key)


def compare_stream(
    recorded: Exchange, frames: list[Frame], known: Counterparts, *, gap: tuple[float, float], positions: bool
) -> None:
    """
    The frames of a stream.

    Pings and everything else are two independent sequences on one connection (the first by a timer of its own), so they
    are compared apart: as many pings, each at its recorded time to half a second; and the run-length list of all other
    kinds, ``pending`` with its position. Tokens and final frames are compared one by one. The number of ``pending`` in
    a run may differ by one: the real server's seconds were not all of the same length (`playing` sets their mean).
    """
    kept = [frame for frame in frames if not (frame.kind == "pending" and gap[0] < frame.t < gap[1])]
    _compare_pings(_only("ping", recorded.frames), _only("ping", kept))
    ours, theirs = _runs(kept, positions), _runs(recorded.frames, positions)
    shown = [(kind, len(run)) for kind, run in ours], [(kind, len(run)) for kind, run in theirs]
    assert [kind for kind, _ in ours] == [kind for kind, _ in theirs], shown
    for (kind, run), (_, other) in zip(theirs, ours, strict=True):
        if kind.startswith("pending"):
            assert abs(len(run) - len(other)) <= 1, shown
        else:
            assert len(run) == len(other), shown
            for frame, local in zip(run, other, strict=True):
                assert local.raw == f"data: {json.dumps(local.event)}"
                compare_json(frame.event, local.event, known, site=False)


def _compare_objects(recorded: dict[str, Any], local: dict[str, Any], known: Counterparts, site: bool) -> None:
    assert list(recorded) == list(local)
    for name, value in recorded.items():
        compare_json(value, local[name], known, site=site, key=name)


def _compare_lists(recorded: list[Any], local: list[Any], known: Counterparts, site: bool) -> None:
    assert len(recorded) == len(local)
    for value, other in zip(recorded, _in_order(recorded, local, known), strict=True):
        compare_json(value, other, known, site=site)


def _compare_plain(recorded: Any, local: Any, known: Counterparts, site: bool, key: str) -> None:
    if key == "seed":
        assert isinstance(local, int)
        assert not site or len(str(local).rstrip("0")) <= _DIGITS_OF_A_DOUBLE
    elif isinstance(recorded, str) and _ID.fullmatch(recorded) and recorded != _UNKNOWN_ID:
        known.learn(recorded, local)
    elif isinstance(recorded, str) and _TIME.fullmatch(recorded):
        assert _TIME.fullmatch(local), key
    elif key in ("next", "prev") and recorded in known.local:
        assert local == known.local[recorded]
    else:
        assert (type(local), local) == (type(recorded), recorded), key


def _compare_pings(recorded: list[Frame], local: list[Frame]) -> None:
    assert len(local) == len(recorded), f"pings at {[ping.t for ping in local]}, not {[ping.t for ping in recorded]}"
    for ping, other in zip(recorded, local, strict=True):
        assert _PING.fullmatch(other.raw)
        assert abs(ping.t - other.t) < 0.5


def _in_order(recorded: list[Any], local: list[Any], known: Counterparts) -> list[Any]:
    """Pair what has known ids by these: the messages of a chat come in no dependable order."""
    ids = [known.local.get(_id(item)) for item in recorded]
    if not ids or None in ids:
        return local
    return sorted(local, key=lambda item: ids.index(item["id"]))


def _id(item: Any) -> str:
    return str(cast("dict[str, Any]", item).get("id", "")) if isinstance(item, dict) else ""


def _runs(frames: list[Frame], positions: bool) -> list[tuple[str, list[Frame]]]:
    named = [(_name(frame, positions), frame) for frame in frames if frame.kind != "ping"]
    return [(name, [frame for _, frame in run]) for name, run in groupby(named, key=lambda pair: pair[0])]


def _name(frame: Frame, positions: bool) -> str:
    if frame.kind != "pending" or not positions:
        return frame.kind
    return f"pending {frame.event['queue_position']}/{frame.event['queue_size']}"


def _only(kind: str, frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind == kind]


def _cursor(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
