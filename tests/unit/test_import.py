"""What ``import chatlease`` brings along, in a fresh interpreter: every module of it is paid for by every bot."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

EXTRAS = ("aiohttp_socks", "browser_cookie3", "python_socks", "rich", "typer")
LIBRARIES = {
    "msgspec",
    "six",  # of transitions
    "transitions",
    "typing_extensions",  # of msgspec, where it finds it
}
"""What may come along, and no more. One that does not come any more is taken off the list."""

NOT_NEEDED = {
    "argparse",
    "ctypes",
    "email.message",
    "html",
    "http",
    "multiprocessing",
    "unittest",
    "urllib.request",
    "xml",
}
"""Of the standard library: what costs much, and belongs to HTTP clients and command lines."""

_CODE = """
import json, sys
sys.modules.update(dict.fromkeys({hidden!r}))
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def brought(module: str = "chatlease", *, hidden: tuple[str, ...] = ()) -> set[str]:
    """Return the modules that an import brings, with some that cannot be found."""
    code = _CODE.format(module=module, hidden=hidden)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return {*json.loads(done.stdout)}


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("hidden", [EXTRAS, ()], ids=["without extras", "with extras"])
def test_it_brings_these_libraries_and_no_others(hidden: tuple[str, ...]) -> None:
    """With extras too: structlog and others import rich and more where they find it."""
    foreign = tops(brought(hidden=hidden)) - sys.stdlib_module_names
    assert foreign - {"chatlease"} == LIBRARIES


def test_it_brings_no_part_of_the_standard_library_that_belongs_to_others() -> None:
    assert brought(hidden=EXTRAS) & NOT_NEEDED == set()


def test_it_brings_no_part_of_itself_that_only_some_need() -> None:
    """The command line, the kit for tests, diagrams, and the registry of adapters."""
    ours = {name for name in brought() if name.startswith("chatlease.")}
    some = {"chatlease._cli", "chatlease.testing", "chatlease._diagram", "chatlease._registry"}
    assert "chatlease._engine" in ours
    assert {".".join(name.split(".")[:2]) for name in ours} & some == set()


def test_the_entry_of_the_command_line_brings_the_command_line_only_when_it_is_called() -> None:
    """``chatlease`` without its extra is one line that says so, and no traceback."""
    assert brought("chatlease._cli") - brought("chatlease") <= {"chatlease._cli"}
