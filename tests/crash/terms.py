"""The times and rates of the crash harness: the default rules, shortened, so that a lease ends within a test."""

from __future__ import annotations

from typing import Literal, TypeAlias

from chatlease import Deadlines, Sweep

Service: TypeAlias = Literal["open-assistant", "langgraph"]

LEASE_S = 3.0
HORIZON_S: dict[Service, float] = {"open-assistant": 10.0, "langgraph": 30.0}
"""
A create takes effect at most `LATEST_S` after it arrived; what is left of this is for its way on a busy machine (with a
load of eighteen on two cores two seconds were not enough), and for the real server, which was seen to take seven more.
"""
LATEST_S = 5.0
KEEP_S = 30.0
STOP_S = (1.5 * LEASE_S, 2.0 * LEASE_S)
"""How long a worker is stopped (SIGSTOP), at least and at most."""
FINAL_SWEEP_S = 60.0
"""A final sweep that has not ended by then does not end."""

DEADLINES = Deadlines(
    connect=3, call=4, gate=20, queue=10, first_event=5, idle=5, answer=20, poll=0.2, settle=3, grace=1, drain=8
)
SWEEP = Sweep(every=0.5, margin=0.0, skew=2.0, first_retry=0.2, longest_retry=2.0, attempts=100, probe=1.0)

ACTOR = "X-Actor"
"""Header by which the journal tells who acts: ``<worker>/owner`` or ``<worker>/sweep``."""

FAULTS = (
    "create_chat=late(2.5):0.07,create_chat=delay(0.15):0.06,create_chat=delay(3.5):0.03,"
    f"create_chat=delay({LATEST_S:g}):0.03,create_chat=drop:0.02,create_chat=500:0.01,"
    "delete_chat=drop:0.03,delete_chat=500:0.05"
)
"""Of every account: replies and creates that come late (also later than the lease), lost replies, failing deletes."""
UNLUCKY = "create_chat=drop:0.3,create_chat=late(2.5):0.2,delete_chat=500:0.4"
"""Of one account more: hardly anything works, so that much is handed over."""
