"""
Finds the CPythons that Chatlease supports on this machine; prints ``VERSION PATH`` lines, oldest first.

It looks into ``CHATLEASE_PYTHONS`` (paths, separated as in ``PATH``) where that is set, else into ``PATH`` and pyenv.
Of each version the first one that really runs, and can make a virtual environment, is taken: version managers put
programs into ``PATH`` that only say that the version is not selected, and distributions leave ``ensurepip`` out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")

_PROBE = """
import ensurepip, sqlite3, ssl, sys, venv
assert sys.implementation.name == "cpython" and sys.prefix == sys.base_prefix
print("{}.{}".format(*sys.version_info), sys.executable)
"""


def find() -> dict[str, str]:
    """Return the interpreters by version, oldest first."""
    given = os.environ.get("CHATLEASE_PYTHONS", "")
    candidates = given.split(os.pathsep) if given else _installed()
    first: dict[str, str] = {}
    for version, path in filter(None, map(_probe, candidates)):
        first.setdefault(version, path)
    return {version: first[version] for version in VERSIONS if version in first}


def ready() -> dict[str, str]:
    """Return the interpreters that have Chatlease installed (``make pythons``), and the one that runs this."""
    made = Path(__file__).parent.parent / ".venvs"
    found = {version: str(made / version / "bin" / "python") for version in VERSIONS}
    usable = {version: path for version, path in found.items() if (made / version / ".ready").exists()}
    return usable | {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}


def _installed() -> Iterator[str]:
    for version in VERSIONS:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            yield shutil.which(f"python{version}", path=folder) or ""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(root.glob("versions/*/bin/python3.1[1-4]")))
    yield str(Path(sys.executable).resolve())  # out of a virtual environment, whose Python does not count


def _probe(python: str) -> tuple[str, str] | None:
    if not python:
        return None
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version, path = done.stdout.strip().split(" ", 1)
    return version, path


if __name__ == "__main__":
    for item in find().items():
        print(*item)
