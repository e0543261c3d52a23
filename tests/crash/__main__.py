"""``make crash`` and ``make crash-mutants``: the long run, and the proof that it can fail."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from tests.crash.harness import Run
from tests.crash.mutants import MUTANTS
from tests.crash.nemesis import nemesis
from tests.crash.oracle import Oracle
from tests.crash.schedule import mixed, stops
from tests.crash.terms import Service
from tests.crash.verdict import Verdict

_ENOUGH = 200
"""From so many kills on a run must have seen everything that can happen."""
_MUTANT_KILLS = 200
_MUTANT_SEED = 3
_TELLS_S = 10.0


def main() -> int:
    """Run; returns the exit code."""
    options = _options()
    return _show_mutants(options) if options.mutants else _show_run(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=None, help="how many workers are killed (1000; a mutant: 200)")
    parser.add_argument("--seed", type=int, default=None, help="replays a schedule; any other by default")
    services = ["open-assistant", "langgraph"]
    parser.add_argument("--service", choices=services, default=services[0], help="which service is asked")
    parser.add_argument(
        "--ledger", choices=["sqlite", "postgres"], default="sqlite", help="what the ledgers are kept in"
    )
    parser.add_argument("--mutant", choices=list(MUTANTS), default="", help="break this rule in every worker")
    parser.add_argument("--mutants", action="store_true", help="break each rule in turn, and none, on a fixed seed")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep ledgers and traces there")
    return parser.parse_args()


def _show_run(options: argparse.Namespace) -> int:
    seed = random.randrange(10**6) if options.seed is None else options.seed
    verdict = _run(seed, options.kills or 1000, options.mutant, options.keep, options=options)
    print(f"\n{verdict.table()}\n")
    problems = [*verdict.broken(), *(f"never seen: {what}" for what in _never_seen(verdict))]
    for problem in problems:
        print(problem)
    for each in [*verdict.hurt, *verdict.allowed][:20]:
        print(each)
    for text in verdict.unexpected[:5]:
        print(text)
    print("red" if problems else "green", f"(replay with SEED={seed})")
    return bool(problems)


def _never_seen(verdict: Verdict) -> list[str]:
    return verdict.never_seen() if verdict.kills >= _ENOUGH else []


def _show_mutants(options: argparse.Namespace) -> int:
    seed = _MUTANT_SEED if options.seed is None else options.seed
    kills = options.kills or _MUTANT_KILLS
    print(f"seed {seed}, {kills} kills each\n\n| mutant | verdict | why |\n| --- | --- | --- |")
    wrong = 0
    for name in ("", *MUTANTS):
        verdict = _run(seed, kills, name, None, options=options, quiet=True)
        why = "; ".join(verdict.broken())
        wrong += bool(why) is not bool(name)
        print(f"| {name or 'none'} | {'red' if why else 'green'} | {why} |", flush=True)
    return bool(wrong)


def _run(
    seed: int, kills: int, mutant: str, keep: Path | None, *, options: argparse.Namespace, quiet: bool = False
) -> Verdict:
    if not quiet:
        print(f"seed {seed}, {kills} kills", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="chatlease-crash-") as temporary,
        nemesis() if options.ledger == "postgres" else nullcontext() as server,
    ):
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        lives, stopped = mixed(seed, kills), stops(seed, kills)
        progress = _silent if quiet else _teller(kills)
        service: Service = options.service
        run = Run(
            seed,
            lives,
            stopped,
            folder,
            service=service,
            nemesis=server,
            mutant=mutant,
            keep=keep is not None,
            progress=progress,
        )
        verdict = asyncio.run(run.verdict())
        sys.stdout.write((folder / "errors.txt").read_text(errors="replace")[-4000:])
        return verdict


def _silent(_verdict: Verdict, _oracle: Oracle) -> None:
    """Tell nothing."""


def _teller(kills: int) -> Callable[[Verdict, Oracle], None]:
    began = told = time.monotonic()

    def tell(verdict: Verdict, oracle: Oracle) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _TELLS_S:
            return
        told = now
        print(
            f"{now - began:6.0f} s  {verdict.kills}/{kills} kills  {oracle.counts['created']} chats  "
            f"{oracle.counts['swept']} swept  {len(oracle.encounters)} encounters",
            flush=True,
        )

    return tell


if __name__ == "__main__":
    sys.exit(main())
