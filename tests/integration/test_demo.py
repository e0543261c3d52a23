"""The command line over real HTTP: the demo, and that no chat is left whenever and however a person leaves."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
import urllib.request
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.console import Console

from chatlease import Engine, TraceFile
from chatlease._diagram import fenced, sequence
from chatlease.testing import capture_trace
from chatlease_adapters.open_assistant import OpenAssistant
from chatlease_adapters.open_assistant._demo import CHAT_LEFT, show_session
from chatlease_adapters.open_assistant.service import Service, Work, running
from tests.commands import command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are POSIX's")

STATES = ["new", "cookies-ready", "chat-created", "prompt-sent", "assistant-queued", "streaming", "deleted"]
ROW = re.compile(r"^(?P<state>[a-z-]+) +(?P<step>\w+) +(?:(?P<call>[A-Z]+ \S+) +(?P<status>\d+) +)?(?P<ms>[\d.]+) ms$")
DIAGRAMS = Path(__file__).parents[2] / "diagrams"


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that another process sets off; pytest's time limit ends it otherwise."""
    while not holds():  # noqa: ASYNC110  (what the service saw is a log, no event)
        await asyncio.sleep(0.01)


def steps(service: Service) -> Sequence[str]:
    return [record.step for record in service.log]


class Watched:
    """Answers with the prompt, once the service has seen that somebody waits for it; else there might be no stream."""

    def __init__(self) -> None:
        self.service: Service | None = None

    async def __call__(self, work: Work) -> AsyncIterator[str]:
        service = self.service
        assert service is not None
        await until(lambda: "open_stream" in steps(service))
        for word in work.thread[-1][1].split(" "):
            yield f"{word} "


@asynccontextmanager
async def watched() -> AsyncGenerator[Service]:
    """A service whose every answer is streamed."""
    answers = Watched()
    async with running(answers=answers) as service:
        answers.service = service
        yield service


class Held:
    """Answers with two tokens, and with the third when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, work: Work) -> AsyncIterator[str]:
        yield "one "
        yield "two "
        await self.go_on.wait()
        yield "three"


# -- the demo ---------------------------------------------------------------------------------------------------------


async def test_the_demo_shows_the_calls_that_the_service_saw(tmp_path: Path) -> None:
    """States, calls and statuses in order, times from the trace, the text, and the service's own count."""
    text = io.StringIO()
    file = TraceFile(tmp_path / "trace.jsonl")
    async with watched() as service:
        code = await show_session(service.url, "a plain prompt", console=Console(file=text), hooks=[file])
        seen = [(f"{record.method} {record.path}", str(record.status)) for record in service.log]
        assert (service.created, len(service.chats)) == (1, 0)
    file.close()
    lines = text.getvalue().splitlines()
    rows = [match for match in map(ROW.match, lines) if match]
    assert ["new", *(row["state"] for row in rows)] == STATES
    assert [(row["call"], row["status"]) for row in rows if row["call"]] == seen
    events = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_bytes().splitlines()]
    made = [event for event in events if event["event"] == "session.transition.completed"]
    assert [(row["state"], row["step"], row["ms"]) for row in rows] == [
        (event["dest"], event["trigger"], f"{event['elapsed_s'] * 1000:.1f}") for event in made
    ]
    assert "new" in lines
    assert "a plain prompt " in lines
    assert (code, lines[-1]) == (0, "0 chats left")


async def test_the_demo_fails_when_the_service_counts_a_chat() -> None:
    text = io.StringIO()
    async with running(answers="echo", token_interval=0) as service:
        service.store.add_chat("somebody")
        assert await show_session(service.url, "Hi", console=Console(file=text)) == CHAT_LEFT
    assert text.getvalue().splitlines()[-1] == "1 chat left"


async def test_the_demo_command_ends_with_0_and_plain_text() -> None:
    async with command("demo", "--token-interval", "0") as process:
        out, err = await process.communicate()
    lines = out.decode().splitlines()
    assert (process.returncode, err) == (0, b"")
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in STATES] == STATES
    assert lines[-1] == "0 chats left"
    assert b"\x1b" not in out


async def test_the_committed_sequence_is_that_of_a_session_over_http() -> None:
    async with watched() as service:
        adapter = OpenAssistant(service.url, cookies={"any": "one"})
        async with Engine(adapter) as engine:
            with capture_trace(engine) as trace:
                await engine.ask("Hello").text()
    assert (DIAGRAMS / "session.md").read_text("utf-8").endswith(f"\n{fenced(sequence(trace))}")


# -- the local service ------------------------------------------------------------------------------------------------


def counted(url: str) -> int:
    with urllib.request.urlopen(f"{url}/_chatlease/counts") as answer:
        return int(json.load(answer)["chats"])


async def test_serve_prints_its_address_answers_and_ends_with_ctrl_c() -> None:
    async with command("serve", "--port", "0", "--answers", "echo", "--token-interval", "0") as served:
        assert served.stdout is not None
        url = (await served.stdout.readline()).decode().strip()
        async with command("chat", "Hi there", "--url", url) as asked:
            assert (await asked.communicate())[0] == b"Hi there\n"
        assert (asked.returncode, await asyncio.to_thread(counted, url)) == (0, 0)
        served.send_signal(signal.SIGINT)
        assert await served.wait() == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--faults", "nonsense=drop"), b"error: 'nonsense' is no step of this service"),
        (("--upstream", "http://127.0.0.1:1"), b"error: upstream needs upstream_model"),
        (("--session-cookie", "x"), b"error: a login is given as VALUE=USER"),
    ],
)
async def test_serve_refuses_what_makes_no_sense(arguments: Sequence[str], said: bytes) -> None:
    async with command("serve", "--port", "0", *arguments) as process:
        out, err = await process.communicate()
    assert (process.returncode, out, err.splitlines()[0]) == (2, b"", said)


async def test_serve_says_that_its_port_is_taken() -> None:
    async with running() as service:
        port = service.url.rpartition(":")[2]
        async with command("serve", "--port", port) as process:
            _, err = await process.communicate()
    assert (process.returncode, err.splitlines()[0].decode()) == (
        2,
        f"error: cannot listen on 127.0.0.1:{port} ({os.strerror(98 if sys.platform == 'linux' else 48)})",
    )


# -- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_the_answer_comes_leaves_no_chat(number: signal.Signals) -> None:
    """The service cannot stop a run, so its end is waited for: deleting before would lose another user's message."""
    held = Held()
    async with running(answers=held) as service, command("chat", "Hi", "--url", service.url) as process:
        assert process.stdout is not None
        await process.stdout.readuntil(b"two ")
        process.send_signal(number)
        await until(lambda: "read_answer" in steps(service))
        held.go_on.set()
        _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"interrupted; the chat was given back\n")
        assert (service.created, len(service.chats), service.lost_messages) == (1, 0, [])


async def test_a_reader_that_goes_away_leaves_no_chat() -> None:
    """As ``chatlease chat ... | head`` does."""
    held = Held()
    reading, writing = os.pipe()
    async with running(answers=held) as service, command("chat", "Hi", "--url", service.url, stdout=writing) as process:
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100)
        os.close(reading)
        held.go_on.set()
        _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"interrupted; the chat was given back\n")
        assert (service.created, len(service.chats)) == (1, 0)


class Terminal:
    """The person's end of a pseudo-terminal."""

    def __init__(self, file: int) -> None:
        self._raw = ""
        self._file = file
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(file, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._file, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            data = b""
        if not data:
            self.close()
        self._raw += data.decode()
        self._more.set()

    @property
    def shown(self) -> str:
        """What is shown, without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._raw)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._file)

    def type(self, text: str) -> None:
        """Type, from here on looking only at what is shown after it."""
        self._raw = ""
        os.write(self._file, text.encode())

    async def shows(self, text: str) -> None:
        while text not in self.shown:
            self._more.clear()
            await self._more.wait()


@asynccontextmanager
async def conversation(service: Service) -> AsyncGenerator[tuple[Process, Terminal]]:
    """A conversation with a service, on a pseudo-terminal of its own."""
    ours, theirs = os.openpty()
    terminal = Terminal(ours)
    try:
        async with command("chat", "--url", service.url, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            await terminal.shows("> ")
            yield process, terminal
    finally:
        terminal.close()
        os.close(ours)
        os.close(theirs)


async def test_a_conversation_has_several_turns_on_one_chat_and_quit_leaves_none() -> None:
    async with (
        running(answers="echo", token_interval=0) as service,
        conversation(service) as (process, terminal),
    ):
        for prompt in ("first turn", "second turn"):
            terminal.type(f"{prompt}\n")
            await terminal.shows("\n> ")
            assert terminal.shown.count(prompt) == 2
        assert (service.created, len(service.chats)) == (1, 1)
        terminal.type("/quit\n")
        assert await process.wait() == 0
        assert len(service.chats) == 0


async def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on() -> None:
    held = Held()
    async with running(answers=held) as service, conversation(service) as (process, terminal):
        terminal.type("Hi\n")
        await terminal.shows("two ")
        os.kill(process.pid, signal.SIGINT)
        await terminal.shows("stopped\n> ")
        held.go_on.set()
        terminal.type("Again\n")
        await terminal.shows("three\n> ")
        terminal.type("\x04")
        assert await process.wait() == 0
        assert (service.created, len(service.chats), service.lost_messages) == (1, 0, [])


async def test_ctrl_c_at_the_prompt_leaves_no_chat() -> None:
    async with (
        running(answers="echo", token_interval=0) as service,
        conversation(service) as (process, terminal),
    ):
        terminal.type("Hi\n")
        await terminal.shows("\n> ")
        os.kill(process.pid, signal.SIGINT)
        assert await process.wait() == 130
        assert (service.created, len(service.chats)) == (1, 0)


async def test_a_turn_that_fails_ends_neither_the_conversation_nor_leaves_a_chat() -> None:
    async with (
        running(answers="echo", token_interval=0) as service,
        conversation(service) as (process, terminal),
    ):
        service.faults.add("queue_assistant", "500")
        terminal.type("Hi\n")
        await terminal.shows("\n> ")
        assert "error: " in terminal.shown
        terminal.type("Again\n")
        await terminal.shows("another one")
        await terminal.shows("\nAgain\n> ")
        terminal.type("\x04")
        assert await process.wait() == 0
        assert (service.created, len(service.chats)) == (2, 0)
