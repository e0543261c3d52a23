"""The engines behind the seeds' interface, which knows no engine: who opens them, and when they are closed.

Rules that live here:

* One engine per running loop and origin. The first call opens it; it is closed when its last answer has ended and
  `LINGER_S` have passed, by `aclose`, or when the loop ends.
* It lives inside a task of its own, whose cancellation (`asyncio.run` cancels whatever is left) closes it. Neither that
  task nor the timer keeps a program running.
* A loop that merely stands still (`run_until_complete`) keeps its engine; at the end of the program it runs once more,
  to close it. On a loop that was closed without cancelling its tasks nothing can be closed any more.
* An engine that is being closed is in the registry no more: the next call opens another.
* Answers that nobody reads any more are given back before their engine is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from chatlease import Answer, Credential, Deadlines, Engine
from chatlease.adapter import Adapter
from chatlease.errors import SessionClosed

LINGER_S = 5.0
"""Seconds that an engine stays open without an answer, so that the next one finds its connections and login."""


@dataclass(frozen=True, slots=True)
class Question:
    """
    Everything that is asked of the service; its ``repr`` shows the model alone.

    Attributes:
        prompt: As it is sent.
        model: Name of the model.
        cookies: Empty to have them looked for.
        headers: Of the login, such as a key.
        proxy: ``None`` for none.
        sampling: Sent as it is, over the defaults.
        deadlines: How long to wait.
    """

    prompt: str = field(repr=False)
    model: str
    cookies: Mapping[str, str] = field(repr=False)
    proxy: str | None = field(repr=False)
    sampling: Mapping[str, object] = field(repr=False)
    deadlines: Deadlines = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    async def credential(self, adapter: Adapter) -> Credential | None:
        """Return the login to use; ``None`` to leave it to the engine, which remembers and renews what it found."""
        if self.cookies or self.headers:
            return Credential(cookies=self.cookies, headers=self.headers, proxy=self.proxy)
        if self.proxy is None:
            return None
        return replace(await adapter.ready_cookies(None, None), proxy=self.proxy)


class Host:
    """
    Keeps one engine open while it is used; made by `host_of`.

    Every `begin` is followed by one `end`.
    """

    def __init__(self, adapter: Adapter, deadlines: Deadlines) -> None:
        self._adapter = adapter
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._users = 0
        self._answers: set[Answer] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._released = asyncio.Event()
        self._opened: asyncio.Future[Engine] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to open the engine; called once, when the registry knows of the host."""
        # An empty context: what the first caller has bound (a request's id) is not every caller's.
        self._task = self._loop.create_task(self._run(), name="chatlease provider", context=Context())
        self._task.add_done_callback(self._ended)

    async def wait_closed(self) -> None:
        """Wait until the engine is closed; a cancelled caller stops waiting, and it is closed anyway."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def begin(self) -> None:
        """Count a user."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def ask(self, question: Question) -> Answer:
        """Return the answer to come; nothing is created before it is iterated."""
        if not self._opened.done():
            await asyncio.wait({self._opened})
        credential = await question.credential(self._adapter)
        return self._opened.result().ask(
            question.prompt,
            credential=credential,
            model=question.model,
            deadlines=question.deadlines,
            sampling=question.sampling,
        )

    def keep(self, answer: Answer) -> None:
        """Give this answer back when the engine is closed, unless its user has ended before."""
        self._answers.add(answer)

    def end(self, answer: Answer | None) -> None:
        """Count a user out, with the answer if there was one."""
        if answer is not None:
            self._answers.discard(answer)
        self._users -= 1
        if not self._users and not self._released.is_set():
            self._timer = self._loop.call_later(LINGER_S, self.release)

    @property
    def is_stranded(self) -> bool:
        """Whether its loop stands still, and nobody closed it: what a script leaves that ends without `asyncio.run`."""
        return self._process == os.getpid() and not self._loop.is_running() and not self._loop.is_closed()

    def drop(self, answer: Answer) -> None:
        """End a user that is no more; may be called from any thread, by the garbage collector."""
        try:
            self._loop.call_soon_threadsafe(self._let_go, answer)
        except RuntimeError:  # the loop is closed, and gave back what was left
            return

    def release(self) -> None:
        """Have the engine closed; the registry forgets it at once."""
        _forget(self._loop, self._adapter.origin, self)
        self._released.set()

    def _let_go(self, answer: Answer) -> None:
        answer.let_go()
        self.end(answer)

    async def _run(self) -> None:
        try:
            async with Engine(self._adapter, deadlines=self._deadlines) as engine:
                self._opened.set_result(engine)
                await self._until_released()
        except Exception as error:
            if self._opened.done():
                raise
            self.release()
            self._opened.set_exception(error)
            self._opened.exception()  # who waits for it may be gone, and then nobody would look at it

    async def _until_released(self) -> None:
        try:
            await self._released.wait()
        finally:
            self.release()
            for answer in self._answers:
                answer.let_go()

    def _ended(self, _task: object) -> None:
        # A task that is cancelled before its first step runs none of its own code.
        self.release()
        if not self._opened.done():
            self._opened.set_exception(SessionClosed("the event loop is ending"))
            self._opened.exception()


_hosts: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Host]] = WeakKeyDictionary()


def host_of(adapter: Adapter, deadlines: Deadlines) -> Host:
    """
    Return the running loop's host for the adapter's origin, begun.

    Args:
        adapter: Taken over where there is no host yet, otherwise not used; it must not have been used before.
        deadlines: Of the engine, where there is no host yet; a question's own count for its answer.
    """
    _forget_closed_loops()
    hosts = _hosts.setdefault(asyncio.get_running_loop(), {})
    host = hosts.get(adapter.origin)
    if host is None:
        host = hosts[adapter.origin] = Host(adapter, deadlines)
        host.open()
    host.begin()
    return host


async def aclose() -> None:
    """Close the running loop's engines and wait for that; a cancelled caller stops waiting, they are closed anyway."""
    hosts = tuple(_hosts.get(asyncio.get_running_loop(), {}).values())
    for host in hosts:
        host.release()
    for host in hosts:
        await host.wait_closed()


@atexit.register
def _close_stranded() -> None:
    for loop, hosts in list(_hosts.items()):
        if any(host.is_stranded for host in hosts.values()):
            loop.run_until_complete(aclose())


def _forget(loop: asyncio.AbstractEventLoop, origin: str, host: Host) -> None:
    hosts = _hosts.get(loop, {})
    if hosts.get(origin) is host:
        del hosts[origin]
    if not hosts:
        _hosts.pop(loop, None)


def _forget_closed_loops() -> None:
    # An engine refers to its loop: an entry whose host never got to its end would not go away by itself.
    for loop in [loop for loop in _hosts if loop.is_closed()]:
        del _hosts[loop]
