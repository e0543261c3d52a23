"""A call of the adapter under exploration: what goes wrong at it, and how it is made.

Rules that live here:

* Any adapter over any transport can be explored: a fault before the effect does not call the adapter at all, one after
  it throws the adapter's reply away.
* While the adapter works the clock is held; so time passes only when nothing real is waited for. An adapter that does
  not come back within the patience is a finding, and then time goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from chatlease.errors import ChatleaseError
from chatlease.testing.manual_clock import ManualClock

from ._faults import READ, Fault
from ._moves import Move

__all__ = ["Breach", "Calls"]

T = TypeVar("T")
_LATE_S = 0.5
_PASSES = 10
"""Passes of the loop in which a close from elsewhere reaches a step in flight."""
_UNCUT = frozenset({"create_chat", "delete_chat"})
_OF_THE_STREAM = frozenset({"end", "fail"})
"""What the stream does itself."""

Breach = Callable[[str, str], object]
"""Told of a law and of how it was broken."""


class Calls:
    """
    The calls of one session, move by move.

    Args:
        clock: Held while the adapter works.
        patience_s: Real seconds that a call may take.
        breach: Told what the adapter does against its contract.
        faults: Those that there are, by name.
        arms: Has the service itself fail at a step, by name of the fault.

    Attributes:
        names: Those of the current move, streams' reads too.
        hit: The fault of the current move happened.
        injected: What it raised.
        late: Calls that take effect after their callers were told that they failed.
        late_until: When the last of them begins, by the clock.
        cancel: Cancels the caller of the move.
        close: Closes the session, from elsewhere.
    """

    def __init__(
        self,
        clock: ManualClock,
        patience_s: float,
        breach: Breach,
        faults: Mapping[str, Fault],
        arms: Mapping[str, Callable[[str], object]],
    ) -> None:
        self.names: list[str] = []
        self.hit = False
        self.injected: Exception | None = None
        self.late: list[asyncio.Task[None]] = []
        self.late_until = 0.0
        self.cancel: Callable[[], object] = lambda: None
        self.close: Callable[[], object] = lambda: None
        self._clock = clock
        self._patience_s = patience_s
        self._breach = breach
        self._faults = faults
        self._arms = arms
        self._move = Move("")
        self._seen: Counter[str] = Counter()
        self._impatient: set[str] = set()
        self._lasting: Fault | None = None

    def begin(self, move: Move) -> None:
        """Begin a move."""
        self._move, self.hit, self.injected = move, False, None
        self.names = []
        self._seen.clear()

    def mend(self) -> None:
        """From now on nothing goes wrong any more."""
        self._lasting = None
        self.begin(Move(""))

    def wrong(self, clause: str, got: object = None) -> None:
        """Note that the adapter broke a clause of its contract."""
        self._breach("the adapter keeps its contract", clause if got is None else f"{clause}; got {got!r}")

    def ending(self) -> Fault | None:
        """Return the fault that is now the stream's to do, if any."""
        fault = self._faults.get(self._move.fault)
        due = self.hit and fault is not None and fault.act in _OF_THE_STREAM
        return fault if due and self._seen[READ] == self._move.nth else None

    async def through(
        self,
        name: str,
        make: Callable[[], Awaitable[T]],
        *,
        late: Callable[[], Awaitable[object]] | None = None,
        lost: Callable[[T], object] = lambda _reply: None,
    ) -> T:
        """
        Make a call of the adapter, with what goes wrong at it.

        Args:
            name: Of the call.
            make: Makes it.
            late: Makes it when nobody waits for it any more.
            lost: Told of a reply that never arrives.
        """
        self.names.append(name)
        fault = self._due(name)
        if fault is None:
            return await self._asked(name, make)
        if fault.act == "late" and late is not None:
            self._happens_later(name, late)
        undo = await self._before(fault, name)
        try:
            reply = await self._asked(name, make)
        finally:
            undo()
        try:
            if fault.where == "after":
                await self._happen(fault)
        except BaseException:
            lost(reply)
            raise
        return reply

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _due(self, name: str) -> Fault | None:
        self._seen[name] += 1
        move = self._move
        if self._lasting is not None:
            return self._lasting
        if self.hit or (move.call, move.nth) != (name, self._seen[name]):
            return None
        self.hit = True
        fault = self._faults[move.fault]
        if fault.lasting:
            self._lasting = self._faults["silent"] if fault.act == "cancel" else fault
        return fault

    def _happens_later(self, name: str, late: Callable[[], Awaitable[object]]) -> None:
        async def happen() -> None:
            with contextlib.suppress(ChatleaseError):  # the chat may be gone
                await self._asked(name, late)

        def begin() -> None:
            self.late.append(asyncio.get_running_loop().create_task(happen()))

        self.late_until = self._clock.now() + _LATE_S
        self._clock.call_later(_LATE_S, begin)

    async def _before(self, fault: Fault, name: str) -> Callable[[], object]:
        """Have go wrong what does so before the call, or during it; return what ends that."""
        if fault.act == "arm":
            undo = self._arms[self._move.fault](name)
            return undo if callable(undo) else lambda: None
        if fault.where == "before" and fault.act not in _OF_THE_STREAM:
            await self._happen(fault)
        elif fault.where == "in":
            asyncio.get_running_loop().call_soon(self._interfere, fault)
        return lambda: None

    async def _happen(self, fault: Fault) -> None:
        if fault.error is not None:
            self.injected = fault.error()
            raise self.injected
        if fault.act == "hang":
            await asyncio.get_running_loop().create_future()
        self._interfere(fault)
        for _ in range(_PASSES):
            await asyncio.sleep(0)

    def _interfere(self, fault: Fault) -> None:
        if fault.act == "close":
            self.close()
        elif fault.act == "cancel":
            self.cancel()

    # -- the adapter --------------------------------------------------------------------------------------------------

    async def _asked(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Call the adapter, and see what it does with errors and cancellations."""
        task = asyncio.current_task()
        assert task is not None
        asked_to_end = task.cancelling()
        try:
            with self._patiently(name):
                reply = await make()
        except asyncio.CancelledError:
            self._check_cut(name, asked=task.cancelling() > asked_to_end)
            raise
        except ChatleaseError:
            self._check_obeyed(name, asked=task.cancelling() > asked_to_end)
            raise
        except Exception as error:
            self.wrong(f"{name} maps every foreign failure to a ServiceError", type(error).__name__)
            raise
        self._check_obeyed(name, asked=task.cancelling() > asked_to_end)
        return reply

    def _check_cut(self, name: str, *, asked: bool) -> None:
        if not asked:
            self.wrong(f"{name} is cancelled only by its caller")
        elif name in _UNCUT and name not in self._impatient:
            self._breach("creating and deleting are not cut in the middle", f"{name} was cut while the adapter worked")

    def _check_obeyed(self, name: str, *, asked: bool) -> None:
        if asked:
            self.wrong(f"{name} never maps nor swallows a CancelledError")

    @contextmanager
    def _patiently(self, name: str) -> Generator[None]:
        hold = self._clock.hold()

        def lose_it() -> None:
            self._impatient.add(name)
            self.wrong(f"{name} comes back within {self._patience_s:g} s (patience_s)")
            hold.release()

        timer = asyncio.get_running_loop().call_later(self._patience_s, lose_it)
        try:
            yield
        finally:
            timer.cancel()
            hold.release()
