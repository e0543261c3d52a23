"""A made-up service: its documentation, the service itself, or an examination of an adapter for it.

python -m tests.made_up --seed 1 --docs
python -m tests.made_up --seed 1 --serve 8090
python -m tests.made_up --seed 1 --check tests/made_up/adapters/seed_1.py
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .docs import documentation
from .examine import EXAMINATIONS, examine
from .known import adapter_in, doubles
from .plan import Plan
from .server import made_up


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.made_up", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--docs", action="store_true", help="print the documentation")
    todo.add_argument("--serve", type=int, metavar="PORT", help="serve it on this machine, until stopped")
    todo.add_argument("--check", type=Path, metavar="FILE", help="examine the adapter in a file, a class named VENDOR")
    options = parser.parse_args(arguments)
    plan = Plan.of(options.seed)
    if options.docs:
        print(documentation(plan), end="")
        return 0
    if options.check:
        return asyncio.run(_check(plan, options.check))
    asyncio.run(_serve(plan, options.serve))
    return 0


async def _serve(plan: Plan, port: int) -> None:
    async with made_up(plan, port) as server:
        print(f"{plan.vendor} at {server.url}; keys are right-ANYTHING", flush=True)
        await asyncio.get_running_loop().create_future()


async def _check(plan: Plan, path: Path) -> int:
    """Run every examination, and look for code that another adapter has, too; returns how many did not pass."""
    logging.getLogger("chatlease").addHandler(logging.NullHandler())
    make, failed = adapter_in(path, plan), 0
    for examination in EXAMINATIONS:
        wrong = ""
        try:
            await examine(make, plan, examination)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is shown, and the next is run)
            wrong = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
        print(f"{'WRONG' if wrong else 'right'}  {examination.__name__.replace('_', ' ')}")
        print(*[f"       {line}" for line in wrong.splitlines()], sep="\n", end="\n" if wrong else "")
        failed += bool(wrong)
    for same in doubles(path):
        print(f"WRONG  {same}")
        failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
