"""What stands between the engine and the adapter under exploration, and watches that the adapter keeps its contract.

Rules that live here:

* The engine sees a login of ours, the adapter the real one: a login can be refused once although there is only one.
* What the adapter did is known here even where its reply was lost on the way to the engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from chatlease.adapter import Adapter, AnswerStream, Call, Capabilities, ChatListing, Credential, Login, RunOptions
from chatlease.errors import Rejected
from chatlease.events import Reading, RunStatus
from chatlease.testing.manual_clock import ManualClock

from ._calls import Calls
from ._closing import came_to_its_end, too_long
from ._stream import BetweenStream

__all__ = ["ACCOUNT", "Between"]

ACCOUNT = "explore"
T = TypeVar("T")


class Between:
    """
    An adapter around another one; see the header.

    Args:
        adapter: The other one.
        credential: What it logs in with; ``None`` to ask its own ``ready_cookies``.
        calls: How it is called.
        clock: Held while it is closed.
        patience_s: Real seconds that a close may take.

    Attributes:
        adapter: The other one.
        made: The id of the chat by the key that it was created with, as far as the adapter said.
        told: Those keys whose chat the engine was told of.
        runs: The run by the prompt that it answers, of those that were queued.
        deleted: Chats whose deletion was confirmed.
        streams: Every stream that was opened.
        endless: It was closed, and that came to no end.
    """

    def __init__(
        self, adapter: Adapter, credential: Credential | None, calls: Calls, clock: ManualClock, patience_s: float
    ) -> None:
        self.adapter = adapter
        self.service, self.origin, self.model = adapter.service, adapter.origin, adapter.model
        self.made: dict[str, str] = {}
        self.told: set[str] = set()
        self.runs: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.streams: list[BetweenStream] = []
        self._calls = calls
        self._clock = clock
        self._patience_s = patience_s
        self.endless = False
        self._real = credential
        self._logins = 0

    @property
    def capabilities(self) -> Capabilities:
        """The adapter's own."""
        return self.adapter.capabilities

    def login(self) -> Login:
        """Return the login that the adapter sees."""
        return Login(ACCOUNT, self._real or Credential())

    # -- the contract -------------------------------------------------------------------------------------------------

    def check_options(self, model: str, options: RunOptions) -> None:
        """Ask the adapter."""
        self.adapter.check_options(model, options)

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        """Find the real login once, and give the engine one of ours, another one every time."""
        _ = account, rejected
        await self._calls.through("ready_cookies", self._find_login)
        self._logins += 1
        return Credential(headers={"x-explored-login": str(self._logins)})

    async def _find_login(self) -> None:
        if self._real is None:
            self._real = await self.adapter.ready_cookies(None, None)

    async def create_chat(self, call: Call, client_key: str) -> str:
        """Create a chat, and remember its id."""

        async def make(call: Call) -> str:
            chat = self._id("create_chat", await self.adapter.create_chat(call, client_key))
            self.made[client_key] = chat
            if self.capabilities.client_id and chat != client_key:
                self._calls.wrong("create_chat makes the chat whose id is the key, as Capabilities.client_id says")
            return chat

        chat = await self._through("create_chat", call, make)
        self.told.add(client_key)
        return chat

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        """Send a prompt."""

        async def make(call: Call) -> str:
            return self._id("send_prompt", await self.adapter.send_prompt(call, chat, prompt, parent))

        return await self._through("send_prompt", call, make)

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        """Queue an answer, and remember its run."""

        async def make(call: Call) -> str:
            run = await self.adapter.queue_assistant(call, chat, prompt, model, options)
            if run in self.runs.values():
                self._calls.wrong("every run that queue_assistant queues has an id of its own", run)
            self.runs[prompt] = self._id("queue_assistant", run)
            return run

        return await self._through("queue_assistant", call, make)

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        """Open a stream, and watch it."""

        async def make(call: Call) -> AnswerStream | None:
            stream = await self.adapter.open_stream(call, chat, run)
            if call.stream is not None:
                self._calls.wrong("open_stream takes the stream that queue_assistant left, by call.take_stream()")
            return None if stream is None else self._watched(stream)

        return await self._through("open_stream", call, make, lost=_close)

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        """Look at an answer."""

        async def make(call: Call) -> Reading:
            reading = await self.adapter.read_answer(call, chat, prompt, run)
            if not (reading.status is RunStatus.ABSENT and chat in self.deleted):
                self._check_reading(reading, prompt, run)
            return reading

        return await self._through("read_answer", call, make)

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Stop a run."""
        await self._through("stop_run", call, lambda call: self.adapter.stop_run(call, chat, run))

    async def delete_chat(self, call: Call, chat: str) -> bool:
        """Delete a chat, and remember that."""
        return await self._through("delete_chat", call, lambda call: self._delete(call, chat))

    async def _delete(self, call: Call, chat: str) -> bool:
        gone = chat in self.deleted
        try:
            was_there = await self.adapter.delete_chat(call, chat)
        except Rejected:
            if gone:
                self._calls.wrong("delete_chat of a chat that is gone returns, and does not raise")
            raise
        if type(was_there) is not bool:
            self._calls.wrong("delete_chat returns True or False", was_there)
        if gone and was_there and self.capabilities.second_delete == "gone":
            self._calls.wrong("delete_chat of a deleted chat is False, as Capabilities.second_delete says")
        self.deleted.add(chat)
        return was_there

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """List the chats."""
        for each in await self._through("list_chats", call, self.listed):
            yield each

    async def listed(self, call: Call) -> list[ChatListing]:
        """Return what the adapter lists."""
        return [each async for each in self.adapter.list_chats(call)]

    async def models(self, call: Call) -> Sequence[str]:
        """Name the models."""
        return await self._through("models", call, self.adapter.models)

    async def aclose(self) -> None:
        """Close the adapter, twice, for it may be; one that did not come to its end is not closed again."""
        with self._clock.hold():
            for _ in range(2):
                if not self.endless and not await came_to_its_end(self.adapter, self._patience_s):
                    self.endless = True
                    self._calls.wrong(too_long(self._patience_s))

    # -- a call -------------------------------------------------------------------------------------------------------

    async def _through(
        self,
        name: str,
        call: Call,
        make: Callable[[Call], Awaitable[T]],
        *,
        lost: Callable[[T], object] = lambda _reply: None,
    ) -> T:
        async def now() -> T:
            with self._own_circumstances(call):
                return await make(call)

        async def late() -> None:
            alone = Call(self.login(), call.deadlines)
            alone.hide, alone.text = call.hide, call.text
            try:
                await make(alone)
            finally:
                _close(alone.take_stream())

        return await self._calls.through(name, now, late=late, lost=lost)

    @contextmanager
    def _own_circumstances(self, call: Call) -> Generator[None]:
        """Give the adapter its own login and its own stream, and the engine what it had."""
        ours, call.login = call.login, self.login()
        if isinstance(call.stream, BetweenStream):
            call.stream = call.stream.real
        try:
            yield
        finally:
            call.login = ours
            if call.stream is not None:
                call.stream = self._watched(call.stream)

    def _watched(self, stream: AnswerStream) -> BetweenStream:
        for each in self.streams:
            if each.real is stream:
                return each
        watched = BetweenStream(self._calls, stream)
        self.streams.append(watched)
        return watched

    # -- the contract, watched ----------------------------------------------------------------------------------------

    def _id(self, name: str, given: object) -> str:
        if type(given) is not str or not given:
            self._calls.wrong(f"{name} returns an id: a string, not empty", given)
        return str(given)

    def _check_reading(self, reading: Reading, prompt: str | None, run: str | None) -> None:
        known = self.runs.get(prompt or "")
        if reading.status is RunStatus.ABSENT:
            if known is not None:
                by = "by its prompt" if run is None else "by its id"
                self._calls.wrong(f"read_answer finds a run that was queued, {by}", reading.status)
            return
        if reading.run is None:
            self._calls.wrong("read_answer gives the run's id")
        if reading.status is RunStatus.ANSWERED and reading.text is None:
            self._calls.wrong("read_answer of a finished run gives its text")
        if run is not None and reading.run != run:
            self._calls.wrong("read_answer of a run gives that run's id", reading.run)


def _close(stream: AnswerStream | None) -> None:
    if stream is not None:
        stream.close()
