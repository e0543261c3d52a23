"""`engine.sessions`: what runs now, for a status page; and that none of it is a secret."""

from __future__ import annotations

import asyncio

import pytest

from chatlease import Credential, Engine, Session, State, Trigger
from chatlease.errors import Unavailable
from chatlease.testing import FakeService, Fault, ManualClock

COOKIE = "planted-cookie-3f1a"


def seen(session: Session) -> tuple[State, Trigger | None, bool]:
    return session.state, session.in_flight, session.closing


def ids(engine: Engine) -> list[str]:
    return [session.id for session in engine.sessions]


async def to(state: State, session: Session) -> Session:
    while session.state is not state:
        await session.step()
    return session


async def test_sessions_are_the_oldest_first_and_those_that_are_not_over(engine: Engine, clock: ManualClock) -> None:
    sessions: list[Session] = []
    for _ in range(5):
        sessions.append(engine.session(prompt="one two"))
        await clock.advance(1.0)
    assert ids(engine) == [session.id for session in sessions]
    await sessions[1].abandon()
    assert ids(engine) == [session.id for session in sessions if session is not sessions[1]]


async def test_an_age_is_counted_from_the_first_step_by_the_engines_clock(engine: Engine, clock: ManualClock) -> None:
    session = engine.session(prompt="one two")
    await clock.advance(100.0)
    assert session.age_s == 0.0
    await session.ready_cookies()
    assert session.age_s == 0.0
    await clock.advance(7.5)
    await session.create_chat()
    assert session.age_s == 7.5
    await session.aclose()


async def test_the_step_in_flight_is_named_while_it_is_and_not_after(
    engine: Engine, service: FakeService, clock: ManualClock
) -> None:
    session = await to(State.CHAT_CREATED, engine.session(prompt="one two"))
    assert seen(session) == (State.CHAT_CREATED, None, False)
    service.fail("send_prompt", Fault(Unavailable("out of order", status=503), delay_s=5.0))
    step = asyncio.create_task(session.send_prompt())
    await asyncio.sleep(0)
    assert seen(session) == (State.CHAT_CREATED, Trigger.SEND_PROMPT, False)
    with pytest.raises(Unavailable):
        await step
    assert seen(session) == (State.CHAT_CREATED, None, False)
    await session.aclose()


async def test_what_is_being_given_back_is_there_and_says_so(engine: Engine, service: FakeService) -> None:
    session = await to(State.CHAT_CREATED, engine.session(prompt="one two"))
    service.fail("delete_chat", Fault(delay_s=5.0))
    closing = asyncio.create_task(session.aclose())
    for _ in range(10):
        await asyncio.sleep(0)
    assert ids(engine) == [session.id]
    assert seen(session) == (State.CHAT_CREATED, Trigger.DELETE_CHAT, True)
    assert repr(session) == f"<Session {session.id} of {session.account} on fake: chat-created, delete_chat, closing>"
    await closing
    assert not engine.sessions
    assert seen(session) == (State.DELETED, None, False)


@pytest.mark.parametrize("account", [None, "bob"])
async def test_the_account_is_its_name_or_the_fingerprint_of_its_credential(
    engine: Engine, service: FakeService, account: str | None
) -> None:
    session = engine.session(account=account)
    assert (session.account, session.service, session.chat) == (account, "fake", None)
    await session.ready_cookies()
    found = Credential(cookies={"login": account or "default"})
    assert session.account == (account or found.fingerprint())
    await session.create_chat()
    [chat] = service.chats.values()
    assert (session.account, session.chat) == (chat.account, next(iter(service.chats)))
    await session.aclose()


async def test_no_credential_is_in_what_a_session_shows(engine: Engine) -> None:
    credential = Credential(cookies={"login": COOKIE}, headers={"Authorization": COOKIE})
    session = await to(State.STREAMING, engine.session(credential=credential, prompt=COOKIE))
    assert COOKIE not in repr(engine.sessions)
    assert session.account == credential.fingerprint()
    assert repr(session) == f"<Session {session.id} of {session.account} on fake: streaming>"
    await session.aclose()


async def test_a_session_without_an_account_yet_says_as_much(engine: Engine) -> None:
    session = engine.session()
    assert repr(session) == f"<Session {session.id} on fake: new>"
    await session.abandon()
