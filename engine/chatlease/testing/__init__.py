"""The kit for those who test bots and adapters: no network, no sleeping, no pytest needed.

`FakeService` is a service in memory, `ManualClock` a clock that tests move, `capture_trace` collects a session's trace,
`failpoints` stop or kill it at named places, `check_adapter` and `check_ledger` are the two contracts as programs.
"""

from __future__ import annotations

from chatlease._ledger import MemoryLedger

from . import failpoints
from .conformance import ContractBroken, check_adapter
from .fake_service import HANG, FakeService, Fault
from .ledger_conformance import check_ledger
from .manual_clock import ManualClock
from .traces import CapturedTrace, capture_trace

__all__ = [
    "HANG",
    "CapturedTrace",
    "ContractBroken",
    "FakeService",
    "Fault",
    "ManualClock",
    "MemoryLedger",
    "capture_trace",
    "check_adapter",
    "check_ledger",
    "failpoints",
]
