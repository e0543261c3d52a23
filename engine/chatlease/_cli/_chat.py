"""``chatlease chat``: one prompt and its answer, or a conversation."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from chatlease._engine import Engine
from chatlease._lifecycle import State
from chatlease._trace import Hook
from chatlease._trace_file import TraceFile
from chatlease.adapter import RunOptions
from chatlease.errors import ChatleaseError, UsageError

from . import _options as opt
from ._conversation import Conversation, Wish
from ._exits import Exit, of_error
from ._journal import FirstSweep, Journal
from ._program import Program, forget_stdout, program
from ._show import Screen, print_json
from ._signals import PATIENT, cancelling, given_back


def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; `-` reads it from stdin. Without one, a conversation begins.")
    ] = None,
    *,
    adapter: opt.AdapterName = None,
    url: opt.Url = None,
    account: opt.Account = None,
    cookie_file: opt.CookieFile = None,
    proxy: opt.Proxy = None,
    option: opt.AdapterOptions = None,
    model: Annotated[str | None, typer.Option(help="Name of the model; see `models`.")] = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    typical_p: opt.TypicalP = None,
    temperature: opt.Temperature = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    max_new_tokens: opt.MaxNewTokens = None,
    system_prompt: opt.SystemPrompt = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show on stderr what the session does.")] = False,
    trace_file: Annotated[Path | None, typer.Option(help="Append the trace to a file, as JSON lines.")] = None,
    as_json: opt.Json = False,
) -> Coroutine[Any, Any, Exit]:
    """
    Ask a question, or begin a conversation; the chat is given back in every case.

    The answer goes to stdout as it comes, everything else to stderr. In a conversation, /quit or Ctrl-D ends it, Ctrl-C
    stops the answer that is coming.
    """
    chosen: dict[str, Any] = {
        "top_k": top_k,
        "top_p": top_p,
        "typical_p": typical_p,
        "temperature": temperature,
        "repetition_penalty": repetition_penalty,
        "max_new_tokens": max_new_tokens,
        "system_prompt": system_prompt,
    }
    options = RunOptions(**{name: value for name, value in chosen.items() if value is not None})  # type: ignore[typeddict-item]  # names as above
    connection = opt.Connection(adapter, url, account, cookie_file, proxy, option or ())
    wish = Wish(_prompt(prompt), model, account, options)
    if as_json and wish.prompt is None:
        raise UsageError("--json needs a prompt", hint="Give one, or `-` to read it from stdin.")
    screen = Screen(trace=trace, answers=not as_json)
    return _Talk(program(context), connection, wish, screen).run(trace_file, as_json=as_json)


def _prompt(given: str | None) -> str | None:
    """Return the prompt; ``None`` for a conversation."""
    if given is None and sys.stdin.isatty():
        return None
    text = _stdin() if given in {None, "-"} else given
    if not text or text.isspace():
        raise UsageError("the prompt is empty")
    return text


def _stdin() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        pass
    raise UsageError("the prompt on stdin is no text in this terminal's encoding")


class _Talk:
    """One run of the command."""

    def __init__(self, program: Program, connection: opt.Connection, wish: Wish, screen: Screen) -> None:
        self._program = program
        self._connection = connection
        self._wish = wish
        self._screen = screen
        self._journal = Journal()
        self._swept = FirstSweep()
        self._kept = False
        self._text: str | None = None

    async def run(self, trace_file: Path | None, *, as_json: bool) -> Exit:
        """Talk, and say how it ended."""
        error: ChatleaseError | None = None
        code = Exit.OK
        try:
            with _trace_hooks(trace_file) as hooks, cancelling():
                await self._talk(hooks)
        except asyncio.CancelledError:
            code = Exit.INTERRUPTED  # nobody else is there to be told: this is the whole program
        except BrokenPipeError:
            forget_stdout()
            code = Exit.INTERRUPTED
        except ChatleaseError as failure:
            error, code = failure, of_error(failure)
        finally:
            self._screen.close()
        return self._end(error, self._journal.exit(code), as_json=as_json)

    async def _talk(self, hooks: list[Hook]) -> None:
        adapter = self._connection.open(self._program.registry)
        hooks = [self._journal, self._screen.hook, self._swept, *hooks]
        async with Engine(adapter, deadlines=PATIENT, hooks=hooks) as engine:
            self._kept = engine.ledger is not None and engine.ledger.shared
            try:
                await self._converse(engine)
            except BaseException as error:
                if engine.sessions and isinstance(error, asyncio.CancelledError):
                    self._screen.note(f"the chat is deleted as soon as its answer has ended; {self._second_ctrl_c}")
                await given_back(engine)
                raise
            if self._kept:
                await self._swept.wait(self._screen)

    @property
    def _second_ctrl_c(self) -> str:
        return f"Ctrl-C now leaves it {'to the next sweep' if self._kept else 'behind'}"

    async def _converse(self, engine: Engine) -> None:
        if self._wish.prompt is None:
            await Conversation(engine, self._wish, self._screen, self._program).run()
        else:
            await self._ask(engine, self._wish.prompt)

    async def _ask(self, engine: Engine, prompt: str) -> None:
        wish = self._wish
        answer = engine.ask(prompt, account=wish.account, model=wish.model, **wish.options)
        async with answer:
            async for event in answer.events():
                self._screen.event(event)
        self._text = None if answer.final is None else answer.final.text

    def _end(self, error: ChatleaseError | None, code: Exit, *, as_json: bool) -> Exit:
        if as_json:
            print_json(self._journal.result(text=self._text, error=error, code=code))
        if error is not None:
            self._program.failed(error, self._screen)
        elif code is Exit.INTERRUPTED:
            given = self._journal.state == State.DELETED.value
            self._screen.note("interrupted; the chat was given back" if given else "interrupted")
        for chat in self._journal.handed_over:
            what = "the ledger keeps it for `chatlease sweep`" if self._kept else "delete it there"
            self._screen.note(f"chat {chat or 'of unknown id'} is left at the service; {what}", "bold red")
        return code


@contextmanager
def _trace_hooks(path: Path | None) -> Generator[list[Hook]]:
    if path is None:
        yield []
        return
    try:
        file = TraceFile(path)
    except OSError as error:
        raise UsageError(
            f"the trace file {path} cannot be opened ({error.strerror or type(error).__name__})",
            hint="Name a file in a folder that is there, and that you may write to.",
        ) from error
    try:
        yield [file]
    finally:
        file.close()
