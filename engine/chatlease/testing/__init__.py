"""The kit for those who test bots and adapters: no network, no sleeping, no pytest needed.

`FakeService` is a service in memory, `ManualClock` a clock that tests move, `capture_trace` collects a session's trace,
`assert_path` says which path it has to take, `assert_nothing_left` that every chat was given back, `failpoints` stop
or kill it at named places. `check_adapter` and `check_ledger` are the two contracts as programs, `explore` walks every
path and every fault with an adapter. The fixtures for pytest are a plugin of their own, `chatlease_pytest`.
"""

from __future__ import annotations

from chatlease._ledger import MemoryLedger

from . import failpoints
from ._explore import Exploration, Violation, explore
from .conformance import ContractBroken, check_adapter
from .fake_service import HANG, FakeService, Fault
from .ledger_conformance import check_ledger
from .leftovers import assert_nothing_left
from .manual_clock import ManualClock
from .paths import Expected, Traced, assert_path
from .traces import CapturedTrace, capture_trace, read_trace

__all__ = [
    "HANG",
    "CapturedTrace",
    "ContractBroken",
    "Expected",
    "Exploration",
    "FakeService",
    "Fault",
    "ManualClock",
    "MemoryLedger",
    "Traced",
    "Violation",
    "assert_nothing_left",
    "assert_path",
    "capture_trace",
    "check_adapter",
    "check_ledger",
    "explore",
    "failpoints",
    "read_trace",
]
