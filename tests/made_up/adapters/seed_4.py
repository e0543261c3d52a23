"""Kandmere (seed 4), from its documentation and the guide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import uuid4

import msgspec

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, RunFailed
from chatlease.events import Failed, Pending, Reading, RunStatus
from chatlease_adapters.http import (
    FORM,
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
    pages,
    scrubber,
    utc,
)
from chatlease_adapters.lines import JsonLines


class Desk(msgspec.Struct):
    key: str
    born: int
    size: int = 0


class Made(msgspec.Struct):
    desk: Desk


class Desks(msgspec.Struct, rename="camel"):
    desks: list[Desk]
    next_cursor: str | None


class Draft(msgspec.Struct, rename="camel"):
    key: int
    client_utterance: str
    status: Literal["queued", "in_progress", "done", "error", "halted"]
    written: str | None
    because: str | None


class Ordered(msgspec.Struct):
    draft: Draft


class Drafts(msgspec.Struct):
    drafts: list[Draft]


class Persona(msgspec.Struct):
    key: str


class Personas(msgspec.Struct):
    personas: list[Persona]


class Frame(msgspec.Struct, rename="camel"):
    type: str
    place: int = 0
    queue_length: int = 0
    more: str = ""
    error_name: str = ""
    info: str = ""


class Refusal(msgspec.Struct, rename="camel"):
    ok: bool
    error_name: str
    info: str


class Options(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    system_prompt: str | None = None


MADE = msgspec.json.Decoder(Made)
DESKS = msgspec.json.Decoder(Desks)
ORDERED = msgspec.json.Decoder(Ordered)
DRAFTS = msgspec.json.Decoder(Drafts)
PERSONAS = msgspec.json.Decoder(Personas)
FRAME = msgspec.json.Decoder(Frame)
REFUSAL = msgspec.json.Decoder(Refusal)
STATUSES = {
    "queued": RunStatus.PENDING,
    "in_progress": RunStatus.GOING,
    "done": RunStatus.ANSWERED,
    "error": RunStatus.FAILED,
    "halted": RunStatus.CANCELLED,
}
CODES = {"whoAreYou": 401, "oneAtATime": 409, "unexpected": 500}


class Kandmere:
    service = "kandmere"
    model = "kandmere-small"
    capabilities = Capabilities(client_id=True, listing=True, stopping=True)

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.origin = base_url(url)
        self._keys = KeySource(
            "Kandmere", "CHATLEASE_KANDMERE_API_KEY", lambda key: Credential(cookies={"sid": key}), given=api_key
        )
        self._http = HttpClient(user_agent="kandmere-adapter/1", problem=problem)

    def check_options(self, model: str, options: RunOptions) -> None:
        fit(options, Options, "Kandmere")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        return self._keys.find(account, rejected)

    async def create_chat(self, call: Call, client_key: str) -> str:
        answer = await self._ask(call, "open a desk", "desk.open", {"deskRef": client_key})
        return decode(answer, MADE, "a desk").desk.key

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        return str(uuid4())  # goes with the order, as clientUtterance

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        settings = fit(options, Options, "Kandmere")
        wanted = {"deskRef": chat, "text": call.text, "clientUtterance": prompt, "persona": model}
        names = {"topP": settings.top_p, "temperature": settings.temperature, "personaText": settings.system_prompt}
        answer = await self._ask(call, "order a draft", "draft.order", {**wanted, **given(names)})
        return str(decode(answer, ORDERED, "a draft").draft.key)

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        stream = await self._http.open(
            call,
            "watch the draft",
            "POST",
            f"{self.origin}/draft.feed",
            urlencode({"draft": run}).encode(),
            headers=FORM,
            media_type="application/x-ndjson",
        )
        clean = scrubber(call)
        return FrameStream(stream, JsonLines().feed, lambda line: told(line, clean))

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        answer = await self._ask(call, "list the drafts", "draft.list", {"deskRef": chat})
        for draft in reversed(decode(answer, DRAFTS, "a list of drafts").drafts):
            if run == str(draft.key) or (run is None and prompt in {None, draft.client_utterance}):
                return Reading(STATUSES[draft.status], draft.written, str(draft.key), draft.because or "")
        return Reading(RunStatus.ABSENT)

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        await self._ask(call, "interrupt the draft", "draft.interrupt", {"deskRef": chat})

    async def delete_chat(self, call: Call, chat: str) -> bool:
        answer = await self._ask(call, "drop the desk", "desk.drop", {"deskRef": chat}, allow="noSuchDesk")
        return answer.problem is None

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        async def page(token: str) -> tuple[list[Desk], str | None]:
            answer = await self._ask(call, "list the desks", "desk.index", {"pageToken": token} if token else {})
            found = decode(answer, DESKS, "a list of desks")
            return found.desks, found.next_cursor

        async for desk in pages(page, ""):
            yield ChatListing(desk.key, utc(desk.born / 1000), empty=desk.size == 0)

    async def models(self, call: Call) -> Sequence[str]:
        answer = await self._ask(call, "list the personas", "persona.all")
        return [each.key for each in decode(answer, PERSONAS, "a list of personas").personas]

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _ask(
        self,
        call: Call,
        doing: str,
        method: str,
        fields: Mapping[str, object] | None = None,
        *,
        allow: str = "",
    ) -> Answer:
        body = urlencode(fields).encode() if fields else None
        url = f"{self.origin}/{method}"
        return await self._http.ask(call, doing, "POST", url, body, headers=FORM, allow={allow})


def problem(answer: Answer) -> Problem | None:
    """Read ``{"ok": false, "errorName": ..., "info": ...}``, whose status is 200."""
    try:
        refusal = REFUSAL.decode(answer.body)
    except ValueError:
        return None
    code = refusal.error_name
    return Problem(code, refusal.info, CODES.get(code, 404), Busy if code == "oneAtATime" else None)


def told(line: bytes, clean: Callable[[str], str]) -> Told:
    frame = FRAME.decode(line)
    match frame.type:
        case "holdOn":
            return Pending(frame.place + 1, frame.queue_length)
        case "chunk":
            return frame.more
        case "error":
            return Failed(RunFailed(clean(frame.info), code=frame.error_name))
        case _:
            return None
