"""The adapter contract as a program: run it against a real (or local) service, before trusting an adapter with chats.

Every check says what the contract wants, makes the calls, and raises `ContractBroken` naming what came instead; a note
on it, as on any other error, says what was being checked and which calls led there. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from chatlease._lifecycle import TABLE
from chatlease.adapter import Adapter, AnswerStream, Call, Credential, Deadlines, Login, RunOptions
from chatlease.errors import Rejected, ServiceError, UsageError
from chatlease.events import Failed, Final, RunStatus

from .recorded import recorded

__all__ = ["ContractBroken", "check_adapter"]

T = TypeVar("T")
_READS = 10_000
_LOOKS = 200
_PAUSE_S = 0.05
_UNDER_WAY = frozenset({RunStatus.PENDING, RunStatus.GOING})
_PROMPT = "Say something short, please."
_SHOWN = 20


async def _last_event(stream: AnswerStream) -> object:
    last: object = None
    for _ in range(_READS):
        batch = await stream.read()
        if not batch:
            return last
        last = batch[-1]
        if isinstance(last, Final | Failed):
            return last
    raise ContractBroken("a stream ends with a Final, a Failed or an empty batch")


class ContractBroken(AssertionError):
    """An adapter does not do what `chatlease.adapter` says, or a ledger what `chatlease.ledger` says."""


async def check_adapter(
    make: Callable[[], Adapter], *, credential: Credential, wrong: Credential | None = None, model: str = ""
) -> None:
    """
    Check an adapter against a service that works; makes and deletes a few chats.

    Args:
        make: Makes a new adapter for the service; each one made is closed.
        credential: One that the service accepts.
        wrong: One that it refuses, where there is such a thing.
        model: The model to ask; the adapter's own if empty.

    Raises:
        ContractBroken: Naming the clause.
        ServiceError: The service failed in a way that is nobody's breach of contract.

    Whatever is raised has a note that says what was being checked, and which calls of the adapter led there.
    """
    for check in _CHECKS:
        await _with(make, check, credential, model)
    if wrong is not None:
        await _with(make, _check_refusal, wrong, model)
    await _check_closing(make)


class _Probe:
    """An adapter under test, with a login."""

    def __init__(self, adapter: Adapter, credential: Credential, model: str) -> None:
        self.adapter = adapter
        self.call = Call(Login("check", credential), Deadlines())
        self.model = model or adapter.model
        self.options = RunOptions()

    async def asked(self) -> tuple[str, str, str]:
        """Create a chat, send a prompt, queue an answer."""
        chat = await self.created()
        _want(self.call.http_status is not None, "create_chat reports the HTTP status in call.http_status")
        self.call.text = _PROMPT
        prompt = await self.adapter.send_prompt(self.call, chat, _PROMPT, None)
        run = await self.adapter.queue_assistant(self.call, chat, prompt, self.model, self.options)
        _want(all(type(each) is str and each for each in (chat, prompt, run)), "ids are strings, not empty")
        return chat, prompt, run

    async def created(self) -> str:
        """Create a chat, with a key of its own."""
        key = str(uuid4())
        chat = await self.adapter.create_chat(self.call, key)
        if self.adapter.capabilities.client_id:
            _want(chat == key, "create_chat makes the chat whose id is the key, as the capabilities say", chat)
        return chat

    async def answer(self, chat: str, prompt: str, run: str) -> str:
        """Read the answer to its end, by the stream and else by looking."""
        stream = await self.adapter.open_stream(self.call, chat, run)
        try:
            last = None if stream is None else await _last_event(stream)
            if isinstance(last, Final):
                return last.text
            _want(not isinstance(last, Failed), "the service answers a plain prompt")
        finally:
            if stream is not None:
                stream.close()
                stream.close()
            _want(self.call.stream is None, "open_stream takes the stream that queue_assistant left")
        return await self.looked(chat, prompt, run)

    async def looked(self, chat: str, prompt: str | None, run: str | None) -> str:
        """Look at a run that is over; returns its text."""
        reading = await self.adapter.read_answer(self.call, chat, prompt, run)
        _want(reading.status is RunStatus.ANSWERED, "read_answer of a finished run is ANSWERED", reading.status)
        _want(reading.run is not None, "read_answer gives the run's id")
        _want(reading.text is not None, "read_answer of a finished run gives its text")
        return reading.text or ""


_Check = Callable[[_Probe], Awaitable[None]]


async def _with(make: Callable[[], Adapter], check: _Check, credential: Credential, model: str) -> None:
    adapter, calls = make(), list[str]()
    try:
        await check(_Probe(recorded(adapter, calls), credential, model))
    except Exception as error:
        error.add_note(_way(check, calls))
        raise
    finally:
        await adapter.aclose()


def _way(check: _Check, calls: Sequence[str]) -> str:
    """Say what was being checked, and the calls that were made for it."""
    name = check.__name__.removeprefix("_check_").replace("_", " ")
    about = f" ({check.__doc__.strip()})" if check.__doc__ else ""
    shown = [f"... {len(calls) - _SHOWN} calls before these", *calls[-_SHOWN:]] if len(calls) > _SHOWN else calls
    return "\n    ".join([f"check_adapter was checking: {name}{about}", "the calls of the adapter so far:", *shown])


async def _check_surface(probe: _Probe) -> None:
    """The adapter has everything that an adapter has, and refuses options that it does not know."""
    adapter = probe.adapter
    for name in {row.call for row in TABLE if row.call} | {"read_answer", "models", "aclose"}:
        _want(inspect.iscoroutinefunction(getattr(adapter, name, None)), f"{name} is a coroutine function")
    _want(bool(adapter.service) and bool(adapter.origin), "service and origin are not empty")
    _want("@" not in adapter.origin, "origin holds no credentials", adapter.origin)
    _want(bool(await adapter.models(probe.call)), "models names at least one model")
    try:
        adapter.check_options(probe.model, {"no_such_option": 1})  # type: ignore[typeddict-unknown-key]  # on purpose
    except UsageError:
        return
    _want(False, "check_options refuses an option that it does not know, with UsageError")


async def _check_answer(probe: _Probe) -> None:
    """A plain prompt is answered, and the final text is what read_answer says too, by run and by prompt."""
    chat, prompt, run = await probe.asked()
    text = await probe.answer(chat, prompt, run)
    _want(await probe.looked(chat, prompt, run) == text, "read_answer agrees with the stream's final text")
    _want(await probe.looked(chat, prompt, None) == text, "read_answer finds the run by its prompt")
    _want(await probe.looked(chat, None, None) == text, "read_answer finds the chat's newest run")
    if probe.adapter.capabilities.stopping:
        await probe.adapter.stop_run(probe.call, chat, run)
    _want(await probe.adapter.delete_chat(probe.call, chat) is True, "delete_chat of a chat that exists is True")


async def _check_second_delete(probe: _Probe) -> None:
    """Deleting a deleted chat looks as Capabilities.second_delete says."""
    chat = await probe.created()
    await probe.adapter.delete_chat(probe.call, chat)
    again = await probe.adapter.delete_chat(probe.call, chat)
    expected = probe.adapter.capabilities.second_delete == "deleted"
    _want(again is expected, f"a second delete_chat is {expected}, as the capabilities say", again)


async def _check_orphan(probe: _Probe) -> None:
    """What a sweeper does with a chat of which it knows no more than the id; also when somebody else was faster."""
    chat = await probe.created()
    for _ in range(2):
        if probe.adapter.capabilities.stopping:
            await _unless_gone(probe.adapter.stop_run(probe.call, chat, None))
        reading = await _unless_gone(probe.adapter.read_answer(probe.call, chat, None, None))
        absent = reading is None or reading.status is RunStatus.ABSENT
        _want(absent, "read_answer of a chat without a run is ABSENT, of no chat at all a 404 or ABSENT")
        await probe.adapter.delete_chat(probe.call, chat)


async def _unless_gone(call: Awaitable[T]) -> T | None:
    try:
        return await call
    except Rejected as error:
        _want(error.status in {404, 410}, "a chat that is gone is refused by 404 or 410", error.status)
        return None


async def _check_finished(probe: _Probe) -> None:
    """The stream of a finished run is None, or ends without an event, or gives the answer once more."""
    chat, prompt, run = await probe.asked()
    text = await probe.answer(chat, prompt, run)
    _want(await probe.answer(chat, prompt, run) == text, "a finished run can still be read")
    await probe.adapter.delete_chat(probe.call, chat)


async def _check_stopping(probe: _Probe) -> None:
    """A run is over soon after it was stopped, also one whose stream was never opened; then its chat can be deleted."""
    if not probe.adapter.capabilities.stopping:
        return
    chat, prompt, run = await probe.asked()
    stream = probe.call.take_stream()
    if stream is not None:
        stream.close()
    await probe.adapter.stop_run(probe.call, chat, run)
    for _ in range(_LOOKS):
        reading = await probe.adapter.read_answer(probe.call, chat, prompt, run)
        if reading.status not in _UNDER_WAY:
            break
        await asyncio.sleep(_PAUSE_S)
    else:
        raise ContractBroken("a run that was stopped is over within seconds")
    _want(await probe.adapter.delete_chat(probe.call, chat) is True, "delete_chat of a chat that exists is True")


async def _check_turns(probe: _Probe) -> None:
    """A second turn names the first run as its parent."""
    chat, prompt, run = await probe.asked()
    await probe.answer(chat, prompt, run)
    again = await probe.adapter.send_prompt(probe.call, chat, _PROMPT, run)
    second = await probe.adapter.queue_assistant(probe.call, chat, again, probe.model, probe.options)
    _want(second != run, "every queued answer has an id of its own")
    await probe.answer(chat, again, second)
    newest = await probe.adapter.read_answer(probe.call, chat, None, None)
    _want(newest.run == second, "read_answer finds the chat's newest run, not its first", newest.run)
    first = await probe.adapter.read_answer(probe.call, chat, prompt, None)
    _want(first.run == run, "read_answer finds the run of that prompt, not the newest", first.run)
    await probe.adapter.delete_chat(probe.call, chat)


async def _check_listing(probe: _Probe) -> None:
    """Three new chats are listed, each once, with what Capabilities say of them."""
    if not probe.adapter.capabilities.listing:
        return
    keys_given = [str(uuid4()) for _ in range(3)]
    made = {await probe.adapter.create_chat(probe.call, key): key for key in keys_given}
    listed = [each async for each in probe.adapter.list_chats(probe.call)]
    ours = {each.chat: each for each in listed if each.chat in made}
    for chat in made:
        await probe.adapter.delete_chat(probe.call, chat)
    _want(ours.keys() == made.keys(), "list_chats shows every chat of the account")
    if probe.adapter.capabilities.client_key:
        keys = {each.chat: each.client_key for each in ours.values()}
        _want(keys == made, "list_chats shows the key that each chat was created with", keys)
    _want(len(listed) == len({each.chat for each in listed}), "list_chats shows each chat once")
    _want(all(each.empty is not False for each in ours.values()), "a chat without a prompt is not listed as not empty")
    aware = all(each.created_at is None or each.created_at.tzinfo is not None for each in listed)
    _want(aware, "created_at is an aware time")


_CHECKS: tuple[_Check, ...] = (
    _check_surface,
    _check_answer,
    _check_second_delete,
    _check_orphan,
    _check_finished,
    _check_stopping,
    _check_turns,
    _check_listing,
)


async def _check_refusal(probe: _Probe) -> None:
    """A wrong login is refused, and the error does not show it."""
    try:
        await probe.adapter.create_chat(probe.call, str(uuid4()))
    except ServiceError as error:
        refusal = error
    else:
        raise ContractBroken("wrong credentials are refused")
    _want(
        type(refusal).__name__ == "NotAuthenticated", "wrong credentials are NotAuthenticated", type(refusal).__name__
    )
    shown = f"{refusal!s} {refusal!r} {vars(refusal)} {refusal.__cause__!r} {refusal.__context__!r}"
    leaks = [secret for secret in probe.call.login.credential.secrets() if secret and secret in shown]
    _want(not leaks, "an error shows no credential")


async def _check_closing(make: Callable[[], Adapter]) -> None:
    adapter = make()
    await adapter.aclose()
    await adapter.aclose()
    await asyncio.sleep(0)


def _want(holds: bool, clause: str, got: object = None) -> None:
    """Raise `ContractBroken`, naming the clause, unless it holds."""
    if not holds:
        raise ContractBroken(clause if got is None else f"{clause}; got {got!r}")
