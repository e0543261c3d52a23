"""What is read from a trace is what happened: real sessions on a service with faults, cancelled before every pass."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from chatlease._core import Core
from chatlease._trace_events import VOCABULARY
from chatlease._traces import Counts, Gatherer, SessionTrace
from chatlease.errors import NotAuthenticated, Unavailable
from chatlease.testing import Fault

from . import scenarios
from .schedules import FAR, Faults, Make, World, every_pass, play

FAULTS: dict[str, Faults] = {
    "none": [],
    "create-lost": [("create_chat", Fault(Unavailable("cut"), when="after"))],
    "create-unsent": [("create_chat", Fault(Unavailable("no connection", sent=False)))] * 2,
    "prompt-refused": [("send_prompt", Fault(NotAuthenticated("no", status=401)))] * 2,
    "queue-lost": [("queue_assistant", Fault(Unavailable("cut"), when="after"))],
    "stream-fails": [("open_stream", Fault(Unavailable("out of order", status=503)))],
    "delete-fails-twice": [("delete_chat", Fault(Unavailable("out of order", status=503)))] * 2,
    "delete-never-succeeds": [("delete_chat", Fault(Unavailable("out of order", status=503)))] * FAR,
}

States = dict[str, list[str]]


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> States:
    """Every state that every session was in, noted where it is set, and not by the trace."""
    states: defaultdict[str, list[str]] = defaultdict(list)

    def note(session: Core, name: str, value: Any) -> None:
        object.__setattr__(session, name, value)
        if name == "state":
            states[session.id].append(value.value)

    monkeypatch.setattr(Core, "__setattr__", note, raising=False)
    return states


def redrawn(world: World, least: int) -> dict[str, SessionTrace]:
    """Return what the lines of a level say, by session."""
    gatherer, counts = Gatherer(), Counts()
    raws = [event.line() for event in world.events if VOCABULARY[event.event].level >= least]
    found = [session for line in counts.decoded(raws) for session in gatherer.feed(line)]
    assert (counts.broken, counts.newer, gatherer.let_go) == (0, 0, 0)
    sessions = [*found, *gatherer.rest()]
    assert len({session.id for session in sessions}) == len(sessions), "a session was given out twice"
    return {session.id: session for session in sessions}


def holds(world: World, states: States) -> Iterable[SessionTrace]:
    """Compare what is redrawn with what the sessions did, and with what the ledger holds."""
    sessions = redrawn(world, logging.INFO)
    begun = {name: path for name, path in states.items() if len(path) > 1 or name in sessions}
    assert {name: [stay.state for stay in session.stays()] for name, session in sessions.items()} == begun
    assert {name for name, session in sessions.items() if session.leaked} == {
        entry.id for entry in world.ledger.entries
    }
    assert {session.status for session in sessions.values()} <= {"deleted", "left", "swept"}
    for session in sessions.values():
        times(session)
    everything = redrawn(world, logging.DEBUG)
    assert {name: session.stays() for name, session in everything.items()} == {
        name: session.stays() for name, session in sessions.items()
    }
    states.clear()
    return sessions.values()


def times(session: SessionTrace) -> None:
    """The stays fill the session's life, without a gap, and so do the steps of each stay."""
    stays = session.stays()
    assert session.begun
    assert session.closed_at is not None
    assert sum(stay.seconds or 0.0 for stay in stays) == pytest.approx(session.closed_at - session.opened_at, abs=1e-3)
    assert all(stay.seconds is not None for stay in stays[:-1])
    assert all(0 <= step.elapsed_s <= session.elapsed_s + 1e-3 for step in session.steps)
    assert sum(step.retries for step in session.steps) <= session.retries


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("make", [scenarios.slow, scenarios.silent, scenarios.stoppable])
def test_whatever_happens_the_trace_tells_it(make: Make, faults: Faults, noted: States) -> None:
    count = 0
    for scenario in (scenarios.whole, scenarios.turns, scenarios.steps):
        count += len([*holds(play(scenario, make, faults=faults), noted)])
    for world in every_pass(World.cancel, scenarios.whole, make, faults=faults):
        count += len([*holds(world, noted)])
    assert count > 12


@pytest.mark.parametrize("make", [scenarios.slow, scenarios.endless, scenarios.hanging])
def test_closed_from_elsewhere(make: Make, noted: States) -> None:
    for act in (World.close_session, World.close_engine):
        noted.clear()  # of the last one, which came too late
        for world in every_pass(act, scenarios.half_read, make):
            holds(world, noted)


def test_what_a_session_waited_for_and_gave_out_is_told(noted: States) -> None:
    (session,) = holds(play(scenarios.turns, scenarios.slow), noted)
    assert session.token_count == 4
    assert session.first_token_s is not None
    assert [step.trigger for step in session.steps].count("send_prompt") == 2
    assert all(step.http_status == 200 for step in session.steps if step.trigger != "ready_cookies")
    faults = FAULTS["create-unsent"]
    (retried,) = holds(play(scenarios.whole, scenarios.slow, faults=faults), noted)
    assert [(step.trigger, step.retries) for step in retried.steps if step.retries] == [("create_chat", 2)]
    assert [each.error for each in retried.errors] == ["Unavailable", "Unavailable"]
