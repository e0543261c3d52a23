"""The calls of a made-up service: where each is, what it takes, what it gives; read by server and documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .dice import Dice
from .plan import Plan
from .words import VERBS, cased, plural

Gives: TypeAlias = Literal[
    "made-chat", "made-prompt", "made-run", "run", "runs", "text", "chats", "models", "stream", "nothing"
]


@dataclass(frozen=True, slots=True)
class Operation:
    """
    A call.

    Attributes:
        step: What it does, in our words; also the name of the method of `store.Store`.
        path: A template of the path; the braces hold meanings.
        query: Meanings that are in the query; all may be left out, but for ids.
        body: Meanings that have to be in the body.
        optional: Meanings that may be in the body.
        wrap: The noun around the body, where bodies are wrapped.
        status: Of its success.
    """

    step: str
    method: str
    path: str
    gives: Gives
    status: int
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    wrap: str = ""


def operations(plan: Plan) -> dict[str, Operation]:
    """Return the calls that this service has, by their steps."""
    makers = {"nested": _nested, "flat": _flat, "rpc": _rpc}
    return {each.step: each for each in makers[plan.layout](plan)}


def _verb(plan: Plan, step: str) -> str:
    return Dice(plan.seed).pick(f"verb {step}", VERBS[step])


def _made(plan: Plan) -> tuple[str, ...]:
    return {"none": (), "field": ("key",), "id": ("chat",)}[plan.manners.key]


def _says(plan: Plan, *places: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a prompt has to bring, and what it may."""
    return (*places, "text"), ("parent",) if plan.manners.parents else ()


def _queues(plan: Plan, *places: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a run has to bring, and what it may."""
    settings = ("model", *plan.manners.options)
    if not plan.manners.joined:
        return (*places, "prompt"), settings
    needed, may = _says(plan, *places)
    return (*needed, "label"), (*may, *settings)


def _pages(plan: Plan) -> tuple[str, ...]:
    return {"cursor": ("cursor",), "link": ("cursor",), "page": ("page",), "offset": ("offset",)}.get(
        plan.manners.paging, ()
    )


def _nested(plan: Plan) -> Iterator[Operation]:
    names, manners, statuses = plan.nouns, plan.manners, plan.statuses
    chats = f"{plan.prefix}/{plural(names.chat)}"
    chat = f"{chats}/{{chat}}"
    runs = f"{chat}/{plural(names.run)}"
    run = f"{runs}/{{run}}"
    if manners.key == "id":
        yield Operation("create_chat", "PUT", chat, "made-chat", statuses.created)
    else:
        yield Operation("create_chat", "POST", chats, "made-chat", statuses.created, (), (), _made(plan), names.chat)
    if not manners.joined:
        says, may = _says(plan)
        yield Operation(
            "send_prompt",
            "POST",
            f"{chat}/{plural(names.prompt)}",
            "made-prompt",
            statuses.created,
            (),
            says,
            may,
            names.prompt,
        )
    asks, settings = _queues(plan)
    yield Operation("queue_assistant", "POST", runs, "made-run", statuses.queued, (), asks, settings, names.run)
    yield from _reads(plan, run, runs, ())
    if manners.stop == "run":
        yield Operation("stop_run", "POST", f"{run}/{_verb(plan, 'stop_run')}", "nothing", statuses.deleted)
    if manners.stop == "chat":
        yield Operation("stop_run", "POST", f"{chat}/{_verb(plan, 'stop_run')}", "nothing", statuses.deleted)
    yield Operation("delete_chat", "DELETE", chat, "nothing", statuses.deleted)
    yield from _lists(plan, chats)


def _flat(plan: Plan) -> Iterator[Operation]:
    names, manners, statuses = plan.nouns, plan.manners, plan.statuses
    chats, runs = f"{plan.prefix}/{plural(names.chat)}", f"{plan.prefix}/{plural(names.run)}"
    run = f"{runs}/{{run}}"
    yield Operation("create_chat", "POST", chats, "made-chat", statuses.created, (), *_create(plan), names.chat)
    if not manners.joined:
        prompts = f"{plan.prefix}/{plural(names.prompt)}"
        says, may = _says(plan, "chat")
        yield Operation("send_prompt", "POST", prompts, "made-prompt", statuses.created, (), says, may, names.prompt)
    asks, settings = _queues(plan, "chat")
    yield Operation("queue_assistant", "POST", runs, "made-run", statuses.queued, (), asks, settings, names.run)
    yield from _reads(plan, run, runs, ("chat",))
    verb = _verb(plan, "stop_run")
    if manners.stop == "run":
        yield Operation("stop_run", "DELETE", run, "nothing", statuses.deleted)
    if manners.stop == "chat":
        yield Operation("stop_run", "POST", f"{runs}/{verb}", "nothing", statuses.deleted, (), ("chat",), (), names.run)
    yield Operation("delete_chat", "DELETE", f"{chats}/{{chat}}", "nothing", statuses.deleted)
    yield from _lists(plan, chats)


def _create(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (_made(plan), ()) if plan.manners.key == "id" else ((), _made(plan))


def _reads(plan: Plan, run: str, runs: str, place: tuple[str, ...]) -> Iterator[Operation]:
    manners = plan.manners
    if not manners.streams_at_once:
        yield Operation("open_stream", "GET", f"{run}/{_verb(plan, 'open_stream')}", "stream", 200)
    if manners.one_by_one:
        yield Operation("read_run", "GET", run, "run", 200)
    if manners.text_apart:
        yield Operation("read_text", "GET", f"{run}/{_verb(plan, 'read_text')}", "text", 200)
    yield Operation("list_runs", "GET", runs, "runs", 200, place)


def _lists(plan: Plan, chats: str) -> Iterator[Operation]:
    if plan.manners.paging != "none":
        yield Operation("list_chats", "GET", chats, "chats", 200, _pages(plan))
    yield Operation("models", "GET", f"{plan.prefix}/{plural(plan.nouns.model)}", "models", 200)


def _rpc(plan: Plan) -> Iterator[Operation]:
    names, manners = plan.nouns, plan.manners

    def call(step: str, noun: str, gives: Gives, *body: str, optional: tuple[str, ...] = ()) -> Operation:
        path = f"{plan.prefix}/{cased(noun, plan.looks.casing)}.{_verb(plan, step)}"
        return Operation(step, "POST", path, gives, 200, (), body, optional, noun)

    needed, may = _create(plan)
    yield call("create_chat", names.chat, "made-chat", *needed, optional=may)
    if not manners.joined:
        says, parents = _says(plan, "chat")
        yield call("send_prompt", names.prompt, "made-prompt", *says, optional=parents)
    asks, settings = _queues(plan, "chat")
    yield call("queue_assistant", names.run, "made-run", *asks, optional=settings)
    if not manners.streams_at_once:
        yield call("open_stream", names.run, "stream", "run")
    if manners.one_by_one:
        yield call("read_run", names.run, "run", "run")
    if manners.text_apart:
        yield call("read_text", names.run, "text", "run")
    yield call("list_runs", names.run, "runs", "chat")
    if manners.stop != "none":
        yield call("stop_run", names.run, "nothing", manners.stop)
    yield call("delete_chat", names.chat, "nothing", "chat")
    if manners.paging != "none":
        yield call("list_chats", names.chat, "chats", optional=_pages(plan))
    yield call("models", names.model, "models")
