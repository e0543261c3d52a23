"""What engine/README.md says that the guarantee covers: each row names a test, and that test is there."""

from __future__ import annotations

import ast

import pytest

from chatlease import Sweep
from tests.pages import ROOT, table

ROWS = table("engine/README.md", "What the guarantee covers")


def names_of_tests() -> set[str]:
    """Return the names of all tests."""
    trees = (ast.parse(path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
    functions = (node for tree in trees for node in ast.walk(tree))
    return {each.name for each in functions if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_says_what_when_and_what_to_do_and_names_a_test(row: list[str]) -> None:
    *said, held_by = row
    assert len(said) == 4
    assert all(said)
    assert held_by.strip("`") in names_of_tests()


def test_no_two_rows_lean_on_one_test() -> None:
    assert len({row[-1] for row in ROWS}) == len(ROWS) > 20


def test_the_minutes_until_a_lost_create_is_looked_for_are_as_printed() -> None:
    """The create can take effect no more, a lease has passed, and the margin on top."""
    [row] = [row for row in ROWS if "reply to its creation is lost" in row[0]]
    horizon, lease = 300, 60  # the defaults of a ledger's URL, which another test holds to the page
    assert f"some {(horizon + lease + Sweep().margin) / 60:g} minutes later" in row[2]
