"""``chatlease ledger``: which chats the ledger still holds, and what a person may do about one.

Rules that live here:

* Every open entry is shown: those in use, too. *open* counts them all; *orphaned* are those of them that no session
  will use any more; *parked* and *dead* are those of the orphans that wait for a login, or are tried once a day only.
* An entry is named by the first characters of its id, as many as no other entry has; a name that fits two is refused.
* What gives a chat up says so, and asks, unless it is told not to.
* Looking makes no tables: a ledger on a server that has none yet is migrated by the command for it, or by an engine.
"""

from __future__ import annotations

import enum
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from chatlease._clock import SystemClock
from chatlease._ledger import PostgresLedger
from chatlease.errors import UsageError
from chatlease.ledger import Entry, EntryState, Ledger

from . import _holders, _ledgers
from . import _options as opt
from ._program import Program
from ._show import Screen, age, print_json, printable

_SHORTEST = 8
_ROWS = 500
"""So many entries are shown as a table: one of 50,000 rows takes a minute, and nobody reads it."""
_CHAT_LENGTH = 12
_FOLDED = frozenset({"service", "account", "error"})
_WIDTH = 200
"""Where there is no terminal whose width counts."""


class Kind(enum.StrEnum):
    """Which entries are shown; see the rules above."""

    OPEN = "open"
    ORPHANED = "orphaned"
    PARKED = "parked"
    DEAD = "dead"


_IS: Mapping[Kind, Callable[[Entry], bool]] = {
    Kind.OPEN: lambda _: True,
    Kind.ORPHANED: lambda entry: entry.orphaned,
    Kind.PARKED: lambda entry: entry.orphaned and entry.parked,
    Kind.DEAD: lambda entry: entry.dead,
}

EntryId = Annotated[str, typer.Argument(metavar="ID", help="The entry's id, or as much of it as no other has.")]


def commands(program: Program) -> typer.Typer:
    """Return ``ledger`` and what it can do."""
    group = typer.Typer(name="ledger")
    group.callback(invoke_without_command=True)(program.group(ledger))
    group.command("retry")(program.command(retry))
    group.command("forget")(program.command(forget))
    group.command("holders")(program.command(_holders.holders))
    group.command("migrate")(program.command(migrate))
    return group


async def ledger(
    context: typer.Context,
    *,
    ledger: opt.LedgerUrl = None,
    state: Annotated[Kind, typer.Option(help="Show only those entries; the counts are always of all.")] = Kind.OPEN,
    as_json: opt.Json = False,
) -> None:
    """
    Show the chats that are not confirmed to be deleted: open, orphaned, parked and dead entries.

    Nothing is made where there is no ledger yet. --json has every entry in full; its keys are in engine/README.md.
    """
    del context
    seen = await _ledgers.look(_ledgers.named(ledger))
    if as_json:
        print_json(_document(seen, state))
    else:
        _show(seen, state)


async def retry(context: typer.Context, entry: EntryId, *, ledger: opt.LedgerUrl = None) -> None:
    """Have the next sweep try an entry, dead letter or parked as it may be."""
    book = _ledgers.named(opt.given_ledger(context, ledger))
    found = await _found(book, entry)
    async with _ledgers.opened(book):
        if found.orphaned and await book.retry(found.id):
            Screen().note(f"entry {found.id} is due now; `chatlease sweep --once` tries it at once")
            return
    raise _in_use(found)


async def forget(
    context: typer.Context,
    entry: EntryId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ledger: opt.LedgerUrl = None,
) -> None:
    """Give a chat up: drop its entry, although the chat may still exist."""
    book = _ledgers.named(opt.given_ledger(context, ledger))
    found = await _found(book, entry)
    screen = Screen()
    screen.note(_loss(found), "bold red")
    if not yes and not _agreed(found):
        screen.note("nothing was forgotten")
        return
    async with _ledgers.opened(book):
        if not await book.forget(found.id):
            raise _in_use(found)
    screen.note(f"entry {found.id} is forgotten")


async def migrate(context: typer.Context, *, ledger: opt.LedgerUrl = None) -> None:
    """Make the tables of a ledger on PostgreSQL, or bring them up to date; for those who open it with migrate=off."""
    book = _ledgers.named(opt.given_ledger(context, ledger))
    if not isinstance(book, PostgresLedger):
        raise UsageError("only a ledger on PostgreSQL is migrated by hand", hint="Others do so when they are opened.")
    had, has = await book.migrate()
    change = f"was of version {had}, and is of {has} now" if had < has else f"is of version {had}: nothing to do"
    Screen().note(f"{_ledgers.name_of(book)} {change}")


# -- one entry --------------------------------------------------------------------------------------------------------


async def _found(ledger: Ledger, name: str) -> Entry:
    """Return the entry that a name means, as it is now."""
    seen = await _ledgers.look(ledger)
    if seen.failure is not None:
        raise seen.failure
    found = [each for each in seen.entries if each.id.startswith(name)]
    exact = [each for each in found if each.id == name]
    if len(found) == 1 or exact:
        return (exact or found)[0]
    if not found or not name:
        raise UsageError(f"no open entry's id begins with {name!r}", hint="`chatlease ledger` lists them.")
    ids = ", ".join(each.id for each in found[:3])
    raise UsageError(f"{len(found)} entries begin with {name!r}: {ids}{', ...' if len(found) > 3 else ''}")  # noqa: PLR2004  (a glimpse)


def _in_use(entry: Entry) -> UsageError:
    return UsageError(
        f"entry {entry.id} is in use by a running process, or was settled just now",
        hint="That process deletes the chat itself; end it first if it must not go on.",
    )


def _loss(entry: Entry) -> str:
    chat = f"chat {' '.join(entry.chat.split())}" if entry.chat else "a chat whose id was never learned"
    return (
        f"{chat} of {entry.service} at {entry.origin}, account {entry.account}, may still exist;"
        " once its entry is forgotten nothing will ever delete it"
    )


def _agreed(entry: Entry) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("forgetting an entry has to be confirmed", hint="Give --yes where there is no terminal.")
    sys.stderr.write(f"Forget entry {entry.id}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


# -- all of them ------------------------------------------------------------------------------------------------------


def _document(seen: _ledgers.Glance, kind: Kind) -> dict[str, Any]:
    now = SystemClock().wall()
    return {
        "ledger": seen.name,
        "exists": seen.exists,
        "writable": seen.failure is None,
        "at": now,
        "counts": _counts(seen.entries),
        "entries": [full(entry, now) for entry in seen.entries if _IS[kind](entry)],
    }


def full(entry: Entry, now: float) -> dict[str, Any]:
    """Return an entry as ``--json`` prints it; every key is documented in engine/README.md."""
    return {
        "id": entry.id,
        "status": _status(entry),
        "state": entry.state.value,
        "service": entry.service,
        "origin": entry.origin,
        "account": entry.account,
        "chat": entry.chat,
        "orphaned": entry.orphaned,
        "parked": entry.parked,
        "dead": entry.dead,
        "attempts": entry.attempts,
        "error_code": entry.error_code,
        "holder": entry.holder,
        "holder_alive": entry.alive,
        "age_s": max(0.0, now - entry.intent_at),
        "intent_at": entry.intent_at,
        "create_deadline": entry.create_deadline,
        "orphaned_at": entry.orphaned_at,
        "next_try_at": entry.next_try_at,
    }


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    return {kind.value: sum(map(test, entries)) for kind, test in _IS.items()}


def _status(entry: Entry) -> str:
    """Return the narrowest of the kinds that an entry is of; ``in-use`` for one that is no orphan."""
    if not entry.orphaned:
        return "in-use"
    return next(kind.value for kind in (Kind.DEAD, Kind.PARKED, Kind.ORPHANED) if _IS[kind](entry))


def _words(entry: Entry) -> str:
    """Return what an entry is, for people."""
    if not entry.orphaned:
        return "in use" if entry.state is EntryState.BOUND else "being created"
    if entry.alive:
        return "being deleted"
    return {Kind.DEAD.value: "dead letter", Kind.PARKED.value: "parked"}.get(_status(entry), "orphaned")


def _show(seen: _ledgers.Glance, kind: Kind) -> None:
    screen = Screen()
    screen.note(seen.name if seen.exists else f"{seen.name}: no ledger yet")
    if seen.failure is not None:
        screen.note(f"{seen.failure}; shown as it was last written", "bold red")
    typer.echo(", ".join(f"{name} {number}" for name, number in _counts(seen.entries).items()))
    shown = [entry for entry in seen.entries if _IS[kind](entry)]
    if shown:
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
        console.print(_table(shown[:_ROWS], length_of_ids(seen.entries)))
        if len(shown) > _ROWS:
            screen.note(f"and {len(shown) - _ROWS} more; --json shows all, --state fewer")


def _table(entries: Sequence[Entry], length: int) -> Table:
    now = SystemClock().wall()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "state", "service", "account", "chat", "age", "tries", "error", "next try", "holder"):
        table.add_column(name, overflow="fold", no_wrap=name not in _FOLDED)
    for entry in entries:
        table.add_row(*(printable(cell) for cell in _row(entry, length, now)))
    return table


def _row(entry: Entry, length: int, now: float) -> tuple[str, ...]:
    return (
        entry.id[:length],
        _words(entry),
        f"{entry.service} {entry.origin.partition('://')[2] or entry.origin}",
        entry.account,
        _shortened(entry.chat) if entry.chat else "unknown",
        age(now - entry.intent_at),
        str(entry.attempts),
        entry.error_code or "-",
        _next_try(entry, now),
        "alive" if entry.alive else "none",
    )


def _shortened(chat: str) -> str:
    return chat if len(chat) <= _CHAT_LENGTH else f"{chat[: _CHAT_LENGTH - 3]}..."


def _next_try(entry: Entry, now: float) -> str:
    if not entry.orphaned or entry.alive:
        return "-"
    return "now" if entry.next_try_at <= now else f"in {age(entry.next_try_at - now)}"


def length_of_ids(entries: Sequence[Entry]) -> int:
    """Return how many characters tell the ids of these entries apart."""
    ids = sorted(entry.id for entry in entries)
    needed = [_common(one, other) + 1 for one, other in itertools.pairwise(ids)]
    return max(_SHORTEST, *needed, 0)


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
