"""What other packages bring along: adapters and commands, found by entry points.

Rules that live here:

* The engine imports no adapter; it asks the installed packages. The groups are ``chatlease.adapters`` (a class or a
  function that makes an `chatlease.adapter.Adapter`) and ``chatlease.commands`` (a function, which the command line
  offers under the entry point's name).
* Nothing is imported before it is asked for, and a package that cannot be imported spoils nothing but itself.
* An adapter is made with those options only that were given, and is never given one that its signature does not name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeAlias, cast

from .adapter import Adapter
from .errors import UsageError

ADAPTERS = "chatlease.adapters"
COMMANDS = "chatlease.commands"
DEFAULT = "open-assistant"
"""The adapter of commands that name none, where several are installed; all that is known of it here is its name."""

Load: TypeAlias = Callable[[], Any]
"""Imports what an entry point names, and returns it."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """
    Something that a package brings along.

    Attributes:
        name: The entry point's name.
        load: Imports and returns it; raises whatever its package raises.
        value: Where it is, as ``module:name``.
        package: Name and version of the distribution, for people; may be empty.
    """

    name: str
    load: Load
    value: str = ""
    package: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """
    The adapters and commands there are, by name; tests make their own.

    Attributes:
        adapters: What `Registry.make` chooses from.
        commands: What the command line offers besides its own.
    """

    adapters: Mapping[str, Plugin] = field(default_factory=dict[str, Plugin])
    commands: Mapping[str, Plugin] = field(default_factory=dict[str, Plugin])

    def choose(self, name: str | None) -> Plugin:
        """
        Return an adapter's entry.

        Args:
            name: ``None`` for the only one, or the default one of several.

        Raises:
            UsageError: There is none of that name, or there are several to choose from.
        """
        names = ", ".join(self.adapters) or "none"
        if name is None and len(self.adapters) == 1:
            return next(iter(self.adapters.values()))
        if name is None and DEFAULT in self.adapters:
            return self.adapters[DEFAULT]
        if name is None:
            raise UsageError(f"which adapter? installed: {names}", hint="Choose one with --adapter NAME.")
        if name not in self.adapters:
            raise UsageError(f"no adapter {name!r} is installed; installed: {names}")
        return self.adapters[name]

    def make(self, name: str | None, given: Mapping[str, object]) -> Adapter:
        """
        Make an adapter.

        Args:
            name: See `choose`.
            given: Options of its constructor; those that are ``None`` are left out.

        Raises:
            UsageError: See `choose`; or its package cannot be imported, or it takes no such option.
        """
        plugin = self.choose(name)
        factory = loaded(plugin)
        options = {option: value for option, value in given.items() if value is not None}
        _check_options(plugin.name, factory, options)
        return cast("Adapter", factory(**options))


def installed() -> Registry:
    """Return what the installed packages bring along, sorted by name."""
    return Registry(_group(ADAPTERS), _group(COMMANDS))


def _group(group: str) -> Mapping[str, Plugin]:
    found = sorted(entry_points(group=group), key=lambda entry: entry.name)
    return {
        entry.name: Plugin(
            entry.name, entry.load, entry.value, f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
        )
        for entry in found
    }


def loaded(plugin: Plugin) -> Callable[..., Any]:
    """
    Return what a plugin names, imported.

    Raises:
        UsageError: It cannot be imported; says why.
    """
    try:
        return cast("Callable[..., Any]", plugin.load())
    except Exception as error:
        whose = plugin.package or plugin.value or "its package"
        raise UsageError(
            f"{plugin.name} of {whose} cannot be imported ({type(error).__name__}: {error})",
            hint="Install that package again, or remove it.",
        ) from error


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, object]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = sorted(options.keys() - parameters.keys())
    if unknown:
        takes = ", ".join(parameters) or "none"
        raise UsageError(f"adapter {name} has no option {unknown[0]!r}; it has {takes}")
