"""`explore` walks every path and every fault, finds nothing wrong with what keeps the contract, and each wrong way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from chatlease import State, Trigger
from chatlease.adapter import AnswerStream, Call, Capabilities, Credential, RunOptions
from chatlease.errors import Rejected, ServiceError, Unavailable
from chatlease.events import Reading, RunStatus
from chatlease.testing import ContractBroken, Exploration, FakeService, Fault, ManualClock, explore

LOGIN = Credential(cookies={"login": "a-planted-secret"})
STOPPING = Capabilities(client_key=True, listing=True, stopping=True, deletion_during_run="harmful")
SAFE = Capabilities(client_key=True, listing=True)
SLOW: dict[str, Any] = {"answer_s": 5.0}
LOST = Fault(Unavailable("the connection broke"), when="after")


async def explored(service: FakeService, **more: Any) -> Exploration:
    """Explore a service in memory that is its own adapter."""
    options: dict[str, Any] = {
        "credential": LOGIN,
        "chats": lambda: service.chats,
        "harm": lambda: service.lost_messages,
        "clock": service.clock,
        "raises": False,
    }
    return await explore(lambda: service, **(options | more))


def by_the_clock(kind: type[FakeService] = FakeService, **options: Any) -> FakeService:
    return kind(clock=ManualClock(autojump=True, idle_passes=10), **options)


# -- what keeps the contract ------------------------------------------------------------------------------------------


FEW = ["lost", "late", "cancel-in", "down", "end", "failed"]
HARMLESS = (Trigger.DELETE_CHAT, State.ASSISTANT_QUEUED)
"""What a service fires on which a deletion during a run does no harm."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "faults", "harmless"),
    [
        pytest.param({}, None, False, id="strictest"),
        pytest.param({"pending": 1, **SLOW}, None, False, id="slow"),
        pytest.param({"capabilities": STOPPING, "pending": 1, "answer_s": 3600.0}, FEW, False, id="stoppable"),
        pytest.param({"capabilities": SAFE}, FEW, True, id="safe"),
    ],
)
async def test_every_law_holds_on_every_path_and_every_row_that_can_fire_fires(
    options: dict[str, Any], faults: list[str] | None, *, harmless: bool
) -> None:
    report = await explored(by_the_clock(**options), faults=faults, raises=True)
    assert report.violations == ()
    assert report.complete == (faults is None)
    assert report.missed == 0
    never = {(Trigger.QUEUE_ASSISTANT, State.ASSISTANT_QUEUED)}
    assert report.not_fired.keys() == (never if harmless else {*never, HARMLESS})
    assert "no path led there" not in report.not_fired.values()
    assert {standing.state for standing in report.standings} == set(State)
    assert min(report.faults.values()) >= 10
    assert len(report.faults) == (22 if faults is None else len(faults))
    assert report.paths > (1000 if faults is None else 300)


async def test_an_exploration_is_the_same_every_time() -> None:
    first, second = [await explored(by_the_clock(), faults=["lost", "cancel-in"]) for _ in range(2)]
    assert str(first) == str(second)
    assert set(first.faults) == {"lost", "cancel-in"}


async def test_nothing_is_left_at_the_service_between_the_paths_and_after_them() -> None:
    service = by_the_clock()
    existed = list[int]()

    def chats() -> set[str]:
        existed.append(len(service.chats))
        return set(service.chats)

    await explored(service, chats=chats, faults=["lost", "down"], raises=True)
    assert not service.chats
    assert max(existed) == 1
    mine = service.plant("somebody", prompt="is not touched")
    await explored(service, faults=["lost"], raises=True)
    assert set(service.chats) == {mine}


async def test_a_service_without_a_book_is_looked_at_by_its_listing_or_by_its_deletions() -> None:
    listed = await explored(by_the_clock(), chats=None, faults=["lost"], raises=True)
    assert listed.witness == "by the adapter's own listing"
    blind = await explored(by_the_clock(capabilities=Capabilities()), chats=None, faults=["lost"], raises=True)
    assert blind.witness.startswith("through the adapter's deletions alone")
    asked = await explored(by_the_clock(), chats=None, credential=None, faults=["lost"], raises=True)
    assert asked.witness.startswith("through the adapter's deletions alone")


# -- ways to be wrong -------------------------------------------------------------------------------------------------


class _KeepsChats(FakeService):
    async def delete_chat(self, call: Call, chat: str) -> bool:
        self._chat(call, chat)
        return True


class _ForgetsTheSecondChat(FakeService):
    """Keeps the session's chat in the adapter."""

    last = ""

    async def create_chat(self, call: Call, client_key: str) -> str:
        self.last = await super().create_chat(call, client_key)
        return self.last

    async def delete_chat(self, call: Call, chat: str) -> bool:
        return await super().delete_chat(call, self.last)


class _SwallowsCancellation(FakeService):
    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        try:
            return await super().send_prompt(call, chat, prompt, parent)
        except asyncio.CancelledError:
            return "prompt-?"


class _MapsCancellation(FakeService):
    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        try:
            return await super().queue_assistant(call, chat, prompt, model, options)
        except asyncio.CancelledError as error:
            raise Unavailable(f"something went wrong: {type(error).__name__}") from None


class _ForeignErrors(FakeService):
    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        raise KeyError("state")


class _CannotFindByPrompt(FakeService):
    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        found = await super().read_answer(call, chat, prompt, run)
        return found if run is not None else Reading(RunStatus.ABSENT)


class _OrphansFail(FakeService):
    """Stops a run only by its id, which a sweeper does not know."""

    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        if run is None:
            raise Rejected("which run?", status=400)
        await super().stop_run(call, chat, run)


class _StopsNothing(FakeService):
    async def stop_run(self, call: Call, chat: str, run: str | None) -> None:
        """Say that it is done."""


class _GoneIsAnError(FakeService):
    async def delete_chat(self, call: Call, chat: str) -> bool:
        if not await super().delete_chat(call, chat):
            raise Rejected("no such chat", status=404)
        return True


class _SameRunAgain(FakeService):
    """Names a run by its chat."""

    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        run = await super().queue_assistant(call, chat, prompt, model, options)
        self.chats[chat].runs[-1].id = name = f"run-of-{chat}"
        return name if run else ""


class _NumericIds(FakeService):
    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        found = await super().send_prompt(call, chat, prompt, parent)
        self.chats[chat].prompts[-1] = number = int(found.partition("-")[2])  # type: ignore[call-overload]
        return number  # type: ignore[return-value]  # that is what is wrong


class _LeavesAStream(FakeService):
    async def queue_assistant(self, call: Call, chat: str, prompt: str, model: str, options: RunOptions) -> str:
        run = await super().queue_assistant(call, chat, prompt, model, options)
        call.stream = await super().open_stream(call, chat, run)
        return run


@dataclass
class _Once:
    real: AnswerStream
    closes: list[int] = field(default_factory=list[int])

    def close(self) -> None:
        if self.closes:
            raise RuntimeError("closed already")
        self.closes.append(1)
        self.real.close()

    async def read(self) -> Any:
        return await self.real.read()


class _ClosesOnce(FakeService):
    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        stream = await super().open_stream(call, chat, run)
        return None if stream is None else _Once(stream)


class _Bytes(FakeService):
    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        for each in self.chats[chat].runs:
            each.batches.appendleft((b"one ",))  # type: ignore[arg-type]  # that is what is wrong
        return await super().open_stream(call, chat, run)


class _NoSecondTurn(FakeService):
    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        return await super().send_prompt(call, chat, prompt, None)


class _RefusesWhileGoing(FakeService):
    """Cannot delete a chat whose run is going, and does not say so."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        found = self.chats.get(chat)
        if found is not None and any(run.status_at(self.clock.now()) is RunStatus.GOING for run in found.runs):
            raise Rejected("the chat is busy", status=409)
        return await super().delete_chat(call, chat)


WRONG: list[tuple[type[FakeService], dict[str, Any], str, str]] = [
    (_KeepsChats, {}, "no chat is left", "no open entry of the ledger stands for it"),
    (_ForgetsTheSecondChat, {}, "no chat is left", "no open entry of the ledger stands for it"),
    (_SwallowsCancellation, {}, "keeps its contract", "send_prompt never maps nor swallows a CancelledError"),
    (_MapsCancellation, {}, "keeps its contract", "queue_assistant never maps nor swallows a CancelledError"),
    (_ForeignErrors, {}, "keeps its contract", "read_answer maps every foreign failure .* 'KeyError'"),
    (_CannotFindByPrompt, {}, "keeps its contract", "finds a run that was queued, by its prompt"),
    (_OrphansFail, {"capabilities": STOPPING}, "a sweep deletes what is left", "sweeps failed"),
    (_StopsNothing, {"capabilities": STOPPING, "answer_s": 1e9}, "the caller sees the cause", "StreamStalled"),
    (_GoneIsAnError, {}, "keeps its contract", "gone returns, and does not raise"),
    (_SameRunAgain, {}, "keeps its contract", "has an id of its own"),
    (_NumericIds, {}, "keeps its contract", "send_prompt returns an id: a string"),
    (_LeavesAStream, {}, "keeps its contract", "takes the stream that queue_assistant left"),
    (_ClosesOnce, {}, "keeps its contract", "close raises nothing, the second time"),
    (_Bytes, {}, "keeps its contract", "a stream gives str, .* 'bytes'"),
    (_NoSecondTurn, {}, "the caller sees the cause", "in send_prompt, nothing went wrong"),
    (
        _RefusesWhileGoing,
        {"capabilities": SAFE, **SLOW},
        "the caller sees the cause",
        r"delete_chat, nothing .*Rejected",
    ),
    (FakeService, {"capabilities": SAFE, **SLOW}, "no deletion does harm", "while its run was going"),
]

FAULTS: dict[type[FakeService], list[str]] = {
    _SwallowsCancellation: ["cancel-in"],
    _MapsCancellation: ["cancel-in"],
    _OrphansFail: ["down"],
    _StopsNothing: [],
}
"""Those that show it; a lost reply where nothing is said."""


@pytest.mark.parametrize(("kind", "options", "law", "how"), WRONG, ids=[f"{kind.__name__}" for kind, *_ in WRONG])
async def test_a_wrong_adapter_is_found_out(
    kind: type[FakeService], options: dict[str, Any], law: str, how: str
) -> None:
    faults = FAULTS.get(kind, ["lost"])
    with pytest.raises(ContractBroken, match=rf"(?s){law}: [^\n]*{how}") as caught:
        await explored(by_the_clock(kind, **options), faults=faults, raises=True)
    assert "again: explore(..., only='" in str(caught.value)


async def test_an_adapter_that_does_not_come_back_is_found_out_and_its_deadline_passes() -> None:
    class Hangs(FakeService):
        async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    path = "ready_cookies > create_chat > send_prompt > queue_assistant > stop_run"
    report = await explored(by_the_clock(Hangs), only=path, patience_s=0.05)
    assert "read_answer comes back within 0.05 s (patience_s)" in {each.how for each in report.violations}


async def test_an_adapter_that_never_ends_is_given_up() -> None:
    class Stubborn(FakeService):
        async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
            for _ in range(2):
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    continue
            raise AssertionError

    report = await explored(by_the_clock(Stubborn), faults=[], patience_s=0.05)
    assert "the session came to no end" in {each.how for each in report.violations}
    assert not report.complete
    assert "not everything was walked" in str(report)


# -- how the adapter tells what happened ------------------------------------------------------------------------------


class _NeverSent(FakeService):
    """Takes a lost reply for a request that never left."""

    async def create_chat(self, call: Call, client_key: str) -> str:
        try:
            return await super().create_chat(call, client_key)
        except ServiceError:
            raise Unavailable("not reached", sent=False) from None


class _Tells(FakeService):
    """Puts what it was told into its error."""

    async def send_prompt(self, call: Call, chat: str, prompt: str, parent: str | None) -> str:
        try:
            return await super().send_prompt(call, chat, prompt, parent)
        except ServiceError as error:
            raise Unavailable(f"could not send {prompt!r}") from error


@pytest.mark.parametrize(
    ("kind", "law"), [(_NeverSent, "no chat is left"), (_Tells, "no secret is shown"), (FakeService, "")]
)
async def test_a_service_that_fails_by_itself_shows_how_the_adapter_tells_it(kind: type[FakeService], law: str) -> None:
    service = by_the_clock(kind)

    def drop(step: str) -> None:
        service.fail(step, LOST)

    report = await explored(service, breaking={"drop": drop}, faults=["drop"])
    assert {each.law for each in report.violations} == ({law} if law else set())
    assert report.faults["drop"] > 10


# -- the report -------------------------------------------------------------------------------------------------------


async def test_the_report_shows_the_shortest_path_and_its_trace_and_that_path_alone_shows_it_again() -> None:
    report = await explored(by_the_clock(_KeepsChats), faults=["refused", "lost"])
    [violation] = [each for each in report.violations if each.law == "no chat is left"]
    assert violation.path == "ask"
    assert violation.paths > 10
    assert "deleted          delete_chat" in str(violation)
    again = await explored(by_the_clock(_KeepsChats), only=violation.path)
    assert [(each.law, each.how, each.path) for each in again.violations] == [
        (violation.law, violation.how, violation.path)
    ]
    assert (again.paths, again.complete) == (1, False)


@pytest.mark.parametrize("path", ["ask[lost at read#2]", "ready_cookies > create_chat > aclose[down at delete_chat]"])
async def test_a_path_is_written_as_it_is_read(path: str) -> None:
    report = await explored(by_the_clock(), only=[path], raises=True)
    assert (report.paths, report.missed, sum(report.faults.values())) == (1, 0, 1)


async def test_a_fault_that_does_not_happen_is_said() -> None:
    report = await explored(by_the_clock(), only="ready_cookies[lost at delete_chat]")
    assert report.missed == 1
    assert "1 faults did not happen" in str(report)


async def test_the_walk_ends_at_its_limit_and_says_so() -> None:
    report = await explored(by_the_clock(), most=7)
    assert (report.paths, report.complete) == (7, False)
    assert "not everything was walked" in str(report)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "jump"}, "'jump' is no move; there are ask, both, ready_cookies"),
        ({"only": "ask[flood]"}, "there is no fault 'flood'; there are refused, unsent"),
        ({"faults": ["flood"]}, "there is no fault 'flood'; there are refused, unsent"),
    ],
)
async def test_a_path_or_a_fault_that_there_is_not_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        await explored(by_the_clock(), **options)


async def test_the_adapter_is_made_anew_for_every_path_and_closed() -> None:
    made = list[FakeService]()

    class Counted(FakeService):
        closes = 0

        async def aclose(self) -> None:
            self.closes += 1

    def make() -> FakeService:
        made.append(Counted(clock=clock))
        return made[-1]

    clock = ManualClock(autojump=True)
    report = await explore(make, credential=LOGIN, clock=clock, faults=["refused"])
    assert len(made) == report.paths + 1
    assert all(each.closes for each in made if isinstance(each, Counted))
