"""Code that two adapters share: it belongs into `chatlease_adapters.http`, or neither has it.

Two blocks are the same when their syntax trees are, with all names, attributes and constants left out. A block is some
statements in a row of one function; what counts is how large it is: `LEAST` statements, or `LEAST` lines as formatted.
Declarations are data, not code: fields, constants, signatures, docstrings and imports do not count, and neither does
moving a value under another name. What the contract itself dictates (a method of one line that calls the service) is
smaller than any block.

A helper of the same name and the same tree is a double, however small, where it decides something. One that only names
a call does not; nor does a function inside another, which something of the kit asks for (`pages`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from chatlease.adapter import Adapter

LEAST = 6
_CONTRACT = frozenset(name for name in dir(Adapter) if not name.startswith("_")) | {"__init__", "__repr__", "read"}
_DECIDES = (ast.If, ast.IfExp, ast.For, ast.While, ast.Try, ast.Match, ast.BoolOp, ast.comprehension)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Same:
    """
    Code that is in two places.

    Attributes:
        here: Function and line in the one.
        there: Function and line in the other.
        size: Statements or lines, whichever are more.
    """

    here: str
    there: str
    size: int

    def __str__(self) -> str:
        return f"{self.here} is as {self.there} ({self.size} lines)"


@dataclass(frozen=True, slots=True)
class _Step:
    """A statement: its tree without names, where it stands, how many statements it is, and its lines."""

    tree: str
    line: int
    last: int
    weight: int


def same(here: Mapping[str, str], there: Mapping[str, str], *, least: int = LEAST) -> list[Same]:
    """
    Return what two adapters have in common.

    Args:
        here: Source by file name.
        there: Source by file name.
        least: See the module.
    """
    ours, theirs = list(_functions(here)), list(_functions(there))
    found = [*_doubles(list(_outer(here)), list(_outer(there))), *_blocks(ours, theirs, least)]
    return sorted(found, key=lambda each: (-each.size, each.here, each.there))


def _functions(sources: Mapping[str, str]) -> Iterator[tuple[str, Function]]:
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def _outer(sources: Mapping[str, str]) -> Iterator[tuple[str, Function]]:
    """Yield the functions that stand in a module or a class."""
    for name, source in sources.items():
        module = ast.parse(source)
        places: list[ast.Module | ast.ClassDef] = [module]
        places += [each for each in module.body if isinstance(each, ast.ClassDef)]
        for node in (each for place in places for each in place.body if isinstance(each, Function)):
            yield f"{name}:{node.lineno} {node.name}", node


def _doubles(ours: Sequence[tuple[str, Function]], theirs: Sequence[tuple[str, Function]]) -> Iterator[Same]:
    for here, one in filter(_is_helper, ours):
        for there, other in theirs:
            if one.name == other.name and _trees(one.body) == _trees(other.body):
                yield Same(here, there, max(1, sum(step.weight for step in _steps(one.body))))


def _is_helper(named: tuple[str, Function]) -> bool:
    _, function = named
    return function.name not in _CONTRACT and any(isinstance(node, _DECIDES) for node in ast.walk(function))


def _blocks(ours: Sequence[tuple[str, Function]], theirs: Sequence[tuple[str, Function]], least: int) -> Iterator[Same]:
    listed = [(name, _steps(body)) for name, node in theirs for body in _bodies(node)]
    for here, one in ours:
        for body in _bodies(one):
            mine = _steps(body)
            for there, steps in listed:
                for size, line in _runs(mine, steps, least):
                    yield Same(f"{here} (from line {line})", there, size)


def _runs(mine: Sequence[_Step], other: Sequence[_Step], least: int) -> Iterator[tuple[int, int]]:
    """Yield size and line of the longest runs of same steps."""
    for start in range(len(mine)):
        for begin in range(len(other)):
            if start and begin and mine[start - 1].tree == other[begin - 1].tree:
                continue  # the middle of a run that was seen
            run = _common(mine[start:], other[begin:])
            size = _size(run)
            if size >= least:
                yield size, run[0].line


def _common(mine: Sequence[_Step], other: Sequence[_Step]) -> list[_Step]:
    run: list[_Step] = []
    for one, two in zip(mine, other, strict=False):
        if one.tree != two.tree:
            break
        run.append(one)
    return run


def _size(run: Sequence[_Step]) -> int:
    if not any(step.weight for step in run):
        return 0
    counted = [step for step in run if step.weight]
    return max(sum(step.weight for step in counted), sum(step.last - step.line + 1 for step in counted))


# --------------------------------------------------------------------------------------------------------------- trees


def _bodies(node: Function) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements of a function, nested ones too; not those of functions inside it."""
    pending: list[ast.AST] = [node]
    while pending:
        each = pending.pop()
        for _, value in ast.iter_fields(each):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value
        pending += [child for child in ast.iter_child_nodes(each) if not isinstance(child, Function)]


def _steps(body: Iterable[ast.stmt]) -> list[_Step]:
    return [_Step(_tree(each), each.lineno, each.end_lineno or each.lineno, _weight(each)) for each in _code(body)]


def _trees(body: Iterable[ast.stmt]) -> list[str]:
    return [_tree(each) for each in _code(body)]


def _code(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for each in body:
        if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)):  # a docstring
            yield each


def _weight(statement: ast.stmt) -> int:
    own = 0 if _is_declaration(statement) else 1
    inner = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
    inner += [
        each for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt) for each in _below(child)
    ]
    return own + sum(map(_weight, inner))


def _below(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements right below something that is none: a handler, a case."""
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def _is_declaration(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom | Function | ast.ClassDef):
        return True
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    return isinstance(value, ast.Name | ast.Attribute | ast.Constant)


_NAMES = frozenset({"id", "attr", "arg", "name", "asname", "value", "kind", "type_comment", "kwd_attrs", "rest"})


def _tree(node: ast.AST) -> str:
    """Write a tree without what people choose in it."""
    parts = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            parts.append(_tree(value))
        elif isinstance(value, list):
            parts.append("".join(_tree(each) for each in cast("list[object]", value) if isinstance(each, ast.AST)))
        elif name not in _NAMES:
            parts.append(repr(value))
    return f"({' '.join(parts)})"
