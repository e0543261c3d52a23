"""The commands that this package brings along: ``chatlease serve`` and ``chatlease demo``.

Rules that live here:

* Both are functions as the entry-point group ``chatlease.commands`` wants them: typer reads their signature, they raise
  `chatlease.errors.ChatleaseError` and return an exit code.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated

import typer

from chatlease import TraceFile
from chatlease.errors import UsageError

from . import _demo
from .service import DOCUMENTED, SESSION_COOKIE, Service, ServiceOptions, running
from .service import serve as run_service

_FAULTS = "What goes wrong, e.g. create_chat=drop:0.1,delete_chat=500:0.05 (step=fault:probability)."


class Answers(enum.StrEnum):
    """What the local service answers."""

    LOREM = "lorem"
    ECHO = "echo"


class Auth(enum.StrEnum):
    """Whom the local service lets in."""

    ANY = "any"
    STRICT = "strict"


async def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8080,
    answers: Annotated[Answers, typer.Option(help="Random Latin words, or the prompt again.")] = Answers.LOREM,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible server that answers instead; needs --model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model at --upstream.")] = None,
    upstream_key: Annotated[
        str | None, typer.Option(envvar="CHATLEASE_UPSTREAM_KEY", help="Its API key, if it wants one.")
    ] = None,
    auth: Annotated[Auth, typer.Option(help="any: every cookie is an account of its own.")] = Auth.ANY,
    session_cookie: Annotated[
        list[str] | None, typer.Option(metavar="VALUE=USER", help="A login of --auth strict; may be repeated.")
    ] = None,
    token_interval: Annotated[float, typer.Option(min=0, help="Seconds between two tokens.")] = 0.2,
    faults: Annotated[str, typer.Option(metavar="SPEC", help=_FAULTS)] = "",
    workers: Annotated[int, typer.Option(min=0, help="How many answers are written at once; 0: nobody answers.")] = 1,
    seed: Annotated[int, typer.Option(help="Makes words and faults repeatable.")] = 0,
) -> None:
    """
    Run a local Open-Assistant, to try bots on; Ctrl-C stops it.

    Its address is printed on stdout when it listens.
    """
    options = ServiceOptions(
        models=DOCUMENTED,
        answers=answers.value,
        upstream=upstream,
        upstream_model=model,
        upstream_key=upstream_key,
        auth=auth.value,
        sessions=dict(_login(text) for text in session_cookie or ()),
        token_interval=token_interval,
        faults=faults,
        workers=workers,
        seed=seed,
    )
    failure = await _listen(host, port, options)
    hint = "Choose another --port (0 takes any free one) or --host."
    raise UsageError(f"cannot listen on {host}:{port} ({failure})", hint=hint)


async def _listen(host: str, port: int, options: ServiceOptions) -> str:
    """Serve until the end, or return why not."""
    try:
        await run_service(host, port, options, on_ready=_show_address)
    except OSError as error:
        return os.strerror(error.errno) if error.errno else type(error).__name__
    return "it stopped"


def _show_address(service: Service) -> None:
    typer.echo(service.url)
    if service.options.auth == "any":
        typer.echo(
            f"Ask it: CHATLEASE_OPEN_ASSISTANT_COOKIE=anything chatlease chat --url {service.url} Hello", err=True
        )


def _login(text: str) -> tuple[str, str]:
    value, equals, user = text.rpartition("=")
    if not equals or not value or not user:
        raise UsageError(
            "a login is given as VALUE=USER", hint=f"VALUE is what the cookie {SESSION_COOKIE} has to hold."
        )
    return value, user


async def demo(
    prompt: Annotated[str, typer.Argument(help="What to ask.")] = "Hello, how are you?",
    *,
    answers: Annotated[Answers, typer.Option(help="Random Latin words, or the prompt again.")] = Answers.LOREM,
    token_interval: Annotated[float, typer.Option(min=0, help="Seconds between two tokens.")] = 0.05,
    trace_file: Annotated[Path | None, typer.Option(help="Append the trace to a file, as JSON lines.")] = None,
) -> int:
    """
    Watch a session from `new` to `deleted`, on a local service, over real HTTP.

    Ends with how many chats the service counts afterwards, and with an error if that is not 0.
    """
    file = None if trace_file is None else TraceFile(trace_file)
    try:
        async with running(answers=answers.value, token_interval=token_interval, answer_tokens=32) as service:
            return await _demo.show_session(service.url, prompt, hooks=[] if file is None else [file])
    finally:
        if file is not None:
            file.close()
