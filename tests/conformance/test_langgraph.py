"""The LangGraph adapter keeps the contract, against the server's HTTP surface; `tests/langgraph` asks the real one."""

from __future__ import annotations

from chatlease.adapter import Credential
from chatlease.testing import check_adapter
from chatlease_adapters.langgraph import LangGraph
from tests.langgraph.fake import running


async def test_the_adapter_keeps_the_contract() -> None:
    async with running() as server:
        server.keys = {"right-secret"}
        await check_adapter(
            lambda: LangGraph(server.url),
            credential=Credential(headers={"x-api-key": "right-secret"}),
            wrong=Credential(headers={"x-api-key": "wrong-secret"}),
        )
        assert not server.threads
        assert not server.runs_under_way


async def test_a_server_without_authentication_needs_no_key() -> None:
    async with running() as server:
        await check_adapter(lambda: LangGraph(server.url), credential=Credential())
        assert not server.threads
