"""Chatlease, as the benchmark's peers: with each ledger, and with each way to have a trace in a file."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import structlog

from chatlease import Credential, Deadlines, Engine, TraceFile
from chatlease_adapters.open_assistant import OpenAssistant
from tests.bench.peers import COOKIE, PROMPT, Ask, Opened, Peer

_PATIENT = Deadlines(first_event=3600, idle=3600, answer=3600)
"""For streams that are parked for as long as ten thousand others need to begin."""


class Unbudgeted(OpenAssistant):
    """
    The adapter for a service without a rate limit.

    With the real one, 20 answers in 11 minutes, 100,000 sessions in a row would need 5,000 accounts, whose budgets must
    all be remembered: what then grows is no trace of sessions that are over.
    """

    capabilities = dataclasses.replace(OpenAssistant.capabilities, rate_budget=None)


def chatlease(adapter: type[OpenAssistant] = OpenAssistant, **options: Any) -> Peer:
    """
    Return Chatlease as a peer.

    Args:
        adapter: Made with the service's URL.
        **options: Of `chatlease.Engine`; without ``ledger``, what the environment names.
    """

    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Opened]:
        async with Engine(adapter(url=url), **options) as engine:
            yield Opened(_asking(engine))

    return opened


def patient(**options: Any) -> Peer:
    """Return the same for streams that stand still for a long time."""
    return chatlease(deadlines=_PATIENT, **options)


def _asking(engine: Engine) -> Ask:
    return lambda account: engine.ask(PROMPT, credential=Credential(cookies={COOKIE: account}))


# ------------------------------------------------------------------------------------------------------------- traces


@asynccontextmanager
async def traced(url: str) -> AsyncGenerator[Opened]:
    """Chatlease without a ledger, with a `TraceFile` as it comes: INFO."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        hook = TraceFile(path)
        try:
            async with Engine(OpenAssistant(url=url), ledger=None, hooks=[hook]) as engine:
                with _written(path, _asking(engine)) as ask:
                    yield Opened(ask)
        finally:
            hook.close()


@asynccontextmanager
async def logged(url: str) -> AsyncGenerator[Opened]:
    """
    Chatlease without a ledger, logging into a file as a bot does: INFO, JSON, by structlog on the stdlib's handler.

    The logger is the process's, so it is turned on for this peer's own rounds only.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        handler = _json_handler(path)
        try:
            async with Engine(OpenAssistant(url=url), ledger=None) as engine:
                with _written(path, _asking(engine)) as ask:
                    yield Opened(ask, lambda: _logging(handler))
        finally:
            handler.close()


def _json_handler(path: Path) -> logging.Handler:
    """Return what the documentation of structlog gives those who log by the stdlib: a handler that renders."""
    handler = logging.FileHandler(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso"),
            ],
        )
    )
    return handler


@contextmanager
def _logging(handler: logging.Handler) -> Generator[None]:
    logger = logging.getLogger("chatlease")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@contextmanager
def _written(path: Path, ask: Ask) -> Generator[Ask]:
    """Give out what asks; at the end make sure that the end of every session stands in the file."""
    asked = 0

    def counted(account: str) -> AsyncIterable[str]:
        nonlocal asked
        asked += 1
        return ask(account)

    yield counted
    closed = path.read_bytes().count(b'"session.closed"')
    if closed != asked:
        raise RuntimeError(f"of {asked} sessions, {closed} are in the file")
