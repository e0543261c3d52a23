"""Every line of a trace file is as its schema says, every event is reached, and the pages say what the code says."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from chatlease._trace import EVENTS
from chatlease._trace_events import KEYS, VOCABULARY
from chatlease._trace_schema import PATH, events_table, keys_table, text

from .traced import SCENARIOS, Stage

GUIDE = Path(__file__).parents[2] / "diagrams" / "README.md"
NEVER = {"trace.failed": "it is told where a trace file cannot be written, so no trace file holds it"}
"""Events that no scenario reaches, and why."""


@functools.cache
def schema() -> Any:
    found = json.loads(PATH.read_bytes())
    Draft202012Validator.check_schema(found)
    return found


def validate(line: Any) -> None:
    validator: Any = Draft202012Validator(schema())
    validator.validate(line)


def lines(path: Path) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", json.loads(line)) for line in path.read_bytes().splitlines()]


async def played(name: str, folder: Path, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    stage = Stage(folder, patch)
    with patch.context() as within:
        stage.patch = within
        await SCENARIOS[name](stage)
    stage.file.close()
    return lines(stage.path)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_line_is_as_the_schema_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await played(name, tmp_path, monkeypatch)
    assert told
    for line in told:
        validate(line)


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"full_disk"}))  # there, lines are lost
async def test_every_line_says_whose_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's lines begin with its opening and end with its closing; a session's, with those of the session."""
    told = await played(name, tmp_path, monkeypatch)
    for engine in {line["engine"] for line in told}:
        mine = [line["event"] for line in told if line["engine"] == engine]
        assert (mine[0], mine[-1]) == ("engine.opened", "engine.closed")
        assert (mine.count("engine.opened"), mine.count("engine.closed")) == (1, 1)
    ours = [line for line in told if line["event"].startswith("session.")]
    for session in {line["session"] for line in ours}:
        mine = [line["event"] for line in ours if line["session"] == session]
        assert (mine[0], mine.count("session.opened"), mine.count("session.closed")) == ("session.opened", 1, 1)
        assert len({line["engine"] for line in ours if line["session"] == session}) == 1


async def test_every_event_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that nobody can say should not be in the vocabulary."""
    said: set[str] = set()
    for name in SCENARIOS:
        said |= {line["event"] for line in await played(name, tmp_path / name, monkeypatch)}
    assert EVENTS.keys() - said == NEVER.keys()


async def test_every_key_that_an_event_may_have_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: set[tuple[str, str]] = set()
    for name in SCENARIOS:
        for line in await played(name, tmp_path / name, monkeypatch):
            said |= {(line["event"], key) for key in line}
    offered = {(event, key) for event, word in VOCABULARY.items() for key in (*word.required, *word.optional)}
    assert sorted(pair for pair in offered - said if pair[0] not in NEVER) == []


@pytest.mark.parametrize(("name", "waits_for"), [("whole", "slot"), ("budget", "budget"), ("turns", "turn")])
async def test_whoever_waits_says_what_for(
    name: str, waits_for: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await played(name, tmp_path, monkeypatch)
    assert waits_for in {line["waits_for"] for line in told if line["event"] == "session.gate.waiting"}


# -- the schema itself ------------------------------------------------------------------------------------------------

LINE = {
    "v": 1,
    "at": 1767225600.5,
    "event": "session.closed",
    "engine": "0a1b2c3d",
    "session": "s",
    "service": "fake",
    "state": "deleted",
    "elapsed_s": 1.5,
}


def test_a_good_line_is_valid() -> None:
    validate(LINE)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"v": 2}, "1 was expected", id="another version"),
        pytest.param({"event": "session.invented"}, "is not one of", id="an unknown event"),
        pytest.param({"question": "text"}, "'question' is not one of", id="an unknown key"),
        pytest.param({"request": "r-17"}, "'request' is not one of", id="what the bot has bound"),
        pytest.param({"token_count": 1}, "'token_count' is not one of", id="another event's key"),
        pytest.param({"state": "streaming"}, "is not one of", id="a state that is not final"),
        pytest.param({"elapsed_s": -1}, "minimum", id="a time before its beginning"),
        pytest.param({"elapsed_s": "1"}, "not of type 'number'", id="a text for a number"),
        pytest.param({"engine": "bot"}, "does not match", id="no engine's id"),
        pytest.param({"chat": None}, "not of type 'string'", id="null"),
        pytest.param({"session": ...}, "'session' is a required", id="whose is it"),
        pytest.param({"elapsed_s": ...}, "'elapsed_s' is a required", id="a key that must be there"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_refused(change: dict[str, Any], complaint: str) -> None:
    line = {key: value for key, value in (LINE | change).items() if value is not ...}
    with pytest.raises(ValidationError, match=re.escape(complaint)):
        validate(line)


def test_the_schema_in_the_package_is_the_generated_one() -> None:
    """If this fails, the vocabulary was changed: run `make diagrams`."""
    assert PATH.read_text("utf-8") == text()


def test_every_key_and_event_is_explained_and_used() -> None:
    used = {key for word in VOCABULARY.values() for key in (*word.required, *word.optional)}
    assert used | {"engine"} == KEYS.keys()
    assert all(key.says for key in KEYS.values())
    assert all(word.says for word in VOCABULARY.values())
    for word in VOCABULARY.values():
        assert len({*word.required, *word.optional}) == len(word.required) + len(word.optional)
        assert set(word.narrowed) <= {*word.required, *word.optional}
        assert all(set(values) <= set(KEYS[key].values) for key, values in word.narrowed.items())


def test_the_guide_has_the_keys_and_the_events() -> None:
    """If this fails, the vocabulary was changed: run `make diagrams`."""
    guide = GUIDE.read_text("utf-8")
    assert keys_table() in guide
    assert events_table() in guide


def test_the_line_printed_in_the_guide_is_one() -> None:
    [printed] = re.findall(r"```json\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    line = msgspec.json.decode(printed)
    validate(line)
    assert list(line)[:5] == ["v", "at", "event", "engine", "session"]
