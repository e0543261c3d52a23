"""The project's Markdown pages, taken apart: programs, commands, tables."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PRINTED_URLS = ("http://127.0.0.1:8080", "http://127.0.0.1:8000", "http://127.0.0.1:2024")
PRINTED_URL = PRINTED_URLS[0]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return the project's Markdown files, but for recordings of others'."""
    folders = [ROOT / name for name in ("engine", "adapters", "tests", "diagrams")]
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return sorted(path for path in found if "recorded" not in path.parts)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@dataclass(frozen=True)
class Block:
    """A block of Python of a page, and the line that it begins at."""

    page: str
    line: int
    source: str

    async def run(self, namespace: dict[str, Any], *urls: str) -> dict[str, Any]:
        """Run it as printed, but for the addresses of the services; return the namespace."""
        source = "\n" * self.line + self.source
        for printed, url in zip(PRINTED_URLS, urls, strict=False):
            source = source.replace(printed, url)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        result: object = eval(compile(source, ROOT / self.page, "exec", flags, dont_inherit=True), namespace)
        if inspect.iscoroutine(result):
            await result
        return namespace


def blocks(page: str) -> Iterator[Block]:
    text = text_of(page)
    for match in FENCED.finditer(text):
        if match[1] == "python":
            yield Block(page, text.count("\n", 0, match.start()) + 1, match[2])


def block(page: str, words: str) -> Block:
    """Return the only block of a page that has these words."""
    [found] = [each for each in blocks(page) if words in each.source]
    return found


def code(page: str) -> Iterator[str]:
    """Yield a page's commands: lines that are indented by four, and code in the text."""
    prose = FENCED.sub("", text_of(page))
    for line in prose.splitlines():
        if line.startswith("    "):
            yield line.partition("#")[0].strip()
        else:
            yield from (match[1] for match in re.finditer(r"`([^`]+)`", line))


def table(page: str, title: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    [below] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    rows = [line for line in below.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]
