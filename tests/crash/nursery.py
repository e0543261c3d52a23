"""
Forks the workers: a clean process, without threads and without an event loop, that has imported everything once.

``python -m tests.crash.nursery`` takes a line of JSON per order (`Order`) and answers one per event (`Event`). It alone
sends signals to its children and waits for them, so that no signal ever goes to a process that is not one of them. When
its standard input is closed it kills them all.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import sys
import time
from types import FrameType

import msgspec

from tests.crash.worker import Job, live


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start a worker (``job``), or send a worker a signal."""

    job: Job | None = None
    name: str = ""
    signal: int = 0


class Event(msgspec.Struct, frozen=True):
    """
    A worker has ended.

    Attributes:
        name: Which.
        code: Its exit code; the negative number of the signal that killed it.
        at: When that was seen, by the monotonic clock.
        pid: Of its process.
    """

    name: str
    code: int
    at: float
    pid: int


class Nursery:
    """The children and their names."""

    def __init__(self) -> None:
        self._children: dict[str, int] = {}
        self._decoder = msgspec.json.Decoder(Order)
        self._rest = b""

    def run(self) -> None:
        """Serve until standard input is closed; no child outlives it."""
        try:
            self._serve()
        finally:
            for name in list(self._children):
                self._send(name, signal.SIGKILL)

    def _serve(self) -> None:
        waking, woken = os.pipe()
        for end in (waking, woken):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(woken)
        with selectors.DefaultSelector() as selector:
            selector.register(waking, selectors.EVENT_READ)
            selector.register(0, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if waking in ready:
                    os.read(waking, 4096)
                self._reap()
                if 0 in ready and not self._read():
                    break

    def _read(self) -> bool:
        data = os.read(0, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._obey(self._decoder.decode(line))
        return bool(data)

    def _obey(self, order: Order) -> None:
        if order.job is None:
            self._send(order.name, order.signal)
            return
        child = os.fork()
        if child == 0:
            _be_born(order.job)
        self._children[order.job.life.name] = child

    def _send(self, name: str, number: int) -> None:
        child = self._children.get(name)
        if child is not None:
            os.kill(child, number)

    def _reap(self) -> None:
        for name, child in list(self._children.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                del self._children[name]
                event = Event(name, os.waitstatus_to_exitcode(status), time.monotonic(), pid)
                os.write(1, msgspec.json.encode(event) + b"\n")


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Let the system call be interrupted; the wakeup descriptor tells of it."""


def _be_born(job: Job) -> None:
    """Become the worker; never returns."""
    code = 1
    with contextlib.suppress(BaseException):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        code = live(job)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    importlib.import_module("asyncpg")  # which a ledger would import in every worker
    gc.freeze()
    Nursery().run()
