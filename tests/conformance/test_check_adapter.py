"""`check_adapter` accepts what keeps the contract, and names the clause that is broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from chatlease.adapter import Call, Capabilities, ChatListing, Credential, RunOptions
from chatlease.errors import Rejected
from chatlease.events import Reading, RunStatus
from chatlease.testing import ContractBroken, FakeService, check_adapter, conformance

LOGIN = Credential(cookies={"login": "check"})


async def test_the_fake_service_keeps_the_contract() -> None:
    await check_adapter(FakeService, credential=LOGIN)


class _DeletesNothing(FakeService):
    async def delete_chat(self, call: Call, chat: str) -> bool:
        return False


class _ForgetsStatus(FakeService):
    async def create_chat(self, call: Call, client_key: str) -> str:
        chat = await super().create_chat(call, client_key)
        call.http_status = None
        return chat


class _ListsTwice(FakeService):
    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        for _ in range(2):
            async for each in super().list_chats(call):
                yield each


class _NoModels(FakeService):
    async def models(self, call: Call) -> Sequence[str]:
        return ()


class _TakesAnything(FakeService):
    def check_options(self, model: str, options: RunOptions) -> None:
        """Take what nobody knows."""


class _CannotFindByPrompt(FakeService):
    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        if run is None:
            return Reading(RunStatus.ABSENT)
        return await super().read_answer(call, chat, prompt, run)


class _CannotFindNewest(FakeService):
    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        if prompt is None:
            return Reading(RunStatus.ABSENT)
        return await super().read_answer(call, chat, prompt, run)


class _OrphansFail(FakeService):
    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        if run is None:
            raise Rejected("there is no run to stop", status=409)


class _ForgetsKeys(FakeService):
    async def list_chats(self, call: Call) -> AsyncIterator[ChatListing]:
        async for each in super().list_chats(call):
            yield ChatListing(each.chat, each.created_at, each.empty)


class _AcceptsAnyone(FakeService):
    pass


@pytest.mark.parametrize(
    ("make", "clause"),
    [
        (_DeletesNothing, "delete_chat of a chat that exists"),
        (_ForgetsStatus, "HTTP status"),
        (_ListsTwice, "each chat once"),
        (_NoModels, "at least one model"),
        (_TakesAnything, "check_options refuses"),
        (_CannotFindByPrompt, "read_answer of a finished run"),
        (_CannotFindNewest, "read_answer of a finished run"),
        (lambda: _OrphansFail(capabilities=Capabilities(stopping=True)), "refused by 404 or 410"),
        (_ForgetsKeys, "the key that each chat was created with"),
    ],
)
async def test_a_broken_adapter_is_told_which_clause_it_breaks(make: Callable[[], FakeService], clause: str) -> None:
    with pytest.raises(ContractBroken, match=clause):
        await check_adapter(make, credential=LOGIN)


class _StopsNothing(FakeService):
    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Say that it is done."""


async def test_a_run_that_goes_on_after_it_was_stopped_breaks_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_PAUSE_S", 0.0)
    stopping = Capabilities(listing=True, stopping=True)
    await check_adapter(lambda: FakeService(capabilities=stopping, answer_s=3600), credential=LOGIN)
    with pytest.raises(ContractBroken, match="a run that was stopped is over"):
        await check_adapter(lambda: _StopsNothing(capabilities=stopping, answer_s=3600), credential=LOGIN)


class _OtherIds(FakeService):
    async def create_chat(self, call: Call, client_key: str) -> str:
        return await super().create_chat(call, "")


class _LeavesItsStream(FakeService):
    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        run = await super().queue_assistant(call, chat, prompt, model, options)
        call.stream = await super().open_stream(call, chat, run)
        return run


@pytest.mark.parametrize(
    ("make", "clause"),
    [
        (lambda: _OtherIds(capabilities=Capabilities(client_id=True)), "whose id is the key"),
        (_LeavesItsStream, "open_stream takes the stream"),
    ],
)
async def test_what_is_said_of_ids_and_streams_has_to_be_done(make: Callable[[], FakeService], clause: str) -> None:
    with pytest.raises(ContractBroken, match=clause):
        await check_adapter(make, credential=LOGIN)


async def test_accepting_wrong_credentials_breaks_the_contract() -> None:
    with pytest.raises(ContractBroken, match="wrong credentials"):
        await check_adapter(_AcceptsAnyone, credential=LOGIN, wrong=Credential(cookies={"login": "nobody"}))
