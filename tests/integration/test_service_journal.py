"""The local service's journal: by it a harness knows what happened to which chat, by whom, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from chatlease.testing import ManualClock
from chatlease_adapters.open_assistant.service import SESSION_COOKIE, Service, running
from tests.integration.scenarios.client import SiteClient, site_client, until


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=0.0)


@asynccontextmanager
async def alice(clock: ManualClock, **options: Any) -> AsyncGenerator[tuple[Service, SiteClient], None]:
    options = {"journal": 100, "actor_header": "X-Actor", **options}
    async with running(clock=clock, **options) as service, site_client(service) as client:
        client.http.headers["X-Actor"] = "alice/owner"
        yield service, client


async def journal(client: SiteClient, after: int = 0) -> dict[str, Any]:
    origin = client.url.removesuffix("/api/chat")
    async with client.http.get(f"{origin}/_chatlease/journal", params={"after": after}) as response:
        assert response.status == 200
        page: dict[str, Any] = await response.json()
        return page


async def story(client: SiteClient) -> list[tuple[str, str, int, str, str]]:
    entries = (await journal(client))["entries"]
    return [(each["step"], each["chat"], each["status"], each["effect"], each["fault"]) for each in entries]


async def test_there_is_no_journal_unless_it_is_asked_for(clock: ManualClock) -> None:
    async with alice(clock, journal=0) as (service, client):
        await client.create()
        async with client.http.get(f"{service.url}/_chatlease/journal") as response:
            assert response.status == 404


async def test_every_request_is_told_with_its_chat_and_its_effect(clock: ManualClock) -> None:
    async with alice(clock) as (_, client):
        chat = await client.create()
        prompt = await client.prompt(chat)
        await client.queue(chat, prompt)
        await client.delete(chat)
        await client.delete(chat)
        await client.call("GET", params={"chat_id": chat})
        assert await story(client) == [
            ("create_chat", chat, 200, "created", ""),
            ("send_prompt", chat, 200, "done", ""),
            ("queue_assistant", chat, 200, "done", ""),
            ("delete_chat", chat, 200, "deleted", ""),
            ("delete_chat", chat, 500, "", ""),
            ("read_chat", chat, 404, "", ""),
        ]


async def test_the_other_dialects_requests_are_told_in_the_same_words(clock: ManualClock) -> None:
    async with alice(clock) as (service, client):
        async with client.http.post(f"{service.url}/chats", json={}) as response:
            chat = (await response.json())["id"]
        for _ in range(2):
            async with client.http.delete(f"{service.url}/chats/{chat}"):
                pass
        assert await story(client) == [
            ("create_chat", chat, 200, "created", ""),
            ("delete_chat", chat, 200, "deleted", ""),
            ("delete_chat", chat, 404, "", ""),
        ]


async def test_an_entry_tells_who_acted_for_which_user_and_when(clock: ManualClock) -> None:
    async with alice(clock) as (service, client):
        await clock.advance(7)
        await client.create()
        client.http.headers["X-Actor"] = "bob/sweep"
        await client.call("GET")
        owner, sweeper = (await journal(client))["entries"]
        assert (owner["number"], owner["time"], owner["method"], owner["path"]) == (1, 7.0, "POST", "/api/chat")
        assert owner["user"] == sweeper["user"] == service.user_of("alice")
        assert (owner["actor"], sweeper["actor"]) == ("alice/owner", "bob/sweep")


async def test_a_request_whose_login_is_refused_is_told_without_a_user(clock: ManualClock) -> None:
    async with alice(clock, auth="strict") as (_, client):
        await client.call("POST")
        (entry,) = (await journal(client))["entries"]
        assert (entry["user"], entry["status"], entry["effect"]) == ("", 403, "")


@pytest.mark.parametrize(
    ("fault", "told"),
    [("drop", (200, "created")), ("503-after", (200, "created")), ("500", (500, "")), ("html", (200, ""))],
)
async def test_a_fault_is_told_with_what_happened_in_spite_of_it(
    clock: ManualClock, fault: str, told: tuple[int, str]
) -> None:
    async with alice(clock) as (service, client):
        service.faults.add("create_chat", fault)
        try:
            await client.call("POST")
        except aiohttp.ClientError:
            assert fault == "drop"
        (entry,) = (await journal(client))["entries"]
        assert (entry["status"], entry["effect"]) == told
        assert entry["fault"]
        assert bool(entry["chat"]) is bool(service.chats)


async def test_an_effect_that_comes_late_is_told_when_it_comes_although_the_client_has_left(clock: ManualClock) -> None:
    async with alice(clock) as (service, client):
        service.faults.add("create_chat", "delay(5)")
        task = asyncio.create_task(client.call("POST"))
        await until(lambda: bool(service.faults.hits))
        task.cancel()
        await asyncio.wait({task})
        early = await client.create()
        await clock.advance(5)
        await until(lambda: len(service.chats) == 2)
        first, second = (await journal(client))["entries"]
        assert (first["chat"], first["time"]) == (early, 0.0)
        assert (second["fault"], second["effect"], second["time"]) == ("delay", "created", 5.0)
        assert second["actor"] == "alice/owner"


async def test_what_was_read_is_forgotten_and_what_fell_out_is_counted(clock: ManualClock) -> None:
    async with alice(clock, journal=3) as (_, client):
        for _ in range(2):
            await client.create()
        page = await journal(client)
        assert [entry["number"] for entry in page["entries"]] == [1, 2]
        for _ in range(4):
            await client.create()
        page = await journal(client, after=2)
        assert ([entry["number"] for entry in page["entries"]], page["lost"]) == ([4, 5, 6], 1)
        assert await journal(client, after=6) == {"lost": 0, "entries": []}
        assert await journal(client, after=6) == {"lost": 0, "entries": []}


async def test_a_journal_holds_no_credential_and_no_text(clock: ManualClock) -> None:
    async with alice(clock) as (_, client):
        await client.prompt(await client.create(), "a text that is nobody's business")
        page = str(await journal(client))
        assert "nobody's business" not in page
        assert SESSION_COOKIE not in page
        assert "'alice'" not in page


async def test_a_reader_that_does_not_know_where_it_is_is_refused(clock: ManualClock) -> None:
    async with alice(clock) as (service, client):
        response = await client.http.get(f"{service.url}/_chatlease/journal", params={"after": "all"})
        assert response.status == 400
