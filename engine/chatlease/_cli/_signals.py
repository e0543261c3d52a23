"""Ctrl-C and SIGTERM: the first asks for the end, and the end takes as long as a running answer takes.

Rules that live here:

* `Engine.install_signal_handlers` is for bots, whose second signal ends the process. A person who presses Ctrl-C twice
  wants to leave now and to be told what is left, so here every signal cancels the command, which hands the chat over.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress

from chatlease._engine import Engine
from chatlease.adapter import Deadlines

NUMBERS = (signal.SIGINT, signal.SIGTERM)

PATIENT = Deadlines(settle=120.0, drain=150.0, grace=1.0)
"""
A person can press Ctrl-C again, so without that there is no hurry: a long answer is waited for (`given_back`), and its
chat deleted. ``grace`` is what is left after the second one.
"""


@contextmanager
def cancelling() -> Generator[None]:
    """Have the signals cancel the task that is running now, as often as they come."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    # Where the platform has no such handlers, Ctrl-C is a KeyboardInterrupt.
    with suppress(NotImplementedError):
        for number in NUMBERS:
            loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in NUMBERS:
                loop.remove_signal_handler(number)


async def given_back(engine: Engine) -> None:
    """Wait until every chat that is being given back is gone; a second signal, also one that came before, ends that."""
    task = asyncio.current_task()
    for session in engine.sessions:
        if task is not None and task.cancelling() <= 1:
            await session.wait_closed()
