"""What is public is complete, documented, and found where it says it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chatlease
import chatlease_adapters

PACKAGES = (chatlease, chatlease_adapters)


def below(package: ModuleType) -> Iterator[ModuleType]:
    """Yield a package and its public modules, all the way down."""
    yield package
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        if not found.name.startswith("_"):
            yield from below(importlib.import_module(f"{package.__name__}.{found.name}"))


MODULES = {module.__name__: module for package in PACKAGES for module in below(package)}


def ours(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in {package.__name__ for package in PACKAGES}


def names(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", []))


PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES.values() for name in names(module)}
CLASSES = {path: thing for path, thing in PUBLIC.items() if inspect.isclass(thing)}
FUNCTIONS = {path: thing for path, thing in PUBLIC.items() if inspect.isroutine(thing)}
VALUES = {path: thing for path, thing in PUBLIC.items() if path not in CLASSES.keys() | FUNCTIONS.keys()}


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class has from us, those of its private bases too."""
    for base in filter(ours, cls.__mro__):
        for name, member in vars(base).items():
            if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                yield f"{base.__name__}.{name}", member


MEMBERS = {f"{path} {name}": member for path, cls in CLASSES.items() for name, member in members(cls)}


# ----------------------------------------------------------------------------------------------------------- documented


@pytest.mark.parametrize("name", MODULES)
def test_every_public_module_says_what_it_is(name: str) -> None:
    assert (MODULES[name].__doc__ or "").strip()


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_says_what_it_is(name: str) -> None:
    cls = CLASSES[name]
    written = (vars(cls).get("__doc__") or "").strip()
    assert written
    assert not written.startswith(f"{cls.__name__}("), "that is what dataclasses write where nobody did"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_says_what_it_does(name: str) -> None:
    assert (FUNCTIONS[name].__doc__ or "").strip()


@pytest.mark.parametrize("name", MEMBERS)
def test_every_public_method_and_property_says_what_it_does(name: str) -> None:
    assert (MEMBERS[name].__doc__ or "").strip()


@cache
def described() -> frozenset[str]:
    """Return the names that are assigned at the top of any of our modules with a text below that describes them."""
    return frozenset(
        name
        for package in PACKAGES
        for folder in package.__path__
        for path in Path(folder).rglob("*.py")
        for name in _described_in(ast.parse(path.read_text("utf-8")))
    )


def _described_in(module: ast.Module) -> Iterator[str]:
    for statement, after in zip(module.body, module.body[1:], strict=False):
        target = _target(statement)
        if target is not None and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield target


def _target(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case _:
            return None


@pytest.mark.parametrize("name", VALUES)
def test_every_public_constant_and_alias_is_described_below_it(name: str) -> None:
    assert inspect.ismodule(VALUES[name]) or name.rpartition(".")[2] in described()


# ------------------------------------------------------------------------------------------------------------- complete


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_everything_that_a_module_defines_without_underscore(name: str) -> None:
    module = MODULES[name]
    defined = {
        each
        for each, thing in vars(module).items()
        if not each.startswith("_") and getattr(thing, "__module__", None) == name
    }
    assert defined <= {*names(module), *_type_variables(module)}


def _type_variables(module: ModuleType) -> set[str]:
    return {name for name, thing in vars(module).items() if type(thing).__name__ == "TypeVar"}


def test_the_engines_package_has_no_public_name_that_all_does_not_list() -> None:
    found = {
        name
        for name, thing in vars(chatlease).items()
        if not name.startswith("_") and not inspect.ismodule(thing) and name != "annotations"
    }
    assert found == set(chatlease.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_no_public_name_begins_with_an_underscore(name: str) -> None:
    assert [each for each in names(MODULES[name]) if each.startswith("_")] == []


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_a_public_name_can_be_found_where_it_says_it_is(name: str) -> None:
    """So that it can be pickled, and that a traceback leads to it."""
    thing = PUBLIC[name]
    assert ours(thing)
    assert pickle.loads(pickle.dumps(thing)) is thing


def test_the_promise_of_the_readme_is_what_is_public() -> None:
    """README.md lists the engine's public modules; a new one is a promise too."""
    engine = {name for name in MODULES if name.startswith("chatlease.") and name.count(".") == 1}
    assert engine == {f"chatlease.{name}" for name in ("adapter", "errors", "events", "ledger", "otel", "testing")}
