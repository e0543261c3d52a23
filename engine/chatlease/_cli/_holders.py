"""``chatlease ledger holders``: which processes use a ledger, on which machines, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table

from chatlease._ledger._stored import StoredLedger
from chatlease.errors import UsageError
from chatlease.ledger import Holder

from . import _ledgers
from . import _options as opt
from ._show import Screen, age, print_json, printable

_SHORTEST = 8
_COLUMNS = ("id", "host", "since", "lease", "chats", "turns")


async def holders(context: typer.Context, *, ledger: opt.LedgerUrl = None, as_json: opt.Json = False) -> None:
    """Show the living processes that use the ledger: machine, lease, open chats, accounts' turns."""
    book = _ledgers.named(opt.given_ledger(context, ledger))
    if not isinstance(book, StoredLedger):
        raise UsageError(f"a ledger of kind {type(book).__name__} does not tell who uses it")
    found = await _asked(book)
    if as_json:
        print_json({"ledger": book.name, "holders": found})
    else:
        _show(book.name, found)


async def _asked(ledger: StoredLedger) -> Sequence[Holder]:
    if not _ledgers.exists(ledger):
        return []
    async with _ledgers.opened(ledger):
        await ledger.reap()
        return await ledger.holders()


def _show(name: str, found: Sequence[Holder]) -> None:
    Screen().note(name)
    hosts = len({holder.host for holder in found})
    typer.echo(f"processes {len(found)}, machines {hosts}, chats {sum(holder.entries for holder in found)}")
    if found:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in _COLUMNS:
            table.add_column(column, no_wrap=True)
        for holder in found:
            table.add_row(*(printable(cell) for cell in _row(holder)))
        Console(highlight=False, markup=False).print(table)


def _row(holder: Holder) -> tuple[str, ...]:
    left = holder.lease_until - holder.now
    return (
        holder.id[:_SHORTEST],
        holder.host,
        age(holder.now - holder.began_at),
        f"{left:.0f} s" if left > 0 else f"over for {age(-left)}",
        str(holder.entries),
        str(holder.turns),
    )
