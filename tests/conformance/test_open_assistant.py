"""The Open-Assistant adapter keeps the contract, in both dialects, against the local service over real HTTP."""

from __future__ import annotations

from typing import Literal

import pytest

from chatlease.adapter import Credential
from chatlease.testing import check_adapter
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant.service import SESSION_COOKIE, running

LOGINS: dict[Literal["website", "server"], tuple[Credential, Credential]] = {
    "website": (
        Credential(cookies={SESSION_COOKIE: "right-secret"}),
        Credential(cookies={SESSION_COOKIE: "wrong-secret"}),
    ),
    "server": (
        Credential(headers={"Authorization": "Bearer right-secret"}),
        Credential(headers={"Authorization": "Bearer wrong-secret"}),
    ),
}


@pytest.mark.parametrize("dialect", ["website", "server"])
async def test_the_adapter_keeps_the_contract(dialect: Literal["website", "server"]) -> None:
    right, wrong = LOGINS[dialect]
    known = {"right-secret": "anna"}
    async with running(answers="echo", token_interval=0, auth="strict", sessions=known, tokens=known) as service:
        await check_adapter(
            lambda: OpenAssistant(url=service.url, dialect=dialect), credential=right, wrong=wrong, model="_lorem"
        )
        assert not service.chats
        assert not service.lost_messages
