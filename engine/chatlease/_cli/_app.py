"""Puts the command line together: the engine's own commands, and those that packages bring along."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Any

import typer

from chatlease._registry import Plugin, Registry, installed, loaded
from chatlease.errors import UsageError

from ._chat import chat
from ._diagrams import diagram
from ._doctor import doctor
from ._exits import MEANINGS
from ._ledger import commands as ledger_commands
from ._list import adapters, models
from ._program import Program
from ._sweep import sweep
from ._top import top
from ._trace import trace

_OWN: tuple[Callable[..., Any], ...] = (chat, sweep, trace, top, models, adapters, doctor, diagram)
# typer joins single line feeds, so every exit code is a paragraph.
_EXIT_CODES = "\n\n".join(["Exit codes:", *(f"{code:>3}  {meaning}" for code, meaning in MEANINGS.items())])


def application(registry: Registry) -> typer.Typer:
    """
    Make the command line.

    Args:
        registry: The adapters and commands that it offers; a test's own, or the installed ones.
    """
    program = Program(registry)
    app = typer.Typer(
        name="chatlease",
        help="Borrow a chat on a stateful chat service; it is always given back.",
        epilog=_EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "obj": program},
    )
    app.callback()(_callback(program))
    for function in _OWN:
        app.command(function.__name__)(program.command(function))
    app.add_typer(ledger_commands(program))
    for plugin in registry.commands.values():
        app.command(plugin.name)(program.command(_plugged(plugin)))
    return app


def run() -> None:
    """Run the command line with what is installed."""
    application(installed())()


def _callback(program: Program) -> Callable[..., None]:
    def callback(
        *,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
        version: Annotated[
            bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
        ] = False,
    ) -> None:
        del version  # its callback has done the work
        program.debug = debug

    return callback


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"chatlease {importlib.metadata.version('chatlease')}")
        raise typer.Exit


def _plugged(plugin: Plugin) -> Callable[..., Any]:
    """Return a package's command, or one that says why it cannot be had."""
    try:
        return loaded(plugin)
    except UsageError as error:
        failure = error

    def unusable() -> None:
        raise failure

    unusable.__doc__ = f"Not usable: {failure}"
    return unusable
