"""
CPU time of ``import chatlease`` beside ``import aiohttp``, which a bot has imported already.

Rules that live here:

* Every import is a fresh interpreter's, and its CPU time is what the system counts for that process. What an
  interpreter needs to begin and to end without importing anything is taken off.
* The programs come in turn, in an order that turns with the round; ratios are taken within the round.
* Bytecode is read, not compiled, as in any installation: a round that is not counted writes it, into a folder that is
  there for this alone, wherever the environment wants it to be, and although it may want none.
* Where no extra is installed, the extras' modules are not found; here they are hidden. It matters: structlog, for one,
  imports rich where it finds it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from tests.bench.figures import Measures, Outcome, Rounds, Spread, over
from tests.bench.measure import turned

NAME = "imports"
CPU_MS = "CPU ms"
OVER_AIOHTTP = "x aiohttp"

NOTHING = "an interpreter"
AIOHTTP = "import aiohttp"
PLAIN = "import chatlease, no extras"
WITH_CLI = "import chatlease and its command"
WHOLE_CLI = "the whole command line"

_EXTRAS = ("aiohttp_socks", "browser_cookie3", "python_socks", "rich", "typer")
HIDE_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({_EXTRAS!r}))"
PROGRAMS: Mapping[str, str] = {
    NOTHING: "import sys",
    AIOHTTP: "import sys, aiohttp",
    PLAIN: f"{HIDE_EXTRAS}; import chatlease",
    WITH_CLI: "import sys, chatlease, chatlease._cli",
    WHOLE_CLI: "import sys, chatlease._cli._app",
}


def measure(rounds: int) -> list[Outcome]:
    """
    Measure.

    Args:
        rounds: After one that is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as bytecode:
        for number in range(rounds + 1):
            for name in turned(list(PROGRAMS), number):
                used = cpu_of(PROGRAMS[name], bytecode)
                if number:
                    seconds[name].append(used)
    peers = {name: measures_of(seconds, name) for name in PROGRAMS if name != NOTHING}
    return [Outcome(NAME, "import", peers, [f"{rounds} rounds"], raw=seconds)]


def measures_of(seconds: Rounds, name: str) -> Measures:
    """Return what a program needs more than the interpreter, and over what aiohttp needs more."""
    net = {each: _without(seconds[each], seconds[NOTHING]) for each in (name, AIOHTTP)}
    return {CPU_MS: Spread.of([each * 1000 for each in net[name]]), OVER_AIOHTTP: over(net, name, AIOHTTP)}


def _without(values: Sequence[float], less: Sequence[float]) -> list[float]:
    return [mine - its for mine, its in zip(values, less, strict=True)]


def cpu_of(program: str, bytecode: str) -> float:
    """Return the CPU seconds of a fresh interpreter that runs a program, its bytecode kept in this folder."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    before = _children()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return _children() - before


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
