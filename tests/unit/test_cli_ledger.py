"""The command line on ledger files: what is shown, tried again, forgotten and swept; and a ``kill -9`` on real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner

from chatlease import SqliteLedger
from chatlease._cli._app import application
from chatlease._cli._doctor import ledger_check
from chatlease._cli._exits import Exit
from chatlease._cli._journal import FirstSweep, Journal
from chatlease._cli._ledger import length_of_ids
from chatlease._cli._ledgers import look, named
from chatlease._cli._show import Screen, age
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease._registry import Plugin, Registry
from chatlease._trace import TraceEvent
from chatlease.adapter import Call, Capabilities, Credential
from chatlease.errors import NotAuthenticated, Unavailable
from chatlease.ledger import Account, Entry
from chatlease.testing import FakeService, Fault
from chatlease.testing.fake_service import FakeChat
from chatlease_adapters.open_assistant.service import Service, running

T = TypeVar("T")
NO_KEYS = Capabilities(listing=True, deletion_during_run="harmful", runs_per_account=1, rate_budget=None)
"""Of a service that gives back no key of ours."""
SECRET = "PLANTED-SECRET"
ME = Credential(cookies={"login": "default"}).fingerprint()
"""The account of `FakeService`'s default login."""


class Result:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def run_on(service: FakeService, *args: str) -> Result:
    registry = Registry({"fake": Plugin("fake", lambda: lambda: service)})
    done = CliRunner().invoke(application(registry), args, catch_exceptions=False)
    return Result(done.exit_code, done.stdout, done.stderr)


class Book:
    """A ledger file of a test, and what processes that have ended wrote into it."""

    def __init__(self, path: Path, service: FakeService) -> None:
        self.path = path
        self.url = f"sqlite:///{path}?horizon=0.001"
        self.service = service
        self._numbers = iter(range(1, 1000))

    def use(self, work: Callable[[SqliteLedger], Coroutine[Any, Any, T]]) -> T:
        async def opened() -> T:
            ledger = SqliteLedger.from_url(self.url)
            await ledger.open()
            try:
                return await work(ledger)
            finally:
                await ledger.aclose()

        return asyncio.run(opened())

    def orphan(
        self,
        chat: str | None = None,
        account: str = ME,
        *,
        origin: str = "",
        name: str = "",
        attempts: int = 0,
        error_code: str = "",
        **left: Any,
    ) -> str:
        """
        Make an entry that was left; returns its id.

        Args:
            chat: Made at the service too; ``None`` for a create whose reply was lost.
            account: Whose.
            origin: Another one than the service's.
            name: Instead of a number.
            attempts: Of deleting it.
            error_code: Of the last one.
            **left: How else it was handed over.
        """
        name = name or f"entry-{next(self._numbers):04}"
        entry = Entry(id=name, service="fake", origin=origin or self.service.origin, account=account)

        async def write(ledger: SqliteLedger) -> None:
            hold = await ledger.intent(entry)
            if chat is not None:
                await ledger.bound(hold, chat)
            await ledger.hand_over(hold, attempts=attempts, error_code=error_code, **left)

        self.use(write)
        if chat is not None:
            self.service.chats[chat] = FakeChat(account, name, time.time(), ["prompt"])
        return name

    def dead(self, chat: str) -> str:
        return self.orphan(chat, attempts=20, error_code="http-500", dead=True, retry_in_s=86400.0)

    def park(self, account: str) -> None:
        owner = Account("fake", self.service.origin, account)
        self.use(lambda ledger: ledger.park(owner, seconds=3600.0, error_code="http-403"))

    def entries(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.use(lambda ledger: ledger.open_entries())}


@pytest.fixture
def service() -> FakeService:
    """A service in memory, in real time."""
    return FakeService(tokens=["Hello", ", ", "you"])


@pytest.fixture
def book(tmp_path: Path, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A ledger that the environment names, for that service; no file yet."""
    book = Book(tmp_path / "book" / "ledger.sqlite3", service)
    monkeypatch.setenv("CHATLEASE_LEDGER", book.url)
    return book


@contextlib.contextmanager
def unwritable(book: Book) -> Generator[None]:
    """Have no process become a holder: something is in the place of the folder with their locks."""
    folder = book.path.with_name(f"{book.path.name}.holders")
    folder.rmdir()
    folder.touch()
    yield
    folder.unlink()


async def chatlease(
    *arguments: str, env: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start the command line in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "chatlease", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **env},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
def in_use(book: Book) -> Iterator[str]:
    """An entry of a session that lives for as long as the test; its id."""
    ledger = SqliteLedger.from_url(book.url)
    asyncio.run(ledger.open())
    hold = asyncio.run(ledger.intent(Entry(id="living", service="fake", origin=book.service.origin, account=ME)))
    asyncio.run(ledger.bound(hold, "chat-living"))
    yield "living"
    asyncio.run(ledger.aclose())


def shown(book: Book, *options: str) -> dict[str, Any]:
    done = run_on(book.service, "ledger", "--json", *options)
    assert (done.code, done.err) == (0, "")
    document: dict[str, Any] = json.loads(done.out)
    return document


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["status"] for entry in document["entries"]}


def _sql(path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        return list(db.execute(statement))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- chatlease ledger -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["option", "environment", "default"])
def test_showing_makes_no_ledger_where_there_is_none(
    by: str, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLEASE_LEDGER")
    url = f"sqlite:///{tmp_path}/state/ledger.sqlite3"
    if by == "environment":
        monkeypatch.setenv("CHATLEASE_LEDGER", url)
    options = ("--ledger", url) if by == "option" else ()
    done = run_on(service, "ledger", *options)
    assert (done.code, done.out) == (0, "open 0, orphaned 0, parked 0, dead 0\n")
    assert done.err.endswith("ledger.sqlite3: no ledger yet\n")
    document = json.loads(run_on(service, "ledger", "--json", *options).out)
    assert (document["exists"], document["entries"]) == (False, [])
    assert not (tmp_path / "state").exists()


def test_every_kind_of_entry_is_shown_in_words_and_counted(book: Book, in_use: str) -> None:
    orphan = book.orphan("chat-left", "bob", attempts=2, error_code="http-503", retry_in_s=7300.0)
    dead, parked = book.dead("chat-dead"), book.orphan("chat-parked", "alice")
    book.park("alice")
    document = shown(book)
    assert document["counts"] == {"open": 4, "orphaned": 3, "parked": 1, "dead": 1}
    assert statuses(document) == {in_use: "in-use", orphan: "orphaned", dead: "dead", parked: "parked"}
    lines = run_on(book.service, "ledger").out.splitlines()
    assert lines[0] == "open 4, orphaned 3, parked 1, dead 1"
    cells = {row[0]: row[1:] for row in ([cell for cell in line.split("  ") if cell.strip()] for line in lines[2:])}
    rows = {name.strip(): [cell.strip() for cell in row] for name, row in cells.items()}
    here = f"fake {book.service.origin.removeprefix('fake://')}"
    assert rows == {
        in_use: ["in use", here, ME, "chat-living", "0 s", "0", "-", "-", "alive"],
        orphan: ["orphaned", here, "bob", "chat-left", "0 s", "2", "http-503", "in 2 h", "none"],
        dead: ["dead letter", here, ME, "chat-dead", "0 s", "20", "http-500", "in 23 h", "none"],
        parked: ["parked", here, "alice", "chat-parked", "0 s", "0", "-", "now", "none"],
    }


def test_a_chat_whose_id_was_never_learned_is_shown_as_such(book: Book) -> None:
    book.orphan()
    assert "  unknown  " in run_on(book.service, "ledger").out
    assert [(entry["chat"], entry["state"]) for entry in shown(book)["entries"]] == [(None, "intent")]


@pytest.mark.parametrize("state", ["open", "orphaned", "parked", "dead"])
def test_one_kind_is_shown_on_demand_and_all_are_counted(book: Book, in_use: str, state: str) -> None:
    book.orphan("one", "bob", name="orphan")
    book.orphan("two", "alice", name="parked")
    book.orphan("three", name="dead", dead=True)
    book.park("alice")
    document = shown(book, "--state", state)
    expected = {
        "open": {in_use, "orphan", "parked", "dead"},
        "orphaned": {"orphan", "parked", "dead"},
        "parked": {"parked"},
        "dead": {"dead"},
    }
    assert statuses(document).keys() == expected[state]
    assert document["counts"] == {"open": 4, "orphaned": 3, "parked": 1, "dead": 1}


def test_json_has_every_entry_in_full(book: Book) -> None:
    before = time.time()
    name = book.orphan("chat-with-a-long-name", attempts=3, error_code="http-500", retry_in_s=60.0)
    document = shown(book)
    [entry] = document["entries"]
    times = {key: entry.pop(key) for key in ("age_s", "intent_at", "create_deadline", "orphaned_at", "next_try_at")}
    assert {key: document[key] for key in ("ledger", "exists", "writable")} == {
        "ledger": str(book.path),
        "exists": True,
        "writable": True,
    }
    assert entry == {
        "id": name,
        "status": "orphaned",
        "state": "bound",
        "service": "fake",
        "origin": book.service.origin,
        "account": ME,
        "chat": "chat-with-a-long-name",
        "orphaned": True,
        "parked": False,
        "dead": False,
        "attempts": 3,
        "error_code": "http-500",
        "holder": "",
        "holder_alive": False,
    }
    assert before <= times["intent_at"] <= times["orphaned_at"] <= document["at"] <= time.time()
    assert times["age_s"] == pytest.approx(document["at"] - times["intent_at"])
    assert times["next_try_at"] == pytest.approx(times["orphaned_at"] + 60.0)
    assert times["create_deadline"] == pytest.approx(times["intent_at"] + 0.001)


@pytest.mark.parametrize("ledger", ["memory", "none"])
def test_a_ledger_that_nobody_else_can_see_is_not_shown_as_empty(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, ledger: str
) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", ledger)
    done = run_on(service, "ledger")
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert done.err.startswith(f"error: the ledger chosen ({ledger}) keeps nothing that another process can see")


def test_the_address_of_a_ledger_is_not_shown(service: FakeService) -> None:
    done = run_on(service, "ledger", "--ledger", f"nosql://me:{SECRET}@host/db")
    assert (done.code, SECRET in done.out + done.err) == (Exit.USAGE, False)


@pytest.mark.parametrize("damage", ["overwritten", "other"])
def test_a_damaged_ledger_is_reported_and_left_as_it_is(book: Book, damage: str) -> None:
    """Opening it for writing would set it aside, and what is shown then would be an empty one."""
    book.orphan("chat-1")
    if damage == "overwritten":
        book.path.write_bytes(b"\0" * 8192)
    else:
        book.path.unlink()
        _sql(book.path, "CREATE TABLE notes(text)")
    before = files(book.path.parent)
    for command in (("ledger",), ("ledger", "retry", "entry-0001"), ("doctor", "--json")):
        done = run_on(book.service, *command)
        assert done.code == Exit.FAILED
        said = "is damaged (notadb)" if damage == "overwritten" else "is a database, but no ledger"
        assert said in done.out + done.err
    assert files(book.path.parent) == before


def test_a_ledger_that_cannot_be_written_is_shown_as_it_was_last_written(book: Book) -> None:
    name = book.orphan("chat-1")
    with unwritable(book):
        done = run_on(book.service, "ledger")
        assert (done.code, name[:8] in done.out) == (0, True)
        assert "cannot be written" in done.err
        assert done.err.endswith("; shown as it was last written\n")
        document = shown(book)
        assert (document["writable"], statuses(document)) == (False, {name: "orphaned"})
        assert run_on(book.service, "ledger", "retry", name).code == Exit.FAILED


@contextlib.contextmanager
def unprivileged() -> Generator[None]:
    """Be somebody whom file modes bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable(book: Book) -> Iterator[Book]:
    """A ledger with an entry, in a folder that everybody can read and nobody else can write."""
    with tempfile.TemporaryDirectory() as folder:
        book.path = Path(folder, "ledger.sqlite3")
        book.url = f"sqlite:///{book.path}"
        book.orphan("chat-1", name="left")
        for path, mode in ((book.path, 0o444), (book.path.parent, 0o555)):
            path.chmod(mode)
        yield book
        book.path.parent.chmod(0o755)


def test_a_ledger_that_may_only_be_read_is_shown_and_the_doctor_says_what_to_do(
    readable: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite makes files of its own even for reading, unless it is told that nobody writes."""
    monkeypatch.setenv("CHATLEASE_LEDGER", readable.url)
    before = files(readable.path.parent)
    with unprivileged():
        seen, found = asyncio.run(look(named(None))), asyncio.run(ledger_check())
    assert ([entry.id for entry in seen.entries], seen.failure is not None) == (["left"], True)
    assert (found.status, found.found) == (
        "problem",
        f"the ledger {readable.path} cannot be written: Permission denied",
    )
    assert "CHATLEASE_LEDGER" in found.do
    assert files(readable.path.parent) == before


def test_a_ledger_of_a_newer_library_is_refused_and_left_as_it_is(book: Book) -> None:
    book.orphan("chat-1")
    _sql(book.path, "UPDATE meta SET value = '99' WHERE key = 'min_reader'")
    done = run_on(book.service, "ledger")
    assert done.code == Exit.FAILED
    assert "needs a reader of version 99" in done.err
    assert _sql(book.path, "SELECT value FROM meta WHERE key = 'min_reader'") == [("99",)]


def test_what_a_service_named_cannot_steer_the_terminal(book: Book) -> None:
    book.orphan("chat-\x1b[2J", account="me\x1b]0;owned\x07")
    assert not {"\x1b", "\x07"} & set(run_on(book.service, "ledger").out)


def test_a_line_in_a_chats_id_is_no_line_of_ours(book: Book) -> None:
    entry = book.orphan("chat-1\nentry forgotten")
    shown = run_on(book.service, "ledger", "forget", entry, "--yes")
    assert "chat-1 entry forgotten of fake" in shown.err + shown.out


def test_a_long_table_is_cut_and_says_so(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatlease._cli._ledger._ROWS", 2)
    for _ in range(5):
        book.orphan("chat")
    shown = run_on(book.service, "ledger")
    assert "and 3 more" in shown.err
    assert shown.out.count("entry-") == 2
    assert "open 5" in shown.out


def test_ids_are_shown_as_long_as_they_must_be() -> None:
    def entries(*ids: str) -> list[Entry]:
        return [Entry(id=each, service="", origin="", account="") for each in ids]

    assert length_of_ids([]) == length_of_ids(entries("0123456789")) == 8
    assert length_of_ids(entries("01234567-a1", "01234567-b1", "01234567-a2")) == 11


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (172800, "2 d")]
)
def test_an_age_is_given_in_one_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words


# -- chatlease ledger retry, forget -----------------------------------------------------------------------------------


def test_a_dead_letter_is_tried_again_on_demand(book: Book) -> None:
    name = book.dead("chat-1")
    assert run_on(book.service, "sweep", "--once").code == Exit.CHAT_LEFT
    done = run_on(book.service, "ledger", "retry", name)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"entry {name} is due now; `chatlease sweep --once` tries it at once\n"
    assert run_on(book.service, "sweep", "--once").code == 0
    assert (book.service.chats, book.entries()) == ({}, {})


def test_a_parked_account_is_tried_again_on_demand(book: Book) -> None:
    name = book.orphan("chat-1")
    book.park(ME)
    assert run_on(book.service, "sweep", "--once").code == Exit.CHAT_LEFT
    assert run_on(book.service, "ledger", "retry", name).code == 0
    assert run_on(book.service, "sweep", "--once").code == 0
    assert book.service.chats == {}


def test_an_entry_may_be_named_by_the_beginning_of_its_id(book: Book) -> None:
    book.orphan("one", name="aab", retry_in_s=60.0)
    book.orphan("two", name="aac", retry_in_s=60.0)
    book.orphan("three", name="aa", retry_in_s=60.0)
    unclear = run_on(book.service, "ledger", "retry", "a")
    assert (unclear.code, unclear.err) == (Exit.USAGE, "error: 3 entries begin with 'a': aab, aac, aa\n")
    for unknown in ("b", ""):
        done = run_on(book.service, "ledger", "retry", unknown)
        assert done.code == Exit.USAGE
        assert done.err.startswith(f"error: no open entry's id begins with {unknown!r}\n")
    for name in ("aab", "aa"):
        assert run_on(book.service, "ledger", "retry", name).code == 0
    now = time.time()
    assert {name for name, entry in book.entries().items() if entry.next_try_at <= now} == {"aab", "aa"}


def test_the_ledger_may_be_named_before_or_behind_the_command(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    name = book.orphan("one")
    monkeypatch.delenv("CHATLEASE_LEDGER")
    assert run_on(book.service, "ledger", "retry", name).code == Exit.USAGE
    assert run_on(book.service, "ledger", "--ledger", book.url, "retry", name).code == 0
    assert run_on(book.service, "ledger", "retry", name, "--ledger", book.url).code == 0


def test_what_a_living_process_uses_is_neither_tried_nor_forgotten(book: Book, in_use: str) -> None:
    for command in (("retry", in_use), ("forget", in_use, "--yes")):
        done = run_on(book.service, "ledger", *command)
        assert (done.code, done.out) == (Exit.USAGE, "")
        assert f"error: entry {in_use} is in use by a running process" in done.err
    assert book.entries().keys() == {in_use}


def test_forgetting_has_to_be_confirmed_where_nobody_can_be_asked(book: Book) -> None:
    name = book.orphan("chat-1")
    done = run_on(book.service, "ledger", "forget", name)
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert done.err.splitlines()[-2:] == [
        "error: forgetting an entry has to be confirmed",
        "Give --yes where there is no terminal.",
    ]
    assert book.entries().keys() == {name}


def test_forgetting_says_what_is_given_up(book: Book) -> None:
    name = book.orphan("chat-1")
    done = run_on(book.service, "ledger", "forget", name[:-1], "--yes")
    assert (done.code, done.out) == (0, "")
    what = f"chat chat-1 of fake at {book.service.origin}, account {ME}, may still exist"
    lost, forgotten = done.err.splitlines()
    assert lost == f"{what}; once its entry is forgotten nothing will ever delete it"
    assert forgotten == f"entry {name} is forgotten"
    assert (book.entries(), list(book.service.chats)) == ({}, ["chat-1"])


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("YES", 0), ("n", 1), ("", 1)])
async def test_on_a_terminal_a_person_is_asked(book: Book, answer: str, left: int) -> None:
    name = await asyncio.to_thread(book.orphan, "chat-1")
    mine, theirs = pty.openpty()
    try:
        process = await chatlease("ledger", "forget", name, stdin=theirs, env={"CHATLEASE_LEDGER": book.url})
        os.write(mine, f"{answer}\n".encode())
        _, said = await process.communicate()
    finally:
        os.close(mine)
        os.close(theirs)
    assert process.returncode == 0
    assert f"Forget entry {name}? [y/N] " in said.decode()
    assert ("nothing was forgotten" in said.decode()) is bool(left)
    assert len(await asyncio.to_thread(book.entries)) == left


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
    _sql(book.path, f"UPDATE entries SET {', '.join(f'{each} = {each} - {an_hour}' for each in times)}")
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


# -- chatlease doctor -------------------------------------------------------------------------------------------------


def checked(book: Book) -> dict[str, str]:
    done = run_on(book.service, "doctor", "--json")
    [check] = [check for check in json.loads(done.out) if check["name"] == "ledger"]
    assert done.code == (Exit.FAILED if check["status"] == "problem" else 0)
    return dict(check)


def test_doctor_says_what_the_ledger_holds_and_that_it_can_be_written(book: Book) -> None:
    book.orphan("one")
    book.dead("two")
    found = checked(book)
    assert (found["status"], found["found"]) == (
        "ok",
        f"{book.path} can be written; schema {SCHEMA_VERSION}; 2 open, 2 orphaned, 1 dead",
    )
    assert "chatlease sweep --once" in found["do"]
    assert run_on(book.service, "sweep", "--once").code == Exit.CHAT_LEFT


def test_doctor_says_why_a_ledger_cannot_be_written_and_the_ways_out(book: Book) -> None:
    book.orphan("one")
    with unwritable(book):
        found = checked(book)
    assert (found["status"], f"the ledger {book.path} cannot be written" in found["found"]) == ("problem", True)
    assert "CHATLEASE_LEDGER" in found["do"]


def test_doctor_tries_a_ledger_that_is_not_there_and_leaves_nothing(book: Book) -> None:
    book.path.parent.mkdir()
    found = checked(book)
    assert (found["status"], found["found"]) == (
        "ok",
        f"{book.path} can be made; there is none yet (schema {SCHEMA_VERSION})",
    )
    assert not list(book.path.parent.iterdir())


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
