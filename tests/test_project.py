"""The project's files agree: packaging, borders, public names, and nothing of the machine that they were written on."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chatlease
import chatlease_adapters
from tests.pythons import ready

ROOT = Path(__file__).parent.parent
PYPROJECT = ROOT / "pyproject.toml"
SETTINGS: dict[str, Any] = tomllib.loads(PYPROJECT.read_text())
PACKAGES = (chatlease, chatlease_adapters)

FOREIGN = re.compile(
    r"(?<![\w.~}$])/(?:root|work|home)\b"  # an absolute path of somebody's machine
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs|anaconda\.org|index-url|(?i:artifactory|nexus\.|devpi)",
)


def modules(package: str, path: list[str]) -> Iterator[str]:
    """Yield the names of all modules below a package, except what is below a private one."""
    for module in pkgutil.iter_modules(path, f"{package}."):
        yield module.name
        if module.ispkg and not is_private(module.name):
            yield from modules(module.name, [str(Path(entry) / module.name.rpartition(".")[2]) for entry in path])


def is_private(module: str) -> bool:
    name = module.rpartition(".")[2]
    return name.startswith("_") and not name.startswith("__")


def all_modules() -> list[str]:
    return sorted(name for package in PACKAGES for name in modules(package.__name__, list(package.__path__)))


PUBLIC = [
    *(package.__name__ for package in PACKAGES),
    *(name for name in all_modules() if not name.rpartition(".")[2].startswith("_")),
]


def run(code: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, which finds the packages where this one does."""
    # Another version cannot load this one's compiled packages; it has an installation of its own.
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} if python == sys.executable else {}
    return subprocess.run(
        [python, "-W", "error", "-c", code],
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_import_linter_protects_every_private_module_of_the_engine() -> None:
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    (protected,) = [contract["protected_modules"] for contract in contracts if contract["type"] == "protected"]
    assert protected == [name for name in all_modules() if name.startswith("chatlease.") and is_private(name)]


def test_every_dependency_has_its_reason_beside_it() -> None:
    project = SETTINGS["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    text = PYPROJECT.read_text()
    bare = [
        requirement
        for group in groups
        for requirement in group
        if not re.search(rf'"{re.escape(requirement)}".*#', text)
    ]
    assert bare == []


def test_the_installed_version_is_the_one_written_down() -> None:
    assert importlib.metadata.version("chatlease") == SETTINGS["project"]["version"]


def test_the_changelog_has_a_place_for_the_next_version() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("package", [package.__name__ for package in PACKAGES])
def test_type_checkers_are_told_that_the_package_is_typed(package: str) -> None:
    (folder,) = importlib.import_module(package).__path__
    assert (Path(folder) / "py.typed").read_text() == ""


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_listed_once_in_order_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    names: list[str] = list(getattr(module, "__all__", []))
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in {package.__name__ for package in PACKAGES}])
def test_a_public_module_says_what_is_public(name: str) -> None:
    assert hasattr(importlib.import_module(name), "__all__")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_can_be_imported_alone(name: str) -> None:
    done = run(f"import {name}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("version", ready())
def test_the_engine_is_imported_without_an_http_client(version: str) -> None:
    """For bots that bring another; under every Python that ``make pythons`` found."""
    done = run("import sys; sys.modules['aiohttp'] = None; import chatlease; print(sys.version)", ready()[version])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{version}.")


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the project's text files, wherever it is checked out; this one holds the patterns and is left out."""
    folders = [ROOT / name for name in (".ci", "engine", "adapters", "tests", "diagrams")]
    paths = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    for path in paths:
        if path.is_file() and path != Path(__file__) and not {".git", "__pycache__", "results"} & set(path.parts):
            try:
                yield path, path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def test_nothing_in_the_project_knows_the_machine_it_was_made_on() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if FOREIGN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        ("cd /work/main", True),
        ('"/home/me/x"', True),
        ("https://host.example/home/", False),
        ("wire/work/", False),
        ("the network/worker", False),
    ],
)
def test_the_search_for_foreign_paths_finds_paths_and_no_urls(line: str, *, foreign: bool) -> None:
    assert bool(FOREIGN.search(line)) is foreign
