"""The vocabulary as a JSON Schema of a trace line, and as tables for people.

``python -m chatlease._trace_schema`` writes ``trace-schema.json`` anew (``make diagrams``); a test compares the two.

Rules that live here:

* The schema is closed: what it does not name, this version does not write. A reader is not as strict: it passes over
  events and keys that it does not know (`_trace_events`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ._trace_events import KEYS, SCHEMA_VERSION, VOCABULARY, Key, Word

PATH = Path(__file__).with_name("trace-schema.json")
"""Where it is kept, in the package."""

_WHOSE = frozenset({"session", "service", "account", "chat"})
_LINE = ("v", "at", "event", "engine")
_IN_NO_FILE = frozenset({"trace.failed"})
"""Events that only the log can have."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a line of a trace file."""
    words = {event: word for event, word in VOCABULARY.items() if event not in _IN_NO_FILE}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of a Chatlease trace file",
        "description": (
            f"Version {SCHEMA_VERSION}, generated from the engine's vocabulary. Keys and events may be added to it; "
            "a reader passes over those that it does not know, and over lines of a higher version."
        ),
        "type": "object",
        "required": list(_LINE),
        "properties": {
            "v": {"const": SCHEMA_VERSION, "description": "version of this format"},
            "at": {"type": "number", "description": "seconds since the epoch, by the wall clock"},
            "event": {"enum": list(words), "description": "what happened"},
            **{name: _key(key) for name, key in KEYS.items()},
        },
        "allOf": [_rule(event, word) for event, word in words.items()],
        "additionalProperties": False,
    }


def _key(key: Key) -> dict[str, Any]:
    found: dict[str, Any] = {"description": key.says}
    if key.type == "strings":
        found |= {"type": "array", "items": {"type": "string"}}
    elif key.values:
        found |= {"enum": list(key.values)}
    else:
        found |= {"type": key.type} | ({} if key.type in {"string", "boolean"} else {"minimum": 0})
    return found | ({"pattern": key.pattern} if key.pattern else {})


def _rule(event: str, word: Word) -> dict[str, Any]:
    """Return what holds for the lines of one event."""
    names = [*_LINE, *word.required, *word.optional]
    properties: dict[str, Any] = {name: {"enum": list(values)} for name, values in word.narrowed.items()}
    then = {
        "description": f"{logging.getLevelName(word.level)}: {word.says}",
        "required": list(word.required),
        "propertyNames": {"enum": names},
        "properties": properties,
    }
    return {"if": {"properties": {"event": {"const": event}}}, "then": then}


# -- for people -------------------------------------------------------------------------------------------------------


def keys_table() -> str:
    """Return the keys as a table in Markdown."""
    line: Mapping[str, str] = {
        "v": "version of this format",
        "at": "seconds since the epoch, by the wall clock",
        "event": "what happened, as below",
    }
    return _table(("key", "is"), [*line.items(), *((name, key.says) for name, key in KEYS.items())])


def events_table() -> str:
    """Return the events as a table in Markdown, in the order of the vocabulary."""
    rows = [
        (event, logging.getLevelName(word.level), word.says, _keys(event, word)) for event, word in VOCABULARY.items()
    ]
    return _table(("event", "level", "says", "keys"), rows)


def _keys(event: str, word: Word) -> str:
    """Return an event's own keys, those in brackets that it does not always have."""
    whose = _WHOSE if event.startswith("session.") else frozenset[str]()
    own = [f"`{name}`" for name in word.required if name not in whose]
    optional = [f"`{name}`" for name in word.optional if name not in whose]
    return ", ".join([*own, *([f"[{', '.join(optional)}]"] if optional else [])])


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def cells() -> Iterator[tuple[str, ...]]:
        yield header
        yield ("---",) * len(header)
        for name, *rest in rows:
            yield (f"`{name}`", *rest)

    return "\n".join(f"| {' | '.join(row)} |" for row in cells()) + "\n"


def text() -> str:
    """Return the schema as it stands in the file."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=1).decode() + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
