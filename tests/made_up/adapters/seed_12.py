"""Thesoko (seed 12), from its documentation and the guide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import msgspec

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, ProtocolChanged, RunFailed
from chatlease.events import Failed, Final, Pending, Reading, RunStatus
from chatlease_adapters.http import (
    FORM,
    Address,
    Answer,
    FrameStream,
    HttpClient,
    KeySource,
    Problem,
    Told,
    base_url,
    decode,
    fit,
    given,
    located,
    pages,
    path_part,
    plain,
    scrubber,
    shape,
    usual_problem,
)
from chatlease_adapters.lines import JsonLines

T = TypeVar("T")


class Dialogue(msgspec.Struct, rename="pascal"):
    ref: str
    client_tag: str | None


class Response(msgspec.Struct, rename="pascal"):
    ref: str
    nonce: str
    status: str
    end_reason: str | None


class Assistant(msgspec.Struct, rename="pascal"):
    ref: str


class Waiting(msgspec.Struct, rename="pascal"):
    slot: int
    queue_length: int


class Delta(msgspec.Struct, rename="pascal"):
    fragment: str


class Complete(msgspec.Struct, rename="pascal"):
    full_text: str


class Failure(msgspec.Struct, rename="pascal"):
    code: str
    human: str


class Frame(msgspec.Struct, rename="pascal"):
    waiting: Waiting | None = None
    delta: Delta | None = None
    complete: Complete | None = None
    failure: Failure | None = None


class Options(msgspec.Struct, forbid_unknown_fields=True):
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


PAIRS = msgspec.json.Decoder(list[tuple[str, object]])
TABLE = msgspec.json.Decoder(list[list[tuple[str, object]]])
FRAME = msgspec.json.Decoder(Frame)
FULL = 3
STATUSES = {
    "waiting": RunStatus.PENDING,
    "active": RunStatus.GOING,
    "running": RunStatus.GOING,
    "complete": RunStatus.ANSWERED,
    "failed": RunStatus.FAILED,
    "error": RunStatus.FAILED,
    "halted": RunStatus.CANCELLED,
}


class Thesoko:
    service = "thesoko"
    model = "thesoko-small"
    capabilities = Capabilities(client_key=True, listing=True)

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.origin = base_url(url)
        self._at = Address(f"{self.origin}/x").at
        self._keys = KeySource("Thesoko", "CHATLEASE_THESOKO_API_KEY", login, given=api_key)
        self._http = HttpClient(user_agent="thesoko-adapter/1", problem=problem)

    def check_options(self, model: str, options: RunOptions) -> None:
        fit(options, Options, "Thesoko")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        return self._keys.find(account, rejected)

    async def create_chat(self, call: Call, client_key: str) -> str:
        return await self._post(call, "create a dialogue", "/dialogues", {"ClientTag": client_key})

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        return f"{uuid4()} {parent or ''}"  # the nonce, and what queue_assistant says that it follows

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        nonce, _, parent = prompt.partition(" ")
        wanted = {"Dialogue": chat, "Content": call.text, "Nonce": nonce, "AssistantName": model}
        more = {"PreviousResponse": parent or None, "TopP": fit(options, Options, "Thesoko").top_p}
        return await self._post(call, "ask for a response", "/responses", {**wanted, **given(more)})

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        url = self._at(f"/responses/{path_part(run)}/listen")
        lines = "application/x-ndjson"
        body = await self._http.open(call, "listen", "GET", url, media_type=lines, allow={"nothing_to_do"})
        clean = scrubber(call)
        return None if body is None else FrameStream(body, JsonLines().feed, lambda line: tell(line, clean))

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        found = await self._find(call, chat, prompt) if run is None else await self._look(call, run)
        if found is None:
            return Reading(RunStatus.ABSENT)
        status = STATUSES.get(found.status)
        if status is None:
            raise ProtocolChanged("a state of a response", "another", code="unknown-state")
        text = await self._text(call, found.ref) if status is RunStatus.ANSWERED else None
        return Reading(status, text, found.ref, found.end_reason or "")

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Do nothing: there is no such call."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        url = self._at(f"/dialogues/{path_part(chat)}")
        answer = await self._http.ask(call, "delete the dialogue", "DELETE", url, allow={"unknown_dialogue"})
        return answer.problem is None

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        async def sheet(number: int) -> tuple[list[Dialogue], int | None]:
            found = await self._list(call, "list the dialogues", "/dialogues", f"Sheet={number}", Dialogue)
            return found, number + 1 if len(found) == FULL else None

        async for each in pages(sheet, 1):
            yield ChatListing(each.ref, client_key=each.client_tag)

    async def models(self, call: Call) -> Sequence[str]:
        return [each.ref for each in await self._list(call, "list the assistants", "/assistants", "", Assistant)]

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _post(self, call: Call, doing: str, path: str, fields: Mapping[str, object]) -> str:
        body = urlencode(fields).encode()
        return located(await self._http.ask(call, doing, "POST", self._at(path), body, headers=FORM))

    async def _list(self, call: Call, doing: str, path: str, query: str, kind: type[T]) -> list[T]:
        answer = await self._http.ask(call, doing, "GET", self._at(path, query))
        return [record(answer, pairs, kind) for pairs in decode(answer, TABLE, "a list of lists of pairs")]

    async def _find(self, call: Call, chat: str, prompt: str | None) -> Response | None:
        query = f"Dialogue={path_part(chat)}"
        nonce = prompt and prompt.partition(" ")[0]
        newest_first = await self._list(call, "list the responses", "/responses", query, Response)
        return next((each for each in newest_first if nonce in {None, each.nonce}), None)

    async def _look(self, call: Call, run: str) -> Response | None:
        url = self._at(f"/responses/{path_part(run)}")
        answer = await self._http.ask(call, "look at the response", "GET", url, allow={"response_not_found"})
        return None if answer.problem else record(answer, decode(answer, PAIRS, "a list of pairs"), Response)

    async def _text(self, call: Call, run: str) -> str:
        url = self._at(f"/responses/{path_part(run)}/output")
        return plain(await self._http.ask(call, "get the text", "GET", url), "a text")


def login(key: str) -> Credential:
    return Credential(headers={"Authorization": f"Key {key}"})


def problem(answer: Answer) -> Problem | None:
    found = usual_problem(answer)
    if found is not None and found.code == "response_in_progress":
        return msgspec.structs.replace(found, error=Busy)
    return found


def record(answer: Answer, pairs: list[tuple[str, object]], kind: type[T]) -> T:
    try:
        return msgspec.convert(dict(pairs), kind)
    except msgspec.ValidationError:
        pass
    raise ProtocolChanged(f"a {kind.__name__.lower()}", shape(answer.body), status=answer.status)


def tell(line: bytes, clean: Callable[[str], str]) -> Told:
    frame = FRAME.decode(line)
    if frame.delta:
        return frame.delta.fragment
    if frame.waiting:
        return Pending(frame.waiting.slot, frame.waiting.queue_length)
    if frame.complete:
        return Final(frame.complete.full_text)
    if frame.failure:
        return Failed(RunFailed(clean(frame.failure.human), code=frame.failure.code))
    return None
