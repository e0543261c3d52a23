"""What stands around every command: the plugins, its event loop, its errors, its exit code.

Rules that live here:

* A command is a function that raises `ChatleaseError` and returns an exit code (``None`` for 0), or a coroutine that
  does. It never ends the process itself.
* No traceback is shown unless ``--debug`` asks for it; and never the values of variables, for these may be secrets.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import typer

from chatlease._registry import Registry
from chatlease.errors import ChatleaseError

from ._exits import Exit, of_error
from ._show import Screen


class Program:
    """
    One run of the command line.

    Attributes:
        registry: The adapters and commands there are.
        debug: Show the traceback of an error.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.debug = False

    def command(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Return a command's function as typer wants it."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            raise typer.Exit(int(self._code(function, args, kwargs)))

        return run

    def group(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Return the function of a command that has commands of its own: it runs when none of them is named."""
        command = self.command(function)

        @functools.wraps(function)
        def run(*, context: typer.Context, **kwargs: Any) -> None:
            if context.invoked_subcommand is None:
                command(context, **kwargs)

        return run

    def failed(self, error: ChatleaseError, screen: Screen | None = None) -> Exit:
        """Show an error, and return the exit code that it means."""
        if self.debug:
            traceback.print_exception(error)
        (screen or Screen()).error(error)
        return of_error(error)

    def _code(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        try:
            return _called(function, args, kwargs) or Exit.OK
        except (KeyboardInterrupt, asyncio.CancelledError):
            return Exit.INTERRUPTED
        except BrokenPipeError:
            forget_stdout()
            return Exit.INTERRUPTED
        except ChatleaseError as error:
            return self.failed(error)
        except OSError as error:
            return self.failed(ChatleaseError(_system(error)))
        except Exception as error:  # noqa: BLE001  (no traceback is shown, whatever happened)
            return self._unexpected(error)

    def _unexpected(self, error: Exception) -> Exit:
        # Of a foreign error only the class is named: its text may hold anything.
        if self.debug:
            traceback.print_exception(error)
        name = type(error).__name__
        hint = "Check the options given; if they are right, this is a bug. --debug shows where it happened."
        return self.failed(ChatleaseError(f"an unexpected {name} ended the command", hint=hint))


def program(context: typer.Context) -> Program:
    """Return the run that a command belongs to."""
    return cast("Program", context.obj)


def _called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    result = function(*args, **kwargs)
    return cast("int | None", asyncio.run(result) if inspect.iscoroutine(result) else result)


def forget_stdout() -> None:
    """Send what is still to be written nowhere: its reader has gone, and the interpreter would complain at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or type(error).__name__}"
