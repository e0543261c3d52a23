"""The adapters that there are, for comparison: those of the package, the guide's, and those of made-up services."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import chatlease_adapters
from chatlease.adapter import Adapter
from tests.pages import block

from .examine import Make
from .plan import Plan
from .sameness import Same, same

ADAPTERS = Path(__file__).parent / "adapters"
_PACKAGE = Path(chatlease_adapters.__path__[0])
_NO_ADAPTER = frozenset({"service.py", "_demo.py", "_commands.py"})
"""What stands beside Open-Assistant's adapter: the local service and the commands."""


def known() -> dict[str, Mapping[str, str]]:
    """Return the sources of each adapter, by name."""
    found: dict[str, Mapping[str, str]] = {
        folder: {
            path.name: path.read_text() for path in (_PACKAGE / folder).glob("*.py") if path.name not in _NO_ADAPTER
        }
        for folder in ("open_assistant", "langgraph")
    }
    found["parley"] = {"parley": block("adapters/README.md", "class Parley:").source}
    found |= {path.stem: {path.name: path.read_text()} for path in sorted(ADAPTERS.glob("seed_*.py"))}
    return found


def doubles(path: Path) -> list[Same]:
    """Return what an adapter in one file has in common with any other."""
    mine = {path.name: path.read_text()}
    others = [sources for sources in known().values() if sources != mine]
    return [each for sources in others for each in same(mine, sources)]


def adapter_in(path: Path, plan: Plan) -> Make:
    """Return what makes the adapter in a file: its class is called as the vendor, and takes the address."""
    spec = importlib.util.spec_from_file_location(f"made_up_adapter_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where decoders look for the names in annotations
    spec.loader.exec_module(module)
    cls: Any = getattr(module, plan.vendor)

    def make(url: str) -> Adapter:
        return cast("Adapter", cls(url))

    return make
