"""The table itself: it is sound, it is complete, and everything that must be generated from it is."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from chatlease import Session
from chatlease._lifecycle import (
    CLEANUP,
    FINAL,
    HAPPY_PATH,
    ROWS,
    TABLE,
    WITH_CHAT,
    Create,
    Facts,
    Row,
    Run,
    State,
    Trigger,
    allowed,
    cleanup_path,
    holds,
)
from chatlease._machine import fire
from chatlease._steps import EFFECTS
from chatlease.adapter import Adapter
from chatlease.errors import TransitionNotAllowed
from chatlease.testing import failpoints

from .card import PATH

BOOLEANS = (False, True)
LIVE = [state for state in State if state not in FINAL]
HOLDING = [state for state in State if state in WITH_CHAT]


def all_facts(*, in_doubt: tuple[bool, ...] = BOOLEANS) -> Iterator[Facts]:
    for facts in itertools.product(Create, Run, BOOLEANS, BOOLEANS, in_doubt):
        yield Facts(*facts)


def row_name(row: Row) -> str:
    return f"{row.trigger.value}-to-{row.dest.value}"


class Model:
    """The least that the machine moves: facts and a state, without a session."""

    def __init__(self, state: State, facts: Facts) -> None:
        self.state = state
        self.in_flight: Trigger | None = None
        self.create = facts.create
        self.run = facts.run
        self.token_given = facts.token_given
        self.budget_spent = facts.budget_spent
        self.in_doubt = facts.in_doubt
        self.fired: list[Trigger] = []

    async def effect(self, trigger: Trigger, *args: Any) -> None:
        self.fired.append(trigger)


def after(state: State, trigger: Trigger, facts: Facts) -> State:
    [row] = [row for row in ROWS[state] if row.trigger is trigger and holds(row, facts)]
    return row.dest


def reached_from(start: State, *facts: Facts) -> set[State]:
    """The states that some order of triggers leads to, while the facts are among those given."""
    found, fresh = {start}, [start]
    while fresh:
        state = fresh.pop()
        after_it = {row.dest for row in ROWS[state] if any(holds(row, each) for each in facts)} - found
        found |= after_it
        fresh.extend(after_it)
    return found


def test_every_state_can_be_reached() -> None:
    assert reached_from(State.NEW, *all_facts()) == set(State)


def test_the_happy_path_of_the_design_is_in_the_table() -> None:
    state, path = State.NEW, [State.NEW]
    facts = {State.STREAMING: Facts(Create.CREATED, Run.ANSWERED)}
    while state not in FINAL:
        state = after(state, HAPPY_PATH[state], facts.get(state, Facts()))
        path.append(state)
    assert [each.value for each in path] == PATH
    assert HAPPY_PATH.keys() == set(State) - FINAL


def test_two_rows_of_a_trigger_never_hold_at_once() -> None:
    for state, facts in itertools.product(State, all_facts()):
        held = [row.trigger for row in ROWS[state] if holds(row, facts)]
        assert len(held) == len(set(held)), f"{state} {facts}"


def test_only_final_states_are_sinks() -> None:
    assert {state for state in State if not ROWS[state]} == FINAL
    for row in TABLE:
        assert not row.sources & FINAL


def test_final_states_are_reached_by_giving_back_and_by_nothing_else() -> None:
    for row in TABLE:
        assert (row.trigger in CLEANUP) == row.cleanup
        assert row.dest not in FINAL or row.cleanup
    assert {row.trigger for row in TABLE if row.dest in FINAL} == CLEANUP - {Trigger.STOP_RUN}


def test_a_chat_that_exists_is_never_abandoned() -> None:
    for row in TABLE:
        assert row.trigger is not Trigger.ABANDON or not row.sources & WITH_CHAT
        assert row.trigger is not Trigger.DELETE_CHAT or row.sources == WITH_CHAT


def test_a_chat_may_be_deleted_from_every_state_that_has_one_whatever_the_facts() -> None:
    for state, facts in itertools.product(WITH_CHAT, all_facts()):
        assert Trigger.DELETE_CHAT in allowed(state, facts)


def test_a_chat_is_handed_over_only_when_it_cannot_be_deleted() -> None:
    for state, facts in itertools.product(State, all_facts()):
        if Trigger.HAND_OVER in allowed(state, facts):
            assert facts.budget_spent or (
                state is State.COOKIES_READY and facts.create in {Create.UNKNOWN, Create.CREATED}
            )


def test_after_an_unknown_create_no_second_one_is_allowed() -> None:
    for facts in all_facts():
        if facts.create in {Create.UNKNOWN, Create.CREATED}:
            assert Trigger.CREATE_CHAT not in allowed(State.COOKIES_READY, facts)


def test_in_doubt_nothing_but_giving_back_is_allowed() -> None:
    for state, facts in itertools.product(State, all_facts(in_doubt=(True,))):
        assert allowed(state, facts) <= CLEANUP


def test_an_answer_of_which_a_token_was_given_never_begins_anew() -> None:
    for state, facts in itertools.product([State.ASSISTANT_QUEUED, State.STREAMING], all_facts()):
        if facts.token_given or facts.run is not Run.FAILED:
            assert Trigger.QUEUE_ASSISTANT not in allowed(state, facts)


def possible(state: State, facts: Facts) -> bool:
    """Whether a session can be in that state with those facts at all: a chat of ours exists or it does not."""
    return (state in WITH_CHAT) == (facts.create is Create.CREATED) or state in FINAL


def test_from_everywhere_and_whatever_the_facts_there_is_a_way_to_a_final_state() -> None:
    for state, facts in itertools.product(State, all_facts()):
        if possible(state, facts):
            assert reached_from(state, facts) & FINAL, f"{state} {facts}"


@pytest.mark.parametrize("state", State)
def test_cleanup_path_is_total_and_the_machine_follows_it_to_a_final_state(state: State) -> None:
    for run, create in itertools.product(Run, Create):
        path = cleanup_path(state, run, create)
        assert set(path) <= CLEANUP
        assert bool(path) == (state not in FINAL)
        assert path[-1:] != (Trigger.STOP_RUN,)


@pytest.mark.parametrize("state", LIVE)
async def test_following_cleanup_path_ends_in_a_final_state(state: State) -> None:
    for facts in all_facts():
        if not possible(state, facts):
            continue
        model = Model(state, facts)
        for trigger in cleanup_path(state, facts.run, facts.create):
            await fire(model, trigger)
        assert model.state in FINAL
        assert tuple(model.fired) == cleanup_path(state, facts.run, facts.create)


@pytest.mark.parametrize("state", HOLDING)
async def test_when_the_budget_is_spent_every_chat_can_be_handed_over(state: State) -> None:
    for facts in all_facts():
        model = Model(state, facts)
        model.budget_spent = True
        await fire(model, Trigger.HAND_OVER)
        assert model.state is State.ORPHANED


async def test_the_machine_allows_exactly_what_the_table_allows() -> None:
    for state, facts in itertools.product(State, all_facts()):
        for trigger in Trigger:
            model = Model(state, facts)
            if trigger in allowed(state, facts):
                await fire(model, trigger)
                assert model.state is after(state, trigger, facts)
                assert model.fired == [trigger]
            else:
                with pytest.raises(TransitionNotAllowed) as caught:
                    await fire(model, trigger)
                assert model.state is state
                assert not model.fired
                assert caught.value.allowed == tuple(sorted(each.value for each in allowed(state, facts)))


def test_a_run_that_may_be_going_is_stopped_before_its_chat_is_deleted() -> None:
    for state in (State.ASSISTANT_QUEUED, State.STREAMING):
        for run in (Run.GOING, Run.UNKNOWN):
            assert cleanup_path(state, run, Create.CREATED) == (Trigger.STOP_RUN, Trigger.DELETE_CHAT)
    assert cleanup_path(State.PROMPT_SENT, Run.UNKNOWN, Create.CREATED)[0] is Trigger.STOP_RUN


def test_one_word_per_step() -> None:
    """Trigger, `Session` method, adapter method, effect, failpoints: the same word."""
    assert EFFECTS.keys() == set(Trigger)
    for trigger in Trigger:
        assert inspect.iscoroutinefunction(getattr(Session, trigger.value))
        assert EFFECTS[trigger].__name__ == trigger.value
    for row in TABLE:
        assert row.call in {None, row.trigger.value}
        if row.call is not None:
            assert inspect.iscoroutinefunction(getattr(Adapter, row.call))
    without_call = {row.trigger for row in TABLE if row.call is None}
    assert without_call == {Trigger.ABANDON, Trigger.HAND_OVER}


def test_every_trigger_has_its_failpoints() -> None:
    assert set(failpoints.NAMES) == {
        *(f"{trigger.value}.{place}" for trigger in Trigger for place in ("started", "completed")),
        "create_chat.intended",
        "create_chat.bound",
        *(f"sweep.{done}" for done in ("reaped", "claimed", "listed", "stopped", "deleted", "settled")),
    }


def test_a_guard_is_told_in_words_and_a_row_without_one_is_not() -> None:
    for row in TABLE:
        assert (row.guard is None) == (row.when == ""), row


@pytest.mark.parametrize("row", TABLE, ids=row_name)
def test_every_row_can_fire(row: Row) -> None:
    assert any(holds(row, facts) for facts in all_facts())
