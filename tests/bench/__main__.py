"""``make bench``: measure the peers in every shape, print ratios to the floor, write them down, and draw them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import parts, report
from tests.bench.figures import Outcome

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; a lost token or a chat that was left is an error, a target that was missed is none."""
    parser = _parser()
    options = parser.parse_args(arguments)
    offered = (parts.quick if options.quick else parts.whole)(options.rounds)
    chosen = [part for part in offered if options.only in part.name]
    if not chosen:
        parser.error(f"no shape has {options.only!r} in its name")
    # The default ledger, on a real disk, but not among the user's own chats.
    with tempfile.TemporaryDirectory() as state, _environment(f"sqlite:///{state}/ledger.sqlite3"):
        outcomes = {outcome.name: outcome for part in chosen for outcome in _told(part)}
    sys.stdout.write(report.targets_table(outcomes))
    _write(options.json, outcomes)


@contextmanager
def _environment(ledger: str) -> Generator[None]:
    """Hide the user's own settings."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("CHATLEASE_")]:
        del os.environ[name]
    os.environ["CHATLEASE_LEDGER"] = ledger
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only shapes whose name contains this")
    parser.add_argument("--rounds", type=int, help=f"measured rounds per shape ({parts.ROUNDS}, where time allows)")
    parser.add_argument("--quick", action="store_true", help="everything smaller, in about a minute")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, metavar="PATH", help="where the result goes (%(default)s)"
    )
    return parser


def _told(part: parts.Part) -> Sequence[Outcome]:
    began = time.monotonic()
    outcomes = asyncio.run(_run(part))
    for outcome in outcomes:
        sys.stdout.write(f"{report.table(outcome)}\n")
    sys.stdout.write(f"  [{time.monotonic() - began:.0f} s]\n\n")
    sys.stdout.flush()
    return outcomes


async def _run(part: parts.Part) -> Sequence[Outcome]:
    return await part.run()


def _write(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    from tests.bench import plot  # only now: what it imports would be in memory while the peers are measured

    report.write(path, outcomes)
    sys.stdout.write(f"written to {path}\n")
    diagram = path.with_suffix(".svg")
    if plot.draw(outcomes.values(), diagram):
        sys.stdout.write(f"drawn in {diagram}\n")


if __name__ == "__main__":
    main()
