"""The oracle of every test: what exists at the service is what the ledger has an open entry for, and mostly nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chatlease import Engine, Session
from chatlease.ledger import Entry, Ledger

__all__ = ["assert_nothing_left", "left"]


async def assert_nothing_left(
    kept_by: Engine | Ledger | None, chats: Iterable[str], *, swept_later: bool = False
) -> None:
    """
    Check that every chat was given back.

    Args:
        kept_by: The engine, still open or with a ledger in memory; its sessions have to be over, too. Or a ledger.
            ``None``: there is no ledger.
        chats: Ids of the chats that exist at the service now: `FakeService.chats`, a fake server's own book.
        swept_later: A chat that an open entry of the ledger names is not left, for a sweep will delete it. For tests
            in which deletions fail.

    Raises:
        AssertionError: Naming each chat, entry and session that is left.
    """
    ledger, sessions = (kept_by.ledger, kept_by.sessions) if isinstance(kept_by, Engine) else (kept_by, ())
    entries: Sequence[Entry] = () if ledger is None else await ledger.open_entries()
    found = left(chats, entries, sessions, swept_later=swept_later)
    if found:
        raise AssertionError(found)


def left(
    chats: Iterable[str], entries: Sequence[Entry], sessions: Sequence[Session] = (), *, swept_later: bool = False
) -> str:
    """
    Return what is left, in lines; empty if nothing is. What `assert_nothing_left` says, for who has all of it at hand.

    Args:
        chats: Ids of the chats that exist at the service.
        entries: The open entries of the ledger.
        sessions: Those that are not over.
        swept_later: As there.
    """
    return "\n".join(_lines(sorted(map(str, chats)), entries, sessions, swept_later=swept_later))


def _lines(
    chats: Sequence[str], entries: Sequence[Entry], sessions: Sequence[Session], *, swept_later: bool
) -> Iterator[str]:
    known = {entry.chat: entry for entry in entries}
    unknown = [chat for chat in chats if chat not in known]
    nameless = [entry for entry in entries if entry.chat is None]
    if swept_later and len(unknown) <= len(nameless):  # a chat whose create reply was lost is one of them
        unknown = []
    kept = [] if swept_later else [known[chat] for chat in chats if chat in known]
    ghosts = [] if swept_later else [entry for entry in entries if entry.chat not in chats]
    yield from _section("left at the service, and no ledger knows of it", "chat", unknown)
    yield from _section("left at the service; a sweep would delete it", "chat", map(_entry, kept))
    yield from _section("open in the ledger, without a chat of that id at the service", "entry", map(_entry, ghosts))
    yield from _section("not over", "session", map(repr, sessions))


def _section(what: str, noun: str, lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    if listed:
        plural = {"entry": "entries"}.get(noun, f"{noun}s") if len(listed) > 1 else noun
        yield f"{len(listed)} {plural} {what}:"
        yield from (f"    {line}" for line in listed)


def _entry(entry: Entry) -> str:
    status = "dead letter" if entry.dead else "orphaned" if entry.orphaned else "in use"
    tries = f", tries that failed: {entry.attempts}" if entry.attempts else ""
    why = f" ({entry.error_code})" if entry.error_code else ""
    return f"{entry.chat or 'of unknown id'}: entry {entry.id}, {entry.state.value}, {status}{tries}{why}"
