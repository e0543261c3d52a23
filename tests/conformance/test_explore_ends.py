"""`explore` comes to its end whatever the adapter and the clock do, says when it was narrowed, and leaves no trace."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from chatlease.adapter import Call, Credential
from chatlease.testing import Exploration, FakeService, ManualClock, explore
from chatlease.testing._explore._faults import FAULTS
from tests.pages import table, text_of

ENDLESS = "aclose comes back within 0.05 s (patience_s)"


async def explored(service: FakeService, **more: Any) -> Exploration:
    options: dict[str, Any] = {"chats": lambda: service.chats, "clock": service.clock, "raises": False}
    return await explore(lambda: service, **(options | more))


def by_the_clock(kind: type[FakeService] = FakeService) -> FakeService:
    return kind(clock=ManualClock(autojump=True, idle_passes=10))


# -- a close without an end -------------------------------------------------------------------------------------------


class _NeverCloses(FakeService):
    async def aclose(self) -> None:
        await asyncio.get_running_loop().create_future()


class _NeverClosesTheLast(FakeService):
    """Only the adapter that was made to be looked at."""

    closes = 0

    async def aclose(self) -> None:
        self.closes += 1
        if self.closes > 4:  # twice by the engine of the one path, twice behind it
            await asyncio.get_running_loop().create_future()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [_NeverCloses, _NeverClosesTheLast])
async def test_an_adapter_whose_close_never_ends_is_found_out(kind: type[FakeService]) -> None:
    before = asyncio.all_tasks()
    report = await explored(by_the_clock(kind), only="ask", patience_s=0.05)
    assert ENDLESS in {each.how for each in report.violations}
    assert {each.path for each in report.violations} <= {"ask", "aclose"}
    assert not report.complete
    assert asyncio.all_tasks() <= before


@pytest.mark.timeout(20)
async def test_the_walk_ends_at_the_first_close_that_does_not() -> None:
    report = await explored(by_the_clock(_NeverCloses), patience_s=0.05)
    assert (report.paths, report.complete) == (1, False)


# -- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
async def test_a_clock_that_nobody_moves_is_refused() -> None:
    with pytest.raises(ValueError, match=r"give clock=ManualClock\(autojump=True\)"):
        await explored(by_the_clock(), clock=ManualClock(), patience_s=0.05)


# -- narrowed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [[], ["refused"]], ids=repr)
async def test_what_was_narrowed_is_not_complete(faults: list[str]) -> None:
    report = await explored(by_the_clock(), faults=faults, raises=True)
    assert not report.complete
    assert "not everything was walked (only=, faults=," in str(report)


async def test_all_faults_by_their_names_narrow_nothing() -> None:
    report = await explored(by_the_clock(), faults=list(FAULTS), raises=True)
    assert report.complete


def test_the_faults_are_named_in_the_docs() -> None:
    rows = table("tests/README.md", "Every path, every fault: `explore`")
    assert {name.strip("`"): what for name, what in rows} == {name: fault.what for name, fault in FAULTS.items()}


class _KeepsEmptyChats(FakeService):
    async def delete_chat(self, call: Call, chat: str) -> bool:
        if chat in self.chats and not self.chats[chat].prompts:
            return True
        return await super().delete_chat(call, chat)


@pytest.mark.slow
async def test_the_report_in_the_docs_is_what_is_printed() -> None:
    login = Credential(cookies={"login": "a-planted-secret"})
    report = str(await explored(by_the_clock(_KeepsEmptyChats), credential=login))
    [_, _, printed] = text_of("tests/README.md").partition("```text\n1. ")
    assert f"\n1. {printed.partition('```')[0]}" in report


# -- the log ----------------------------------------------------------------------------------------------------------


async def test_explorations_at_once_leave_the_log_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("chatlease")
    caplog.set_level(logging.DEBUG, logger="chatlease")
    filters, heard = list(log.filters), list[bool]()

    async def another() -> None:
        """A bot beside them, whose log is its own."""
        for _ in range(20):
            log.warning("of a bot")
            heard.append(not log.disabled)
            await asyncio.sleep(0)

    walks = [explored(by_the_clock(), only=["ask"] * times, raises=True) for times in (1, 5)]
    await asyncio.gather(another(), *walks)
    assert (log.filters, log.disabled) == (filters, False)
    assert all(heard)
    assert {record.getMessage() for record in caplog.records if record.name == "chatlease"} == {"of a bot"}
