"""The adapter of Open-Assistant.

Rules that live here:

* The website is the way that the seeds know; a self-hosted inference server can be spoken to directly.
* An answer with the service's own words instead of an id is an error whose text is exactly these words.
* A website says 500 to everything that it cannot do; where the difference matters (was the chat deleted?) the chat is
  looked at.
* What the service does behind the caller's back, all recorded: one waiting message per account, a second one cancels
  it silently; deleting a chat whose answer is under way makes the server lose another user's message; 20 assistant
  messages in 660 s. The engine is told by `OpenAssistant.capabilities`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import aiohttp
from yarl import URL

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RateBudget, RunOptions
from chatlease.errors import Busy, ProtocolChanged, Rejected, ServiceError, Unavailable, UsageError
from chatlease.events import Reading, RunStatus
from chatlease_adapters.http import (
    BROWSER,
    HttpClient,
    HttpStream,
    Tls,
    base_url,
    check,
    check_done,
    decode,
    no_stream,
    own_words,
    pages,
    refusal,
    scrub,
    through,
    utc,
)

from . import _options
from ._cookies import CookieSource, find_cookies
from ._dialects import Dialect, Request, Server, Website, origin_of
from ._stream import OpenAssistantStream, reading
from ._wire import CHAT, CREATED, MESSAGE, MODELS, PAGE, Chat, Message, Page

DEFAULT_URL = "https://open-assistant.io/chat"
URL_VARIABLE = "CHATLEASE_OPEN_ASSISTANT_URL"
MODEL = "OA_SFT_Llama_30B_6"

_CAPABILITIES = Capabilities(
    client_key=False,
    listing=True,
    stopping=False,
    deletion_during_run="harmful",
    second_delete="gone",
    runs_per_account=1,
    rate_budget=RateBudget(runs=20, window_s=660.0),
)
_NO_CONTENT = 204
_REFUSED = 400
_NO_STREAMS = frozenset({"text/html", "application/json"})
_MODELS_SHOWN = 8


class OpenAssistant:
    """
    Open-Assistant, by its website or its inference server; see `chatlease.adapter.Adapter`.

    It keeps no state but its connections, and serves any number of accounts at once.

    Args:
        url: Address of the website or of its chat page (a trailing ``/chat`` is cut, a path prefix kept), or of the
            inference server. None: ``CHATLEASE_OPEN_ASSISTANT_URL``, or the public site, which closed in 2023.
        dialect: ``website``, with a browser's cookies; ``server``, with a bearer token or a trusted client's header.
        model: The model of sessions that name none.
        cookies: The login, or where to find it: cookies by name, the path of a cookies.txt, JSON export or HAR, a
            callable, or a whole `Credential` (with headers, for the server). A login given here is the default
            account's. None: looked for in the environment, the configuration folder and the user's browsers.
        proxy: For every login that brings none of its own: ``http://``, ``https://``, ``socks5://``, with user and
            password where needed.
        session: A ClientSession of the bot's own, whose connections are used; it is never closed here. Its cookies and
            headers are not used.
        ssl: A context of your own for a private certificate authority, or a fingerprint; False checks nothing.
        trust_env: Whether the environment's proxies count where no other is named.
        user_agent: A browser's by default, as the website expects.

    Raises:
        UsageError: The address or the dialect is none.
    """

    service = "open-assistant"
    capabilities = _CAPABILITIES

    def __init__(
        self,
        url: str | None = None,
        *,
        dialect: Literal["website", "server"] = "website",
        model: str = MODEL,
        cookies: CookieSource | Credential | None = None,
        proxy: str | None = None,
        session: aiohttp.ClientSession | None = None,
        ssl: Tls = True,
        trust_env: bool = False,
        user_agent: str = BROWSER,
    ) -> None:
        self._dialect = _dialect(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL, dialect)
        self.origin = self._dialect.base
        self.model = model
        self._source = cookies
        self._proxy = proxy
        self._http = HttpClient(session=session, ssl=ssl, trust_env=trust_env, user_agent=user_agent)

    def __repr__(self) -> str:
        return f"<OpenAssistant at {self.origin}>"

    def check_options(self, model: str, options: RunOptions) -> None:
        """Refuse unknown names, wrong types and values out of range; see `chatlease.adapter.Adapter`."""
        _options.check(model, options)

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        """Find the login of an account; nothing is asked of the service. See `chatlease.adapter.Adapter`."""
        host = URL(self.origin).host or ""
        credential = await find_cookies(host, source=self._source, account=account, rejected=rejected)
        return through(credential, self._proxy)

    async def create_chat(self, call: Call, client_key: str) -> str:  # noqa: ARG002  (the service takes no key)
        """Create a chat; see `chatlease.adapter.Adapter`."""
        return await self._make(call, self._dialect.create(), "create a chat")

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        """Add a prompt; see `chatlease.adapter.Adapter`."""
        return await self._make(call, self._dialect.prompt(chat, prompt, parent), "add a prompt", hide=(prompt,))

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        """
        Queue an answer; see `chatlease.adapter.Adapter`.

        Raises:
            Busy: The service's queue is full (``queue-full``).
            Rejected: Among others an unknown model; the hint then names the nearest one offered.
        """
        request = self._dialect.assistant(chat, prompt, _options.body(model, options))
        try:
            return await self._make(call, request, "queue an answer", hide=_options.texts(options))
        except (Rejected, Unavailable) as error:
            refused = error
        raise await self._explained(call, refused, model)

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        """
        Open the stream of an answer; see `chatlease.adapter.Adapter`.

        The server refuses a finished answer by 204. The website opens a stream that ends at once; and it answers only
        with the first event, so that waiting for the head is waiting in the queue.
        """
        stream = await self._http.stream(call, *self._dialect.events(chat, run))
        if _is_stream(stream):
            return OpenAssistantStream(stream, [*call.login.credential.secrets(), *call.hide])
        answer = await stream.answer()
        if answer.status == _NO_CONTENT:
            return None
        raise no_stream(call, answer, "open the stream")

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        """Look at an answer, by its id or its prompt; see `chatlease.adapter.Adapter`."""
        if run is None:
            return await self._find_answer(call, chat, prompt)
        answer = await self._http.ask(call, "read the answer", *self._dialect.message(chat, run))
        return reading(decode(answer, MESSAGE, "a message"))

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Do nothing: the service has no such call, and the run's end has to be waited for."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        """Delete a chat and confirm it; see `chatlease.adapter.Adapter`."""
        answer = await self._http.call(call, *self._dialect.delete(chat))
        if answer.status in self._dialect.unsure:
            return await self._confirm(call, chat, answer.status)
        if self._dialect.is_gone(answer):
            return False
        check_done(call, answer, "delete the chat")
        return True

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """Iterate over the account's chats, newest first; see `chatlease.adapter.Adapter`."""

        async def page(cursor: str | None) -> tuple[list[Chat], str | None]:
            found = await self._page(call, cursor)
            return found.chats, found.next

        async for chat in pages(page, None):
            yield ChatListing(chat.id, utc(chat.created_at), empty=chat.title is None)

    async def models(self, call: Call) -> Sequence[str]:
        """Return the names of the models offered; see `chatlease.adapter.Adapter`."""
        answer = await self._http.ask(call, "list the models", *self._dialect.models())
        return [model.name for model in decode(answer, MODELS, "a list of models")]

    async def aclose(self) -> None:
        """Close the connections opened on the running loop; a later call opens new ones. May be called twice."""
        await self._http.aclose()

    # ------------------------------------------------------------------------------------------------------ the calls

    async def _make(self, call: Call, request: Request, doing: str, hide: Iterable[str] = ()) -> str:
        answer = await self._http.ask(call, doing, *request, hide=hide)
        try:
            return decode(answer, CREATED, "an object with an id").id
        except ProtocolChanged as error:
            unreadable = error
        if own_words(answer):
            raise refusal(answer, doing, login=call.login.credential, hide=[*hide, *call.hide])
        raise unreadable

    async def _page(self, call: Call, cursor: str | None) -> Page:
        answer = await self._http.ask(call, "list the chats", *self._dialect.listing(cursor))
        return decode(answer, PAGE, "a page of chats")

    async def _look(self, call: Call, chat: str) -> Chat | None:
        answer = await self._http.call(call, *self._dialect.chat(chat))
        if self._dialect.is_gone(answer):
            return None
        check(call, answer, "read the chat")
        return decode(answer, CHAT, "a chat")

    async def _confirm(self, call: Call, chat: str, status: int) -> bool:
        if await self._look(call, chat) is None:
            return False
        said = f"the service answered HTTP {status} to delete the chat, which is still there"
        raise Unavailable(said, status=status)

    async def _find_answer(self, call: Call, chat: str, prompt: str | None) -> Reading:
        found = await self._look(call, chat)
        messages = found.messages if found else ()
        answers = [
            each for each in messages if (each.state != "manual" if prompt is None else each.parent_id == prompt)
        ]
        return reading(max(answers, key=_age)) if answers else Reading(RunStatus.ABSENT)

    async def _explained(self, call: Call, refused: Rejected | Unavailable, model: str) -> ServiceError:
        if refused.status == 503 and "busy" in str(refused):  # noqa: PLR2004  (the recorded refusal for a full queue)
            hint = "The service's own queue is full; try again later."
            return Busy(str(refused), status=503, code="queue-full", retry_after_s=refused.retry_after_s, hint=hint)
        if refused.status == 422 and str(refused) == scrub(f"Model {model} not found", ()):  # noqa: PLR2004  (as recorded)
            refused.hint = await self._model_hint(call, model)
        return refused

    async def _model_hint(self, call: Call, model: str) -> str:
        status = call.http_status
        names: Sequence[str] = ()
        with suppress(ServiceError):
            names = await self.models(call)
        call.http_status = status  # the refusal's, not that of this look
        best = _options.nearest(model, names)
        if best:
            return f"The nearest model that the service offers is {best}."
        offered = ", ".join(names[:_MODELS_SHOWN])
        return f"The service offers: {offered}." if offered else "Ask the service which models it offers."


def _dialect(url: str, dialect: str) -> Dialect:
    if dialect == "website":
        return Website(origin_of(url))
    if dialect == "server":
        return Server(base_url(url))
    raise UsageError("dialect is 'website' or 'server'")


def _is_stream(stream: HttpStream) -> bool:
    # The website sends no content type with a stream: what is known to be none is none.
    good = stream.status < _REFUSED and stream.status != _NO_CONTENT
    return good and stream.content_type not in _NO_STREAMS


def _age(message: Message) -> datetime:
    return utc(message.created_at) or datetime.min.replace(tzinfo=UTC)
