"""Every path and every fault, over real HTTP on loopback: Open-Assistant's adapter, LangGraph's, and the guide's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Literal

import pytest

from chatlease import State, Trigger
from chatlease.adapter import Credential
from chatlease.testing import Exploration, explore
from chatlease_adapters.langgraph import LangGraph
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import SESSION_COOKIE, STEPS, Service, Work, running
from tests.langgraph import fake
from tests.pages import block
from tests.parley import parley

pytestmark = pytest.mark.slow

WEBSITE = Credential(cookies={SESSION_COOKIE: "right-secret"})
SERVER = Credential(headers={"Authorization": "Bearer right-secret"})
NEVER = (Trigger.QUEUE_ASSISTANT, State.ASSISTANT_QUEUED)
HARMFUL = (Trigger.DELETE_CHAT, State.ASSISTANT_QUEUED)


def whole(report: Exploration, *unfired: tuple[Trigger, State], narrowed: bool = False) -> None:
    """Everything was walked, and every fault happened that was to."""
    assert report.complete != narrowed
    assert report.not_fired.keys() == set(unfired)
    assert report.missed == 0
    assert min(report.faults.values()) >= 10


async def word_by_word(work: Work) -> AsyncGenerator[str]:
    """Say the prompt again, so slowly that a stream is opened before the end; measured in passes of the loop."""
    for word in work.thread[-1][1].split(" "):
        for _ in range(30):
            await asyncio.sleep(0)
        yield f"{word} "


FEW = ("lost", "cancel-in", "end", "failed", "down", "drop")


@pytest.mark.parametrize(("dialect", "faults"), [("website", None), ("server", FEW)], ids=["website", "server"])
async def test_open_assistants_adapter_keeps_every_law_on_every_path(
    dialect: Literal["website", "server"], faults: Sequence[str] | None
) -> None:
    known = {"right-secret": "anna"}
    async with running(answers=word_by_word, rate_limit=None, auth="strict", sessions=known, tokens=known) as service:
        report = await explore(
            lambda: OpenAssistant(url=service.url, dialect=dialect),
            credential=WEBSITE if dialect == "website" else SERVER,
            model="_lorem",
            chats=lambda: service.chats,
            harm=lambda: len(service.lost_messages),
            breaking={kind: failing(service, kind) for kind in ("drop", "500-after", "html")},
            faults=faults,
        )
        whole(report, NEVER, HARMFUL, narrowed=faults is not None)
        assert not service.chats


def failing(service: Service, kind: str) -> Callable[[str], object]:
    """Have a step fail at the local service itself, where it has that step."""

    def fail(step: str) -> object:
        if step in STEPS:
            service.faults.add(step, kind)
        return service.faults.clear

    return fail


async def test_langgraphs_adapter_keeps_every_law_on_every_path() -> None:
    async with fake.running() as server:
        server.keys = {"right-secret"}
        report = await explore(
            lambda: LangGraph(server.url),
            credential=Credential(headers={"x-api-key": "right-secret"}),
            chats=lambda: server.threads,
            harm=lambda: len(server.ghosts),
            breaking={kind: unreachable(server, kind) for kind in ("drop", "lost")},
        )
        whole(report, NEVER, HARMFUL)
        assert not server.threads
        assert not server.runs_under_way


ROUTES = {
    "create_chat": "POST /threads",
    "queue_assistant": "POST /threads/{thread}/runs/stream",
    "read_answer": "GET /threads/{thread}/runs/{run}",
    "delete_chat": "DELETE /threads/{thread}",
}


def unreachable(server: fake.Server, kind: str) -> Callable[[str], object]:
    """Have the connection of a step break, after the effect or before it."""

    def fail(step: str) -> object:
        server.faults[ROUTES.get(step, "")].append(kind)
        return server.faults.clear

    return fail


async def test_the_guides_adapter_keeps_every_law_on_every_path() -> None:
    written = await block("adapters/README.md", "class Parley:").run({"__name__": "chatlease_adapter_parley"})
    async with parley() as server:
        report = await explore(
            lambda: written["Parley"](server.url),
            credential=Credential(headers={"Authorization": "Bearer right"}),
            chats=lambda: server.rooms,
        )
        whole(report, NEVER)
        assert not server.rooms
