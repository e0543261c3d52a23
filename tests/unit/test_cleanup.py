"""Giving a chat back: how often it is tried, what is left when it fails, and what the caller sees of it."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise
from typing import Literal

import pytest

from chatlease import Credential, Deadlines, Engine, MemoryLedger, Session, State
from chatlease.adapter import Call, Capabilities
from chatlease.errors import (
    CleanupFailed,
    LedgerUnavailable,
    NotAuthenticated,
    Rejected,
    SessionClosed,
    Unavailable,
    UsageError,
)
from chatlease.ledger import Entry, EntryState
from chatlease.testing import FakeService, Fault, ManualClock, capture_trace

from .closing import PROMPT, Ledger, opened, with_chat

BROKEN = Unavailable("out of order", status=503)
FOREVER = [BROKEN] * 1000


async def entries(ledger: MemoryLedger) -> list[Entry]:
    return list(await ledger.open_entries())


# -- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_delete_that_fails_is_tried_again_with_growing_pauses(service: FakeService, clock: ManualClock) -> None:
    service.fail("delete_chat", *[BROKEN] * 6)
    async with opened(service, clock, Ledger()) as engine:
        with capture_trace(engine) as trace:
            assert await engine.ask(PROMPT).text() == PROMPT
        tries = [event.at for event in trace if event.event == "session.call.retried"]
        pauses = [later - earlier for earlier, later in pairwise(tries)]
        assert service.calls["delete_chat"] == 7
        assert all(later > earlier for earlier, later in pairwise(pauses[1:]))
        assert not service.chats


@pytest.mark.parametrize("fault", [BROKEN, Fault(delay_s=float("inf"))])
async def test_a_delete_that_never_succeeds_is_handed_over_within_drain(
    service: FakeService, clock: ManualClock, fault: Fault | Unavailable
) -> None:
    ledger = Ledger()
    service.fail("delete_chat", *[fault] * 1000)
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        began = clock.now()
        with capture_trace(engine) as trace:
            await session.aclose()
        assert clock.now() - began <= Deadlines().drain
        assert session.state is State.ORPHANED
        [entry] = await entries(ledger)
        assert (entry.chat, entry.orphaned, entry.state) == (session.chat, True, EntryState.BOUND)
        assert entry.attempts == session.attempts > 0
        assert entry.error_code in {"http-503", "deadline-call"}
        assert trace.names()[-1] == "session.cleanup.handed_over"


@pytest.mark.parametrize("error", [Rejected("not yours", status=403), NotAuthenticated("no", status=401)])
async def test_a_delete_that_is_refused_for_good_is_handed_over_at_once(
    service: FakeService, clock: ManualClock, error: Rejected
) -> None:
    ledger = Ledger()
    service.fail("delete_chat", *[error] * 9)
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        began = clock.now()
        await session.aclose()
        assert (session.state, clock.now() - began) == (State.ORPHANED, 0)
        [entry] = await entries(ledger)
        assert (entry.orphaned, entry.error_code) == (True, error.code)


async def test_a_chat_that_is_gone_already_counts_as_deleted(service: FakeService, clock: ManualClock) -> None:
    ledger = Ledger()
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        service.chats.clear()
        await session.aclose()
        assert session.state is State.DELETED
        assert await entries(ledger) == []


@pytest.mark.parametrize("broken", ["delete_chat", "stop_run", "read_answer"])
async def test_an_adapter_that_breaks_its_contract_costs_no_chat_and_no_turn(clock: ManualClock, broken: str) -> None:
    class Broken(FakeService):
        async def _begin(self, step: str, call: Call | None = None) -> Fault:
            if step == broken:
                raise KeyError("an error that an adapter must not raise")
            return await super()._begin(step, call)

    able = Capabilities(client_key=True, stopping=True, deletion_during_run="harmful", runs_per_account=1)
    service, ledger = Broken(clock=clock, answer_s=1e9, pending=1, capabilities=able), Ledger()
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        await session.send_prompt(PROMPT)
        await session.queue_assistant()
        await session.aclose()
        assert session.state is State.ORPHANED
        assert session.gate is None
        [entry] = await entries(ledger)
        assert (entry.orphaned, entry.chat, entry.error_code) == (True, session.chat, "KeyError")


async def test_a_chat_that_cannot_even_be_handed_over_keeps_its_entry_and_its_turn_is_free(
    service: FakeService, clock: ManualClock
) -> None:
    ledger = Ledger("hand_over")
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        await session.aclose()
        assert session.over
        [entry] = await entries(ledger)
        assert (entry.chat, entry.state) == (session.chat, EntryState.BOUND)
        with pytest.raises(SessionClosed):
            await session.send_prompt(PROMPT)


# -- what the caller sees ---------------------------------------------------------------------------------------------


async def test_without_a_ledger_a_chat_that_is_left_is_cleanup_failed(service: FakeService, clock: ManualClock) -> None:
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, None) as engine:
        session = await with_chat(engine)
        with pytest.raises(CleanupFailed) as caught:
            await session.aclose()
        assert (caught.value.chat, caught.value.attempts) == (session.chat, session.attempts)
        assert caught.value.attempts > 3
        assert "http-503" in str(caught.value)


async def test_without_a_ledger_a_whole_answer_ends_with_cleanup_failed(
    service: FakeService, clock: ManualClock
) -> None:
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, None) as engine:
        answer = engine.ask(PROMPT)
        with pytest.raises(CleanupFailed):
            await answer.text()
        assert answer.final is not None
        assert answer.final.text == PROMPT


async def test_with_a_ledger_a_chat_that_is_left_is_not_the_callers_trouble(
    service: FakeService, clock: ManualClock
) -> None:
    service.fail("delete_chat", *FOREVER)
    ledger = Ledger()
    async with opened(service, clock, ledger) as engine:
        assert await engine.ask(PROMPT).text() == PROMPT
    assert len(await entries(ledger)) == 1


async def test_unless_the_engine_is_strict(service: FakeService, clock: ManualClock) -> None:
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, Ledger(), strict=True) as engine:
        with pytest.raises(CleanupFailed):
            await engine.ask(PROMPT).text()


@pytest.mark.parametrize("strict", [False, True])
async def test_the_callers_own_exception_is_never_hidden_and_has_one_note(
    service: FakeService, clock: ManualClock, *, strict: bool
) -> None:
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, None, strict=strict) as engine:
        session = await with_chat(engine)
        with pytest.raises(ZeroDivisionError) as caught:
            async with session:
                raise ZeroDivisionError
        assert len(caught.value.__notes__) == 1
        assert session.chat is not None
        assert session.chat in caught.value.__notes__[0]
        await session.wait_closed()


async def test_a_failed_whole_answer_in_a_block_has_one_note(service: FakeService, clock: ManualClock) -> None:
    service.fail("delete_chat", *[Rejected("no", status=403)] * 9)
    service.fail("send_prompt", Rejected("no", status=400))
    async with opened(service, clock, Ledger()) as engine:
        with pytest.raises(Rejected) as caught:
            async with engine.ask(PROMPT) as answer:
                await answer.text()
        assert len(caught.value.__notes__) == 1
        assert "the ledger has an open entry for it" in caught.value.__notes__[0]


async def test_a_cancelled_caller_waits_for_grace_counted_from_its_cancellation(clock: ManualClock) -> None:
    """Law 4: a create is answered after 8 s, its caller cancelled after 6: it waits for the reply."""
    service = FakeService(clock=clock)
    service.fail("create_chat", Fault(delay_s=8))
    async with opened(service, clock, Ledger()) as engine:
        session = engine.session()
        await session.ready_cookies()
        began = clock.now()
        create = asyncio.create_task(session.create_chat())
        clock.call_later(6, create.cancel)
        await asyncio.wait({create})
        assert create.cancelled()
        assert clock.now() - began == 8
        assert session.state is State.CHAT_CREATED
        await session.aclose()
    assert not service.chats


async def test_a_delete_by_hand_is_never_cut_in_the_middle(clock: ManualClock) -> None:
    """Its caller is cancelled, twice, and waits for the reply; nothing is deleted twice."""
    service = FakeService(clock=clock)
    service.fail("delete_chat", Fault(delay_s=3, when="after"))
    async with opened(service, clock, Ledger()) as engine:
        session = await with_chat(engine)
        began = clock.now()
        delete = asyncio.create_task(session.delete_chat())
        for seconds in (1, 2):
            clock.call_later(seconds, delete.cancel)
        await asyncio.wait({delete})
        assert delete.cancelled()
        assert (session.state, clock.now() - began) == (State.DELETED, 3)
        await session.aclose()
        assert service.calls["delete_chat"] == 1


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deletion", ["harmful", "safe"])
async def test_a_run_that_does_not_stop_is_deleted_only_where_that_is_safe(
    clock: ManualClock, deletion: Literal["harmful", "safe"]
) -> None:
    able = Capabilities(client_key=True, deletion_during_run=deletion)
    service, ledger = FakeService(clock=clock, answer_s=1e9, capabilities=able), Ledger()
    async with Engine(service, clock=clock, ledger=ledger) as engine:
        session = await with_chat(engine)
        await session.send_prompt(PROMPT)
        await session.queue_assistant()
        await session.aclose()
        assert session.state is (State.ORPHANED if deletion == "harmful" else State.DELETED)
        assert session.gate is None
    assert len(service.chats) == len(await entries(ledger)) == (deletion == "harmful")
    assert service.lost_messages == (deletion == "safe")


async def test_a_chat_with_a_run_going_is_not_deleted_by_hand_where_that_does_harm(clock: ManualClock) -> None:
    service = FakeService(clock=clock, answer_s=9)
    async with opened(service, clock, Ledger()) as engine:
        session = await with_chat(engine)
        await session.send_prompt(PROMPT)
        await session.queue_assistant()
        with pytest.raises(UsageError, match="would harm another user"):
            await session.delete_chat()
        assert service.calls["delete_chat"] == 0
        await session.aclose()
        assert session.state is State.DELETED


@pytest.mark.parametrize("stopping", [False, True])
async def test_a_run_that_comes_late_is_stopped_before_its_chat_is_deleted(clock: ManualClock, stopping: bool) -> None:
    """Its request was cut on our side, and two looks had found no run."""
    able = Capabilities(client_key=True, stopping=stopping, deletion_during_run="harmful")
    service, ledger = FakeService(clock=clock, answer_s=9, capabilities=able), Ledger()
    service.fail("queue_assistant", Fault(BROKEN, when="late", delay_s=0.6))
    async with Engine(service, clock=clock, ledger=ledger) as engine:
        with pytest.raises(Unavailable):
            await engine.ask(PROMPT).text()
        assert len(service.chats) == (not stopping)  # its run ends by itself, or was stopped
        await clock.sleep(20)
    assert (service.lost_messages, service.calls["stop_run"]) == (0, 2 * stopping)
    assert not service.chats
    assert await entries(ledger) == []


# -- the ledger -------------------------------------------------------------------------------------------------------


async def test_without_a_durable_intent_nothing_is_sent(service: FakeService, clock: ManualClock) -> None:
    ledger = Ledger("intent")
    async with opened(service, clock, ledger) as engine:
        with pytest.raises(LedgerUnavailable):
            await engine.ask(PROMPT).text()
        assert service.calls["create_chat"] == 0
    assert await entries(ledger) == []


async def unbound(engine: Engine) -> Session:
    """A session whose chat's id could not be written down."""
    session = engine.session()
    await session.ready_cookies()
    with pytest.raises(LedgerUnavailable):
        await session.create_chat()
    return session


async def test_a_chat_whose_id_cannot_be_written_down_is_deleted(service: FakeService, clock: ManualClock) -> None:
    ledger = Ledger("bound")
    async with opened(service, clock, ledger) as engine:
        session = await unbound(engine)
        with pytest.raises(UsageError):
            await session.send_prompt(PROMPT)
        await session.aclose()
        assert session.state is State.DELETED
    assert not service.chats
    assert await entries(ledger) == []


async def test_a_chat_whose_id_cannot_be_written_down_nor_deleted_is_handed_over(
    service: FakeService, clock: ManualClock
) -> None:
    """Else its entry would seem to be in use for as long as this process lives."""
    ledger = Ledger("bound")
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, ledger) as engine:
        session = await unbound(engine)
        await session.aclose()
        assert session.state is State.ORPHANED
    [entry] = await entries(ledger)
    assert entry.orphaned
    assert not entry.alive


async def test_a_chat_whose_id_could_not_be_written_down_at_first_is_handed_over_with_its_id(
    service: FakeService, clock: ManualClock
) -> None:
    """Sweepers delete it by its id, rather than look for it by its time."""
    ledger = Ledger("bound")
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, ledger) as engine:
        session = await unbound(engine)
        ledger.failing.clear()
        await session.aclose()
    [entry] = await entries(ledger)
    assert (entry.chat, entry.state, entry.orphaned) == (session.chat, EntryState.BOUND, True)


# -- logins -----------------------------------------------------------------------------------------------------------


class Expiring(FakeService):
    """Accepts the login that its source gives at the second time of asking."""

    def __init__(self, clock: ManualClock, good: str = "new") -> None:
        super().__init__(clock=clock)
        self.asked: list[Credential | None] = []
        self.good = good

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        self.asked.append(rejected)
        if rejected is None:
            return Credential(cookies={"login": "old"})
        if self.good == "":
            raise NotAuthenticated("no login in the browser")
        return Credential(cookies={"login": self.good})

    async def create_chat(self, call: Call, client_key: str) -> str:
        if call.login.credential.cookies["login"] == "old":
            self.calls["create_chat"] += 1
            raise NotAuthenticated("refused", status=401)
        return await super().create_chat(call, client_key)


async def test_a_refused_login_is_dropped_and_its_source_asked_once_more(clock: ManualClock) -> None:
    service = Expiring(clock)
    async with opened(service, clock, Ledger()) as engine:
        assert await engine.ask(PROMPT).text() == PROMPT
        assert await engine.ask(PROMPT).text() == PROMPT
        assert [rejected is not None for rejected in service.asked] == [False, True]
        assert service.calls["create_chat"] == 3


@pytest.mark.parametrize("good", ["old", ""])
async def test_a_login_that_stays_refused_is_not_authenticated_and_leaves_no_entry(
    clock: ManualClock, good: str
) -> None:
    service, ledger = Expiring(clock, good), Ledger()
    async with opened(service, clock, ledger) as engine:
        answer = engine.ask(PROMPT)
        with pytest.raises(NotAuthenticated):
            await answer.text()
        assert answer.session.state is State.DELETED
        assert service.calls["create_chat"] == 1
    assert await entries(ledger) == []


async def test_a_given_credential_that_is_refused_is_not_authenticated(clock: ManualClock) -> None:
    service = Expiring(clock)
    async with opened(service, clock, Ledger()) as engine:
        with pytest.raises(NotAuthenticated):
            await engine.ask(PROMPT, credential=Credential(cookies={"login": "old"})).text()
        assert service.asked == []


async def test_a_chat_is_only_deleted_with_the_account_that_made_it(clock: ManualClock) -> None:
    """Another login would be told 404, which looks like success."""

    class Renamed(FakeService):
        async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
            return Credential(cookies={"login": "other" if rejected else "first"})

    service, ledger = Renamed(clock=clock), Ledger()
    service.fail("delete_chat", NotAuthenticated("expired", status=401))
    async with opened(service, clock, ledger) as engine:
        session = await with_chat(engine)
        await session.aclose()
        assert session.state is State.ORPHANED
    assert len(service.chats) == len(await entries(ledger)) == 1


async def test_a_session_that_the_collector_found_is_one_of_the_engines_until_it_is_given_back(
    service: FakeService, clock: ManualClock
) -> None:
    """The collector clears weak references before it calls ``__del__``; a bot in a hurry must still find it."""
    service.fail("delete_chat", *FOREVER)
    async with opened(service, clock, MemoryLedger()) as engine:
        ring: list[object] = [await with_chat(engine)]
        ring.append(ring)
        del ring
        with pytest.warns(ResourceWarning, match="never closed"):
            gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [session.closing for session in engine.sessions] == [True]
