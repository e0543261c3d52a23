"""The options that several commands have, once, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from chatlease._registry import Registry
from chatlease.adapter import Adapter
from chatlease.errors import UsageError

_SERVICE = "The service"
_ANSWER = "The answer"

AdapterName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        envvar="CHATLEASE_ADAPTER",
        help="Kind of service; see `adapters`. open-assistant by default.",
        rich_help_panel=_SERVICE,
    ),
]
Url: TypeAlias = Annotated[str | None, typer.Option(help="Address of the service.", rich_help_panel=_SERVICE)]
Account: TypeAlias = Annotated[str | None, typer.Option(help="Name of the login to use.", rich_help_panel=_SERVICE)]
AddedAccount: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--account", help="Name of a login to use, also for its chats made without a name.", rich_help_panel=_SERVICE
    ),
]
CookieFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="A cookies.txt, JSON export or HAR that holds the login.", rich_help_panel=_SERVICE)
]
Proxy: TypeAlias = Annotated[
    str | None, typer.Option(help="http://, https:// or socks5:// proxy.", rich_help_panel=_SERVICE)
]
AdapterOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="Any other option of the adapter; may be repeated.",
        rich_help_panel=_SERVICE,
    ),
]
LedgerUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="sqlite:///PATH or postgresql://...; by default CHATLEASE_LEDGER, else the file in your state folder.",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

TopK: TypeAlias = Annotated[int | None, typer.Option(rich_help_panel=_ANSWER)]
TopP: TypeAlias = Annotated[float | None, typer.Option(rich_help_panel=_ANSWER)]
TypicalP: TypeAlias = Annotated[float | None, typer.Option(rich_help_panel=_ANSWER)]
Temperature: TypeAlias = Annotated[float | None, typer.Option(rich_help_panel=_ANSWER)]
RepetitionPenalty: TypeAlias = Annotated[float | None, typer.Option(rich_help_panel=_ANSWER)]
MaxNewTokens: TypeAlias = Annotated[int | None, typer.Option(rich_help_panel=_ANSWER)]
SystemPrompt: TypeAlias = Annotated[str | None, typer.Option(rich_help_panel=_ANSWER)]


@dataclass(frozen=True, slots=True)
class Connection:
    """
    Which service, and as whom.

    Attributes:
        adapter: Its entry point's name; ``None`` for the only one, or for ``open-assistant``.
        url: For the adapter.
        account: For the sessions.
        cookie_file: For the adapter, which knows it as ``cookies``.
        proxy: For the adapter.
        more: ``NAME=VALUE`` of other options of the adapter.
    """

    adapter: str | None = None
    url: str | None = None
    account: str | None = None
    cookie_file: Path | None = None
    proxy: str | None = None
    more: Sequence[str] = ()

    def open(self, registry: Registry) -> Adapter:
        """
        Make the adapter.

        Raises:
            UsageError: It does not take one of the options, or what they say.
        """
        cookies = None if self.cookie_file is None else str(self.cookie_file)
        given: dict[str, object] = {"url": self.url, "cookies": cookies, "proxy": self.proxy}
        return registry.make(self.adapter, given | dict(_pair(text) for text in self.more))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError("an option of the adapter is given as NAME=VALUE")
    return name, value


def given_ledger(context: typer.Context, ledger: str | None) -> str | None:
    """Return the ledger named behind the command, else the one before it."""
    parent = context.parent
    return ledger or (None if parent is None else parent.params.get("ledger"))
