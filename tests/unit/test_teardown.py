"""
However a program ends, no chat is left: every row of the table of ends, under every CPython found.

The scenarios are functions of `teardown_scenarios`, run in interpreters of their own; the names of the tests say which
versions ran. Where ``CI`` is set, fewer than two versions is a failure.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pythons import ready

from .teardown_scenarios import SCENARIOS

SCRIPT = Path(__file__).with_name("teardown_scenarios.py")
PYTHONS = ready()
THIS = "{}.{}".format(*sys.version_info)
RUNS = [
    *((version, "asyncio") for version in PYTHONS),
    *((version, "eager") for version in PYTHONS if version != "3.11"),
    (THIS, "by-hand"),
    (THIS, "anyio"),
    *([(THIS, "uvloop")] if importlib.util.find_spec("uvloop") else []),
]

SAW = {
    "wait_for": ("TimeoutError", "TimeoutError"),
    "timeout": ("TimeoutError", "TimeoutError"),
    "main_fails": ("ZeroDivisionError", "ZeroDivisionError"),
    "many_sessions_at_exit": ("300 chats", "returned"),
    "many_sessions_at_exit_without_a_block": ("300 chats", "returned"),
    "dropped_and_the_loop_lives_on": ("a token", "returned"),
    "dropped_and_main_returns": ("a token", "returned"),
    "half_read_and_kept": ("a token", "returned"),
    "session_dropped": ("a chat", "returned"),
}
"""What the one who read saw, and how the program ended; where nothing is said, its own CancelledError, and well."""

WARNS = {
    "many_sessions_at_exit",
    "dropped_and_the_loop_lives_on",
    "dropped_and_main_returns",
    "consumer_cancelled_in_its_loop_body",
    "session_dropped",
}
"""Where somebody forgot to close something and the engine could tell."""

SPINS = {"many_cancels"}
"""Those that themselves keep the loop busy."""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHATLEASE_", "PYTHON"))}
    return kept | {"PYTHONFAULTHANDLER": "1"}


def _start(python: str, variant: str, *names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-W", "default", str(SCRIPT), variant, *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )


@functools.cache
def _results() -> dict[tuple[str, str], tuple[dict[str, dict[str, Any]], str]]:
    """Run every scenario in every interpreter, side by side."""
    started = {(version, variant): _start(PYTHONS[version], variant, *SCENARIOS) for version, variant in RUNS}
    finished: dict[tuple[str, str], tuple[dict[str, dict[str, Any]], str]] = {}
    for run, process in started.items():
        out, err = process.communicate(timeout=110)
        played = [json.loads(line) for line in out.splitlines()]
        finished[run] = {each["scenario"]: each for each in played}, err
    return finished


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(("version", "variant"), RUNS)
def test_no_chat_is_left(version: str, variant: str, name: str) -> None:
    played, errors = _results()[version, variant]
    assert name in played, errors
    result = played[name]
    assert (result["left"], result["open"], result["lost"]) == (0, 0, 0)
    assert (result["caller"], result["ended"]) == SAW.get(name, ("CancelledError", "returned"))
    assert result["warned"] == (["ResourceWarning"] if name in WARNS else [])
    assert result["passes"] < 400 or name in SPINS, "somebody spins"


@pytest.mark.parametrize(("version", "variant"), RUNS)
def test_nothing_is_printed(version: str, variant: str) -> None:
    """No traceback, no "Task was destroyed", no "exception was never retrieved", no "Exception ignored"."""
    _, errors = _results()[version, variant]
    assert errors == ""


def test_enough_versions_ran() -> None:
    assert THIS in PYTHONS
    assert len(PYTHONS) >= (2 if os.environ.get("CI") == "true" else 1), f"only {', '.join(PYTHONS)}; `make pythons`"


# -- signals ----------------------------------------------------------------------------------------------------------


def _signalled(
    python: str, name: str, number: signal.Signals, *, again: bool = False
) -> tuple[int, dict[str, Any], str]:
    """Start a scenario, signal it in the middle of its answer, and again in its cleanup; exit code, result, errors."""
    process = _start(python, "asyncio", name)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    if again:
        assert process.stdout.readline() == "closing\n"
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    result = out.splitlines()[-1:]
    return process.returncode, json.loads(result[0]) if result else {}, err


@pytest.mark.skipif(sys.platform == "win32", reason="event loops there have no signal handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("version", PYTHONS)
def test_a_signal_with_our_handlers_gives_the_chat_back(version: str, number: signal.Signals) -> None:
    code, result, errors = _signalled(PYTHONS[version], "signalled", number)
    assert (code, errors) == (0, "")
    assert (result["left"], result["open"], result["lost"]) == (0, 0, 0)
    assert (result["caller"], result["ended"]) == ("CancelledError", "CancelledError")


@pytest.mark.skipif(sys.platform == "win32", reason="there it is another signal")
@pytest.mark.parametrize("version", PYTHONS)
def test_control_c_without_our_handlers_gives_the_chat_back(version: str) -> None:
    code, result, errors = _signalled(PYTHONS[version], "signalled_without_handlers", signal.SIGINT)
    assert (code, errors) == (0, "")
    assert (result["left"], result["open"], result["lost"]) == (0, 0, 0)
    assert (result["caller"], result["ended"]) == ("CancelledError", "KeyboardInterrupt")


@pytest.mark.skipif(sys.platform == "win32", reason="event loops there have no signal handlers")
@pytest.mark.parametrize("version", PYTHONS)
def test_a_second_signal_ends_the_process_at_once(version: str) -> None:
    began = time.monotonic()
    code, result, _ = _signalled(PYTHONS[version], "signalled_twice", signal.SIGTERM, again=True)
    assert (code, result) == (-signal.SIGTERM, {})
    assert time.monotonic() - began < 30


ABRUPT = [
    "main_returns_while_reading",
    "main_returns_with_cleanup_in_flight",
    "half_read_and_kept",
    "dropped_and_main_returns",
    "consumer_cancelled_in_its_loop_body",
    "many_sessions_at_exit_without_a_block",
]


def test_a_loop_that_is_closed_over_its_tasks_leaves_every_chat_to_the_ledger() -> None:
    """Nothing can be deleted any more; and closing the coroutines of the dead breaks nothing."""
    out, errors = _start(sys.executable, "abrupt", *ABRUPT).communicate(timeout=60)
    played = [json.loads(line) for line in out.splitlines()]
    assert [each["scenario"] for each in played] == ABRUPT
    for result in played:
        assert result["left"] == result["open"] > 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
