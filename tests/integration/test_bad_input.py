"""Whatever is wrong with input or service, its typed error comes within its deadline and no chat is forgotten."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from chatlease import Credential, Deadlines, Engine, MemoryLedger
from chatlease.errors import (
    NotAuthenticated,
    ProtocolChanged,
    RateLimited,
    Rejected,
    RunFailed,
    StreamStalled,
    Unavailable,
)
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import STEPS, Piece, Service, Work, WorkFailed, running

LOGIN = Credential(cookies={"__Secure-next-auth.session-token": "session-of-anna"})
SHORT = Deadlines(
    connect=2, call=2, gate=2, queue=0.6, first_event=1.0, idle=0.4, answer=5, poll=0.1, settle=0.5, grace=2, drain=3
)


@pytest.fixture
async def local() -> AsyncIterator[Service]:
    """A local service that answers fast, on a free port."""
    async with running(answers="echo", token_interval=0.0) as service:
        yield service


async def _ask(adapter: OpenAssistant, ledger: MemoryLedger, **more: str) -> str:
    async with Engine(adapter, ledger=ledger, deadlines=SHORT) as engine:
        if "model" in more:
            return await engine.ask("one two three", credential=LOGIN, model=more["model"]).text()
        return await engine.ask("one two three", credential=LOGIN).text()


async def _assert_nothing_is_forgotten(service: Service, ledger: MemoryLedger) -> None:
    assert service.chats.keys() == {entry.chat for entry in await ledger.open_entries()}


async def test_no_cookie_says_where_it_looked(local: Service) -> None:
    async with Engine(OpenAssistant(url=local.url)) as engine:
        with pytest.raises(NotAuthenticated, match="CHATLEASE_OPEN_ASSISTANT_COOKIE") as caught:
            await engine.ask("Hi").text()
    assert caught.value.hint
    assert not local.created


async def test_a_wrong_cookie_is_not_authenticated() -> None:
    ledger = MemoryLedger()
    async with running(auth="strict", sessions={"right": "anna"}) as service:
        with pytest.raises(NotAuthenticated) as caught:
            await _ask(OpenAssistant(url=service.url), ledger)
        assert caught.value.status == 403
        assert not await ledger.open_entries()


async def test_a_wrong_model_names_the_nearest(local: Service) -> None:
    ledger = MemoryLedger()
    with pytest.raises(Rejected, match=r"^Model OA_SFT_Lama_30B_6 not found$") as caught:
        await _ask(OpenAssistant(url=local.url), ledger, model="OA_SFT_Lama_30B_6")
    assert "OA_SFT_Llama_30B_6" in caught.value.hint
    assert not local.chats
    assert not await ledger.open_entries()


class _NoSuchHost(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(socket.EAI_NONAME, "name or service not known")

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_wrong_host_is_unavailable() -> None:
    ledger = MemoryLedger()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_NoSuchHost())) as session:
        with pytest.raises(Unavailable) as caught:
            await _ask(OpenAssistant(url="http://chat.example", session=session), ledger)
    assert caught.value.code == "dns"
    assert not await ledger.open_entries()


async def test_a_closed_port_is_unavailable(unused_tcp_port: int) -> None:
    ledger = MemoryLedger()
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await _ask(OpenAssistant(url=f"http://127.0.0.1:{unused_tcp_port}"), ledger)
    assert caught.value.code == "connection-refused"
    assert time.monotonic() - began < 10
    assert not await ledger.open_entries()


@pytest.mark.parametrize("step", [step for step in STEPS if step in {"send_prompt", "queue_assistant", "open_stream"}])
async def test_html_instead_of_json_is_protocol_changed_and_the_chat_is_deleted(local: Service, step: str) -> None:
    ledger = MemoryLedger()
    local.faults.add(step, "html")
    with pytest.raises(ProtocolChanged) as caught:
        await _ask(OpenAssistant(url=local.url), ledger)
    assert "HTML" in caught.value.got
    await _assert_nothing_is_forgotten(local, ledger)


async def test_html_for_a_create_leaves_one_open_entry(local: Service) -> None:
    ledger = MemoryLedger()
    local.faults.add("create_chat", "html")
    with pytest.raises(ProtocolChanged):
        await _ask(OpenAssistant(url=local.url), ledger)
    [entry] = await ledger.open_entries()
    assert (entry.chat, entry.orphaned) == (None, True)


@pytest.mark.parametrize("fault", ["cut(1)", "stall(1)", "pings(1)", "pending"])
async def test_a_stream_that_does_not_end_is_finished_by_looking_at_the_answer(local: Service, fault: str) -> None:
    ledger = MemoryLedger()
    local.faults.add("open_stream", fault)
    assert await _ask(OpenAssistant(url=local.url), ledger) == "one two three"
    await _assert_nothing_is_forgotten(local, ledger)
    assert not local.chats


async def test_a_cut_stream_whose_answer_cannot_be_read_is_unavailable(local: Service) -> None:
    ledger = MemoryLedger()
    local.faults.add("open_stream", "cut(1)")
    local.faults.add("read_answer", "500", times=None)
    with pytest.raises((Unavailable, StreamStalled)):
        await _ask(OpenAssistant(url=local.url), ledger)
    await _assert_nothing_is_forgotten(local, ledger)


async def test_endless_pending_stalls_within_its_deadline_and_is_handed_over() -> None:
    """Nobody works: the run never begins. Deleting its chat would lose others' messages, so the ledger keeps it."""
    ledger = MemoryLedger()
    async with running(workers=0) as service:
        with pytest.raises(StreamStalled) as caught:
            await _ask(OpenAssistant(url=service.url), ledger)
        assert caught.value.deadline in {"queue", "first_event"}
        await _assert_nothing_is_forgotten(service, ledger)
        assert not service.lost_messages


@pytest.mark.parametrize("step", ["create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat"])
@pytest.mark.parametrize("fault", ["500", "503-after", "drop", "late(3)"])
async def test_every_failure_of_every_call_is_typed_and_accounted_for(local: Service, step: str, fault: str) -> None:
    ledger = MemoryLedger()
    local.faults.add(step, fault)
    [outcome] = await asyncio.gather(_ask(OpenAssistant(url=local.url), ledger), return_exceptions=True)
    if step == "delete_chat":
        assert outcome == "one two three", "a failing delete never hides the answer"
    else:
        assert isinstance(outcome, (Unavailable, StreamStalled))
        assert outcome.code
    entries = await ledger.open_entries()
    assert len(local.chats) <= len(entries)
    assert step == "create_chat" or not entries


async def test_the_rate_limit_is_kept_before_the_service_has_to_refuse(local: Service) -> None:
    async with Engine(OpenAssistant(url=local.url), deadlines=SHORT) as engine:
        login = Credential(cookies={"__Secure-next-auth.session-token": "busy-bot"})
        for _ in range(20):
            await engine.ask("x", credential=login).text()
        with pytest.raises(RateLimited) as caught:
            await engine.ask("x", credential=login).text()
    assert 600 < (caught.value.retry_after_s or 0) <= 660
    assert not local.chats


async def test_twenty_sessions_of_one_login_at_once_do_not_cancel_one_another(local: Service) -> None:
    async with Engine(OpenAssistant(url=local.url), deadlines=Deadlines(gate=30)) as engine:
        answers = await asyncio.gather(*(engine.ask(f"number {n}", credential=LOGIN).text() for n in range(20)))
    assert answers == [f"number {n}" for n in range(20)]
    assert not local.chats


async def test_a_prompt_that_the_service_echoes_in_its_stream_is_in_no_error() -> None:
    async def echoing(work: Work) -> AsyncGenerator[Piece, None]:
        yield "a token"
        while not service.open_streams:  # noqa: ASYNC110  (nothing to subscribe to, and no time passes)
            await asyncio.sleep(0)
        raise WorkFailed(f"cannot answer: {work.thread[-1][1]}")

    secret = "planted-prompt-text-0123456789"
    async with running(answers=echoing) as service, Engine(OpenAssistant(url=service.url)) as engine:
        with pytest.raises(RunFailed, match="cannot answer") as caught:
            await engine.ask(secret, credential=LOGIN).text()
    assert (
        secret not in f"{caught.value!r} {vars(caught.value)} {caught.value.__context__!r} {caught.value.__cause__!r}"
    )
