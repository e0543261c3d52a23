"""Oruora, as Chatlease sees it: a booth is a chat, an inquiry a prompt, a generation a run, a brain a model."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode

from msgspec import Meta, Struct
from msgspec.json import Decoder

from chatlease.adapter import AnswerStream, Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Busy, RunFailed
from chatlease.events import Failed, Pending, Reading, RunStatus
from chatlease_adapters.http import (
    FORM,
    Address,
    Answer,
    FrameStream,
    Growing,
    HttpClient,
    KeySource,
    Problem,
    Told,
    base_url,
    decode,
    fit,
    given,
    scrubber,
    usual_problem,
)
from chatlease_adapters.lines import JsonLines


class Made(Struct):
    key: int


class Generation(Struct, rename="kebab"):
    key: int
    inquiry_ref: int
    progress: Literal[0, 1, 2, 3, 4]
    answer: str | None
    end_reason: str | None


class Brain(Struct):
    key: str


class Refusal(Struct):
    ok: Literal[False]
    slug: str
    info: str = ""


class Frame(Struct):
    type: str


class Growth(Struct):
    partial: str


class Failure(Struct):
    slug: str
    info: str = ""


class Options(Struct, forbid_unknown_fields=True):
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None


Fields = Mapping[str, str | float | None]
MADE = Decoder(Made)
GENERATION = Decoder(Generation)
GENERATIONS = Decoder(list[Generation])
BRAINS = Decoder(list[Brain])
REFUSAL = Decoder(Refusal)
FRAME = Decoder(Frame)
GROWTH = Decoder(Growth)
FAILURE = Decoder(Failure)
STATES = {
    3: RunStatus.PENDING,
    1: RunStatus.GOING,
    4: RunStatus.ANSWERED,
    2: RunStatus.FAILED,
    0: RunStatus.CANCELLED,
}
STATUSES = {
    "notLoggedIn": 401,
    "unknownBooth": 404,
    "noSuchInquiry": 404,
    "unknownGeneration": 404,
    "boothBusy": 409,
    "boothExists": 409,
    "unexpected": 500,
}  # any other is 400


class Oruora:
    """One Oruora server, for any number of accounts."""

    service = "oruora"
    model = "oruora-old"
    capabilities = Capabilities(second_delete="deleted")

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.origin = base_url(url)
        self._at = Address(self.origin).at
        self._keys = KeySource("Oruora", "CHATLEASE_ORUORA_API_KEY", login, given=api_key)
        self._http = HttpClient(user_agent="oruora-adapter/1", problem=problem)

    def check_options(self, model: str, options: RunOptions) -> None:
        fit(options, Options, "Oruora")

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        return self._keys.find(account, rejected)

    async def create_chat(self, call: Call, client_key: str) -> str:
        return await self._make(call, "create a booth", "/x/booth.new", {})

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        fields = {"booth": chat, "wording": prompt, "after-generation": parent}
        return await self._make(call, "add an inquiry", "/x/inquiry.post", fields)

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        wanted = fit(options, Options, "Oruora")
        fields = {
            "booth": chat,
            "inquiry-ref": prompt,
            "using": model,
            "creativity": wanted.temperature,
            "nucleus": wanted.top_p,
        }
        return await self._make(call, "ask for a generation", "/x/generation.request", fields)

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        body = await self._http.open(
            call,
            "watch a generation",
            "POST",
            self._at("/x/generation.feed"),
            form({"of-generation": run}),
            media_type="application/x-ndjson",
            headers=FORM,
        )
        growing, clean = Growing(), scrubber(call)
        return FrameStream(body, JsonLines().feed, lambda line: tell(line, growing, clean))

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        if run is None:
            answer = await self._ask(call, "list the generations", "/x/generation.index", {"booth": chat})
            listed = decode(answer, GENERATIONS, "a list of generations")
            found = (each for each in listed if prompt in (None, str(each.inquiry_ref)))
            return reading(next(found, None))  # the newest is the first
        wanted, gone = {"of-generation": run}, {"unknownGeneration"}
        answer = await self._ask(call, "look at a generation", "/x/generation.show", wanted, allow=gone)
        return reading(None if answer.problem else decode(answer, GENERATION, "a generation"))

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Do nothing: Oruora has no call for it."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        await self._ask(call, "delete a booth", "/x/booth.remove", {"booth": chat})
        return True  # of a booth that is gone, too

    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        """Yield nothing: Oruora has no such list."""
        return
        yield

    async def models(self, call: Call) -> Sequence[str]:
        answer = await self._ask(call, "list the brains", "/x/brain.index", {})
        return [brain.key for brain in decode(answer, BRAINS, "a list of brains")]

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _make(self, call: Call, doing: str, path: str, fields: Fields) -> str:
        return str(decode(await self._ask(call, doing, path, fields), MADE, "an object with a key").key)

    async def _ask(self, call: Call, doing: str, path: str, fields: Fields, allow: Collection[str] = ()) -> Answer:
        return await self._http.ask(call, doing, "POST", self._at(path), form(fields), headers=FORM, allow=allow)


def login(key: str) -> Credential:
    return Credential(headers={"Api-Token": key})


def form(fields: Fields) -> bytes:
    return urlencode(given(fields)).encode()


def problem(answer: Answer) -> Problem | None:
    """Read a refusal, which Oruora gives with status 200."""
    try:
        refusal = REFUSAL.decode(answer.body)
    except ValueError:
        return usual_problem(answer)
    error = Busy if refusal.slug == "boothBusy" else None
    return Problem(refusal.slug, refusal.info, STATUSES.get(refusal.slug, 400), error)


def reading(generation: Generation | None) -> Reading:
    """Say where a generation stands."""
    if generation is None:
        return Reading(RunStatus.ABSENT)
    status = STATES[generation.progress]
    text = generation.answer if status is RunStatus.ANSWERED else None
    code = (generation.end_reason or "") if status is RunStatus.FAILED else ""
    return Reading(status, text, str(generation.key), code)


def tell(line: bytes, growing: Growing, clean: Callable[[str], str]) -> Told:
    """Say what a line of the stream means; its kind first, as other kinds may have fields of the same names."""
    match FRAME.decode(line).type:
        case "hold-on":
            return Pending(0, 0)
        case "growth":
            return growing.token(GROWTH.decode(line).partial)
        case "failure":
            failure = FAILURE.decode(line)
            return Failed(RunFailed(clean(failure.info), code=failure.slug))
        case _:
            return None
