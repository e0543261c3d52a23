"""A stream under exploration: what stands between the engine and the adapter's own.

Rules that live here:

* It gives its pieces one by one, however they came, so that a fault has the same place every time.
* A reply that is lost takes nothing with it: reading again would give the same piece.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from chatlease.adapter import AnswerStream
from chatlease.events import Batch, Failed, Final, Pending, PluginStep

from ._calls import Calls
from ._faults import READ, run_failed

__all__ = ["BetweenStream"]

_PIECES = {kind.__name__ for kind in (str, Pending, PluginStep, Final, Failed)}


class BetweenStream:
    """
    A stream around another one.

    Args:
        calls: Where its reads are calls like others.
        real: The other one.

    Attributes:
        real: The other one.
        closed: The engine has closed it.
    """

    def __init__(self, calls: Calls, real: AnswerStream) -> None:
        self.real = real
        self.closed = False
        self._calls = calls
        self._pieces: deque[Any] = deque()

    async def read(self) -> Batch:
        """Return the next piece, or what goes wrong instead."""
        return await self._calls.through(READ, self._read, lost=self._put_back)

    def close(self) -> None:
        """Close the real one, twice, for it may be."""
        self.closed = True
        try:
            self.real.close()
            self.real.close()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is told)
            self._calls.wrong("a stream's close raises nothing, the second time neither", type(error).__name__)

    async def _read(self) -> Batch:
        fault = self._calls.ending()
        if fault is not None:
            return await self._failed() if fault.act == "fail" else ()
        if not self._pieces:
            self._pieces.extend(self._checked(await self.real.read()))
        return (self._pieces.popleft(),) if self._pieces else ()

    async def _failed(self) -> Batch:
        """Read to the end, because a run that is said to have failed is over; then say so."""
        batch: Batch = (*self._pieces, "")
        while batch and not any(isinstance(piece, Final | Failed) for piece in batch):
            batch = self._checked(await self.real.read())
        self._calls.injected = error = run_failed()
        return (Failed(error),)

    def _checked(self, batch: Batch) -> Batch:
        for name in {type(piece).__name__ for piece in batch} - _PIECES:
            self._calls.wrong("a stream gives str, Pending, PluginStep, Final and Failed", name)
        return batch

    def _put_back(self, batch: Batch) -> None:
        self._pieces.extendleft(reversed(batch))
