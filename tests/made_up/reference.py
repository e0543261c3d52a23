"""One adapter for every made-up service: it reads the plan, as no author can. It proves that a plan can be adapted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import cast
from urllib.parse import quote, unquote, urlencode
from uuid import uuid4

from chatlease.adapter import AnswerStream, Call, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, NotAuthenticated, ProtocolChanged, RunFailed, UsageError
from chatlease.events import Failed, Final, Pending, Reading, RunStatus
from chatlease_adapters.http import (
    Answer,
    FrameStream,
    Growing,
    HttpClient,
    HttpStream,
    Problem,
    Told,
    base_url,
    located,
    pages,
    path_part,
    plain,
    scrubber,
    utc,
)
from chatlease_adapters.lines import JsonLines
from chatlease_adapters.sse import ServerSentEvent, SseParser

from .bodies import RANGES, Scribe
from .examine import capabilities
from .frames import Framer
from .operations import Operation, operations
from .plan import Plan
from .problems import status_of
from .server import login, run_header

_STATUSES = {
    "pending": RunStatus.PENDING,
    "going": RunStatus.GOING,
    "answered": RunStatus.ANSWERED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}
Record = Mapping[str, object]
Place = tuple[tuple[str, object], ...]


class Reference:
    """The service of a plan; see `chatlease.adapter.Adapter`."""

    def __init__(self, plan: Plan, url: str, *, key: str = "") -> None:
        self.plan = plan
        self.origin = base_url(url)
        self.service = plan.vendor.lower()
        self.model = plan.models[0]
        self.capabilities = capabilities(plan)
        self._key = key
        self._scribe = Scribe(plan)
        self._calls = operations(plan)
        self._codes = {code: failure for failure, code in plan.codes.items()}
        self._http = HttpClient(user_agent="reference/1", problem=self._problem)

    def check_options(self, model: str, options: RunOptions) -> None:
        for name, value in options.items():
            low, high = RANGES.get(name, (0, 0))
            good = low <= value <= high if isinstance(value, int | float) and name in RANGES else isinstance(value, str)
            if name not in self.plan.manners.options or not good:
                raise UsageError(f"no option {name!r}")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        if account is not None or not self._key:
            raise NotAuthenticated("no key", code="no-credentials", sent=False)
        return login(self.plan, self._key)

    async def create_chat(self, call: Call, client_key: str) -> str:
        given = {"field": {"key": client_key}, "id": {"chat": client_key}, "none": {}}[self.plan.manners.key]
        return self._made(await self._ask(call, "create_chat", given))

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        if self.plan.manners.joined:
            return json.dumps([str(uuid4()), parent])
        return self._made(await self._ask(call, "send_prompt", self._said(chat, prompt, parent)))

    def _said(self, chat: str, text: str, parent: str | None) -> dict[str, object]:
        follows = {"parent": parent} if parent and self.plan.manners.parents else {}
        return {"chat": chat, "text": text, **follows}

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        given: dict[str, object] = {"chat": chat, "prompt": prompt, "model": model, **options}
        if self.plan.manners.joined:
            label, parent = json.loads(prompt)
            given |= {"label": label, **self._said(chat, call.text, parent)}
        if not self.plan.manners.streams_at_once:
            return self._made(await self._ask(call, "queue_assistant", given))
        stream = await self._open(call, "queue_assistant", given)
        assert stream is not None
        run = located(stream, run_header(self.plan))
        call.stream = self._stream(call, stream)
        return run

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        if self.plan.manners.streams_at_once:
            return call.take_stream()
        stream = await self._open(call, "open_stream", {"chat": chat, "run": run})
        return None if stream is None else self._stream(call, stream)

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        if run is not None and "read_run" in self._calls:
            answer = await self._ask(call, "read_run", {"chat": chat, "run": run}, "no_run")
            return Reading(RunStatus.ABSENT) if answer.problem else await self._reading(call, chat, self._one(answer))
        answer = await self._ask(call, "list_runs", {"chat": chat})
        runs = list(self._many(answer))
        for each in runs if self.plan.manners.newest_first else reversed(runs):
            if run is not None and str(each["id"]) == run:
                return await self._reading(call, chat, each)
            if run is None and (prompt is None or self._is_to(each, prompt)):
                return await self._reading(call, chat, each)
        return Reading(RunStatus.ABSENT)

    def _is_to(self, run: Record, prompt: str) -> bool:
        if self.plan.manners.joined:
            return bool(run["label"] == json.loads(prompt)[0])
        return str(run["prompt"]) == prompt

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        if self.plan.manners.stop == "none":
            return
        if self.plan.manners.stop == "chat":
            await self._ask(call, "stop_run", {"chat": chat})
            return
        listed = [run] if run else [str(each["id"]) for each in self._many(await self._list(call, chat))]
        for each in listed:
            await self._ask(call, "stop_run", {"chat": chat, "run": each}, "over", "no_run")

    async def _list(self, call: Call, chat: str) -> Answer:
        return await self._ask(call, "list_runs", {"chat": chat})

    async def delete_chat(self, call: Call, chat: str) -> bool:
        answer = await self._ask(call, "delete_chat", {"chat": chat}, "no_chat")
        if answer.content_type == "text/html":
            raise ProtocolChanged("no page", "a page", status=answer.status)
        return answer.problem is None

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        async def page(
            given: Place,
        ) -> tuple[list[Record], Place | None]:
            answer = await self._ask(call, "list_chats", dict(given))
            found = list(self._many(answer))
            return found, self._following(answer, dict(given), found)

        first: Place = ()
        async for each in pages(page, first):
            key, count = each.get("key"), each.get("count")
            empty = None if count is None else count == 0
            yield ChatListing(str(each["id"]), self._moment(each.get("created")), empty, cast("str | None", key))

    def _following(self, answer: Answer, given: Record, found: Sequence[Record]) -> Place | None:
        full = len(found) == self.plan.manners.page_size
        match self.plan.manners.paging:
            case "cursor":
                body = json.loads(answer.body)
                body = body.get("result", body)
                after = body[self._scribe.name("next")]
                return (("cursor", after),) if after is not None else None
            case "link":
                link = answer.headers.get("Link")
                return (("cursor", unquote(link.partition("=")[2].partition(">")[0])),) if link else None
            case "page":
                return (("page", int(str(given.get("page", 1))) + 1),) if full else None
            case "offset":
                return (("offset", int(str(given.get("offset", 0))) + len(found)),) if full else None
            case _:
                return None

    def _moment(self, value: object) -> datetime | None:
        if isinstance(value, int):
            return utc(value / 1000 if self.plan.looks.moment == "millis" else value)
        return utc(datetime.fromisoformat(str(value))) if value else None

    async def models(self, call: Call) -> Sequence[str]:
        return [str(each["id"]) for each in self._many(await self._ask(call, "models", {}))]

    async def aclose(self) -> None:
        await self._http.aclose()

    # ------------------------------------------------------------------------------------------------------ the calls

    def _request(self, operation: Operation, given: Record) -> tuple[str, bytes | None, dict[str, str]]:
        meanings = (*operation.body, *operation.optional)
        body, kind = self._scribe.asked(operation, {each: given[each] for each in meanings if each in given})
        path = operation.path.format_map({name: path_part(str(value)) for name, value in given.items()})
        query = {self._scribe.name(each): str(given[each]) for each in operation.query if each in given}
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return f"{self.origin}{path}{asked}", body, {"Content-Type": kind} if kind else {}

    async def _ask(self, call: Call, step: str, given: Record, *allow: str) -> Answer:
        operation = self._calls[step]
        url, body, headers = self._request(operation, given)
        codes = {self.plan.codes[each] for each in allow}
        return await self._http.ask(call, step, operation.method, url, body, headers=headers, allow=codes)

    async def _open(self, call: Call, step: str, given: Record) -> HttpStream | None:
        operation = self._calls[step]
        url, body, headers = self._request(operation, given)
        kind = Framer(self.plan).content_type
        over = {self.plan.codes["over"]}
        return await self._http.open(
            call, step, operation.method, url, body, headers=headers, media_type=kind, allow=over
        )

    def _problem(self, answer: Answer) -> Problem | None:
        if answer.status < 400 and not (self.plan.looks.always_200 and b'"ok": false' in answer.body):
            return None
        text = answer.body.decode("utf-8", "replace")
        code = next((each for each in self._codes if f"{each}:" in text or f'"{each}"' in text), "")
        code = code or next((each for each in self._codes if f"/{each}" in text), "")
        failure = self._codes.get(code, "")
        status = status_of(self.plan, failure) if failure else None
        return Problem(code, "", status, Busy if failure == "busy" else None)

    # ----------------------------------------------------------------------------------------------------- the bodies

    def _made(self, answer: Answer) -> str:
        if self.plan.looks.created_in == "location":
            return located(answer)
        return str(self._one(answer)["id"])

    def _one(self, answer: Answer) -> Record:
        return self._record(self._unpacked(answer))

    def _many(self, answer: Answer) -> list[Record]:
        value = self._unpacked(answer)
        if isinstance(value, dict):
            inside: list[object] = [*cast("dict[str, object]", value).values()]
            value = next(filter(_is_list, inside))
        return [self._record(each) for each in cast("list[object]", value)]

    def _unpacked(self, answer: Answer) -> object:
        try:
            value = json.loads(answer.body)
        except ValueError:
            value = None
        if self.plan.looks.envelope in {"pairs", "bare"} or not isinstance(value, dict):
            if value is None:
                raise ProtocolChanged("JSON", "none", status=answer.status)
            return value
        around = cast("dict[str, object]", value)
        return around["result"] if "result" in around else next(iter(around.values()))

    def _record(self, value: object) -> Record:
        record = dict(cast("dict[str, object]", value))
        return {meaning: record[name] for meaning, name in self.plan.fields.items() if name in record}

    async def _reading(self, call: Call, chat: str, run: Record) -> Reading:
        state = next(name for name, words in self.plan.states.items() if str(run["state"]) in words)
        name, status = str(run["id"]), _STATUSES[state]
        if status is not RunStatus.ANSWERED:
            return Reading(status, None, name, str(run["why"] or "") if status is RunStatus.FAILED else "")
        if "read_text" not in self._calls:
            return Reading(status, str(run["answer"]), name)
        answer = await self._ask(call, "read_text", {"chat": chat, "run": name})
        return Reading(status, plain(answer, "a text"), name)

    def _stream(self, call: Call, body: HttpStream) -> AnswerStream:
        tell = _Tell(self.plan, scrubber(call))
        if not self.plan.looks.wire.startswith("sse"):
            return FrameStream(body, JsonLines().feed, tell.line)
        return FrameStream(body, SseParser().feed, tell.event)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


class _Tell:
    def __init__(self, plan: Plan, clean: Callable[[str], str]) -> None:
        self.plan = plan
        self._clean = clean
        self._growing = Growing()
        self._kinds = {name: kind for kind, name in plan.events.items()}
        self._fields = {name: meaning for meaning, name in plan.fields.items()}

    def line(self, line: bytes) -> Told:
        return self._told(json.loads(line), "")

    def event(self, event: ServerSentEvent) -> Told:
        return None if event.data == b"[DONE]" else self._told(json.loads(event.data), event.type)

    def _told(self, value: dict[str, object], kind: str) -> Told:
        if self.plan.looks.wire in {"sse-done", "ndjson-key"}:
            kind, value = cast("tuple[str, dict[str, object]]", next(iter(value.items())))
        elif self.plan.looks.wire != "sse-event":
            kind = str(value[self.plan.fields["type"]])
        fields = {self._fields[name]: each for name, each in value.items()}
        tell: Mapping[str, Callable[[Record], Told]] = {
            "wait": self._waits,
            "token": self._token,
            "final": lambda fields: Final(str(fields["answer"])),
            "failed": lambda fields: Failed(RunFailed(self._clean(str(fields["said"])), code=str(fields["code"]))),
        }
        known = tell.get(self._kinds[kind])
        return known(fields) if known else None

    def _waits(self, fields: Record) -> Told:
        place = int(str(fields.get("position", -1))) + 1 - self.plan.looks.first_place
        return Pending(place if "position" in fields else 0, int(str(fields.get("size", 0))))

    def _token(self, fields: Record) -> Told:
        return self._growing.token(str(fields["sofar"])) if "sofar" in fields else str(fields["piece"])
