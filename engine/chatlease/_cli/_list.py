"""``chatlease models`` and ``chatlease adapters``: what there is to choose from."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from chatlease._engine import Engine
from chatlease._registry import Plugin, loaded
from chatlease.errors import UsageError

from . import _options as opt
from ._program import program
from ._show import print_json


async def models(
    context: typer.Context,
    *,
    adapter: opt.AdapterName = None,
    url: opt.Url = None,
    account: opt.Account = None,
    cookie_file: opt.CookieFile = None,
    proxy: opt.Proxy = None,
    option: opt.AdapterOptions = None,
    as_json: opt.Json = False,
) -> None:
    """List the models that the service offers, one a line."""
    connection = opt.Connection(adapter, url, account, cookie_file, proxy, option or ())
    async with Engine(connection.open(program(context).registry), ledger=None) as engine:
        names = await engine.models(account=account)
    if as_json:
        print_json(names)
    else:
        for name in names:
            typer.echo(name)


def adapters(context: typer.Context, *, as_json: opt.Json = False) -> None:
    """List the installed adapters: the kinds of service that there are."""
    found = [_described(plugin) for plugin in program(context).registry.adapters.values()]
    if as_json:
        print_json(found)
    elif not found:
        raise UsageError(
            "no adapter is installed", hint="Packages offer them by the entry-point group chatlease.adapters."
        )
    else:
        _print_table(found)


def _described(plugin: Plugin) -> dict[str, str]:
    try:
        loaded(plugin)
    except UsageError as error:
        problem = str(error)
    else:
        problem = ""
    return {"name": plugin.name, "package": plugin.package, "object": plugin.value, "problem": problem}


def _print_table(rows: list[dict[str, str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    Console(highlight=False, markup=False).print(table)
