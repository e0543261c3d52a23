"""The command line gives back what others left: by `sweep`, by the next `chat`, after a ``kill -9`` on real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chatlease._cli._exits import Exit
from chatlease._cli._journal import FirstSweep, Journal
from chatlease._cli._show import Screen
from chatlease._trace import TraceEvent
from chatlease.adapter import Call, Capabilities, Credential
from chatlease.errors import NotAuthenticated, Unavailable
from chatlease.testing import FakeService, Fault
from chatlease.testing.fake_service import FakeChat
from chatlease_adapters.open_assistant.service import Service, running

from .cli_kit import (
    ME,
    Book,
    book,
    chatlease,
    files,
    in_use,
    run_on,
    service,
    shown,
    statuses,
    unwritable,
)
from .ledger_kit import rows

__all__ = ["book", "in_use", "service"]

NO_KEYS = Capabilities(listing=True, deletion_during_run="harmful", runs_per_account=1, rate_budget=None)
"""Of a service that gives back no key of ours."""


# -- chatlease sweep --------------------------------------------------------------------------------------------------


class Logins(FakeService):
    """A service at which there are logins of some accounts only."""

    def __init__(self, *known: str | None) -> None:
        super().__init__()
        self.known = known

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        if account not in self.known:
            raise NotAuthenticated("no login was found", hint="Log in.")
        return await super().ready_cookies(account, rejected)


def swept(book: Book, *options: str) -> tuple[int, dict[str, Any]]:
    done = run_on(book.service, "sweep", "--once", "--json", *options)
    result: dict[str, Any] = json.loads(done.out)
    assert result["exit_code"] == done.code
    return done.code, result


def test_a_sweep_deletes_what_was_left_and_says_so(book: Book) -> None:
    book.orphan("one")
    book.orphan("two", account="alice")
    done = run_on(book.service, "sweep", "--once")
    assert (done.code, done.err) == (0, "")
    assert done.out == "deleted 2, never there 0, failed 0, given up 0; left 0, in use 0\n"
    assert list(files(book.path.parent)) == [str(book.path)], "the ledger was not closed, or its holder not ended"
    assert (book.service.chats, book.entries()) == ({}, {})


def test_a_sweep_makes_no_ledger_where_there_is_none(book: Book) -> None:
    code, result = swept(book)
    assert (code, result["open"]) == (0, 0)
    assert not book.path.parent.exists()
    assert not book.service.calls


def test_json_of_a_sweep_says_what_was_done(book: Book, in_use: str) -> None:
    book.orphan("one")
    book.dead("two")
    assert swept(book) == (
        Exit.CHAT_LEFT,
        {
            "reaped": 0,
            "deleted": 1,
            "absent": 0,
            "failed": 0,
            "died": 0,
            "candidates": [],
            "open": 2,
            "left": 1,
            "parked": 0,
            "dead": 1,
            "exit_code": 4,
        },
    )
    assert book.service.chats.keys() == {"two"}


def test_what_living_processes_use_is_not_left(book: Book, in_use: str) -> None:
    code, result = swept(book)
    assert (code, result["open"], result["left"]) == (0, 1, 0)
    assert not book.service.calls["delete_chat"]


def reasons(book: Book, *options: str) -> list[str]:
    """Return what is said of the entries that a sweep leaves, without whose they are."""
    done = run_on(book.service, "sweep", "--once", *options)
    assert done.code == Exit.CHAT_LEFT
    return [line.partition(f"{book.service.origin}, account ")[2] for line in done.err.splitlines()]


def test_a_deletion_that_fails_is_left_with_its_next_try(book: Book) -> None:
    book.service.fail("delete_chat", Unavailable("out of order", status=503))
    book.orphan("one")
    [reason] = reasons(book)
    assert reason.startswith(f"{ME}: the deletion failed (http-503); tried again in ")
    [entry] = book.entries().values()
    assert (entry.attempts, entry.error_code) == (1, "http-503")


def test_a_refused_login_parks_the_account_and_is_told_once(book: Book) -> None:
    for chat in ("one", "two"):
        book.orphan(chat)
    book.service.accounts = set()
    done = run_on(book.service, "sweep", "--once")
    assert done.code == Exit.CHAT_LEFT
    told, left = done.err.splitlines()
    assert told == f"account {ME}: its login was refused; its chats wait for another one"
    assert left.endswith(f"account {ME}: the login was refused; log in again, then `chatlease ledger retry ID`")
    assert left.startswith("2 of fake at ")
    assert "; left 2, in use 0" in done.out


def test_a_dead_letter_is_named_as_one(book: Book) -> None:
    book.dead("one")
    assert reasons(book) == [
        f"{ME}: dead letters, tried once a day; `chatlease ledger retry ID` has one tried by the next sweep"
    ]


def test_a_lost_create_reply_is_waited_for(book: Book) -> None:
    book.service.capabilities = NO_KEYS
    book.orphan()
    assert reasons(book) == [
        f"{ME}: the reply to its create was lost; looked for in 10 min, when it can take effect no more"
    ]


def test_chats_of_another_service_are_named_and_left(book: Book) -> None:
    book.orphan("one", origin="fake://elsewhere")
    done = run_on(book.service, "sweep", "--once")
    assert done.code == Exit.CHAT_LEFT
    reason = "of another service than the one swept; --adapter and --url name it"
    assert done.err == f"1 of fake at fake://elsewhere, account {ME}: {reason}\n"
    assert not book.service.calls["delete_chat"]


def test_chats_of_a_login_that_is_not_here_are_left_alone(book: Book) -> None:
    book.service = Logins(None)
    book.orphan("one", account="anon-000000000000")
    book.orphan("two", account="bob")
    book.orphan("three")
    assert sorted(reasons(book)) == [
        "anon-000000000000: no login of that account was found here",
        "bob: no login of that account was found here",
    ]
    assert book.service.chats.keys() == {"one", "two"}


def test_a_named_login_also_gives_back_what_it_made_without_its_name(book: Book) -> None:
    book.service = Logins("alice")
    book.orphan("one", account=Credential(cookies={"login": "alice"}).fingerprint())
    assert swept(book)[0] == Exit.CHAT_LEFT
    assert swept(book, "--account", "alice")[0] == 0
    assert book.service.chats == {}


def test_a_named_login_that_is_not_found_ends_the_sweep(book: Book) -> None:
    book.service = Logins()
    book.orphan("one")
    done = run_on(book.service, "sweep", "--once", "--account", "alice")
    assert (done.code, done.err) == (Exit.NOT_AUTHENTICATED, "error: no login was found\nLog in.\n")


@pytest.mark.parametrize(
    ("reconcile", "left", "status"), [("delete", [], None), ("report", ["lost"], "dead"), ("off", ["lost"], "dead")]
)
def test_the_chat_of_a_lost_create_reply_is_deleted_or_only_reported(
    book: Book, reconcile: str, left: list[str], status: str | None
) -> None:
    book.service.capabilities = NO_KEYS
    name, an_hour = book.orphan(), 3600.0
    times = ("intent_at", "create_deadline", "orphaned_at", "next_try_at")
    rows(book.path, f"UPDATE entries SET {', '.join(f'{each} = {each} - {an_hour}' for each in times)}")
    book.service.chats["lost"] = FakeChat(ME, name, time.time() - an_hour)
    code, result = swept(book, "--reconcile", reconcile)
    assert list(book.service.chats) == left
    assert code == (Exit.CHAT_LEFT if left else 0)
    assert [found["chat"] for found in result["candidates"]] == (["lost"] if reconcile == "report" else [])
    assert statuses(shown(book)) == ({name: status} if status else {})


def test_a_ledger_that_cannot_be_written_ends_the_sweep(book: Book) -> None:
    book.orphan("one")
    with unwritable(book):
        done = run_on(book.service, "sweep", "--once")
    assert (done.code, done.out) == (Exit.FAILED, "")
    assert f"error: the ledger {book.path} cannot be written" in done.err


@pytest.mark.parametrize("options", [("--json",), ("--every", "0"), ("--reconcile", "perhaps")])
def test_options_of_a_sweep_that_make_no_sense_are_refused(book: Book, options: tuple[str, ...]) -> None:
    assert run_on(book.service, "sweep", *options).code == Exit.USAGE
    assert not book.path.exists()


class Interrupted(FakeService):
    """A person presses Ctrl-C while a chat is being deleted."""

    async def delete_chat(self, call: Call, chat: str) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        return True


def test_ctrl_c_ends_a_sweep_and_its_chats_are_free_again(book: Book) -> None:
    book.service = Interrupted()
    name = book.orphan("one")
    done = run_on(book.service, "sweep", "--once")
    assert (done.code, done.out) == (Exit.INTERRUPTED, "")
    [entry] = book.entries().values()
    assert (entry.id, entry.alive, entry.attempts) == (name, False, 0)


def test_what_creates_no_chat_makes_no_ledger(book: Book) -> None:
    assert (run_on(book.service, "models").out, run_on(book.service, "doctor").code) == ("fake-1\n", 0)
    assert not book.path.parent.exists()


# -- chatlease chat ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATLEASE_SWEEP")


@pytest.mark.usefixtures("_sweeping")
def test_a_chat_gives_back_what_the_last_one_left_however_short_it_is(book: Book) -> None:
    book.orphan("left")
    book.service.fail("delete_chat", Fault(delay_s=0.3))
    done = run_on(book.service, "chat", "Hi")
    assert (done.code, done.out, done.err) == (0, "Hello, you\n", "")
    assert (book.service.chats, book.entries()) == ({}, {})


async def test_the_first_sweep_is_not_waited_for_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    first = FirstSweep()
    await first.wait(Screen(), 0.0)
    first(TraceEvent("sweep.started", 0.0, {}))
    assert capsys.readouterr().err == ""
    await first.wait(Screen(), 0.0)
    assert "still being deleted" in capsys.readouterr().err
    first(TraceEvent("sweep.completed", 0.0, {}))
    await first.wait(Screen(), 0.0)
    assert capsys.readouterr().err == ""


def test_a_chat_that_is_left_is_kept_by_the_ledger_and_said_to_be(book: Book) -> None:
    book.service.fail("create_chat", Fault(Unavailable("gone"), when="after"))
    done = run_on(book.service, "chat", "Hi")
    assert done.code == Exit.CHAT_LEFT
    assert done.err.endswith("chat of unknown id is left at the service; the ledger keeps it for `chatlease sweep`\n")
    assert shown(book)["counts"]["orphaned"] == 1


def test_a_chat_that_the_same_command_swept_is_not_left() -> None:
    journal = Journal()
    for name, chat in (("one", "chat-1"), ("two", None), ("three", "chat-3")):
        journal(TraceEvent("session.cleanup.handed_over", 0.0, {"session": name, "chat": chat}))
    assert (journal.handed_over, journal.exit(Exit.OK)) == (["chat-1", None, "chat-3"], Exit.CHAT_LEFT)
    journal(TraceEvent("sweep.chat.deleted", 0.0, {"session": "one", "chat": "chat-1"}))
    journal(TraceEvent("sweep.entry.absent", 0.0, {"session": "two"}))
    journal(TraceEvent("sweep.chat.deleted", 0.0, {"session": "of another process", "chat": "chat-2"}))
    assert journal.handed_over == ["chat-3"]
    journal(TraceEvent("sweep.chat.deleted", 0.0, {"session": "three", "chat": "chat-3"}))
    assert journal.exit(Exit.OK) == Exit.OK


# -- kill -9, over real HTTP ------------------------------------------------------------------------------------------


@pytest.fixture
async def local() -> AsyncIterator[Service]:
    """A local service that takes about two seconds for an answer."""
    async with running(token_interval=0.1, answer_tokens=20) as service:
        yield service


@pytest.fixture
def environment(tmp_path: Path, local: Service) -> dict[str, str]:
    """A user's, with a login for that service; nothing is said of the ledger."""
    return {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "CHATLEASE_LEDGER": "",
        "CHATLEASE_SWEEP": "",
        "CHATLEASE_OPEN_ASSISTANT_URL": local.url,
        "CHATLEASE_OPEN_ASSISTANT_COOKIE": "any",
    }


async def killed_in_the_middle_of_an_answer(local: Service, environment: dict[str, str]) -> None:
    process = await chatlease("chat", "Hello", env=environment)
    assert process.stdout is not None
    assert await process.stdout.read(1)
    process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (len(local.chats), local.created) == (1, 1)


async def ended(environment: Mapping[str, str], *arguments: str) -> tuple[int | None, str, str]:
    process = await chatlease(*arguments, env=environment)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_after_kill_9_a_sweep_leaves_no_chat(local: Service, environment: dict[str, str]) -> None:
    await killed_in_the_middle_of_an_answer(local, environment)
    code, out, _ = await ended(environment, "ledger", "--json")
    assert (code, json.loads(out)["counts"]) == (0, {"open": 1, "orphaned": 1, "parked": 0, "dead": 0})
    code, out, err = await ended(environment, "sweep", "--once")
    assert (code, err) == (0, "")
    assert out == "deleted 1, never there 0, failed 0, given up 0; left 0, in use 0\n"
    assert (len(local.chats), local.lost_messages) == (0, [])


async def test_after_kill_9_the_next_chat_leaves_none(local: Service, environment: dict[str, str]) -> None:
    await killed_in_the_middle_of_an_answer(local, environment)
    code, out, _ = await ended(environment, "chat", "Hello again")
    assert (code, bool(out)) == (0, True)
    assert (len(local.chats), local.created, local.lost_messages) == (0, 2, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_sweeper_that_runs_on_deletes_what_comes_and_ends_in_order(
    local: Service, environment: dict[str, str], number: signal.Signals
) -> None:
    sweeper = await chatlease("sweep", "--every", "0.2", env=environment)
    assert sweeper.stderr is not None
    assert await sweeper.stderr.readline() == f"sweeping {_default(environment)} every 0.2 s\n".encode()
    await killed_in_the_middle_of_an_answer(local, environment)
    assert sweeper.stdout is not None
    assert await sweeper.stdout.readline() == b"deleted 1, never there 0, failed 0, given up 0; open 0\n"
    assert (len(local.chats), local.lost_messages) == (0, [])
    sweeper.send_signal(number)
    assert (*(await sweeper.communicate()), sweeper.returncode) == (b"", b"ended\n", 0)


def _default(environment: dict[str, str]) -> Path:
    return Path(environment["XDG_STATE_HOME"], "chatlease", "ledger.sqlite3")
