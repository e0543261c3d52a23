"""What the engine's own modules see of a session: its facts, and how a trigger is fired.

Rules that live here:

* The facts that the table's guards read (`create`, `run`, ...) are set in `_steps` and by `Core.note`, nowhere else;
  the state is set by the machine alone.
* At most one step, or one wait for the answer, is under way; `Core.begin` refuses a second one.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from . import _failpoints
from ._clock import Clock
from ._gate import Gate
from ._interrupt import Deadline, Interruptible, lease_lost, ledger_is_late
from ._lifecycle import CLEANUP, FINAL, Create, Run, State, Trigger, allowed
from ._machine import fire
from ._step import Step
from ._steps import EFFECTS, look
from ._tasks import wait_patiently
from ._traced import Traced
from .adapter import Adapter, AnswerStream, Call, Credential, Deadlines, Login, RunOptions
from .errors import ChatleaseError, LedgerError, SessionClosed, StepInFlight
from .events import Reading, RunStatus
from .ledger import Hold, Ledger

if TYPE_CHECKING:
    from ._answer import Answer
    from ._engine import Engine


_CREATE_CHAT = Trigger.CREATE_CHAT  # an attribute of an enum is looked up in Python


class Core(Traced):
    """A session without its public face; its attributes are explained where they are set."""

    __slots__ = (
        "__weakref__",
        "account_name",
        "adapter",
        "answer",
        "asked",
        "attempts",
        "bound",
        "budget",
        "budget_spent",
        "call",
        "chat",
        "clock",
        "closing_task",
        "create",
        "credential",
        "deadlines",
        "engine",
        "error_code",
        "failed_run",
        "gate",
        "grace_used",
        "hold",
        "id",
        "in_doubt",
        "in_flight",
        "loop",
        "model",
        "options",
        "own_step",
        "parent",
        "prompt",
        "quiet",
        "run",
        "run_id",
        "scope",
        "state",
        "stream",
        "token_given",
    )

    def __init__(
        self,
        engine: Engine,
        adapter: Adapter,
        *,
        account: str | None,
        credential: Credential | None,
        model: str,
        deadlines: Deadlines,
        options: RunOptions,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.adapter = adapter
        self.account_name = account
        self.credential = credential
        self.model = model
        self.deadlines = deadlines
        self.options = options
        self.clock: Clock = engine.clock
        self.loop = engine.loop
        self.id = engine.new_id()
        self.state = State.NEW
        self.create = Create.NOT_SENT
        self.run = Run.NONE
        self.token_given = False
        self.in_doubt = False
        self.budget_spent = False
        self.budget: Interruptible | None = None
        self.in_flight: Trigger | None = None
        self.chat: str | None = None
        self.prompt: str | None = None
        self.parent: str | None = None
        self.run_id: str | None = None
        self.failed_run: str | None = None
        self.call = Call(Login(account or "", credential or Credential()), deadlines)
        self.stream: AnswerStream | None = None
        self.answer: Answer | None = None
        self.asked: weakref.ref[Answer] | None = None
        self.gate: Gate | None = None
        self.grace_used = 0.0
        self.scope: Interruptible | None = None
        self.quiet: asyncio.Future[None] | None = None
        self.hold: Hold | None = None
        self.bound = False
        self.own_step: asyncio.Task[Step] | None = None
        self.closing_task: asyncio.Task[None] | None = None
        self.attempts = 0
        self.error_code = ""

    @property
    def allowed(self) -> frozenset[Trigger]:
        """The triggers that may be fired now; empty while closing and in a final state."""
        return frozenset() if self.closing else allowed(self.state, self)

    @property
    def closing(self) -> bool:
        """Whether the engine is giving the chat back."""
        return self.closing_task is not None and not self.closing_task.done()

    @property
    def closed(self) -> bool:
        """Whether closing has begun or is over: no step is accepted any more."""
        return self.closing_task is not None or self.state in FINAL

    @property
    def over(self) -> bool:
        """Whether a final state is reached, or the engine has given up."""
        return self.state in FINAL or (self.closing_task is not None and self.closing_task.done())

    @property
    def lost(self) -> bool:
        """Whether the chat belongs to the sweepers, because this process was stopped longer than its lease."""
        return self.hold is not None and self.hold.lease.lost()

    @property
    def known_chat(self) -> str:
        """The chat's id, in states that have one."""
        assert self.chat is not None
        return self.chat

    @property
    def known_prompt(self) -> str:
        """The prompt's id, in states that have one."""
        assert self.prompt is not None
        return self.prompt

    @property
    def known_run(self) -> str:
        """The run's id, in states that have one."""
        assert self.run_id is not None
        return self.run_id

    def effect(self, trigger: Trigger, *args: Any) -> Coroutine[Any, Any, None]:
        """Do what the trigger does; called by the machine."""
        return self._failing_effect(trigger, *args) if _failpoints.armed else EFFECTS[trigger](self, *args)

    async def _failing_effect(self, trigger: Trigger, *args: Any) -> None:
        _failpoints.reach(f"{trigger.value}.started")
        await EFFECTS[trigger](self, *args)
        _failpoints.reach(f"{trigger.value}.completed")

    async def queue_again(self) -> None:
        """Queue the answer again and open its stream; for the reader of a run that was cancelled elsewhere."""
        await self.fire_step(Trigger.QUEUE_ASSISTANT)
        await self.fire_step(Trigger.OPEN_STREAM)

    async def fire_step(self, trigger: Trigger, *args: Any) -> Step:
        """Fire a trigger for the user, in the caller's task, so that a close interrupts it."""
        with self.begin(Interruptible(loop=self.loop)):
            try:
                return await self.run_step(trigger, *args)
            finally:
                self.end()

    async def fire_steps(self, *steps: tuple[Any, ...]) -> None:
        """Fire several triggers, each with its arguments, as `fire_step` does; a close interrupts them as one block."""
        with self.begin(Interruptible(loop=self.loop)):
            try:
                for trigger, *args in steps:
                    await self.run_step(trigger, *args)
            finally:
                self.end()

    async def fire_owned(self, trigger: Trigger) -> Step:
        """Fire a trigger for the user, in a task of the engine's, so that nothing cuts it; a close awaits it."""
        self._check_free()
        self.grace_used = 0.0
        name = f"chatlease {trigger.value}"
        task = self.own_step = self.engine.keeper.own(self.run_step(trigger), name, self._own_step_done)
        await self.wait(task)
        if self.closed and self.state not in FINAL:
            raise self.closed_error() from None
        return task.result()

    async def wait(self, task: asyncio.Future[Any], limit: float | None = None) -> None:
        """
        Wait for a task of the engine's on behalf of the caller.

        All the waiting that a failed or cancelled caller does for one session, reply, stop and deletion together, is at
        most ``grace``.
        """
        cancelled_at: list[float] = [] if limit is None else [self.clock.now()]
        left = max(self.deadlines.grace - self.grace_used, 0.0)
        try:
            await wait_patiently(
                task,
                self.clock,
                grace=left,
                limit=None if limit is None else min(limit, left),
                on_cancel=lambda: cancelled_at.append(self.clock.now()),
            )
        finally:
            if cancelled_at:
                self.grace_used += self.clock.now() - cancelled_at[0]

    async def run_step(self, trigger: Trigger, *args: Any) -> Step:
        """Fire a trigger in this task, traced; for the engine's cleanup, which no close interrupts."""
        source, began = self.state, self.clock.now()
        self.call.http_request = self.call.http_status = None
        if self.opened_at is None:
            self.note_opened()
        traced = self.engine.tracer.wants("session.transition.completed")
        if traced and self.engine.tracer.wants("session.transition.started"):
            self.trace_started(trigger)
        try:
            if self.hold is not None and self.hold.lease.lost() and trigger not in CLEANUP:
                self.in_doubt = True
                raise lease_lost()  # noqa: TRY301  (a step that fails like any other)
            await fire(self, trigger, *args)
            if trigger is _CREATE_CHAT and self.engine.ledger is not None:
                await self._bind(self.engine.ledger)
        except BaseException as error:
            self.trace_failed(trigger, source, began, error)
            raise
        step = Step(trigger, source, self.state, self.clock.now() - began, self.call.http_status)
        if traced:
            self.trace_completed(step)
        return step

    def begin(self, scope: Interruptible) -> Interruptible:
        """Make this the block that a close interrupts; refuse where another is under way."""
        self._check_free()
        self.scope = scope
        self.grace_used = 0.0
        return scope

    def end(self) -> None:
        """Forget the interruptible block, and let a close that waits for its end go on."""
        self.scope = None
        if self.quiet is not None and not self.quiet.done():
            self.quiet.set_result(None)

    def log_in(self, login: Login) -> None:
        """Use this login from now on."""
        self.call.login, self.whose = login, None

    def note(self, reading: Reading) -> None:
        """Take over what a look at the answer showed, where it is final."""
        self.run_id = reading.run or self.run_id
        if reading.status is RunStatus.ANSWERED:
            self.run, self.parent = Run.ANSWERED, self.run_id
        elif reading.status not in {RunStatus.PENDING, RunStatus.GOING}:
            self.run = Run.FAILED

    def end_turn(self) -> None:
        """Give the account's slot back, if this session holds it."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.release(self)
            self.engine.turns.end(self)
            self.trace("session.gate.released")

    async def look(self) -> None:
        """For those who wait for this session's slot: see whether its run still waits, unless its reader will."""
        if self.scope is not None or self.gate is None or self.run is not Run.GOING or self.in_flight:
            return
        run = self.run_id
        try:
            reading = await look(self, Call(self.call.login, self.deadlines))
        except Exception:  # noqa: BLE001  (it is another session that looks, and must not fail for this one's service)
            return
        if reading.status is not RunStatus.PENDING and self.run_id == run:
            self.end_turn()

    def at_rate_limit(self) -> bool:
        """Say whether the account's budget was used up by the last run."""
        return self.gate is not None and (self.gate.budget.at_limit() or self.engine.turns.was_last(self))

    def close_stream(self) -> None:
        """Let go of the stream's connection."""
        stream, self.stream = self.stream or self.call.take_stream(), None
        if stream is not None:
            stream.close()

    def closed_error(self) -> ChatleaseError:
        """Return the error for steps that come too late."""
        if self.lost:
            return lease_lost()
        return SessionClosed(f"the session is {'closing' if self.closing else 'closed'} (state {self.state.value})")

    def _own_step_done(self, task: asyncio.Task[Step]) -> None:
        self.own_step = None
        if not task.cancelled():
            task.exception()  # the waiting caller may be gone; then nobody else would look at it

    async def _bind(self, ledger: Ledger) -> None:
        assert self.hold is not None
        try:
            with Deadline(self.clock, self.deadlines.call, ledger_is_late, loop=self.loop):
                await ledger.bound(self.hold, self.known_chat)
        except LedgerError:
            self.in_doubt = True
            raise
        self.bound = True
        _failpoints.reach("create_chat.bound")

    def _check_open(self) -> None:
        self.engine.check_loop()
        if self.closing_task is not None:
            raise self.closed_error()

    def _check_free(self) -> None:
        self.engine.check_loop()
        if self.closing_task is not None:
            raise self.closed_error()
        if self.scope is not None or self.in_flight or self.own_step is not None:
            raise StepInFlight("another step of this session is in flight")
