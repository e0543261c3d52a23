"""``make bench``: measure the peers in every shape, print ratios to the floor, write a JSON file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import SHAPES, Result, Shape, measure
from tests.bench.peers import PEERS

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """Run the benchmark; a lost token or a chat that was left is an error."""
    options = _options()
    chosen = [shape for shape in SHAPES if options.only in shape.name]
    with tempfile.TemporaryDirectory() as state:
        # The default ledger, on a real disk, but not among the user's own chats.
        os.environ["XDG_STATE_HOME"] = state
        os.environ.pop("CHATLEASE_LEDGER", None)
        report = [_measured(shape, options.rounds, options.seconds / len(chosen)) for shape in chosen]
    _write(options.json, report)


def _measured(shape: Shape, rounds: int, budget_s: float) -> dict[str, object]:
    results = asyncio.run(measure(shape, PEERS, rounds=rounds, budget_s=budget_s))
    sys.stdout.write(_table(shape, results))
    return {**asdict(shape), "peers": {name: asdict(result) for name, result in results.items()}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds per shape (%(default)s)")
    parser.add_argument("--seconds", type=float, default=90, help="no new round after that time (%(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only shapes whose name contains this")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, metavar="PATH", help="where the result goes (%(default)s)"
    )
    return parser.parse_args()


def _table(shape: Shape, results: Mapping[str, Result]) -> str:
    lines = [f"{shape.name} (us CPU per {shape.per}, ratio to the floor: median, quartiles)"]
    for name, result in results.items():
        median, low, high = result.ratio()
        lines.append(f"  {name:<22}{result.unit_us:>10.2f}{median:>8.2f}   {low:.2f} to {high:.2f}")
    (rounds, *_) = (len(result.ratios) for result in results.values())
    return "\n".join([*lines, f"  {rounds} rounds\n\n"])


def _write(path: Path, shapes: list[dict[str, object]]) -> None:
    packages = {name: version(name) for name in ("aiohttp", "msgspec", "orjson", "transitions")}
    machine = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**machine, "packages": packages, "shapes": shapes}, indent=1) + "\n")
    sys.stdout.write(f"written to {path}\n")


if __name__ == "__main__":
    main()
