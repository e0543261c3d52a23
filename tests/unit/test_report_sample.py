"""The made-up trace that the tests of pages look at is a trace: each of its lines is as the schema says."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from chatlease._trace_schema import PATH
from tests.browser import sample


def test_each_line_of_the_made_up_trace_is_as_the_schema_says() -> None:
    schema: Any = Draft202012Validator(json.loads(PATH.read_bytes()))
    lines = sample.lines(400)
    assert len({line["event"] for line in lines}) > 10
    assert [line for line in lines if not schema.is_valid(line)] == []


def test_the_made_up_trace_is_the_same_each_time() -> None:
    assert sample.lines(50) == sample.lines(50)
    assert sample.lines(50) != sample.lines(50, seed=8)
