"""What a peer on the wire, or a careless caller, may not do; each was seen to do it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from chatlease import Credential, Deadlines, Engine, MemoryLedger
from chatlease.errors import ProtocolChanged
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import running
from chatlease_adapters.provider import Message
from chatlease_adapters.provider import OpenAssistant as Provider

LOGIN = Credential(cookies={"__Secure-next-auth.session-token": "session-of-anna"})


@pytest.mark.parametrize("status", [b"101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade", b"000 OK"])
async def test_a_status_below_200_is_no_answer(status: bytes) -> None:
    """A delete that is "answered" so has deleted nothing; the connection is closed (a warning would fail this)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    ledger = MemoryLedger()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    async with server, Engine(OpenAssistant(url=url), ledger=ledger, deadlines=Deadlines(call=2, drain=3)) as engine:
        with pytest.raises(ProtocolChanged, match="a status that ends none"):
            await engine.ask("Hi", credential=LOGIN).text()
    assert len(await ledger.open_entries()) == 1


async def test_two_threads_that_read_one_completion_both_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(answers="echo", token_interval=0.0) as service:
        monkeypatch.setattr(Provider, "url", service.url)
        question = [Message(role="user", content="one two three")]
        completion = await asyncio.to_thread(Provider.create_completion, "", question, cookies=dict(LOGIN.cookies))
        readers = [threading.Thread(target=list, args=(completion,), daemon=True) for _ in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            await asyncio.to_thread(reader.join, 20)
        assert not any(reader.is_alive() for reader in readers)
        assert not service.chats
