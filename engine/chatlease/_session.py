"""A session: one chat, borrowed; one typed method per transition.

Rules that live here:

* A session owns nothing that outlives it: the chat, its cleanup and its ledger entry are the engine's.
* A step runs in the caller's task and can be interrupted by a close from elsewhere. Two cannot: creating and deleting
  run in tasks of the engine's, and a cancelled caller waits for their reply, for at most ``grace``.
* A failed step leaves the state where it was. Whether it may be tried again is for the table to say.
* Once closing has begun, no step is accepted; the state stays at its source until the chat is given back.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _cleanup
from ._answer import Answer
from ._core import Core
from ._lifecycle import HAPPY_PATH, Run, State, Trigger, may_stop
from ._prompt import Messages, prompt_text
from ._reader import Reader
from ._step import Step
from ._steps import within
from ._tasks import wait_patiently
from .adapter import Adapter, Credential, Deadlines, RunOptions
from .errors import NotAuthenticated, UsageError

if TYPE_CHECKING:
    from ._engine import Engine


class Session(Core):
    """
    One chat on one service, from finding the credentials to the confirmed deletion.

    Made by `Engine.session`. Use it as an async context manager, or call `aclose` when done; a session that is dropped
    is given back all the same, with a `ResourceWarning`. For one task at a time; `aclose` may come from any task of the
    loop.

    Attributes:
        id: Unique, sortable by time; the ledger's key.
        model: Name of the model that answers.
        state: Where the session stands; read only.
        chat: The chat's id at the service, once it has one; read only.
        in_flight: The step that is under way, if one is (reading an answer is none); read only.
        create: What became of the create call; read only.
        run: What the service does with the last queued answer; read only.
    """

    __slots__ = ("_prompt",)

    def __init__(
        self,
        engine: Engine,
        adapter: Adapter,
        *,
        account: str | None,
        credential: Credential | None,
        model: str,
        prompt: str | Messages | None,
        deadlines: Deadlines,
        options: RunOptions,
    ) -> None:
        super().__init__(
            engine, adapter, account=account, credential=credential, model=model, deadlines=deadlines, options=options
        )
        self._prompt = prompt

    def __repr__(self) -> str:
        whose = "" if self.account is None else f" of {self.account}"
        doing = "" if self.in_flight is None else f", {self.in_flight.value}"
        closing = ", closing" if self.closing else ""
        return f"<Session {self.id}{whose} on {self.service}: {self.state.value}{doing}{closing}>"

    @property
    def service(self) -> str:
        """Name of the service: `Adapter.service`."""
        return self.adapter.service

    @property
    def account(self) -> str | None:
        """
        Name of the account: the one given, or else the fingerprint of its credential (``anon-...``).

        ``None`` where no name was given and the credentials are not found yet. Never a credential.
        """
        return self.call.login.account or None

    @property
    def age_s(self) -> float:
        """Seconds since the first step, by the engine's clock; 0 before it. Goes on when the session is over."""
        return 0.0 if self.opened_at is None else self.clock.now() - self.opened_at

    # -- one method per transition ------------------------------------------------------------------------------------

    async def ready_cookies(self) -> Step:
        """
        Find the credentials of the account.

        Transition: new -> cookies-ready.

        Raises:
            NotAuthenticated: There are none.
        """
        return await self.fire_step(Trigger.READY_COOKIES)

    async def create_chat(self) -> Step:
        """
        Create the chat; the ledger knows of it first.

        Transition: cookies-ready -> chat-created. Never cut in the middle: when the caller is cancelled, the reply is
        waited for, at most ``grace``; after that the engine has it.

        Raises:
            LedgerUnavailable: The ledger cannot be written; nothing was created, or what was is only fit to be deleted.
            ServiceError: The service refused (``create`` is refused) or its reply was lost (``create`` is unknown).
        """
        return await self.fire_owned(Trigger.CREATE_CHAT)

    async def send_prompt(self, prompt: str | Messages | None = None) -> Step:
        """
        Send a prompt.

        Transition: chat-created, streaming or stopped (answered) -> prompt-sent.

        Args:
            prompt: A text, or messages (rendered by `format_prompt`); the one given to `Engine.session` if left out.
        """
        given = self._prompt if prompt is None else prompt
        if given is None:
            raise UsageError("there is no prompt: give one to send_prompt() or to engine.session(prompt=...)")
        return await self.fire_step(Trigger.SEND_PROMPT, prompt_text(given))

    async def queue_assistant(self) -> Step:
        """
        Queue an answer, when it is the account's turn.

        Transition: prompt-sent -> assistant-queued; again from assistant-queued or streaming when the run failed before
        its first token.

        Raises:
            Busy: The account's slot stayed taken longer than ``gate``.
            RateLimited: The account's budget is used up for longer than ``gate``.
        """
        return await self.fire_step(Trigger.QUEUE_ASSISTANT)

    async def open_stream(self) -> Step:
        """
        Open the stream of the answer, which `answer` then gives out.

        Transition: assistant-queued -> streaming; also when the service refuses the stream because the answer is
        finished: it is then read by polling.
        """
        step = await self.fire_step(Trigger.OPEN_STREAM)
        self.answer = Answer(self, Reader(self), owned=False)
        return step

    async def stop_run(self) -> Step:
        """
        Have the run stopped where the service can, else wait for its end.

        Transition: prompt-sent (run unknown), assistant-queued, streaming (run going or unknown) -> stopped.

        Raises:
            StreamStalled: It was not over within ``settle``; the state is what it was.
        """
        return await self.fire_step(Trigger.STOP_RUN)

    async def delete_chat(self) -> Step:
        """
        Delete the chat, confirmed; one try. `aclose` tries longer.

        Transition: every state that has a chat -> deleted. Never cut in the middle.

        Raises:
            UsageError: A run is going and this service does harm when its chat is deleted: `stop_run` first, or
            `aclose`. ServiceError: Not deleted; the state is what it was.
        """
        self._check_harmless()
        return await self.fire_owned(Trigger.DELETE_CHAT)

    async def abandon(self) -> Step:
        """
        End a session that has created nothing.

        Transition: new, cookies-ready (create not sent or refused) -> deleted.
        """
        return await self.fire_step(Trigger.ABANDON)

    async def hand_over(self) -> Step:
        """
        Leave the chat to the ledger's sweepers.

        Transition: cookies-ready (create unknown), every state that has a chat (cleanup budget spent) -> orphaned.
        """
        return await self.fire_step(Trigger.HAND_OVER)

    # -- driving it ---------------------------------------------------------------------------------------------------

    async def step(self) -> Step:
        """
        Fire the trigger of the happy path; in streaming, read the answer to its end first, then delete.

        Raises:
            SessionClosed: The session is over or being closed.
            UsageError: It is time to send a prompt and none was given to `Engine.session`.
        """
        if self.closed:
            raise self.closed_error()
        if self.state is State.STREAMING and self.run is not Run.FAILED:
            await self._answer_under_way().drain()
        return await _STEPS[HAPPY_PATH[self.state]](self)

    def ask(self, prompt: str | Messages | None = None) -> Answer:
        """
        Ask and stream the answer; the chat stays, for more turns.

        Lazy: nothing happens before the answer is iterated. Whatever is missing before the prompt (credentials, chat)
        is done first; an answer of the turn before that is still going is stopped, or waited for, within ``settle``.

        Args:
            prompt: A text or messages; the one given to `Engine.session` if left out.
        """
        given = self._prompt if prompt is None else prompt
        if given is None:
            raise UsageError("there is no prompt: give one to ask() or to engine.session(prompt=...)")
        return Answer(self, Reader(self), prompt=prompt_text(given), owned=False)

    async def offered_models(self) -> Sequence[str]:
        """Return the names of the models offered to this session's account; for `Engine.models`."""
        self.log_in(await self.engine.logins.find(self))
        try:
            return await self._models()
        except NotAuthenticated as error:
            refusal = error
        if not await self.engine.logins.renew(self):
            raise refusal
        return await self._models()

    def whole(self) -> Answer:
        """Return the answer that is the whole session; for `Engine.ask`."""
        if self._prompt is None:
            raise UsageError("there is nothing to ask: the prompt is None")
        return Answer(self, Reader(self), prompt=prompt_text(self._prompt), owned=True)

    async def open(self, prompt: str) -> None:
        """Fire what leads from here to a stream that answers the prompt."""
        if self.state is State.NEW:
            await self.fire_step(Trigger.READY_COOKIES)
        if self.state is State.COOKIES_READY:
            await self.create_chat()
        if may_stop(self.state, self.run) and not self.closing and not self.in_doubt:
            await self.fire_step(Trigger.STOP_RUN)
        await self.fire_steps((Trigger.SEND_PROMPT, prompt), (Trigger.QUEUE_ASSISTANT,), (Trigger.OPEN_STREAM,))

    async def aclose(self) -> None:
        """
        Give the chat back: stop or await its run, delete it, confirmed; else hand it over to the ledger.

        May be called from any task of the loop, many times, at once: there is one cleanup. A step in flight elsewhere
        ends with `SessionClosed`; a create in flight is awaited. When the caller is cancelled it waits for at most
        ``grace`` more, the engine goes on.

        Raises:
            CleanupFailed: The chat is left and no ledger holds it (or the engine is strict about cleanup).
        """
        await _cleanup.give_back(self, None)

    async def wait_closed(self) -> None:
        """Wait until a closing that has begun is over; returns at once where none has."""
        if self.closing_task is not None:
            await wait_patiently(self.closing_task, self.clock, grace=0.0)

    async def _models(self) -> Sequence[str]:
        return await within(self, self.deadlines.call, "models", self.adapter.models(self.call))

    def _answer_under_way(self) -> Answer:
        asked = None if self.asked is None else self.asked()
        return self.answer or asked or Answer(self, Reader(self), owned=False)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await _cleanup.give_back(self, error)

    def __del__(self) -> None:
        if _cleanup.is_left(self):
            said = f"{self!r} was never closed; its chat is given back"
            warnings.warn(said, ResourceWarning, stacklevel=2, source=self)
        elif not _cleanup.is_unended(self):
            return
        self.engine.keeper.adopt(self)

    def _check_harmless(self) -> None:
        harmful = self.adapter.capabilities.deletion_during_run == "harmful"
        if harmful and Trigger.STOP_RUN in self.allowed:
            raise UsageError(
                "a run is going, and deleting its chat now would harm another user of this service",
                hint="Call stop_run() first, or aclose(), which does both.",
            )


_STEPS = {
    Trigger.READY_COOKIES: Session.ready_cookies,
    Trigger.CREATE_CHAT: Session.create_chat,
    Trigger.SEND_PROMPT: Session.send_prompt,
    Trigger.QUEUE_ASSISTANT: Session.queue_assistant,
    Trigger.OPEN_STREAM: Session.open_stream,
    Trigger.DELETE_CHAT: Session.delete_chat,
}
