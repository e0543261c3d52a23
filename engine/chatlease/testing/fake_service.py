"""A chat service in memory, as an adapter: scriptable, countable, and as forgetful as real ones.

Rules that live here:

* It behaves as the strictest service we know (Open-Assistant): one pending run per account cancels the one before it,
  and deleting a chat while its run is going loses somebody's message.
* Every call has two places at which it can be cut: before its effect and after it. A test that cancels at every await
  of a session so meets every "did it arrive?".
* It counts: `FakeService.chats` is what exists, the other half of the oracle *chats == open entries*.
* A login sees its own account's chats alone; another's look as if there were no such chat.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from chatlease._clock import Clock, SystemClock
from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, Login, RateBudget, RunOptions
from chatlease.errors import NotAuthenticated, Rejected, Unavailable, UsageError
from chatlease.events import Batch, Final, Pending, Reading, RunStatus

from .fake_chats import HANG, FakeChat, FakeRun, FakeStream

__all__ = ["HANG", "FakeChat", "FakeRun", "FakeService", "FakeStream", "Fault", "rate_budget", "unavailable"]

_servers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What goes wrong with one call.

    Attributes:
        error: Raised; ``None`` for none.
        when: ``before``: the call has no effect; ``after``: it has, and the reply is lost; ``late`` (of
            ``create_chat`` and ``queue_assistant``): the error comes at once, the effect only after the delay.
        delay_s: How long the call takes at that place, by the clock; ``float("inf")`` hangs.
    """

    error: Exception | None = None
    when: Literal["before", "after", "late"] = "before"
    delay_s: float = 0.0


class FakeService:
    """
    An adapter whose service is a dict.

    Args:
        tokens: The answer to every prompt, token by token; the prompt itself, word by word, if left out.
        pending: How many `Pending` events come first.
        batches: The stream's script instead of ``tokens`` and ``pending``; without a `Final` it ends without one.
        answer_s: How long a run goes on by itself after it was queued, by the clock, if its stream is not read to the
            end.
        capabilities: What it claims to be; the strictest by default.
        clock: For delays.

    Attributes:
        chats: What exists now, by id.
        calls: How often each step was called.
        lost_messages: How many deletions hit a chat whose run was going.
        faults: By step, consumed one per call.
        accounts: Names of the accounts accepted; ``None`` for any.
        logins: The one credential accepted for each account; ``None`` for any.
        ahead_s: Seconds by which the service's clock is ahead of the clock's `wall`; it shows in ``Date`` and listings.
        tells_creation: Listings say when a chat was created.
        page: Chats in one page of a listing.
        pages: How many pages were asked for.
    """

    service = "fake"
    model = "fake-1"

    def __init__(
        self,
        *,
        tokens: Sequence[str] | None = None,
        pending: int = 0,
        batches: Sequence[Batch] | None = None,
        answer_s: float = 0.0,
        capabilities: Capabilities | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.origin = f"fake://{next(_servers)}"
        self.clock: Clock = clock or SystemClock()
        self.capabilities = capabilities or Capabilities(
            client_key=True, listing=True, deletion_during_run="harmful", runs_per_account=1, rate_budget=None
        )
        self.chats: dict[str, FakeChat] = {}
        self.calls: Counter[str] = Counter()
        self.streams: list[FakeStream] = []
        self.lost_messages = 0
        self.cancelled_runs = 0
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.accounts: set[str] | None = None
        self.logins: dict[str, Credential] | None = None
        self.ahead_s = 0.0
        self.tells_creation = True
        self.page = 50
        self.pages = 0
        self.closed = False
        self._tokens = tokens
        self._pending = pending
        self._batches = batches
        self._answer_s = answer_s
        self._ids = itertools.count(1)
        self._texts: dict[str, str] = {}

    def fail(self, step: str, *faults: Fault | Exception) -> None:
        """Have the next calls of a step fail, one fault each; an error alone is one before the effect."""
        self.faults[step].extend(each if isinstance(each, Fault) else Fault(each) for each in faults)

    def now(self) -> float:
        """Return the time by the service's own clock, in seconds since the epoch."""
        return self.clock.wall() + self.ahead_s

    def plant(self, account: str, *, key: str = "", at: float | None = None, prompt: str | None = None) -> str:
        """
        Make a chat that no session made; returns its id.

        Args:
            account: Whose.
            key: As if handed over when it was created.
            at: When, by the service's clock; now if left out.
            prompt: Its only prompt, answered; ``None`` for an empty chat.
        """
        chat = key if key and self.capabilities.client_id else f"chat-{next(self._ids)}"
        prompts = [] if prompt is None else [f"prompt-{next(self._ids)}"]
        self.chats[chat] = FakeChat(account, key, self.now() if at is None else at, prompts)
        return chat

    # -- the contract -------------------------------------------------------------------------------------------------

    def check_options(self, model: str, options: RunOptions) -> None:
        """
        Accept every option that there is.

        Raises:
            UsageError: There is no such option.
        """
        unknown = options.keys() - RunOptions.__annotations__.keys()
        if unknown:
            raise UsageError(f"unknown option {min(unknown)!r}")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        """Find a credential named after the account; the same again after a refusal."""
        fault = await self._begin("ready_cookies")
        await self._end(fault)
        return Credential(cookies={"login": account or "default"})

    async def create_chat(self, call: Call, client_key: str) -> str:
        """Create a chat."""
        fault = await self._begin("create_chat", call)
        account = call.login.account
        if fault.when == "late":
            self.clock.call_later(fault.delay_s, lambda: self.plant(account, key=client_key))
            raise fault.error or unavailable()
        chat = self.plant(account, key=client_key)
        await self._end(fault, call)
        return chat

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        """Add the prompt; its id holds none of its text."""
        fault = await self._begin("send_prompt", call)
        found = self._chat(call, chat)
        if (parent is None) != (not found.prompts):
            raise Rejected("parent does not fit", status=400)
        message = f"prompt-{next(self._ids)}"
        found.prompts.append(message)
        self._texts[message] = prompt
        await self._end(fault, call)
        return message

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        """Queue the answer; cancels the account's other waiting runs, as Open-Assistant does."""
        fault = await self._begin("queue_assistant", call)
        found = self._chat(call, chat)
        if fault.when == "late":
            self.clock.call_later(fault.delay_s, lambda: self._queue(found, prompt))
            raise fault.error or unavailable()
        run = self._queue(found, prompt)
        await self._end(fault, call)
        return run.id

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        """Open the stream; ``None`` when the run is over."""
        fault = await self._begin("open_stream", call)
        found = self._run(call, chat, run)
        await self._end(fault, call)
        if not found.batches:
            return None
        stream = FakeStream(self.clock, found)
        self.streams.append(stream)
        return stream

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        """Look at the run."""
        fault = await self._begin("read_answer", call)
        found = self._chat(call, chat).runs
        runs = [each for each in found if run == each.id or (run is None and prompt in {None, each.prompt})]
        await self._end(fault, call)
        if not runs:
            return Reading(RunStatus.ABSENT)
        status = runs[-1].status_at(self.clock.now())
        text = runs[-1].text if status is RunStatus.ANSWERED else None
        return Reading(status, text, runs[-1].id, "fake-failure" if status is RunStatus.FAILED else "")

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """End the chat's runs, where the capabilities say that this service can."""
        fault = await self._begin("stop_run", call)
        for each in self._chat(call, chat).runs:
            each.ends_at = min(each.ends_at, self.clock.now())
        await self._end(fault, call)

    async def delete_chat(self, call: Call, chat: str) -> bool:
        """Delete the chat, and count the harm if its run is going."""
        fault = await self._begin("delete_chat", call)
        found = self._find(call, chat)
        if found is not None:
            self.lost_messages += any(run.status_at(self.clock.now()) in _GOING for run in found.runs)
            del self.chats[chat]
        await self._end(fault, call)
        return found is not None

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """List the account's chats, newest first, page by page; what is deleted meanwhile is left out."""
        fault = await self._begin("list_chats", call)
        names = [name for name, chat in reversed(self.chats.items()) if chat.account == call.login.account]
        for at in range(0, max(len(names), 1), self.page):
            self.pages += 1
            await self._end(fault if at == 0 else Fault(), call)
            for name in names[at : at + self.page]:
                if name in self.chats:
                    yield self._listing(name)

    def _listing(self, name: str) -> ChatListing:
        chat = self.chats[name]
        created_at = datetime.fromtimestamp(chat.created_at, UTC) if self.tells_creation else None
        key = (chat.key or None) if self.capabilities.client_key else None
        return ChatListing(name, created_at, not chat.prompts, key)

    async def models(self, call: Call) -> Sequence[str]:
        """Name the one model."""
        await self._begin("models", call)
        return (self.model,)

    async def aclose(self) -> None:
        """Note that the engine closed its adapter."""
        self.closed = True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _find(self, call: Call, chat: str) -> FakeChat | None:
        found = self.chats.get(chat)
        return found if found is not None and found.account == call.login.account else None

    def _chat(self, call: Call, chat: str) -> FakeChat:
        found = self._find(call, chat)
        if found is None:
            raise Rejected("chat not found", status=404)
        return found

    def _run(self, call: Call, chat: str, run: str) -> FakeRun:
        for each in self._chat(call, chat).runs:
            if each.id == run:
                return each
        raise Rejected("run not found", status=404)

    def _queue(self, chat: FakeChat, prompt: str) -> FakeRun:
        self._cancel_others(chat)
        run = self._new_run(prompt)
        chat.runs.append(run)
        return run

    def _new_run(self, prompt: str) -> FakeRun:
        tokens = self._tokens if self._tokens is not None else _words(self._texts[prompt])
        text = "".join(tokens)
        waits: Iterable[Batch] = [(Pending(1, 1),)] * self._pending
        script = self._batches if self._batches is not None else [*waits, *((each,) for each in tokens), (Final(text),)]
        return FakeRun(f"run-{next(self._ids)}", prompt, text, deque(script), self.clock.now() + self._answer_s)

    def _cancel_others(self, mine: FakeChat) -> None:
        for chat in self.chats.values():
            for run in chat.runs:
                if chat is not mine and chat.account == mine.account and self._is_waiting(run):
                    run.status = RunStatus.CANCELLED
                    self.cancelled_runs += 1

    def _is_waiting(self, run: FakeRun) -> bool:
        return run.status_at(self.clock.now()) is RunStatus.PENDING

    async def _begin(self, step: str, call: Call | None = None) -> Fault:
        self.calls[step] += 1
        fault = self.faults[step].popleft() if self.faults[step] else Fault()
        if fault.when == "before":
            await self._act(fault, call)
        await asyncio.sleep(0)
        if call is not None and not self._accepts(call.login):
            call.http_status = 403
            raise NotAuthenticated("refused", status=403)
        return fault

    def _accepts(self, login: Login) -> bool:
        named = self.accounts is None or login.account in self.accounts
        return named and (self.logins is None or self.logins.get(login.account) == login.credential)

    async def _end(self, fault: Fault, call: Call | None = None) -> None:
        if fault.when == "after":
            await self._act(fault, call)
        await asyncio.sleep(0)
        if call is not None:
            call.http_status = 200
            call.http_date = format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)

    async def _act(self, fault: Fault, call: Call | None) -> None:
        if fault.delay_s == float("inf"):
            await asyncio.get_running_loop().create_future()
        elif fault.delay_s:
            await self.clock.sleep(fault.delay_s)
        if fault.error is not None:
            if call is not None:
                call.http_status = getattr(fault.error, "status", None)
            raise fault.error


_GOING = {RunStatus.PENDING, RunStatus.GOING}


def _words(text: str) -> Sequence[str]:
    words = text.split(" ")
    return [f"{word} " for word in words[:-1]] + words[-1:]


def unavailable(status: int | None = 503, *, sent: bool = True) -> Unavailable:
    """Return the error of a service that fails on its own side."""
    return Unavailable("the service is out of order", status=status, sent=sent)


def rate_budget(runs: int, window_s: float) -> Capabilities:
    """Return capabilities with a rate budget, otherwise like a `FakeService`'s own."""
    return Capabilities(
        listing=True, deletion_during_run="harmful", runs_per_account=1, rate_budget=RateBudget(runs, window_s)
    )
