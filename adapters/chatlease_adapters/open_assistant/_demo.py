"""A session as it happens, for people: its states, their HTTP calls, the answer, and what is left at the service.

Rules that live here:

* States, statuses and times come from the session's trace; methods and paths from the HTTP client's own tracing, so
  that what is shown is what was sent. A test compares both with the service's access log.
* It reads well without a terminal: one line a step, no cursor movement.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

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


class HttpCall(NamedTuple):
    """A request that was sent; its query, which holds ids, is left out."""

    method: str
    path: str
    status: int


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
    async with aiohttp.ClientSession(trace_configs=[view.http_tracing()]) as http:
        adapter = OpenAssistant(url, cookies={SESSION_COOKIE: "demo"}, session=http)
        async with Engine(adapter, ledger="memory", hooks=[view.hook, *hooks]) as engine:
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

    Attributes:
        calls: The requests sent since the last step, oldest first.
    """

    def __init__(self, console: Console) -> None:
        self.calls: list[HttpCall] = []
        self._console = console
        self._in_text = False

    def begin(self, url: str, prompt: str) -> None:
        """Say what is going to happen."""
        self._line(Text(f"Asking a local Open-Assistant at {url}: {prompt}"))
        self._line(Text())
        self._line(Text(_HEADER, style="dim"))

    def http_tracing(self) -> aiohttp.TraceConfig:
        """Return what tells this view of every request that a client session sends."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._sent)
        return config

    async def _sent(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, sent: aiohttp.TraceRequestEndParams
    ) -> None:
        self.calls.append(HttpCall(sent.method, sent.url.path, sent.response.status))

    def hook(self, event: TraceEvent) -> None:
        """Show a step that was made, or that failed."""
        keys = event.keys
        if event.event == "session.opened":
            self._row(State.NEW.value)
        elif event.event == "session.transition.completed":
            self._row(keys["dest"], keys["trigger"], keys.get("http_status"), keys["elapsed_s"])
        elif event.event == "session.transition.failed":
            self._row(f"({keys['source']})", keys["trigger"], keys.get("http_status"), keys["elapsed_s"], failed=True)

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

    def _row(
        self,
        state: str,
        step: str = "",
        status: int | None = None,
        elapsed_s: float | None = None,
        *,
        failed: bool = False,
    ) -> None:
        calls, self.calls = self.calls, []
        call = f"{calls[-1].method} {calls[-1].path}" if calls else ""
        row = Text(
            _ROW.format(
                state=state,
                step=step,
                call=call,
                status=status or "",
                time="" if elapsed_s is None else _TIMED.format(elapsed_s * 1000),
            ).rstrip()
        )
        row.stylize("red" if failed else "bold cyan", 0, len(state))
        self._end_text()
        self._line(row)

    def _end_text(self) -> None:
        if self._in_text:
            self._in_text = False
            self._line(Text("\n"))

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
