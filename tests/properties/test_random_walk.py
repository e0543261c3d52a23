"""An extra to the enumerations: Hypothesis walks sessions at random, with faults, for what nobody thought of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatlease import Engine, MemoryLedger, Session, State, Trigger
from chatlease._lifecycle import CLEANUP, FINAL, WITH_CHAT, Create
from chatlease.errors import ServiceError, SessionClosed, TransitionNotAllowed, UsageError
from chatlease.testing import FakeService, ManualClock

from .schedules import Passes, World, settled
from .test_faults import FAULTS, MAY_BE_GONE, STEPS


class Walk(RuleBasedStateMachine):
    """Any trigger in any state, any fault at any call, time passing, cancellations, and a close at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.passes = Passes(self.clock)
        self.loop = asyncio.SelectorEventLoop(self.passes)
        self.service = FakeService(clock=self.clock, pending=1, answer_s=3)
        self.ledger = MemoryLedger()
        self.engine = Engine(self.service, ledger=self.ledger, clock=self.clock)
        self.world = World(self.service, self.clock, self.ledger, self.passes, self.loop, self.engine)
        self.unheard: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.unheard.append(context))
        self.run(self.engine.__aenter__)
        self.session: Session = self.run(self._session)
        self.ghosts = False

    async def _session(self) -> Session:
        return self.engine.session(prompt="one two")

    def run(self, action: Callable[[], Awaitable[Any]], cancel_after: int | None = None) -> Any:
        """Run to its end, or cancel after so many passes of the loop."""
        self.passes.count = 0

        async def main() -> Any:
            return await action()

        task = self.loop.create_task(main())
        if cancel_after is not None:
            self.passes.acts = {cancel_after: task.cancel}
        self.loop.run_until_complete(asyncio.wait({task}))
        self.passes.acts = {}
        return task.result()

    @property
    def live(self) -> bool:
        return not self.session.closed

    @precondition(lambda self: self.live)
    @rule(trigger=st.sampled_from(Trigger), cancel_after=st.none() | st.integers(0, 8))
    def fire(self, trigger: Trigger, cancel_after: int | None) -> None:
        before, allowed = self.session.state, self.session.allowed
        step = getattr(self.session, trigger.value)
        try:
            done = self.run(step, cancel_after)
        except TransitionNotAllowed:
            assert trigger not in allowed
            assert self.session.state is before
        except (ServiceError, UsageError, asyncio.CancelledError):
            assert self.session.state is before or trigger in {Trigger.CREATE_CHAT, Trigger.DELETE_CHAT}
        else:
            assert trigger in allowed
            assert (done.source, done.dest) == (before, self.session.state)

    @precondition(lambda self: self.live)
    @rule(cancel_after=st.none() | st.integers(0, 12))
    def step(self, cancel_after: int | None) -> None:
        """The happy path is a rule of its own, or a walk would hardly ever get far."""
        with suppress(ServiceError, UsageError, asyncio.CancelledError):
            self.run(self.session.step, cancel_after)

    @rule(step=st.sampled_from(STEPS), kind=st.sampled_from(sorted(FAULTS)))
    def break_something(self, step: str, kind: str) -> None:
        self.service.fail(step, FAULTS[kind])
        self.ghosts |= step in MAY_BE_GONE

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.run(lambda: self.clock.sleep(seconds))

    @precondition(lambda self: self.live)
    @rule(cancel_after=st.none() | st.integers(0, 20))
    def close(self, cancel_after: int | None) -> None:
        with suppress(asyncio.CancelledError):
            self.run(self.session.aclose, cancel_after)
        if self.live:  # cancelled before it began
            return
        self.run(self.session.wait_closed)
        assert self.session.state in FINAL
        with pytest.raises(SessionClosed):
            self.run(self.session.step)

    @invariant()
    def the_facts_agree_with_the_state(self) -> None:
        session = self.session
        assert (session.state in WITH_CHAT) <= (session.create is Create.CREATED)
        assert not session.in_doubt or session.allowed <= CLEANUP
        assert session.scope is None
        assert not session.in_flight or session.own_step is not None or session.closing

    @invariant()
    def every_chat_has_its_entry(self) -> None:
        assert {chat.key for chat in self.service.chats.values()} <= {entry.id for entry in self.ledger.entries}
        assert self.service.lost_messages == 0

    def teardown(self) -> None:
        self.service.faults.clear()
        settling = self.session.state not in FINAL
        keeper = self.engine.keeper
        keeper.closing = settling or keeper.closing  # closing with it open is meant, no warning
        self.run(self.engine.aclose)
        self.loop.close()
        assert self.session.state in FINAL
        assert self.unheard == []
        settled(self.world, ghosts=self.ghosts)
        assert self.session.state is State.ORPHANED or not self.service.chats


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
