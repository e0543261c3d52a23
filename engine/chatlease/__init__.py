"""Borrow a chat on a stateful chat service; it is always given back.

An explicit state-machine session engine. `Engine` opens sessions on services, each spoken to by an adapter; a `Session`
walks the lifecycle table one typed method per transition; an `Answer` streams. The table is in `_lifecycle`, the one
file to read first. Public are the names below and the modules `chatlease.adapter`, `chatlease.errors`,
`chatlease.events`, `chatlease.ledger`, `chatlease.otel` (needs its extra) and `chatlease.testing`; everything with a
leading underscore may change.
"""

from __future__ import annotations

from ._answer import Answer
from ._clock import Clock, SystemClock, Timer
from ._deadlines import Deadlines
from ._engine import Engine
from ._ledger import MemoryLedger, PostgresLedger, SqliteLedger
from ._lifecycle import State, Trigger
from ._prompt import Messages, format_prompt
from ._session import Session
from ._step import Step
from ._sweep import Sweep, Swept
from ._trace import Hook, TraceEvent, get_logger
from ._trace_file import TraceFile
from .adapter import Credential
from .errors import ChatleaseError

__all__ = [
    "Answer",
    "ChatleaseError",
    "Clock",
    "Credential",
    "Deadlines",
    "Engine",
    "Hook",
    "MemoryLedger",
    "Messages",
    "PostgresLedger",
    "Session",
    "SqliteLedger",
    "State",
    "Step",
    "Sweep",
    "Swept",
    "SystemClock",
    "Timer",
    "TraceEvent",
    "TraceFile",
    "Trigger",
    "format_prompt",
    "get_logger",
]
