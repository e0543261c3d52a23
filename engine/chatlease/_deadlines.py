"""Every wait on a service has a deadline; these are they.

Clocks run only while the engine waits on the service: a consumer that takes its time between two tokens is not a
stalled stream. Pings and queue positions are not progress.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Deadlines:
    """
    How long the engine waits, all in seconds, all greater than 0.

    Attributes:
        connect: For a connection to the service (or proxy), name look-up included. 10: a reachable host needs far less.
        call: For the whole answer to one call other than the stream. 30.
        gate: For the account's turn when its running slots are taken by other sessions, then `Busy`. 60.
        queue: In the service's queue, before the first token. 300: a public service at a busy hour.
        first_event: From opening the stream to its first event of any kind; pings are not events. 60.
        idle: Between two tokens. 60.
        answer: For the whole answer, from opening the stream. 600.
        poll: Interval of looks at an answer that no stream delivers. 5.
        settle: For a run to come to its end when it has to be stopped before its chat is deleted. 20.
        grace: How long the *caller* of a failed or cancelled session waits for its cleanup. 5; the engine goes on
            alone.
        drain: How long the *engine* tries to give a chat back before it hands it over to the ledger. 50: at least
            ``settle + call``, so that a stop that takes its whole time leaves time for the deletion.
    """

    connect: float = 10.0
    call: float = 30.0
    gate: float = 60.0
    queue: float = 300.0
    first_event: float = 60.0
    idle: float = 60.0
    answer: float = 600.0
    poll: float = 5.0
    settle: float = 20.0
    grace: float = 5.0
    drain: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value: float = getattr(self, field.name)
            if not value > 0:
                raise UsageError(f"Deadlines.{field.name} must be greater than 0 seconds, got {value!r}")
