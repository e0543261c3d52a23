"""The adapter of LangGraph Server.

Rules that live here:

* A thread's id is ours (the session's), and its metadata says whose it is: so a thread is found by its id whatever
  became of the reply to its creation, and by its metadata in a listing.
* One call of the service is three steps of the table: ``POST /threads/ID/runs/stream`` takes the prompt, queues the run
  and answers with its events. It is made by `LangGraph.queue_assistant`, because that is the step after which a run may
  be going. `LangGraph.send_prompt` sends nothing: it gives the prompt's message its id. `LangGraph.open_stream` takes
  over the body whose head has been read.
* The run's id is in the head (``Content-Location``), so it is known before the first event, and a run whose head was
  lost is found by the prompt's id in its metadata.
* The connection holds the run (``on_disconnect``): when it breaks, with a process that is killed too, the server stops
  the run by itself.
* Deleting a thread does not stop its run, which then goes on where nobody sees it, and where neither a cancel nor the
  end of its connection stops it (seen; recorded: ``deleted-while-streaming``). So the engine is told that such a
  deletion is harmful.
* A run is called ``interrupted`` as soon as its end is asked for, by a cancel or a broken connection. It is over when
  its thread is not ``busy`` any more (seen: some 50 ms later), and not before that it counts as cancelled.
* The answer is the text of the AI messages that the graph put behind the prompt; where a graph makes several (an agent
  that talks, uses a tool, talks again), they are joined as they were streamed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal
from uuid import uuid4

import aiohttp
import msgspec
from yarl import URL

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, ProtocolChanged, UsageError
from chatlease.events import Reading, RunStatus
from chatlease_adapters.http import (
    Address,
    Answer,
    HttpClient,
    HttpStream,
    KeySource,
    Tls,
    base_url,
    check,
    check_done,
    decode,
    located,
    no_stream,
    own_words,
    pages,
    path_part,
    through,
)

from ._stream import LangGraphStream
from ._wire import ASSISTANTS, RUN, RUNS, STATE, THREAD, THREADS, Message, Run, Thread

DEFAULT_URL = "http://127.0.0.1:2024"
"""Where ``langgraph dev`` listens."""
URL_VARIABLE = "CHATLEASE_LANGGRAPH_URL"
KEY_VARIABLE = "CHATLEASE_LANGGRAPH_API_KEY"
"""The default account's key; a named account's has its name behind. ``langgraph dev`` wants none."""

_CAPABILITIES = Capabilities(
    client_id=True,
    client_key=True,
    listing=True,
    stopping=True,
    deletion_during_run="harmful",
    second_delete="gone",
)
_STATUSES = {
    "pending": RunStatus.PENDING,
    "running": RunStatus.GOING,
    "success": RunStatus.ANSWERED,
    "error": RunStatus.FAILED,
    "timeout": RunStatus.FAILED,
    "interrupted": RunStatus.CANCELLED,
}
_UNDER_WAY = frozenset({"pending", "running"})
_MODE = "messages-tuple"
_LEASED_BY = {"leased_by": "chatlease"}
_LEASE = "lease"
_PROMPT = "lease_prompt"
_PAGE = 100
_OK, _NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 200, 404, 409, 422
_encode = msgspec.json.Encoder().encode


class LangGraph:
    """
    LangGraph Server; see `chatlease.adapter.Adapter`. A chat is a thread, a model an assistant.

    It keeps no state but its connections, and serves any number of accounts at once.

    Args:
        url: Address of the server. None: ``CHATLEASE_LANGGRAPH_URL``, or where ``langgraph dev`` listens.
        assistant_id: The assistant of sessions that name no model: a graph's name, or an assistant's UUID.
        api_key: The default account's, sent as ``x-api-key``. None: looked for in ``CHATLEASE_LANGGRAPH_API_KEY``; a
            server without authentication needs none.
        on_disconnect: What the server does with a run when its stream's connection breaks. ``cancel``: nothing goes on
            unseen, and an answer whose connection broke before its first token is queued again. ``continue``: the
            answer is fetched when it is ready, but a run may go on for nobody until it is found by a sweeper.
        proxy: For every login that brings none of its own.
        session: A ClientSession of the bot's own, whose connections are used; it is never closed here.
        ssl: A context of your own for a private certificate authority, or a fingerprint; False checks nothing.
        trust_env: Whether the environment's proxies count where no other is named.
        user_agent: How the adapter calls itself.

    Raises:
        UsageError: The address is none, or another argument is not what it may be.
    """

    service = "langgraph"
    capabilities = _CAPABILITIES

    def __init__(
        self,
        url: str | None = None,
        *,
        assistant_id: str = "agent",
        api_key: str | None = None,
        on_disconnect: Literal["cancel", "continue"] = "cancel",
        proxy: str | None = None,
        session: aiohttp.ClientSession | None = None,
        ssl: Tls = True,
        trust_env: bool = False,
        user_agent: str = "chatlease",
    ) -> None:
        if on_disconnect not in {"cancel", "continue"}:
            raise UsageError("on_disconnect is 'cancel' or 'continue'")
        self.origin = base_url(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self.model = assistant_id
        self._at = Address(self.origin).at
        self._keys = KeySource("LangGraph", KEY_VARIABLE, _login, given=api_key, needed=False)
        self._on_disconnect = on_disconnect
        self._proxy = proxy
        self._http = HttpClient(session=session, ssl=ssl, trust_env=trust_env, user_agent=user_agent)

    def __repr__(self) -> str:
        return f"<LangGraph at {self.origin}>"

    def check_options(self, model: str, options: RunOptions) -> None:
        """Refuse everything but ``sampling``, which a graph gets as its ``configurable``; see `chatlease.adapter`."""
        if not model:
            raise UsageError("model is an assistant: the name of a graph or a UUID, not an empty string")
        for name in options.keys() - {"sampling"}:
            hint = "What its graph can be told goes verbatim into `sampling`, which is its `configurable`."
            raise UsageError(f"LangGraph has no option {name!r}", hint=hint)
        try:
            _encode(options.get("sampling"))
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass
        else:
            return
        raise UsageError("sampling must be a mapping that can be sent as JSON")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        """Find the key of an account; nothing is asked of the service. See `chatlease.adapter.Adapter`."""
        return through(self._keys.find(account, rejected), self._proxy)

    async def create_chat(self, call: Call, client_key: str) -> str:
        """Create the thread of that id; see `chatlease.adapter.Adapter`."""
        wanted = {"thread_id": client_key, "if_exists": "raise", "metadata": {**_LEASED_BY, _LEASE: client_key}}
        answer = await self._http.ask(call, "create a thread", "POST", self._at("/threads"), _encode(wanted))
        return decode(answer, THREAD, "a thread").thread_id

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:  # noqa: ARG002
        """Give the prompt its id; `queue_assistant` sends it. See `chatlease.adapter.Adapter`."""
        return str(uuid4())

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        """
        Send the prompt, queue the run, and leave its stream in `Call.stream`; see `chatlease.adapter.Adapter`.

        Raises:
            Busy: The thread has a run already (``thread-busy``).
            Rejected: Among others an unknown assistant; the server then names its graphs.
        """
        wanted: dict[str, object] = {
            "assistant_id": model,
            "input": {"messages": [{"role": "user", "content": call.text, "id": prompt}]},
            "stream_mode": [_MODE],
            "on_disconnect": self._on_disconnect,
            "multitask_strategy": "reject",
            "if_not_exists": "reject",
            "metadata": {_PROMPT: prompt},
        }
        configurable = options.get("sampling")
        if configurable:
            wanted["config"] = {"configurable": configurable}
        body = await self._http.stream(call, "POST", self._thread(chat, "/runs/stream"), _encode(wanted))
        stream = await self._opened(call, body, "queue a run")
        run = located(body, "Content-Location")
        call.stream = stream
        return run

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        """
        Take over the stream that `queue_assistant` left; see `chatlease.adapter.Adapter`.

        Where it left none, the run is joined: its events from now on, none when it is finished.
        """
        left = call.take_stream()
        if left is not None:
            return left
        cancels = "true" if self._on_disconnect == "cancel" else "false"
        query = f"stream_mode={_MODE}&cancel_on_disconnect={cancels}"
        body = await self._http.stream(call, "GET", self._run(chat, run, "/stream", query))
        return await self._opened(call, body, "join the run")

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        """Look at a run, and at the thread's state when it was a success; see `chatlease.adapter.Adapter`."""
        found = await self._find(call, chat, prompt) if run is None else await self._look(call, chat, run)
        if found is None:
            return Reading(RunStatus.ABSENT)
        status = _STATUSES.get(found.status)
        if status is None:
            raise ProtocolChanged("a run's status", "a status that this adapter does not know", code="unknown-state")
        if status is RunStatus.ANSWERED:
            return await self._answer(call, chat, found)
        if status is RunStatus.CANCELLED and await self._is_held(call, chat):
            status = RunStatus.GOING
        return Reading(status, None, found.run_id, found.status if status is RunStatus.FAILED else "")

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Have the run cancelled, or all that are under way, and wait for it; see `chatlease.adapter.Adapter`."""
        for each in [run] if run is not None else await self._under_way(call, chat):
            url = self._run(chat, each, "/cancel", "wait=1&action=interrupt")
            answer = await self._http.call(call, "POST", url, b"{}")
            if not _is_gone(answer):  # there is no such run any more, or it is over
                check(call, answer, "cancel the run")

    async def delete_chat(self, call: Call, chat: str) -> bool:
        """Delete a thread; see `chatlease.adapter.Adapter`."""
        answer = await self._http.call(call, "DELETE", self._thread(chat))
        if _is_gone(answer):
            return False
        check_done(call, answer, "delete the thread")
        return True

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """Iterate over the threads that carry our mark, newest first; see `chatlease.adapter.Adapter`."""

        async def page(offset: int) -> tuple[list[Thread], int | None]:
            threads = await self._page(call, offset)
            return threads, offset + _PAGE if len(threads) == _PAGE else None

        async for thread in pages(page, 0):
            yield _listing(thread)

    async def models(self, call: Call) -> Sequence[str]:
        """Return the assistants: the graphs by their names, and those that people made by their ids."""
        url = self._at("/assistants/search")
        answer = await self._http.ask(call, "list the assistants", "POST", url, _encode({"limit": _PAGE}))
        assistants = decode(answer, ASSISTANTS, "a list of assistants")
        made = [each.assistant_id for each in assistants if (each.metadata or {}).get("created_by") != "system"]
        return [*dict.fromkeys(each.graph_id for each in assistants), *made]

    async def aclose(self) -> None:
        """Close the connections opened on the running loop; a later call opens new ones. May be called twice."""
        await self._http.aclose()

    # ------------------------------------------------------------------------------------------------------ the calls

    def _thread(self, chat: str, rest: str = "", query: str = "") -> URL:
        return self._at(f"/threads/{path_part(chat)}{rest}", query)

    def _run(self, chat: str, run: str, rest: str = "", query: str = "") -> URL:
        return self._thread(chat, f"/runs/{path_part(run)}{rest}", query)

    async def _opened(self, call: Call, body: HttpStream, doing: str) -> LangGraphStream:
        if body.status == _OK and body.content_type == "text/event-stream":
            return LangGraphStream(body, [*call.login.credential.secrets(), *call.hide])
        answer = await body.answer()
        if _is_busy(answer):
            hint = "A run of somebody else's goes on in this thread; a session's own thread has none."
            raise Busy("the thread is busy with another run", status=answer.status, code="thread-busy", hint=hint)
        raise no_stream(call, answer, doing)

    async def _look(self, call: Call, chat: str, run: str) -> Run | None:
        answer = await self._http.call(call, "GET", self._run(chat, run))
        if answer.status == _NOT_FOUND and own_words(answer):  # of a run it says no more than ``Not Found`` (seen)
            return None
        check(call, answer, "read the run")
        return decode(answer, RUN, "a run")

    async def _is_held(self, call: Call, chat: str) -> bool:
        """Say whether a worker has a run of the thread in hand: a cancelled run is called that before it is over."""
        answer = await self._http.call(call, "GET", self._thread(chat))
        if _is_gone(answer):
            return False
        check(call, answer, "read the thread")
        return decode(answer, THREAD, "a thread").status == "busy"

    async def _find(self, call: Call, chat: str, prompt: str | None) -> Run | None:
        """Return the run of a prompt, or the newest one; runs are listed newest first."""
        for run in await self._runs(call, chat):
            if prompt is None or (run.metadata or {}).get(_PROMPT) == prompt:
                return run
        return None

    async def _under_way(self, call: Call, chat: str) -> list[str]:
        return [each.run_id for each in await self._runs(call, chat) if each.status in _UNDER_WAY]

    async def _runs(self, call: Call, chat: str) -> list[Run]:
        url = self._thread(chat, "/runs", f"limit={_PAGE}")
        return decode(await self._http.ask(call, "list the runs", "GET", url), RUNS, "a list of runs")

    async def _answer(self, call: Call, chat: str, run: Run) -> Reading:
        answer = await self._http.ask(call, "read the thread's state", "GET", self._thread(chat, "/state"))
        state = decode(answer, STATE, "a state with messages")
        text = _text_behind((run.metadata or {}).get(_PROMPT), state.values.messages)
        if not text and state.interrupts:
            return Reading(RunStatus.FAILED, None, run.run_id, "waits-for-a-person")
        return Reading(RunStatus.ANSWERED, text, run.run_id)

    async def _page(self, call: Call, offset: int) -> list[Thread]:
        wanted = {
            "metadata": _LEASED_BY,
            "limit": _PAGE,
            "offset": offset,
            "sort_by": "created_at",
            "sort_order": "desc",
            "select": ["thread_id", "created_at", "metadata"],  # not the texts in it
        }
        url = self._at("/threads/search")
        answer = await self._http.ask(call, "list the threads", "POST", url, _encode(wanted))
        return decode(answer, THREADS, "a list of threads")


def _login(key: str) -> Credential:
    return Credential(headers={"x-api-key": key})


def _is_gone(answer: Answer) -> bool:
    """Say whether the server itself says that there is no such thread or run; a wrong address says ``Not Found``."""
    return answer.status == _NOT_FOUND and own_words(answer) not in {"", "Not Found"}


def _is_busy(answer: Answer) -> bool:
    refused = answer.status == _UNPROCESSABLE and "already running" in own_words(answer)
    return refused or answer.status == _CONFLICT


def _listing(thread: Thread) -> ChatListing:
    metadata = thread.metadata or {}
    key = metadata.get(_LEASE)
    ran = "graph_id" in metadata  # which its first run leaves there
    return ChatListing(thread.thread_id, thread.created_at, not ran, key if isinstance(key, str) else None)


def _text_behind(prompt: object, messages: Iterable[Message]) -> str:
    """Return what the graph said after a prompt and before the next one; after the last one if it is not there."""
    turns: list[tuple[str | None, list[str]]] = [(None, [])]
    for message in messages:
        if message.type == "human":
            turns.append((message.id, []))
        elif message.type == "ai":
            turns[-1][1].append(message.text)
    return "".join(next((texts for name, texts in turns if name and name == prompt), turns[-1][1]))
