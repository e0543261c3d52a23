"""What the parts of a running service share, and the one record that it keeps of every request."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from chatlease import Clock

from ._faults import Faults
from ._journal import Journal
from ._login import Logins
from ._options import ServiceOptions
from ._queue import WorkQueue
from ._rules import Rules
from ._store import Store
from ._stream import EventStream


@dataclass(frozen=True, slots=True)
class Record:
    """
    One request, as the access log shows it; it holds no credential and no text.

    Attributes:
        time: When it was answered, by the service's monotonic clock, in seconds.
        path: Without the query.
        query: The query as it was sent.
        status: Of the answer; 0 when the connection was cut instead.
        step: Name of the step in the lifecycle table, or of the call where it is no step of its own.
        user: Whose request it was; empty when the login was refused.
        fault: Kind of the fault that was made to happen, if any.
    """

    time: float
    method: str
    path: str
    query: str
    status: int
    step: str
    user: str
    fault: str = ""


@dataclass(slots=True)
class Core:
    """
    The state of a running service.

    Attributes:
        journal: What happened to which chat, for harnesses; usually none.
        down: The inference server is not there: the website fails, the server's own routes are cut.
        streams: The event streams open now, and those of the website's that their clients have left.
        tasks: What goes on beside the requests; cancelled when the service closes.
    """

    options: ServiceOptions
    clock: Clock
    store: Store
    queue: WorkQueue
    rules: Rules
    logins: Logins
    faults: Faults
    log: deque[Record]
    journal: Journal | None = None
    down: bool = False
    streams: set[EventStream] = field(default_factory=set[EventStream])
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    requests: Counter[str] = field(default_factory=Counter[str])

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the requests, until it ends or the service closes."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def read(self, stream: EventStream, reading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the reading of a stream, and count the stream as open until it ends."""
        task = self.spawn(reading)
        self.streams.add(stream)
        task.add_done_callback(lambda _: self.streams.discard(stream))
        return task

    def note(self, record: Record) -> None:
        """Add a record to the access log and count it."""
        self.log.append(record)
        self.requests[record.step] += 1
