"""What a run has seen, what is wrong with it, and the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from chatlease.testing.failpoints import NAMES
from tests.crash.oracle import Encounter
from tests.crash.terms import Service


class Verdict(msgspec.Struct, kw_only=True):
    """
    What a run has seen.

    Attributes:
        seed: Of the schedule.
        service: Which one it was.
        mutant: Which rule was broken on purpose; empty for none.
        kills: How many workers were killed.
        failpoints: How often a worker was killed at each failpoint.
        counts: Of the oracle.
        events: How often each trace event was seen in the workers' traces.
        faults: What happened to the server of the ledgers, and how often.
        stopped: How many workers were stopped for longer than their lease.
        lost_leases: How many of these noticed it.
        paused: How many others lost their lease, because the machine gave them no time.
        left: Chats that nobody deleted.
        foreign_lost: Chats of another program that were deleted.
        messages_lost: Messages lost by deletions; on LangGraph, runs that went on when their thread was deleted.
        running: Runs that go on although everybody is gone.
        latest_create_s: How long the slowest create took to take effect, where that is known.
        hurt: Requests of living owners that met a chat deleted by a sweeper.
        allowed: Such requests that owners had under way when they lost their lease.
        unfinished: Entries still open when the final sweep was given up.
        undeleted: Dead letters.
        unexpected: Tracebacks of workers that ended by anything but a kill.
        seconds: How long it took.
        final_s: How long of that after the last kill.
    """

    seed: int
    service: Service = "open-assistant"
    mutant: str = ""
    kills: int = 0
    failpoints: Counter[str] = msgspec.field(default_factory=Counter[str])
    counts: Counter[str] = msgspec.field(default_factory=Counter[str])
    events: Counter[str] = msgspec.field(default_factory=Counter[str])
    faults: Counter[str] = msgspec.field(default_factory=Counter[str])
    stopped: int = 0
    lost_leases: int = 0
    paused: int = 0
    left: int = 0
    foreign_lost: int = 0
    messages_lost: int = 0
    running: int = 0
    latest_create_s: float = 0.0
    hurt: list[Encounter] = msgspec.field(default_factory=list[Encounter])
    allowed: list[Encounter] = msgspec.field(default_factory=list[Encounter])
    unfinished: int = 0
    undeleted: int = 0
    unexpected: list[str] = msgspec.field(default_factory=list[str])
    seconds: float = 0.0
    final_s: float = 0.0

    def broken(self) -> Iterator[str]:
        """Yield what the oracle has against the run."""
        for number, what in (
            (self.left, "chats left"),
            (len(self.hurt), "requests of living owners met a chat that a sweeper had deleted"),
            (self.messages_lost, "messages, or runs, lost by deletions"),
            (self.running, "runs that go on for nobody"),
            (self.foreign_lost, "chats of another program deleted"),
            (self.unfinished, "entries still open when the final sweep was given up"),
            (self.undeleted, "dead letters"),
            (self.events["crash.unavailable"] * (not self.stopped), "times no ledger, though nobody was stopped"),
            (self.counts["lost journal"], "entries of the journal that the harness did not see"),
            (len(self.unexpected), "workers that ended by themselves, or sessions that failed in no known way"),
            (self.stopped - self.lost_leases, "stopped workers that did not notice the loss of their lease"),
        ):
            if number:
                yield f"{number} {what}"

    def never_seen(self, failpoints: Sequence[str] = NAMES) -> list[str]:
        """Return what a big enough run must have seen, and this one did not."""
        seen = {
            "a lost create reply": self.counts["lost replies"],
            "a late create": self.counts["late creates"],
            "a chat that was gone": self.counts["gone"],
            "LeaseLost": self.events["crash.lease_lost"],
        }
        if self.service == "open-assistant":  # the other one's chats are found by their ids, and never listed
            seen["an ambiguous candidate"] = self.events["sweep.candidate.ambiguous"]
            seen["a deleted candidate"] = self.events["sweep.candidate.deleted"]
            seen["a kill at sweep.listed"] = self.failpoints["sweep.listed"] or "sweep.listed" not in failpoints
        seen |= {f"a kill at {name}": self.failpoints[name] for name in failpoints if name != "sweep.listed"}
        return [what for what, times in seen.items() if not times]

    def table(self) -> str:
        """Return the run as a table."""
        rows = {
            "service": self.service,
            "seed": self.seed,
            "kills": self.kills,
            "of these at failpoints": self.failpoints.total(),
            **{f"faults of the ledgers' server: {name}": number for name, number in sorted(self.faults.items())},
            "workers stopped (SIGSTOP)": self.stopped,
            "chats created": self.counts["created"],
            "of these by the steady workers": self.counts["steady"],
            "swept": self.counts["swept"],
            "of these by listing": self.events["sweep.candidate.deleted"],
            "ambiguous candidates": self.events["sweep.candidate.ambiguous"],
            "met as gone": self.counts["gone"],
            "lost replies": self.counts["lost replies"],
            "late creates": self.counts["late creates"],
            "LeaseLost": self.events["crash.lease_lost"],
            "leases lost without a stop": self.paused,
            "requests under way then": len(self.allowed),
            "ledger not to be opened": self.events["crash.unavailable"],
            "left": self.left,
            "owners hurt": len(self.hurt),
            "messages lost": self.messages_lost,
            "runs that go on": self.running,
            "seconds of the latest create": round(self.latest_create_s, 1),
            "others' chats deleted": self.foreign_lost,
            "seconds": round(self.seconds),
            "of these after the last kill": round(self.final_s),
            "kills per second": round(self.kills / max(self.seconds, 0.001), 1),
        }
        return "\n".join(["| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows.items())])
