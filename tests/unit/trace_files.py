"""What the tests of trace files share: lines that are as long as they have to be, and sets of files read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, cast

from chatlease import TraceEvent

BIG = 400
"""Bytes in a line of `told`, more or less."""


def told(number: int, *, who: str = "a", at: float = 1767225600.0) -> TraceEvent:
    """An event with a number, so long that few fill a file."""
    return TraceEvent("session.opened", at + number / 1e4, {"who": who, "number": number, "filling": "x" * (BIG - 90)})


def numbered(path: Path) -> list[Path]:
    """The files of a set, oldest first."""
    others = [each for each in path.parent.iterdir() if each.name.startswith(f"{path.name}.")]
    return [*sorted(others, key=lambda each: -int(each.suffix[1:])), path]


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a set, oldest first; every one of them whole."""
    raw = b"".join(each.read_bytes() for each in numbered(path))
    return [cast("dict[str, Any]", json.loads(line)) for line in raw.splitlines()]


def numbers(path: Path, who: str = "a") -> list[int]:
    return [line["number"] for line in lines(path) if line.get("who") == who]


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start an interpreter of its own, with what it needs to tell."""
    head = "import os, signal, sys; from chatlease import TraceFile; from tests.unit.trace_files import told"
    program = f"{head}\n{textwrap.dedent(code)}"
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], env={**os.environ, **path})
