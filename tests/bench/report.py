"""What is printed, and what is written down."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tests.bench.figures import Outcome, Spread
from tests.bench.targets import TARGETS, verdict

_PACKAGES = ("aiohttp", "msgspec", "orjson", "structlog", "tenacity", "transitions")
_NAME_WIDTH = 36
_CELL_WIDTH = 26


def table(outcome: Outcome) -> str:
    """Return an outcome as text: a line per peer, a column per measure: the median, and the quartiles."""
    headings = list(dict.fromkeys(measure for measures in outcome.peers.values() for measure in measures))
    lines = [f"{outcome.name} (per {outcome.per})"]
    lines.append(" " * _NAME_WIDTH + "".join(f"{heading:<{_CELL_WIDTH}}" for heading in headings))
    for peer, measures in outcome.peers.items():
        cells = "".join(f"{_cell(measures.get(heading)):<{_CELL_WIDTH}}" for heading in headings)
        lines.append(f"  {peer:<{_NAME_WIDTH - 2}}{cells}")
    lines += [f"  {note}" for note in outcome.notes]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def targets_table(outcomes: Mapping[str, Outcome]) -> str:
    """Return every target, what was measured, and the verdict."""
    shape_width = max(len(target.shape) for target in TARGETS) + 2
    peer_width = max(len(target.peer) for target in TARGETS) + 2
    lines = ["targets"]
    for target in TARGETS:
        found = target.found(outcomes)
        most = f"{target.measure} <= {target.limit:g}"
        where = f"  {target.shape:<{shape_width}}{target.peer:<{peer_width}}"
        lines.append(f"{where}{most:<{_CELL_WIDTH}}{_cell(found):<{_CELL_WIDTH}}{verdict(target, found)}")
    return "\n".join(lines) + "\n"


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    median = _number(spread.median)
    return median if spread.low == spread.high else f"{median} ({_number(spread.low)} to {_number(spread.high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


def write(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write down everything that was measured, on which machine, with what."""
    machine = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
    packages = {name: version(name) for name in _PACKAGES}
    shapes = [asdict(outcome) for outcome in outcomes.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**machine, "packages": packages, "targets": _verdicts(outcomes), "shapes": shapes}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _verdicts(outcomes: Mapping[str, Outcome]) -> Sequence[Mapping[str, object]]:
    found = {target: target.found(outcomes) for target in TARGETS}
    return [
        {**asdict(target), "found": spread and asdict(spread), "verdict": verdict(target, spread)}
        for target, spread in found.items()
    ]
