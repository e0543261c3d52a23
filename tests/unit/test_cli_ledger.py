"""The command line on ledger files: what is shown, tried again, forgotten, and how it is seen by the doctor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from chatlease._cli._doctor import ledger_check
from chatlease._cli._exits import Exit
from chatlease._cli._ledger import length_of_ids
from chatlease._cli._ledgers import look, named
from chatlease._cli._show import age
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease.ledger import Entry
from chatlease.testing import FakeService

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

SECRET = "PLANTED-SECRET"


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
        rows(book.path, "CREATE TABLE notes(text)")
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
    rows(book.path, "UPDATE meta SET value = '99' WHERE key = 'min_reader'")
    done = run_on(book.service, "ledger")
    assert done.code == Exit.FAILED
    assert "needs a reader of version 99" in done.err
    assert rows(book.path, "SELECT value FROM meta WHERE key = 'min_reader'") == [("99",)]


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
