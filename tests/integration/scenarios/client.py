"""A bare client of both dialects, for tests that are about the service and not about an adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from chatlease_adapters.open_assistant.service import SESSION_COOKIE, Service

Event = dict[str, Any]
PING: Event = {"event_type": "ping"}


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so; a test's time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  (nothing to subscribe to, and no time passes)
        await asyncio.sleep(0)


class Stream:
    """An event stream that is being read; `events` are those that came so far, pings among them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: aiohttp.ClientError | None = None
        self.response: aiohttp.ClientResponse | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def kinds(self) -> list[str]:
        return [event["event_type"] for event in self.events]

    @property
    def tokens(self) -> list[str]:
        return [event["text"] for event in self.events if event["event_type"] == "token"]

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    async def read(self, response: aiohttp.ClientResponse) -> None:
        rest = ""
        try:
            async for data in response.content.iter_any():
                *frames, rest = (rest + data.decode("ascii")).split("\r\n\r\n")
                self.events += [
                    PING if frame.startswith(":") else json.loads(frame.removeprefix("data: ")) for frame in frames
                ]
        except aiohttp.ClientError as error:
            self.error = error

    async def leave(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})


class SiteClient:
    """Speaks to the website as one user."""

    def __init__(self, service: Service, http: aiohttp.ClientSession) -> None:
        self.url = f"{service.url}/api/chat"
        self.http = http
        self.streams: list[Stream] = []

    async def call(self, method: str, path: str = "", **options: Any) -> tuple[int, Any]:
        """Make any call; returns the status and the body, decoded when it is JSON."""
        async with self.http.request(method, self.url + path, **options) as response:
            text = await response.text()
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return response.status, json.loads(text) if is_json else text

    async def create(self) -> str:
        status, chat = await self.call("POST")
        assert status == 200, chat
        return str(chat["id"])

    async def prompt(self, chat: str, text: str = "Hello there", parent: str | None = None) -> str:
        body = {"chat_id": chat, "content": text, "parent_id": parent}
        status, message = await self.call("POST", "/prompter_message", json=body)
        assert status == 200, message
        return str(message["id"])

    async def queue(self, chat: str, parent: str, **fields: Any) -> tuple[int, Any]:
        body = {"chat_id": chat, "parent_id": parent, "model_config_name": "_lorem", **fields}
        return await self.call("POST", "/assistant_message", json=body)

    async def ask(self, text: str = "Hello there") -> tuple[str, str]:
        """Create a chat, add a prompt, have an answer queued; returns the chat and the answer's message."""
        chat = await self.create()
        status, message = await self.queue(chat, await self.prompt(chat, text))
        assert status == 200, message
        return chat, str(message["id"])

    async def message(self, chat: str, message: str) -> Any:
        status, value = await self.call("GET", "/message", params={"chat_id": chat, "message_id": message})
        assert status == 200, value
        return value

    async def state(self, chat: str, message: str) -> str:
        return str((await self.message(chat, message))["state"])

    async def delete(self, chat: str) -> int:
        return (await self.call("DELETE", params={"chat_id": chat}))[0]

    def open(self, chat: str, message: str) -> Stream:
        """Begin to read the events in the background; through the website headers come with the first frame only."""
        stream = Stream()
        stream.task = asyncio.create_task(self._read(stream, chat, message))
        self.streams.append(stream)
        return stream

    async def _read(self, stream: Stream, chat: str, message: str) -> None:
        params = {"chat_id": chat, "message_id": message}
        try:
            async with self.http.post(f"{self.url}/events", params=params) as stream.response:
                await stream.read(stream.response)
        except aiohttp.ClientError as error:
            stream.error = error


class ServerClient(SiteClient):
    """Reads events directly; everything else as the same user through the website."""

    async def _read(self, stream: Stream, chat: str, message: str) -> None:
        base = self.url.removesuffix("/api/chat")
        try:
            async with self.http.get(f"{base}/chats/{chat}/messages/{message}/events") as stream.response:
                await stream.read(stream.response)
        except aiohttp.ClientError as error:
            stream.error = error


@asynccontextmanager
async def site_client(
    service: Service, login: str = "alice", *, direct: bool = False
) -> AsyncGenerator[SiteClient, None]:
    """
    Log in as a user, for as long as the block lasts.

    The same token goes as cookie (which the website reads) and as bearer (which the server reads): one user for both.
    """
    headers = {"Authorization": f"Bearer {login}"}
    async with aiohttp.ClientSession(headers=headers, cookies={SESSION_COOKIE: login}) as http:
        client = ServerClient(service, http) if direct else SiteClient(service, http)
        try:
            yield client
        finally:
            for stream in client.streams:
                await stream.leave()
