"""Everything that a seed decides about a made-up service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .dice import Dice
from .words import CHATS, ENDS, EVENTS, FAILURES, FIELDS, MODELS, PREFIXES, PROMPTS, RUNS, STARTS, STATES, cased

Layout: TypeAlias = Literal["nested", "flat", "rpc"]
Ids: TypeAlias = Literal["number", "uuid", "prefixed", "slug"]
Key: TypeAlias = Literal["none", "field", "id"]
Paging: TypeAlias = Literal["none", "whole", "cursor", "page", "offset", "link"]
Envelope: TypeAlias = Literal["bare", "data", "noun", "result", "pairs"]
Asking: TypeAlias = Literal["json", "wrapped", "form"]
Wire: TypeAlias = Literal["sse-event", "sse-type", "sse-done", "ndjson-type", "ndjson-key"]
Problem: TypeAlias = Literal["nested", "rfc9457", "plain", "list", "xml", "odd"]
Deletion: TypeAlias = Literal["safe", "harmful", "refused"]
Stopping: TypeAlias = Literal["none", "run", "chat"]
Moment: TypeAlias = Literal["none", "iso", "naive", "seconds", "millis"]
Login: TypeAlias = Literal["bearer", "scheme", "header", "cookie"]

OPTIONS = ("temperature", "top_p", "max_new_tokens", "system_prompt")


@dataclass(frozen=True, slots=True)
class Nouns:
    """What the service calls a chat, a prompt, a run and a model."""

    chat: str
    prompt: str
    run: str
    model: str


@dataclass(frozen=True, slots=True)
class Manners:
    """
    How the service behaves.

    Attributes:
        joined: The call that queues an answer takes the prompt's text, too; there is none that only adds it.
        streams_at_once: The call that queues an answer is answered by the stream.
        stop: What is stopped: a run, all runs of a chat, nothing.
        key: What a client may choose: nothing, a field, the chat's id.
        second_delete_gone: Deleting again is an error; else it is said to be done.
        one_run: An account may have one run under way.
        shows_count: A listing says how many prompts a chat has.
        finished_stream: Streaming a finished run is refused, or gives it all once more.
        text_apart: A finished run's text is asked for by a call of its own.
        one_by_one: A run can be asked for by its id; else only in the chat's list.
        parents: A prompt that is not the first has to name the run that it follows.
    """

    joined: bool
    streams_at_once: bool
    stop: Stopping
    deletion: Deletion
    key: Key
    paging: Paging
    second_delete_gone: bool
    one_run: bool
    shows_count: bool
    finished_stream: Literal["refused", "replayed"]
    text_apart: bool
    one_by_one: bool
    parents: bool
    newest_first: bool
    options: tuple[str, ...]
    page_size: int


@dataclass(frozen=True, slots=True)
class Looks:
    """
    How what it says is written.

    Attributes:
        created_in: Where the id of what was made stands.
        pretty: JSON over several lines, in streams too.
        cumulative: A frame holds the text until now, not the next piece.
        waits: Frames of a run that waits: with its place, without, none.
        first_place: The number of the first in the queue.
        ends_with: The last frame of a good stream: with the whole text, without, or there is none.
    """

    casing: Literal["snake", "camel", "kebab", "pascal"]
    ids: Ids
    envelope: Envelope
    asking: Asking
    created_in: Literal["body", "location"]
    moment: Moment
    pretty: bool
    wire: Wire
    crlf: bool
    cumulative: bool
    waits: Literal["places", "plain", "none"]
    first_place: int
    ends_with: Literal["final", "end", "nothing"]
    problem: Problem
    problem_casing: Literal["snake", "camel", "kebab", "shouting"]
    always_200: bool


@dataclass(frozen=True, slots=True)
class Statuses:
    """The numbers that it answers with."""

    created: int
    queued: int
    deleted: int
    login: int
    gone: int
    invalid: int
    busy: int
    over: int


@dataclass(frozen=True, slots=True)
class Plan:
    """
    A made-up service, as its seed decides it.

    Attributes:
        fields: How each field is written, by what it means.
        events: The kinds of frames, as they are written.
        states: The words for each state of a run; any of them may be used.
        codes: The word for each failure.
        login: Where the secret goes: kind, and the name of scheme, header or cookie.
        models: The first is the default.
    """

    seed: int
    vendor: str
    nouns: Nouns
    layout: Layout
    prefix: str
    manners: Manners
    looks: Looks
    statuses: Statuses
    fields: Mapping[str, str]
    events: Mapping[str, str]
    states: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, str]
    login: tuple[Login, str]
    models: tuple[str, ...]

    @classmethod
    def of(cls, seed: int) -> Plan:
        dice = Dice(seed)
        nouns = Nouns(
            dice.pick("chat", CHATS), dice.pick("prompt", PROMPTS), dice.pick("run", RUNS), dice.pick("model", MODELS)
        )
        vendor = dice.pick("start", STARTS) + dice.pick("end", ENDS)
        layout = dice.pick("layout", _LAYOUTS)
        looks = _looks(dice, layout)
        return cls(
            seed=seed,
            vendor=vendor,
            nouns=nouns,
            layout=layout,
            prefix=dice.pick("prefix", PREFIXES),
            manners=_manners(dice, looks, _paging(dice, looks, layout)),
            looks=looks,
            statuses=_statuses(dice),
            fields=_fields(dice, nouns, looks.casing),
            events={name: cased(dice.pick(f"event {name}", words), looks.casing) for name, words in EVENTS.items()},
            states=_states(dice),
            codes={
                name: cased(_noun(nouns, dice.pick(f"code {name}", words)), looks.problem_casing)
                for name, words in FAILURES.items()
            },
            login=_login(dice, vendor),
            models=tuple(f"{vendor.lower()}-{size}" for size in dice.order("models", ("small", "large", "old"))[:2]),
        )


_LAYOUTS: tuple[Layout, ...] = ("nested", "flat", "rpc", "nested", "flat")
_CASINGS: tuple[Literal["snake", "camel", "kebab", "pascal"], ...] = ("snake", "camel", "kebab", "pascal")
_SHOUTS: tuple[Literal["snake", "camel", "kebab", "shouting"], ...] = ("snake", "camel", "kebab", "shouting")
_IDS: tuple[Ids, ...] = ("number", "uuid", "prefixed", "slug")
_ENVELOPES: tuple[Envelope, ...] = ("bare", "data", "noun", "result", "pairs")
_ASKING: tuple[Asking, ...] = ("json", "wrapped", "form")
_MOMENTS: tuple[Moment, ...] = ("none", "iso", "naive", "seconds", "millis")
_WIRES: tuple[Wire, ...] = ("sse-event", "sse-type", "sse-done", "ndjson-type", "ndjson-key")
_PROBLEMS: tuple[Problem, ...] = ("nested", "rfc9457", "plain", "list", "xml", "odd")
_PAGINGS: tuple[Paging, ...] = ("none", "whole", "cursor", "page", "offset", "link")
_DELETIONS: tuple[Deletion, ...] = ("safe", "harmful", "refused")
_STOPPING: tuple[Stopping, ...] = ("none", "run", "chat")
_KEYS: tuple[Key, ...] = ("none", "field", "id")
_LOGINS: tuple[Login, ...] = ("bearer", "scheme", "header", "cookie")


def _looks(dice: Dice, layout: Layout) -> Looks:
    envelope = dice.pick("envelope", _ENVELOPES)
    return Looks(
        casing=dice.pick("casing", _CASINGS),
        ids=dice.pick("ids", _IDS),
        envelope=envelope,
        asking=dice.pick("asking", _ASKING),
        created_in="location" if layout != "rpc" and dice.chance("created in", 25) else "body",
        moment=dice.pick("moment", _MOMENTS),
        pretty=dice.chance("pretty", 30),
        wire=dice.pick("wire", _WIRES),
        crlf=dice.chance("crlf", 30),
        cumulative=dice.chance("cumulative", 35),
        waits=dice.pick("waits", ("places", "plain", "none")),
        first_place=dice.number("first place", 2),
        ends_with=dice.pick("ends with", ("final", "end", "nothing")),
        problem=dice.pick("problem", _PROBLEMS),
        problem_casing=dice.pick("problem casing", _SHOUTS),
        always_200=layout == "rpc" and dice.chance("always 200", 40),
    )


def _paging(dice: Dice, looks: Looks, layout: Layout) -> Paging:
    paging = dice.pick("paging", _PAGINGS)
    if paging not in {"cursor", "link"}:
        return paging
    if looks.envelope in {"bare", "pairs"}:  # a bare list has no place for a cursor
        return "offset" if layout == "rpc" else "link"
    return "cursor" if layout == "rpc" else paging


def _manners(dice: Dice, looks: Looks, paging: Paging) -> Manners:
    return Manners(
        joined=dice.chance("joined", 35),
        streams_at_once=dice.chance("streams at once", 30),
        stop=dice.pick("stop", _STOPPING),
        deletion=dice.pick("deletion", _DELETIONS),
        key=dice.pick("key", [each for each in _KEYS if each != "field" or paging != "none"]),
        paging=paging,
        second_delete_gone=dice.chance("second delete", 70),
        one_run=dice.chance("one run", 25),
        shows_count=dice.chance("shows count", 60),
        finished_stream=dice.pick("finished stream", ("refused", "replayed")),
        text_apart=dice.chance("text apart", 25),
        one_by_one=dice.chance("one by one", 80),
        parents=dice.chance("parents", 50),
        newest_first=dice.chance("newest first", 50),
        options=tuple(dice.order("options", OPTIONS)[: 1 + dice.number("how many options", 3)]),
        page_size=2 + dice.number("page size", 3),
    )


def _statuses(dice: Dice) -> Statuses:
    return Statuses(
        created=dice.pick("created", (200, 201)),
        queued=dice.pick("queued", (200, 201, 202)),
        deleted=dice.pick("deleted", (200, 204)),
        login=dice.pick("login status", (401, 403)),
        gone=dice.pick("gone", (404, 410)),
        invalid=dice.pick("invalid", (400, 422)),
        busy=dice.pick("busy", (409, 423)),
        over=dice.pick("over", (409, 410)),
    )


def _noun(nouns: Nouns, name: str) -> str:
    return name.format(chat=nouns.chat, prompt=nouns.prompt, run=nouns.run, model=nouns.model)


def _fields(dice: Dice, nouns: Nouns, casing: str) -> dict[str, str]:
    taken: dict[str, str] = {}
    for meaning, names in FIELDS.items():
        choices = [cased(_noun(nouns, name), casing) for name in dice.order(f"field {meaning}", names)]
        taken[meaning] = next(each for each in choices if each not in taken.values())
    return taken


def _states(dice: Dice) -> dict[str, tuple[str, ...]]:
    """Return one or two words for each state, none twice; or numbers."""
    if dice.chance("states are numbers", 15):
        return {name: (str(number),) for number, name in enumerate(dice.order("states", STATES))}
    return {
        name: tuple(dice.order(f"state {name}", words)[: 1 + dice.number(f"words for {name}", 2)])
        for name, words in STATES.items()
    }


def _login(dice: Dice, vendor: str) -> tuple[Login, str]:
    kind = dice.pick("login", _LOGINS)
    name = {
        "bearer": "Bearer",
        "scheme": dice.pick("scheme", ("Token", "Key", vendor)),
        "header": dice.pick("header", ("X-Api-Key", f"X-{vendor}-Key", "Api-Token")),
        "cookie": dice.pick("cookie", ("sid", f"{vendor.lower()}_session", "auth-token")),
    }
    return kind, name[kind]
