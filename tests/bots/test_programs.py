"""The programs of engine/README.md, read: they are typed, and tell users of each error what the page says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatlease import errors
from chatlease.errors import ChatleaseError, RateLimited
from tests.pages import table

from .kit import FRAMEWORKS, PAGE, PYTHON, Framework, why_not

EACH = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
ROWS = table(PAGE, "What users are told")


def explain_of(framework: Framework) -> tuple[str, Callable[[ChatleaseError], str]]:
    """Return a program's `explain`: its source, and itself."""
    functions = [node for node in ast.parse(framework.program).body if isinstance(node, ast.FunctionDef)]
    [function] = [node for node in functions if node.name == "explain"]
    namespace: dict[str, Any] = dict(vars(errors))
    exec(ast.unparse(function), namespace)
    return ast.unparse(function), namespace["explain"]


def classes(cell: str) -> list[type[ChatleaseError]]:
    return [getattr(errors, name.strip("`")) for name in cell.split(", ")]


def instance(kind: type[ChatleaseError], retry_after_s: float | None = None) -> ChatleaseError:
    error = kind.__new__(kind)
    vars(error)["retry_after_s"] = retry_after_s
    return error


def test_all_bots_say_the_same() -> None:
    assert len({explain_of(framework)[0] for framework in FRAMEWORKS}) == 1


def test_each_row_is_one_thing_to_say() -> None:
    _, explain = explain_of(FRAMEWORKS[0])
    said = [{explain(instance(kind)) for kind in classes(row[0])} for row in ROWS]
    assert all(len(texts) == 1 for texts in said)
    assert len({text for texts in said for text in texts}) == len(ROWS)


def test_every_error_is_in_the_table_or_below_one_that_is() -> None:
    named = tuple(kind for row in ROWS for kind in classes(row[0]))
    roots = {"ChatleaseError", "ServiceError", "LedgerError"}
    assert [name for name in errors.__all__ if name not in roots and not issubclass(getattr(errors, name), named)] == []


def test_a_user_is_told_how_long_to_wait() -> None:
    _, explain = explain_of(FRAMEWORKS[0])
    assert "in 7 seconds" in explain(instance(RateLimited, 7.2))
    assert "in 60 seconds" in explain(instance(RateLimited))


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
@EACH
def test_the_program_is_typed(framework: Framework, tmp_path: Path) -> None:
    """With mypy of this environment, and the frameworks of the bots'."""
    (tmp_path / "bot.py").write_text(framework.program)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    options = ("--strict", "--python-executable", PYTHON, "--cache-dir", str(tmp_path / "cache"), "--config-file", "")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "bot.py"],
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
