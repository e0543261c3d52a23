"""What an adapter for a made-up service has to get right: claims, each of which raises where it does not hold."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from chatlease import Deadlines, Engine, MemoryLedger
from chatlease.adapter import Adapter, Call, Capabilities, Credential, Login, RunOptions
from chatlease.errors import Busy, ChatleaseError, ProtocolChanged, RunFailed, ServiceError, UsageError
from chatlease.events import Final, Pending, Token
from chatlease.testing import check_adapter

from .operations import operations
from .plan import Plan
from .server import MadeUpServer, login, made_up
from .storm import DEADLINES, storm

Make = Callable[[str], Adapter]
"""Makes an adapter for the service at an address."""
Examination = Callable[[Make, MadeUpServer], Awaitable[None]]

_PROMPT = "why  do\nrivers — “meet” 🜁 here?"
_KEYS = ("6a0f1a55-3a9a-4f4e-9a83-5e1f0c6a7b7d", "0b7fd5a1-5d43-4d58-8a34-8a4c1b1e2f90")
_RULES = "hush-hush-that-is-for-you-alone"
_SECRET = "right-to-remain-silent-about-it"


async def keeps_the_contract(make: Make, server: MadeUpServer) -> None:
    """`check_adapter` passes, and leaves nothing."""
    right, wrong = login(server.plan, "right-key-of-mine"), login(server.plan, "wrong-key-of-mine")
    await check_adapter(lambda: make(server.url), credential=right, wrong=wrong)
    assert not server.store.chats, "a chat is left"
    assert not server.store.harmed, "a run was harmed"


async def says_what_the_service_is_like(make: Make, server: MadeUpServer) -> None:
    """The capabilities are those that the documentation tells of."""
    adapter, told = make(server.url), capabilities(server.plan)
    said = adapter.capabilities
    if told.client_id:
        said = dataclasses.replace(said, client_key=False)  # the id is such a key, where it is listed
    assert said == told, f"capabilities are {adapter.capabilities}, the documentation says {told}"
    await adapter.aclose()


async def gives_every_word_once(make: Make, server: MadeUpServer) -> None:
    """Two turns of one chat: the tokens are the text, white space and all; what waits is told with its place."""
    server.store.patient = True
    async with _engine(make, server) as engine, engine.session(credential=_login(server)) as session:
        for prompt in (_PROMPT, f"{_PROMPT} And again?"):
            events = [event async for event in session.ask(prompt).events()]
            assert "".join(each.text for each in events if isinstance(each, Token)) == prompt
            assert isinstance(events[-1], Final)
            assert events[-1].text == prompt
            waits = [each for each in events if isinstance(each, Pending)]
            told = {"places": [Pending(1, 1)], "plain": [Pending(0, 0)], "none": []}[server.plan.looks.waits]
            assert waits == told, f"the stream told of its place in the queue: {told}, not {waits}"
    assert not server.store.chats


async def stops_before_it_deletes(make: Make, server: MadeUpServer) -> None:
    """An answer that is left half-way is stopped, or waited for, before its chat is deleted."""
    server.store.hold = True
    async with _engine(make, server) as engine, engine.ask(_PROMPT, credential=_login(server)) as answer:
        assert await anext(aiter(answer))
        if server.plan.manners.stop == "none":
            server.store.let_go()
    assert not server.store.chats
    assert not server.store.harmed
    if server.plan.manners.stop != "none":
        assert server.store.stopped == 1, "an answer that is left is stopped"


async def tells_that_a_chat_is_busy(make: Make, server: MadeUpServer) -> None:
    """A second run of a chat that has one is `Busy`."""
    server.store.hold = True
    adapter, call = make(server.url), Call(Login("me", _login(server)), Deadlines())
    chat = await adapter.create_chat(call, _KEYS[0])
    run = await _asked(adapter, call, chat, None)
    try:
        await _asked(adapter, call, chat, run)
    except Busy:
        pass
    else:
        raise AssertionError("a second run of a busy chat is Busy")
    await adapter.aclose()


async def tells_a_failed_run(make: Make, server: MadeUpServer) -> None:
    """A run that the service gives up is `RunFailed`, in the stream and without it, and its chat is given back."""
    for fault in (None, "cut"):
        server.store.fail = 1
        if fault is not None:
            server.faults.add("open_stream" if server.asked["open_stream"] else "queue_assistant", "cut")
        error = await _failure(make, server)
        assert isinstance(error, RunFailed), f"a failed run is RunFailed, not {error!r}"
        assert "ran_out_of_ink" in error.code, f"the code of a failed run is the service's reason, not {error.code!r}"
        assert not server.store.chats


async def survives_a_frame_that_is_none(make: Make, server: MadeUpServer) -> None:
    """A frame that cannot be understood is `ProtocolChanged`, told without its content."""
    for step in ("open_stream", "queue_assistant"):
        server.faults.add(step, "garble")
    error = await _failure(make, server)
    assert isinstance(error, ProtocolChanged), f"a frame that is none is ProtocolChanged, not {error!r}"
    assert "this is" not in str(error), "an error shows what the service sent"
    assert not server.store.chats


async def takes_no_wrong_word_for_gone(make: Make, server: MadeUpServer) -> None:
    """At another address, and behind a page, no chat counts as deleted or absent."""
    adapter = make(f"{server.url}/elsewhere")
    call = Call(Login("me", _login(server)), Deadlines())
    await _refused(adapter.delete_chat(call, "some-chat"), "delete_chat at a wrong address")
    await _refused(adapter.read_answer(call, "some-chat", None, None), "read_answer at a wrong address")
    await adapter.aclose()
    adapter = make(server.url)
    if server.plan.looks.ids != "number":
        gone = await adapter.delete_chat(call, "no/such?chat#100% + 1")
        assert gone is not server.plan.manners.second_delete_gone, "an id stays in its place, whatever it holds"
    chat = await adapter.create_chat(call, _KEYS[0])
    for step, ask in (
        ("delete_chat", lambda: adapter.delete_chat(call, chat)),
        ("list_runs", lambda: adapter.read_answer(call, chat, None, None)),
        ("create_chat", lambda: adapter.create_chat(call, _KEYS[1])),
    ):
        server.faults.add(step, "page")
        await _refused(ask(), f"{step} that is answered by a page")
    assert await adapter.delete_chat(call, chat) is True
    await adapter.aclose()


async def keeps_secrets(make: Make, server: MadeUpServer) -> None:
    """No error shows the key or the prompt, when the service echoes all that it was sent."""
    rules = {"system_prompt": f"Be brief, {_RULES}."} if "system_prompt" in server.plan.manners.options else {}
    for step in operations(server.plan):
        server.faults.add(step, "echo")
        async with Engine(make(server.url), ledger=MemoryLedger(), deadlines=DEADLINES) as engine:
            try:
                await engine.ask(_SECRET * 2, credential=login(server.plan, _SECRET), **rules).text()  # type: ignore[arg-type]
            except ChatleaseError as error:
                shown = f"{error} {error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}"
                assert _SECRET not in shown, f"an error of {step} shows the prompt or the key"
                assert _RULES not in shown, f"an error of {step} shows the system prompt"
        server.faults.clear()
    server.store.fail = 1
    failed = await _failure(make, server, _SECRET)
    assert isinstance(failed, RunFailed)
    assert _SECRET not in str(failed), "the error of a failed run shows the prompt"


async def refuses_options_before_anything_is_sent(make: Make, server: MadeUpServer) -> None:
    """An option out of its range, or one that the service does not have, is a UsageError; those in range are taken."""
    wrong = {"temperature": -1.0, "top_p": 1.5, "max_new_tokens": 0, "system_prompt": 7}
    right = {"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 20, "system_prompt": "Be brief."}
    async with _engine(make, server) as engine:
        for name, value in wrong.items():
            try:
                await engine.ask(_PROMPT, credential=_login(server), **{name: value}).text()  # type: ignore[arg-type]
            except UsageError:
                continue
            raise AssertionError(f"check_options takes {name}={value!r}")
        assert not server.store.created
        taken = {name: right[name] for name in server.plan.manners.options}
        answer = engine.ask(_PROMPT, credential=_login(server), model=server.plan.models[1], **taken)  # type: ignore[arg-type]
        assert await answer.text() == _PROMPT


async def rides_out_a_storm(make: Make, server: MadeUpServer) -> None:
    """200 sessions, half of them cancelled, one call in ten failing: no chat is left unknown."""
    await storm(lambda: make(server.url), server)


EXAMINATIONS: tuple[Examination, ...] = (
    keeps_the_contract,
    says_what_the_service_is_like,
    gives_every_word_once,
    stops_before_it_deletes,
    tells_that_a_chat_is_busy,
    tells_a_failed_run,
    survives_a_frame_that_is_none,
    takes_no_wrong_word_for_gone,
    keeps_secrets,
    refuses_options_before_anything_is_sent,
    rides_out_a_storm,
)


async def examine(make: Make, plan: Plan, examination: Examination) -> None:
    """Run one examination against a new server of that plan."""
    async with made_up(plan) as server:
        await asyncio.wait_for(examination(make, server), 60)


def capabilities(plan: Plan) -> Capabilities:
    """Return what an honest adapter says of the service."""
    manners = plan.manners
    return Capabilities(
        client_id=manners.key == "id",
        client_key=manners.key == "field",
        listing=manners.paging != "none",
        stopping=manners.stop != "none",
        deletion_during_run="safe" if manners.deletion == "safe" else "harmful",
        second_delete="gone" if manners.second_delete_gone else "deleted",
        runs_per_account=1 if manners.one_run else None,
    )


def _engine(make: Make, server: MadeUpServer) -> Engine:
    return Engine(make(server.url), ledger=None, deadlines=Deadlines(poll=0.05, settle=5, grace=10, drain=20))


def _login(server: MadeUpServer) -> Credential:
    return login(server.plan, "right-key-of-mine")


async def _asked(adapter: Adapter, call: Call, chat: str, parent: str | None) -> str:
    """Queue an answer, and leave its stream; returns the run's id."""
    call.text = _PROMPT
    prompt = await adapter.send_prompt(call, chat, _PROMPT, parent)
    run = await adapter.queue_assistant(call, chat, prompt, adapter.model, RunOptions())
    stream = call.take_stream()
    if stream is not None:
        stream.close()
    return run


async def _failure(make: Make, server: MadeUpServer, prompt: str = _PROMPT) -> ChatleaseError | None:
    async with _engine(make, server) as engine:
        try:
            await engine.ask(prompt, credential=_login(server)).text()
        except ChatleaseError as error:
            return error
    return None


async def _refused(call: Awaitable[object], doing: str) -> None:
    try:
        got = await call
    except ServiceError:
        return
    raise AssertionError(f"{doing} is an error, not {got!r}")
