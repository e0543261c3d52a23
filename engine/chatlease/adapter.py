"""The adapter contract: one coroutine per step of the lifecycle table that calls the service.

Rules that live here:

* An adapter speaks to one service and nothing else: it does no retrying, keeps no session state, owns no task, and sets
  no deadline but the connection's. Retries, deadlines, the account gate, cleanup and the ledger are the engine's.
* Every foreign failure is mapped to a `chatlease.errors.ServiceError` with ``status``, ``code`` and ``sent``.
  ``sent=False`` only where it is certain that no byte of the request left, for the engine repeats such calls, even
  ``create_chat``.
* `asyncio.CancelledError` is never mapped, never swallowed.
* Nothing secret leaves in an error: neither credentials nor prompt or answer text.
* A method's name is its trigger's name.

The contract is checked by a program: `chatlease.testing.check_adapter`. It is provisional until three services pass it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypedDict

from ._deadlines import Deadlines
from .events import Batch, Reading

__all__ = [
    "CONTRACT_VERSION",
    "Adapter",
    "AnswerStream",
    "Call",
    "Capabilities",
    "ChatListing",
    "Credential",
    "CredentialProvider",
    "Deadlines",
    "Login",
    "RateBudget",
    "RunOptions",
]

CONTRACT_VERSION = 1
"""Raised when an adapter written for the previous contract would have to change."""

_FINGERPRINT_KEY = b"chatlease account fingerprint v1"


@dataclass(frozen=True, slots=True)
class Credential:
    """
    What logs an account in, and the way there.

    Its ``repr`` shows names and counts, never values.

    Attributes:
        cookies: Sent as they are, all of them.
        headers: Sent with every request (a bearer token, an API key).
        proxy: URL of the proxy that every request of this login goes through (``http://``, ``https://``, ``socks5://``;
            user and password allowed), or ``None``. Not part of the login's identity.
    """

    cookies: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    proxy: str | None = None

    def __repr__(self) -> str:
        names = sorted([*self.cookies, *self.headers])
        via = " via a proxy" if self.proxy else ""
        return f"<Credential {', '.join(names) or 'empty'}{via}>"

    def __bool__(self) -> bool:
        return bool(self.cookies or self.headers)

    def fingerprint(self) -> str:
        """
        Return the account name of a credential that was given without one.

        ``anon-`` and 12 hex digits of a keyed BLAKE2 over the login's values: the same login has the same name in every
        process, and the name tells nothing of the values. The proxy does not count.
        """
        digest = hashlib.blake2b(key=_FINGERPRINT_KEY, digest_size=6)
        for part in self._parts():
            digest.update(len(part).to_bytes(4, "big") + part)
        return f"anon-{digest.hexdigest()}"

    def secrets(self) -> Iterator[str]:
        """Yield every value that must never be shown: cookie and header values, the proxy's user and password."""
        yield from self.cookies.values()
        for value in self.headers.values():
            yield value
            yield from value.split(" ")[1:]
        if self.proxy and "@" in self.proxy:
            userinfo = self.proxy.rpartition("@")[0].partition("://")[2]
            yield userinfo
            yield from userinfo.partition(":")[::2]

    def _parts(self) -> Iterator[bytes]:
        for kind, values in (("cookie", self.cookies), ("header", self.headers)):
            for name in sorted(values):
                yield f"{kind}:{name}={values[name]}".encode("utf-8", "surrogatepass")  # its error would hold the value


@dataclass(frozen=True, slots=True)
class Login:
    """
    An account and what logs it in.

    Attributes:
        account: A name, safe to log and to write into a ledger.
        credential: See `Credential`.
    """

    account: str
    credential: Credential


class CredentialProvider(Protocol):
    """Gives the credential of a named account, now or at sweep time; ``None`` when it does not know the account."""

    def __call__(self, service: str, account: str, /) -> Credential | None:
        """Return the credential of that account at that service (`Adapter.service`)."""
        ...


class Call:
    """
    The circumstances of one adapter call: what it may use, and what it reports.

    Owned by the engine; an adapter keeps no reference after its coroutine has ended.

    Attributes:
        login: Who calls.
        deadlines: `Deadlines.connect` is for the adapter, the rest is kept by the engine.
        hide: Texts of the caller's (the prompt of this turn, and those among the options) that the service may echo: an
            adapter takes them out of every message that it passes on, as it does with the credential's secrets.
        text: The prompt of this turn, from `Adapter.send_prompt` on: for a service whose one call adds the prompt and
            queues the answer, so that ``queue_assistant`` sends what ``send_prompt`` only gave an id to.
        stream: Set by ``queue_assistant`` where the service's answer to it is the stream itself; ``open_stream`` takes
            it (`take_stream`). Until then it is the engine's, which closes it when it is not taken.
        http_request: Set by an HTTP adapter when it sends: method and path (``POST /api/chat``), no query; traced.
        http_status: Set by the adapter as soon as the status line of an answer is read; goes into the trace.
        http_date: The service's clock: the ``Date`` header of the last answer, where there is one. A sweeper compares
            the times in a listing with it.
    """

    __slots__ = ("deadlines", "hide", "http_date", "http_request", "http_status", "login", "stream", "text")

    def __init__(self, login: Login, deadlines: Deadlines) -> None:
        self.login = login
        self.deadlines = deadlines
        self.hide: tuple[str, ...] = ()
        self.text = ""
        self.stream: AnswerStream | None = None
        self.http_request: str | None = None
        self.http_status: int | None = None
        self.http_date: str | None = None

    def take_stream(self) -> AnswerStream | None:
        """Return the stream that ``queue_assistant`` left, once; ``None`` if it left none."""
        stream, self.stream = self.stream, None
        return stream


@dataclass(frozen=True, slots=True)
class RateBudget:
    """
    How many runs an account may queue.

    Attributes:
        runs: Calls of ``queue_assistant``, refused ones included.
        window_s: Length of the window, in seconds, which begins with its first call.
    """

    runs: int
    window_s: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    What a service can do, and what it does to those who do not know.

    Attributes:
        client_id: The chat's id is the key that ``create_chat`` hands over, so that it is known before the call: a chat
            whose create reply was lost is deleted by its id, and no listing is needed to find it.
        client_key: ``create_chat`` can hand over a key (id or metadata) that a listing gives back.
        listing: ``list_chats`` works.
        stopping: The service has a call that stops a run; without it ``stop_run`` only waits for the run's end.
        deletion_during_run: ``"harmful"`` where deleting a chat whose run is going hurts someone (Open-Assistant loses
            another user's message; LangGraph's run goes on, and nobody can stop it any more); the engine then never
            does it.
        second_delete: What deleting a deleted chat looks like: ``"gone"`` (the adapter can tell) or ``"deleted"``.
        runs_per_account: How many runs of one account may wait or go at once; ``None`` for any number.
        rate_budget: How often an account may queue a run; ``None`` for no known limit.
    """

    client_id: bool = False
    client_key: bool = False
    listing: bool = False
    stopping: bool = False
    deletion_during_run: Literal["safe", "harmful"] = "safe"
    second_delete: Literal["gone", "deleted"] = "gone"
    runs_per_account: int | None = None
    rate_budget: RateBudget | None = None


class RunOptions(TypedDict, total=False):
    """
    How an answer is to be made; from Open-Assistant's server schema, the superset of what services take.

    An adapter refuses what its service does not know (`Adapter.check_options`). ``None`` is sent as null, or left out
    where the service takes no null.
    """

    top_k: int | None
    top_p: float | None
    typical_p: float | None
    temperature: float | None
    repetition_penalty: float | None
    max_new_tokens: int
    system_prompt: str | None
    user_profile: str | None
    user_response_instructions: str | None
    plugins: Sequence[Mapping[str, object]]
    used_plugin: Mapping[str, object] | None
    sampling: Mapping[str, object]
    """Sampling parameters sent verbatim, unknown names too, over the typed ones; for the seeds' interface."""


@dataclass(frozen=True, slots=True)
class ChatListing:
    """
    A chat as a listing shows it.

    Attributes:
        chat: Its id.
        created_at: Aware, by the service's clock; ``None`` where the service does not say.
        empty: It holds nothing of anyone's; ``None`` where the listing cannot tell.
        client_key: The key given to ``create_chat``, where the service gives it back.
    """

    chat: str
    created_at: datetime | None = None
    empty: bool | None = None
    client_key: str | None = None


class AnswerStream(Protocol):
    """An answer under way. Read by one task at a time; owned by the session, which always closes it."""

    async def read(self) -> Batch:
        """
        Wait for the next events and return all that are there.

        Comments and pings are no events: they do not end the wait. An empty batch means that the service ended the
        stream; after that, or after a `Final` or a `Failed`, it is not called again. Cancelling it loses nothing.

        Raises:
            Unavailable: The connection broke.
            ProtocolChanged: What came is no event of this service.
        """
        ...

    def close(self) -> None:
        """Let go of the connection at once, without waiting; may be called twice."""
        ...


class Adapter(Protocol):
    """
    A service, as the engine sees it.

    Ids of chats, prompts and runs are opaque strings to the engine.
    """

    @property
    def service(self) -> str:
        """Name of the kind of service, e.g. ``open-assistant``; goes into traces and the ledger."""
        ...

    @property
    def origin(self) -> str:
        """Which server of that kind: its base URL without credentials. Accounts are counted per origin."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do; constant while the adapter lives."""
        ...

    @property
    def model(self) -> str:
        """The model used where a session names none."""
        ...

    def check_options(self, model: str, options: RunOptions) -> None:
        """
        Refuse what cannot be sent, before anything is.

        Raises:
            UsageError: Naming the option, and what it may be.
        """
        ...

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        """
        Find the credential of an account.

        Args:
            account: Its name; ``None`` for the default one.
            rejected: The credential that the service refused, when the source is asked once more.

        Raises:
            NotAuthenticated: None found; says where was looked and what to do.
        """
        ...

    async def create_chat(self, call: Call, client_key: str) -> str:
        """
        Create a chat and return its id.

        Never cut in the middle by the engine. Not repeated unless the error says ``sent=False``.

        Args:
            call: See `Call`.
            client_key: The key that finds the chat again, where the service takes one: a UUID, new for every chat. With
                `Capabilities.client_id` it is the chat's id.
        """
        ...

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        """
        Add the prompt to the chat and return the id of its message.

        Args:
            call: See `Call`.
            chat: Id of the chat.
            prompt: The text, sent unchanged.
            parent: Id of the run that answered the previous prompt; ``None`` for the first.
        """
        ...

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        """
        Queue an answer to the prompt (by its id) and return the run's id.

        May also be what sends the prompt (`Call.text`) and what opens the stream (`Call.stream`), where the service
        has one call for these steps. A chat that is busy with another run is `Busy`.
        """
        ...

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        """Open the stream of the answer; ``None`` when the service refuses because the run is finished."""
        ...

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        """
        Look at the answer without the stream.

        Args:
            call: See `Call`.
            chat: Id of the chat.
            prompt: Id of the prompt; ``None`` (with ``run``) for the chat's newest run, whatever it answers: a sweeper
                knows no more than the chat.
            run: Id of the run; ``None`` when the reply to ``queue_assistant`` was lost, to find the run by its prompt.
        """
        ...

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Ask the service to stop the run; nothing where it cannot. The engine then waits by ``read_answer``."""
        ...

    async def delete_chat(self, call: Call, chat: str) -> bool:
        """
        Delete the chat, confirmed.

        Returns:
            True when it was deleted, False when the service says that there is no such chat. Both are success.
        """
        ...

    def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """
        Iterate over the account's chats, newest first, over all pages. Only where `Capabilities.listing`.

        With `Capabilities.client_key` chats that carry nobody's key may be left out: the service is asked for ours.
        """
        ...

    async def models(self, call: Call) -> Sequence[str]:
        """Return the names of the models offered."""
        ...

    async def aclose(self) -> None:
        """Close what the adapter itself opened; not what it was given. May be called twice."""
        ...
