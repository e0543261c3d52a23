"""Cancellation goes through our machine, and nothing of an error into the log: stock `transitions` 0.9.3 fails both."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from transitions.extensions.asyncio import AsyncMachine

from chatlease import State, Trigger
from chatlease._lifecycle import TABLE, Create, Run
from chatlease._machine import build, fire
from chatlease.errors import StepInFlight, TransitionNotAllowed

SECRET = "planted-7f3a9c"
ROOT = Path(__file__).parents[2]


class Model:
    """A session, as the machine sees one; its effect is whatever a test wants."""

    create = Create.NOT_SENT
    run = Run.NONE
    token_given = budget_spent = in_doubt = False

    def __init__(self, effect: Callable[[], Awaitable[object]], state: State = State.NEW) -> None:
        self.state = state
        self.in_flight: Trigger | None = None
        self._effect = effect

    async def effect(self, trigger: Trigger, *args: Any) -> None:
        await self._effect()


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def at_once() -> None:
    await asyncio.sleep(0)


async def planted() -> None:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


async def test_a_cancelled_step_ends_its_task_cancelled() -> None:
    went_on = False

    async def main() -> None:
        nonlocal went_on
        await fire(Model(never), Trigger.READY_COOKIES)
        went_on = True

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert not went_on


async def test_a_step_that_takes_too_long_is_a_timeout_error() -> None:
    model = Model(never)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await fire(model, Trigger.READY_COOKIES)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fire(model, Trigger.READY_COOKIES), 0.001)
    assert (model.state, model.in_flight) == (State.NEW, None)


async def test_a_failing_sibling_in_a_task_group_aborts_the_step() -> None:
    went_on = False

    async def main() -> None:
        nonlocal went_on
        await fire(Model(never), Trigger.READY_COOKIES)
        went_on = True

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(main())
            group.create_task(planted())
        assert task.cancelled()

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert [type(each) for each in caught.value.exceptions] == [ValueError]
    assert not went_on


async def test_after_an_interrupted_step_the_task_is_not_cancelling() -> None:
    """A task that stays ``cancelling`` is cancelled again by the next failing TaskGroup (CPython 3.13)."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await fire(Model(never), Trigger.READY_COOKIES)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_a_real_sigint_during_a_step_is_a_keyboard_interrupt() -> None:
    code = """
        import asyncio, os, signal, sys
        from chatlease import Trigger
        from chatlease._machine import fire
        from tests.unit.test_machine import Model, never

        async def main():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
            await fire(Model(never), Trigger.READY_COOKIES)
            print("main went on after SIGINT")

        asyncio.run(main())
        print("asyncio.run returned")
    """
    path = {"PYTHONPATH": ":".join([str(ROOT), str(ROOT / "engine"), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False, env=path
    )
    assert done.stdout == ""
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.returncode == -signal.SIGINT


async def test_an_illegal_trigger_says_what_is_allowed_and_changes_nothing() -> None:
    model = Model(planted)
    with pytest.raises(TransitionNotAllowed) as caught:
        await fire(model, Trigger.SEND_PROMPT)
    error = caught.value
    assert (error.trigger, error.state, error.allowed) == ("send_prompt", "new", ("abandon", "ready_cookies"))
    assert (model.state, model.in_flight) == (State.NEW, None)


async def test_a_final_state_allows_nothing_and_says_so() -> None:
    with pytest.raises(TransitionNotAllowed, match="the session is over"):
        await fire(Model(at_once, State.DELETED), Trigger.DELETE_CHAT)


async def test_a_second_trigger_in_flight_is_refused_and_the_first_goes_on() -> None:
    released = asyncio.Event()
    model = Model(released.wait)
    first = asyncio.create_task(fire(model, Trigger.READY_COOKIES))
    await asyncio.sleep(0)
    for trigger in (Trigger.READY_COOKIES, Trigger.ABANDON):
        with pytest.raises(StepInFlight):
            await fire(model, trigger)
    assert vars(model)["in_flight"] is Trigger.READY_COOKIES
    released.set()
    await first
    assert (model.state, model.in_flight) == (State.COOKIES_READY, None)


async def test_a_failed_call_leaves_the_state_at_its_source() -> None:
    for row in TABLE:
        for source in row.sources:
            model = Model(planted, source)
            model.run = next(run for run in Run if _lets(row.guard, model, run=run))
            with pytest.raises(ValueError, match=SECRET):
                await fire(model, row.trigger)
            assert (model.state, model.in_flight) == (source, None)


def _lets(guard: Callable[[Any], bool] | None, model: Model, run: Run) -> bool:
    model.run = run
    for create in Create:
        model.create, model.budget_spent = create, True
        if guard is None or guard(model):
            return True
    return False


async def test_sessions_are_never_registered_with_the_machine() -> None:
    machine = build()
    assert machine.models == []
    assert type(machine).async_tasks == {}


async def test_transitions_logs_nothing_of_our_errors_but_goes_on_logging_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=SECRET):
        await fire(Model(planted), Trigger.READY_COOKIES)
    task = asyncio.create_task(fire(Model(never), Trigger.READY_COOKIES))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert caplog.records == []

    async def others(_event: object) -> None:
        raise KeyError("of another program")

    other = AsyncMachine(states=["a", "b"], initial="a", name="other", send_event=True)
    other.add_transition("go", "a", "b", before=others)
    with pytest.raises(KeyError):
        await other.events["go"].trigger(other)
    assert any("of another program" in record.getMessage() for record in caplog.records)
    assert any(record.levelno == logging.DEBUG for record in caplog.records)


def test_with_logging_as_loud_as_it_gets_no_secret_is_printed() -> None:
    code = f"""
        import asyncio, logging
        logging.basicConfig(level=logging.DEBUG)
        from chatlease import Trigger
        from chatlease._machine import fire
        from tests.unit.test_machine import Model, planted

        async def main():
            try:
                await fire(Model(planted), Trigger.READY_COOKIES)
            except ValueError:
                logging.getLogger("host").info("seen")

        assert {SECRET!r}
        asyncio.run(main())
    """
    path = {"PYTHONPATH": ":".join([str(ROOT), str(ROOT / "engine"), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True, env=path
    )
    assert "INFO:host:seen" in done.stderr
    assert SECRET not in done.stdout + done.stderr
