"""The table as a `transitions` machine: the only file that imports `transitions`.

Rules that live here (each measured; transitions 0.9.3):

* One machine for the process. Sessions are slotted objects that are never registered with it; a machine per session
  would cost 0.4 to 1 ms and 25 to 75 kB each.
* Stock `AsyncMachine` swallows cancellation: a cancelled trigger returns False and its body goes on. `process_context`
  and `await_all`, both meant to be overridden, are overridden here; `tests/unit/test_machine.py` keeps the proof.
* The adapter call lives in ``before``, one callback per transition: a call that fails leaves the state at its source.
  Nothing is ever put into ``on_exception`` or ``finalize_event``: both swallow errors.
* `Transition.execute` runs guards, ``before`` and the state change, and nothing else; that the table needs nothing else
  is asserted when the machine is built. It takes a trigger from 34 to 8 us.
* ``transitions`` logs the ``repr`` of every exception into the bot's log, at ERROR. Ours are dropped by a filter on its
  logger, which knows them by our machine's name; this is the only thing that Chatlease does to anyone's logging.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, cast

from transitions import EventData
from transitions.extensions.asyncio import AsyncMachine, AsyncTransition

from ._lifecycle import TABLE, HasFacts, Row, State, Trigger, allowed, holds
from .errors import StepInFlight, TransitionNotAllowed

_NAME = "chatlease"


class Model(HasFacts, Protocol):
    """What the machine moves: a session."""

    state: State
    in_flight: bool

    async def effect(self, trigger: Trigger, *args: Any) -> None:
        """Make the step's adapter call and note what became of it."""
        ...


class Transition(AsyncTransition):
    """Guards, one ``before``, the state change."""

    async def execute(self, event_data: EventData) -> bool:  # type: ignore[override]  # the stub wants its own subclass
        """Run the transition if its guards hold; False lets the next row of the same trigger try."""
        for guard in self.conditions:
            if not cast("Callable[[EventData], bool]", guard.func)(event_data):
                return False
        for call in self.before:
            await cast("Callable[[EventData], Awaitable[None]]", call)(event_data)
        event_data.machine.set_state(cast("State", self.dest), event_data.model)
        return True


class Machine(AsyncMachine):
    """`AsyncMachine` without tasks, queues and swallowed cancellations."""

    transition_cls = Transition

    @staticmethod
    async def await_all(callables: list[Callable[[], Awaitable[Any]]]) -> list[Any]:  # type: ignore[override]  # stub
        """Run callbacks one after the other, in the caller's task."""
        return [await call() for call in callables]

    async def process_context(self, func: Callable[[], Awaitable[Any]], model: object) -> bool:
        """Run one trigger; a second one for the same session is refused, a cancellation goes through."""
        session = cast("Model", model)
        if session.in_flight:
            raise StepInFlight("another step of this session is in flight")
        session.in_flight = True
        try:
            return bool(await func())
        finally:
            session.in_flight = False


def _guard(row: Row) -> Callable[[EventData], bool]:
    def guard(event: EventData) -> bool:
        return holds(row, cast("Model", event.model))

    return guard


def _before(trigger: Trigger) -> Callable[[EventData], Coroutine[Any, Any, None]]:
    async def before(event: EventData) -> None:
        await cast("Model", event.model).effect(trigger, *event.args)

    return before


def build() -> Machine:
    """Make a machine of the table."""
    machine = Machine(
        model=None,
        states=State,
        initial=None,
        auto_transitions=False,
        queued=False,
        send_event=True,
        ignore_invalid_triggers=True,
        name=_NAME,
    )
    for row in TABLE:
        machine.add_transition(
            row.trigger.value,
            [state for state in State if state in row.sources],
            row.dest,
            conditions=[_guard(row)],
            before=[_before(row.trigger)],
        )
    _assert_plain(machine)
    return machine


def _assert_plain(machine: Machine) -> None:
    """Make sure that nothing is configured which `Transition.execute` would pass over."""
    slots = [machine.prepare_event, machine.before_state_change, machine.after_state_change, machine.finalize_event]
    slots += [machine.on_exception, machine.on_final]
    for state in machine.states.values():
        slots += [state.on_enter, state.on_exit]
    for event in machine.events.values():
        for transition in (each for some in event.transitions.values() for each in some):
            slots += [transition.prepare, transition.after]
    assert not any(slots)


class _OwnRecords(logging.Filter):
    """Drops what `transitions` logs about our machine: those records hold the ``repr`` of exceptions."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and record.args[:1] == (f"{_NAME}: ",))


for _logger in ("transitions.core", "transitions.extensions.asyncio"):
    logging.getLogger(_logger).addFilter(_OwnRecords())

_MACHINE = build()


async def fire(session: Model, trigger: Trigger, *args: Any) -> None:
    """
    Fire a trigger of a session.

    Raises:
        TransitionNotAllowed: The table does not have it now; nothing was called, the state is what it was.
        StepInFlight: Another trigger of this session is under way.
    """
    if not await _MACHINE.events[trigger.value].trigger(session, *args):
        names = [each.value for each in allowed(session.state, session)]
        raise TransitionNotAllowed(trigger.value, session.state.value, names)
