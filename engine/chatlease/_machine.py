"""The table as a `transitions` machine: the only file that imports `transitions`.

Rules that live here (each measured; transitions 0.9.3):

* One machine for the process. Sessions are slotted objects that are never registered with it; a machine per session
  would cost 0.4 to 1 ms and 25 to 75 kB each.
* Stock `AsyncEvent` swallows cancellation (a cancelled trigger returns False and its body goes on), logs the ``repr``
  of every exception into the bot's log, and takes twenty times as long. `Event.trigger`, meant to be overridden, runs
  guards, ``before`` and the state change in the caller's task, and nothing else; that the table needs nothing else is
  asserted when the machine is built. `tests/unit/test_machine.py` keeps the proof.
* The adapter call lives in ``before``, one callback per transition: a call that fails leaves the state at its source.
  Nothing is ever put into ``on_exception`` or ``finalize_event``: both swallow errors.
* Guards and ``before`` are called with the model itself, not with an event that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, cast

from transitions.extensions.asyncio import AsyncEvent, AsyncMachine, AsyncTransition

from ._lifecycle import TABLE, HasFacts, State, Trigger, allowed, holds
from .errors import StepInFlight, TransitionNotAllowed


class Model(HasFacts, Protocol):
    """What the machine moves: a session."""

    state: State
    in_flight: Trigger | None

    def effect(self, trigger: Trigger, *args: Any) -> Coroutine[Any, Any, None]:
        """Make the step's adapter call and note what became of it."""
        ...


_Before = Callable[..., Coroutine[Any, Any, None]]


class Transition(AsyncTransition):
    """A row of the table, from one state."""

    reached: State
    """`dest` as what a session's state is set to."""
    guards: tuple[Callable[[HasFacts], bool], ...]
    """`conditions` as what they were made of."""
    calls: tuple[_Before, ...]
    """`before` once more, typed."""


class Event(AsyncEvent):
    """A trigger: the transitions that it may take, by source."""

    by_state: dict[State, tuple[Transition, ...]]
    """`transitions` once more, for a lookup without a name."""
    fires: Trigger
    """`name` as what it was made of."""

    async def trigger(self, model: Model, *args: Any) -> bool:  # type: ignore[override]  # no keywords here
        """Take the first transition whose guards hold; False when there is none. A second one in flight is refused."""
        if model.in_flight is not None:
            raise StepInFlight("another step of this session is in flight")
        # All in one coroutine: every further one is another frame that each answer of the service goes through.
        for transition in self.by_state.get(model.state, ()):
            for guard in transition.guards:
                if not guard(model):
                    break
            else:
                model.in_flight = self.fires
                try:
                    for call in transition.calls:
                        await call(model, *args)
                finally:
                    model.in_flight = None
                model.state = transition.reached
                return True
        return False


class Machine(AsyncMachine):
    """`AsyncMachine` with the transitions and events of this file."""

    transition_cls = Transition
    event_cls = Event


def _before(trigger: Trigger) -> _Before:
    def before(model: Model, *args: Any) -> Coroutine[Any, Any, None]:
        return model.effect(trigger, *args)

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
        name="chatlease",
    )
    for row in TABLE:
        machine.add_transition(
            row.trigger.value,
            [state for state in State if state in row.sources],
            row.dest,
            conditions=[partial(holds, row)],
            before=[_before(row.trigger)],
        )
    _assert_plain(machine)
    _index(machine)
    return machine


def _index(machine: Machine) -> None:
    for event in cast("dict[str, Event]", machine.events).values():
        found = {State[name]: tuple(cast("list[Transition]", some)) for name, some in event.transitions.items()}
        for transition in (each for some in found.values() for each in some):
            transition.reached = State[cast("str", transition.dest)]
            transition.guards = tuple(cast("Callable[[HasFacts], bool]", each.func) for each in transition.conditions)
            transition.calls = tuple(cast("list[_Before]", transition.before))
        event.by_state = found
        event.fires = Trigger(event.name)


def _assert_plain(machine: Machine) -> None:
    """Make sure that nothing is configured which `Event.trigger` would pass over."""
    slots = [machine.prepare_event, machine.before_state_change, machine.after_state_change, machine.finalize_event]
    slots += [machine.on_exception, machine.on_final]
    for state in machine.states.values():
        slots += [state.on_enter, state.on_exit]
    for event in machine.events.values():
        for transition in (each for some in event.transitions.values() for each in some):
            slots += [transition.prepare, transition.after]
    assert not any(slots)


_EVENTS = {Trigger(name): cast("Event", event) for name, event in build().events.items()}


async def fire(session: Model, trigger: Trigger, *args: Any) -> None:
    """
    Fire a trigger of a session.

    Raises:
        TransitionNotAllowed: The table does not have it now; nothing was called, the state is what it was.
        StepInFlight: Another trigger of this session is under way.
    """
    if not await _EVENTS[trigger].trigger(session, *args):
        names = [each.value for each in allowed(session.state, session)]
        raise TransitionNotAllowed(trigger.value, session.state.value, names)
