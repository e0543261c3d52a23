"""Zophlane (seed 1), from its documentation and the guide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Generic, Literal, TypeVar
from xml.etree import ElementTree as ET

import msgspec
from yarl import URL

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, RunFailed
from chatlease.events import Failed, Pending, Reading, RunStatus
from chatlease_adapters.http import (
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
    located,
    pages,
    path_part,
    scrubber,
    utc,
)
from chatlease_adapters.sse import ServerSentEvent, SseParser

T = TypeVar("T")


class Result(msgspec.Struct, Generic[T]):
    result: T


class Items(msgspec.Struct, Generic[T]):
    items: list[T]


class Named(msgspec.Struct):
    id: str


class Booth(msgspec.Struct, rename="camel"):
    id: str
    opened: datetime
    number_of_utterances: int


class Job(msgspec.Struct, rename="camel"):
    id: str
    utterance: str
    status: Literal["scheduled", "running", "ready", "complete", "broken", "cancelled"]
    written: str | None
    end_reason: str | None


class Queued(msgspec.Struct, rename="camel"):
    slot: int
    waiting_in_all: int


class Chunk(msgspec.Struct):
    more: str


class Broken(msgspec.Struct):
    code: str
    message: str


class Frame(msgspec.Struct):
    queued: Queued | None = None
    chunk: Chunk | None = None
    broken: Broken | None = None


class Options(msgspec.Struct, forbid_unknown_fields=True):
    system_prompt: str = ""


NAMED = msgspec.json.Decoder(Result[Named])
ORACLES = msgspec.json.Decoder(Result[Items[Named]])
BOOTHS = msgspec.json.Decoder(Result[Items[Booth]])
JOB = msgspec.json.Decoder(Result[Job])
JOBS = msgspec.json.Decoder(Result[Items[Job]])
FRAME = msgspec.json.Decoder(Frame)
PAGE = 2
STATUSES = {
    "scheduled": RunStatus.PENDING,
    "running": RunStatus.GOING,
    "ready": RunStatus.ANSWERED,
    "complete": RunStatus.ANSWERED,
    "broken": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}


class Zophlane:
    service = "zophlane"
    model = "zophlane-large"
    capabilities = Capabilities(
        client_id=True,
        listing=True,
        stopping=True,
        deletion_during_run="harmful",
    )

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.origin = base_url(url)
        self._at = Address(f"{self.origin}/public/rest").at
        self._keys = KeySource(
            "Zophlane",
            "CHATLEASE_ZOPHLANE_API_KEY",
            lambda key: Credential(headers={"Authorization": f"Bearer {key}"}),
            given=api_key,
        )
        self._http = HttpClient(user_agent="zophlane-adapter/1", problem=problem)

    def check_options(self, model: str, options: RunOptions) -> None:
        fit(options, Options, "Zophlane")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        return self._keys.find(account, rejected)

    async def create_chat(self, call: Call, client_key: str) -> str:
        answer = await self._http.ask(call, "create the booth", "PUT", self._booth(client_key))
        return decode(answer, NAMED, "a booth").result.id

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        body = msgspec.json.encode({"body": prompt})
        url = self._booth(chat, "/utterances")
        answer = await self._http.ask(call, "add the utterance", "POST", url, body)
        return decode(answer, NAMED, "an utterance").result.id

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        wanted = {"utterance": prompt, "oracleName": model}
        rules = fit(options, Options, "Zophlane").system_prompt
        if rules:
            wanted["houseRules"] = rules
        body = msgspec.json.encode(wanted)
        stream = await self._http.open(call, "ask for a job", "POST", self._booth(chat, "/jobs"), body)
        clean = scrubber(call)
        job = located(stream, "X-Job-Id")
        call.stream = FrameStream(stream, SseParser().feed, lambda event: told(event, clean))
        return job

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        return call.take_stream()

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        if run is not None:
            answer = await self._http.ask(call, "look at the job", "GET", self._job(chat, run), allow={"job-not-found"})
            return Reading(RunStatus.ABSENT) if answer.problem else reading(decode(answer, JOB, "a job").result)
        jobs = [each for each in await self._jobs(call, chat) if prompt in {None, each.utterance}]
        return reading(jobs[-1]) if jobs else Reading(RunStatus.ABSENT)

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        for each in [run] if run else [job.id for job in await self._jobs(call, chat)]:
            url = self._job(chat, each, "/interrupt")
            await self._http.ask(call, "stop the job", "POST", url, allow={"job-is-over", "job-not-found"})

    async def delete_chat(self, call: Call, chat: str) -> bool:
        answer = await self._http.ask(call, "delete the booth", "DELETE", self._booth(chat), allow={"no-such-booth"})
        return answer.problem is None

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        async def sheet(number: int) -> tuple[list[Booth], int | None]:
            answer = await self._http.ask(call, "list the booths", "GET", self._at("/booths", f"sheet={number}"))
            booths = decode(answer, BOOTHS, "a list of booths").result.items
            return booths, number + 1 if len(booths) == PAGE else None

        async for booth in pages(sheet, 1):
            yield ChatListing(booth.id, utc(booth.opened), empty=booth.number_of_utterances == 0)

    async def models(self, call: Call) -> Sequence[str]:
        answer = await self._http.ask(call, "list the oracles", "GET", self._at("/oracles"))
        return [each.id for each in decode(answer, ORACLES, "a list of oracles").result.items]

    async def aclose(self) -> None:
        await self._http.aclose()

    def _booth(self, booth: str, rest: str = "") -> URL:
        return self._at(f"/booths/{path_part(booth)}{rest}")

    def _job(self, booth: str, job: str, rest: str = "") -> URL:
        return self._booth(booth, f"/jobs/{path_part(job)}{rest}")

    async def _jobs(self, call: Call, booth: str) -> list[Job]:
        answer = await self._http.ask(call, "list the jobs", "GET", self._booth(booth, "/jobs"))
        return decode(answer, JOBS, "a list of jobs").result.items


def problem(answer: Answer) -> Problem | None:
    """Read ``<problem code="..."><text>...</text></problem>``."""
    if answer.status < 400:
        return None
    try:
        root = ET.fromstring(answer.body)
    except ET.ParseError:
        return None
    code = root.get("code", "")
    return Problem(code, root.findtext("text", ""), error=Busy if code == "one-at-a-time" else None)


def reading(job: Job) -> Reading:
    return Reading(STATUSES[job.status], job.written, job.id, job.end_reason or "")


def told(event: ServerSentEvent, clean: Callable[[str], str]) -> Told:
    if event.data == b"[DONE]":
        return None
    frame = FRAME.decode(event.data)
    if frame.queued is not None:
        return Pending(frame.queued.slot + 1, frame.queued.waiting_in_all)
    if frame.chunk is not None:
        return frame.chunk.more
    if frame.broken is not None:
        return Failed(RunFailed(clean(frame.broken.message), code=frame.broken.code))
    return None
