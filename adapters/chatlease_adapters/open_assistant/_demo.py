"""A session as it happens, for people: its states, their HTTP calls, the answer, and what is left at the service.

Rules that live here:

* All that is shown of the states and their calls comes from the session's trace; a test compares it with the service's
  access log.
* It reads well without a terminal: one line a step, no cursor movement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
from rich.console import Console
from rich.text import Text

from chatlease import Engine, Hook, State, TraceEvent

from ._adapter import OpenAssistant
from ._cookies import SESSION_COOKIE

CHAT_LEFT = 4
"""Exit code, as documented for every command."""

_ROW = "{state:<17}{step:<16}{call:<33}{status:>4}{time:>9}"
_HEADER = _ROW.format(state="state", step="step", call="HTTP call", status="", time="time")
_TIMED = " {:.1f} ms"


async def show_session(url: str, prompt: str, *, console: Console | None = None, hooks: Sequence[Hook] = ()) -> int:
    """
    Run a session and show it.

    Args:
        url: A local service; its chats are counted by its own route afterwards.
        prompt: What to ask.
        console: Where to show it; stdout if left out.
        hooks: More listeners to the trace.

    Returns:
        The exit code: 0, or `CHAT_LEFT`.
    """
    view = View(console or Console(highlight=False, soft_wrap=True))
    view.begin(url, prompt)
    adapter = OpenAssistant(url, cookies={SESSION_COOKIE: "demo"})
    async with Engine(adapter, ledger="memory", sweep=None, hooks=[view.hook, *hooks]) as engine:
        engine.install_signal_handlers()
        async with engine.session(prompt=prompt) as session:
            async for token in session.ask():
                view.token(token)
    left = await chats_left(url)
    view.end(left)
    return CHAT_LEFT if left else 0


async def chats_left(url: str) -> int:
    """Ask a local service how many chats it holds."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/_chatlease/counts") as answer:
        return msgspec.json.decode(await answer.read(), type=dict[str, object])["chats"]  # type: ignore[return-value]  # a number


class View:
    """
    What is shown of a session, line by line.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_text = False

    def begin(self, url: str, prompt: str) -> None:
        """Say what is going to happen."""
        self._line(Text(f"Asking a local Open-Assistant at {url}: {prompt}"))
        self._line(Text())
        self._line(Text(_HEADER, style="dim"))

    def hook(self, event: TraceEvent) -> None:
        """Show a step that was made, or that failed."""
        keys = event.keys
        if event.event == "session.opened":
            self._row(State.NEW.value)
        elif event.event == "session.transition.completed":
            self._row(keys["dest"], keys)
        elif event.event == "session.transition.failed":
            self._row(f"({keys['source']})", keys, failed=True)

    def token(self, text: str) -> None:
        """Show a piece of the answer."""
        if not self._in_text:
            self._line(Text())
            self._in_text = True
        self._console.print(Text(text), end="", soft_wrap=True)

    def end(self, left: int) -> None:
        """Show what the service counts afterwards."""
        self._line(Text())
        self._line(Text(f"{left} chat{'' if left == 1 else 's'} left", style="bold red" if left else "bold green"))

    def _row(self, state: str, keys: Mapping[str, Any] = MappingProxyType({}), *, failed: bool = False) -> None:
        time = _TIMED.format(keys["elapsed_s"] * 1000) if "elapsed_s" in keys else ""
        call, status = keys.get("http_request", ""), keys.get("http_status", "")
        line = _ROW.format(state=state, step=keys.get("trigger", ""), call=call, status=status, time=time)
        row = Text(line.rstrip())
        row.stylize("red" if failed else "bold cyan", 0, len(state))
        self._end_text()
        self._line(row)

    def _end_text(self) -> None:
        if self._in_text:
            self._in_text = False
            self._line(Text("\n"))

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
