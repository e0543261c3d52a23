"""What the tests of the seeds' interface share: asking as the seeds do, and a service to ask."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chatlease import Deadlines
from chatlease_adapters import _provider_engines as engines
from chatlease_adapters import provider
from chatlease_adapters.open_assistant.service import Service, running
from chatlease_adapters.provider import AsyncResult, Messages, OpenAssistant
from tests.integration.speaker import Speaker
from tests.unit.aio import Request, chunked, reply

HELLO = Messages([{"role": "user", "content": "Hello, how are you?"}])
COOKIES = {"session_id": "1234567890"}
TOKENS = ["Hello", ",", " world"]
_MESSAGE = {"id": "m", "parent_id": "p", "content": "Hi", "chat_id": "c", "role": "assistant", "state": "complete"}


@pytest.fixture(autouse=True)
def leaves_no_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has its own address and short waits, and leaves no engine behind."""
    monkeypatch.setattr(OpenAssistant, "url", OpenAssistant.url)
    monkeypatch.setattr(OpenAssistant, "deadlines", Deadlines(poll=0.01))
    yield
    gc.collect()
    assert not engines._hosts


@asynccontextmanager
async def speaking(speaker: Speaker | None = None, **changes: Any) -> AsyncGenerator[Service, None]:
    """A local service that `OpenAssistant.url` points at; at the end no chat is there."""
    source = speaker or Speaker()
    async with running(answers=source, **changes) as service:
        source.service = service
        OpenAssistant.url = service.url
        try:
            yield service
        finally:
            source.go.set()
            await provider.aclose()
        assert not service.chats


def asked(model: str = "", messages: Any = HELLO, cookies: Any = COOKIES, **kwargs: Any) -> AsyncResult:
    """Ask as the seeds do."""
    return OpenAssistant.create_async_generator(model, messages, cookies=cookies, **kwargs)


async def read(answer: AsyncIterator[str]) -> list[str]:
    """Read an answer to its end."""
    return [token async for token in answer]


def scripted(request: Request) -> Any:
    """Reply as the website does, in as few words as possible."""
    path = request.target.partition("?")[0].rpartition("/")[2]
    if request.method == "DELETE":
        return reply()
    if path == "events":
        token, end = {"event_type": "token", "text": "Hi"}, {"event_type": "message", "message": _MESSAGE}
        return chunked(*(f"data: {json.dumps(frame)}\r\n\r\n".encode() for frame in (token, end)))
    return reply(json.dumps(_MESSAGE | {"id": f"id-of-{path}"}).encode(), "200 OK", "Content-Type: application/json")
