"""What a person sees: the answer as it comes, a live line of the session's state, traces, errors.

Rules that live here:

* The answer goes to stdout as it is; all the rest goes to stderr, so that ``chatlease chat ... > file`` holds the
  answer and nothing else.
* The live line is only drawn where stderr is a terminal, and never below an answer that has begun: two writers on one
  line spoil both.
* A service's text cannot steer the terminal: where it is shown on one, control characters are left out.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.status import Status
from rich.text import Text

from chatlease._lifecycle import State, Trigger
from chatlease._trace import TraceEvent
from chatlease.errors import ChatleaseError
from chatlease.events import Event, Pending, PluginStep, Token

from ._exits import sentence

_CONTROL = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}

_DOING = {
    "ready_cookies": "looking for a login",
    "create_chat": "creating a chat",
    "send_prompt": "sending the prompt",
    "queue_assistant": "queueing the answer",
    "open_stream": "opening the stream",
    "stop_run": "waiting for the answer to end",
    "delete_chat": "deleting the chat",
}
"""What a step looks like while it is under way."""

_STEP = {"trigger", "source", "dest", "elapsed_s", "http_request", "http_status"}
_BASICS = frozenset({"engine", "session", "service", "account", "chat"} | _STEP)
_STYLES = {State.DELETED.value: "green", State.ORPHANED.value: "bold red"}


class Screen:
    """
    The terminal, or whatever stands in for it.

    Args:
        live: Whether to draw the live line, where there is a terminal.
        trace: Whether to show every trace event, a line each.
        answers: Whether the answer is shown as it comes.
    """

    def __init__(self, *, live: bool = True, trace: bool = False, answers: bool = True) -> None:
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._trace = trace
        self._answers = answers
        self._live = live and not trace and self.notes.is_terminal
        self._plain = sys.stdout.isatty()
        self._status: Status | None = None
        self._in_line = False
        self._lines = TraceLines()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Show a piece of the answer, or where it stands in the queue."""
        match event:
            case Token(text):
                self._write(text)
            case Pending(position, size):
                self.status(f"waiting in the queue, place {position} of {size}" if position else "waiting in the queue")
            case PluginStep(thought, action):
                self.status(f"plugin: {action} {thought}".strip())
            case _:
                self.end_line()

    def _write(self, text: str) -> None:
        self.no_status()
        if not self._answers or not text:
            return
        shown = text.translate(_CONTROL) if self._plain else text
        sys.stdout.write(shown)
        sys.stdout.flush()
        self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        """End the answer's line, if it stands in the middle of one."""
        if self._in_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._in_line = False

    # -- everything else ----------------------------------------------------------------------------------------------

    def hook(self, event: TraceEvent) -> None:
        """Show what a session tells of itself; given to an engine as a hook."""
        if self._trace:
            if self._plain:
                self.end_line()
            self.notes.print(self._lines.line(event))
        elif event.event == "session.transition.started":
            self._step(event.keys["trigger"])
        elif event.event == "session.gate.waiting":
            self.status("waiting for the account's turn")

    def _step(self, trigger: str) -> None:
        if trigger == Trigger.STOP_RUN.value and self._live:
            self.end_line()  # no more of this answer is coming, and waiting for its end may take a while
        self.status(_DOING.get(trigger, ""))

    def status(self, text: str) -> None:
        """Change the live line; nothing while an answer stands in the middle of a line."""
        if not self._live or self._in_line or not text:
            return
        shown = Text(printable(text), style="dim")
        if self._status is None:
            self._status = self.notes.status(shown)
            self._status.start()
        else:
            self._status.update(shown)

    def no_status(self) -> None:
        """Take the live line away."""
        status, self._status = self._status, None
        if status is not None:
            status.stop()

    def note(self, text: str, style: str = "dim") -> None:
        """Show a line on stderr."""
        self.no_status()
        self.end_line()
        self.notes.print(Text(printable(text), style=style))

    def error(self, error: ChatleaseError) -> None:
        """Show an error: one sentence, then what to do next."""
        show_error(error, self)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.no_status()
        self.end_line()


def show_error(error: ChatleaseError, screen: Screen | None = None) -> None:
    """Show an error on stderr: one sentence, what to do next, and what became of the chat."""
    screen = screen or Screen()
    screen.note(f"error: {sentence(error)}", "bold red")
    for line in (error.hint, *getattr(error, "__notes__", ())):
        if line:
            screen.note(line, "")


def printable(text: str) -> str:
    """Return a text without the control characters that could steer a terminal."""
    return text.translate(_CONTROL)


class TraceLines:
    """Makes a trace readable: one line an event, times counted from the first one."""

    def __init__(self) -> None:
        self._began: float | None = None

    def line(self, event: TraceEvent) -> Text:
        """Return an event as a line."""
        if self._began is None:
            self._began = event.at
        line = Text(f"{event.at - self._began:8.3f} s  ", style="dim")
        line.append_text(_transition(event.keys) if event.event == "session.transition.completed" else _other(event))
        return line


def _transition(keys: dict[str, Any]) -> Text:
    dest = str(keys["dest"])
    line = Text(f"{dest:<17}", style=_STYLES.get(dest, "bold"))
    call = f"{keys.get('http_request', ''):<33} {keys.get('http_status', ''):>3}"
    line.append(f"{keys['trigger']:<16} {call} {milliseconds(keys['elapsed_s'])}", "not bold")
    return line


def _other(event: TraceEvent) -> Text:
    style = "yellow" if "error" in event.keys else "dim"
    first = ("trigger", "http_request", "http_status")
    keys = {name: value for name, value in event.keys.items() if name in first or name not in _BASICS}
    shown = " ".join(f"{name}={value}" for name, value in keys.items())
    return Text(printable(f"{'':<17}{event.event.removeprefix('session.')} {shown}".rstrip()), style=style)


def milliseconds(seconds: float) -> str:
    """Return a duration for people, right-aligned."""
    return f"{seconds * 1000:9.1f} ms"


def age(seconds: float) -> str:
    """Return a longer duration for people, in the largest unit of which it has one: ``45 s``, ``12 min``, ``3 d``."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"


def print_json(value: object) -> None:
    """Print a value on stdout as JSON, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
