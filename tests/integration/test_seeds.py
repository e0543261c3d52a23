"""
The two seed documents, run: every code block as it stands there, but for its imports and the addresses of hosts.

What they say in words of members is in `test_provider`; here are their examples, the signature that they show, and the
requests that they list.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, cast

import pytest

from chatlease_adapters import provider
from chatlease_adapters.open_assistant.service import DOCUMENTED, Record, Service, running
from chatlease_adapters.provider import AsyncGeneratorProvider, AsyncResult, Messages, OpenAssistant
from tests.integration.speaker import Speaker, served_from_another_thread

ROOT = Path(__file__).parents[2]
ENGLISH, RUSSIAN = sorted((ROOT / "tests" / "recorded" / "seeds").glob("*.md"))
PROXY = "http://proxy.example.com:8080"

_IMPORT = re.compile(r"^from (?:hypotez|g4f)\S* import", re.MULTILINE)
_HEADING = re.compile(r"^### `(create_async_generator\(.*\) -> AsyncResult)`", re.MULTILINE)
_BLOCK = re.compile(r"^```python\n(.*?)(?:^```$|\Z)", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[str]:
    """The document's Python, block by block, with our module in the place of theirs."""
    text = document.read_text("utf-8")
    return [_IMPORT.sub("from chatlease_adapters.provider import", block) for block in _BLOCK.findall(text)]


async def run(code: str, names: dict[str, Any]) -> None:
    """Run code that may await at its top level, as a notebook does."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = cast("CodeType", compile(code, "<seed>", "exec", flags=flags, dont_inherit=True))
    result = eval(compiled, names)
    if inspect.isawaitable(result):
        await result


@pytest.fixture(autouse=True)
def _own_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAssistant, "url", OpenAssistant.url)


@pytest.fixture
def _logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "a-session-token")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A local service with the seeds' second model too; no chat may be left on it."""
    speaker = Speaker()
    async with running(answers=speaker, models=DOCUMENTED) as service:
        speaker.service = service
        OpenAssistant.url = service.url
        yield service
        await provider.aclose()
        assert service.created
        assert not service.chats


def steps(service: Service) -> list[str]:
    return [record.step for record in service.log]


FIVE = ["create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat"]


def test_the_documents_have_the_blocks_that_are_run_here() -> None:
    assert [len(blocks(document)) for document in (ENGLISH, RUSSIAN)] == [2, 2]


# ---------------------------------------------------------------------------------------------------------- examples


@pytest.mark.usefixtures("_logged_in")
async def test_the_english_documents_first_example(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    await run(blocks(ENGLISH)[0], names)
    await names["main"]()
    assert capsys.readouterr().out == "Hello\n,\n world\n"
    assert steps(service) == FIVE


@pytest.mark.usefixtures("_logged_in")
async def test_the_english_documents_three_calls(
    service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The second goes through a real proxy, with a login of its own; the third asks another model."""
    names: dict[str, Any] = {}
    first, second = blocks(ENGLISH)
    assert PROXY in second
    async with real_proxy(tmp_path) as proxy:
        await run(first, names)
        await run(second.replace(PROXY, proxy.url), names)
        went_through = await proxy.requests(5)
    assert capsys.readouterr().out == "Hello\n,\n world\n" * 3
    assert steps(service) == FIVE * 3
    log = list(service.log)
    assert sorted(went_through) == sorted(as_proxied(service.url, record) for record in log[5:10])
    assert log[0].user == log[10].user != log[5].user


@pytest.mark.usefixtures("_logged_in")
async def test_the_russian_documents_example(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "seed"}
    await run(blocks(RUSSIAN)[1], names)
    await names["main"]()
    assert capsys.readouterr().out == "Hello, world"
    assert steps(service) == FIVE


def test_the_russian_documents_example_as_a_program(tmp_path: Path) -> None:
    """Not a line is added: the address comes from the environment, as a user would give it."""
    program = tmp_path / "seed.py"
    program.write_text(blocks(RUSSIAN)[1], "utf-8")
    with served_from_another_thread(token_interval=0.001, answer_tokens=5) as service:
        paths = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "adapters"))
        settings = {
            "CHATLEASE_OPEN_ASSISTANT_URL": service.url,
            "CHATLEASE_OPEN_ASSISTANT_COOKIE": "a-session-token",
            "PYTHONPATH": paths,
        }
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", program],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (ended.returncode, _complaints(ended.stderr)) == (0, [])
        assert ended.stdout.count(" ") == 4
        assert service.created == 1
        assert not service.chats


# ------------------------------------------------------------------------------------------------------------- words


def shape(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


async def test_the_signature_is_the_one_that_the_documents_show() -> None:
    (heading,) = _HEADING.findall(ENGLISH.read_text("utf-8"))
    english: dict[str, Any] = {"Messages": Messages, "AsyncResult": AsyncResult}
    russian = dict(english)
    await run(f"def {heading}: ...", english)
    await run(blocks(RUSSIAN)[0], russian)
    ours = inspect.signature(OpenAssistant.create_async_generator)
    bound = inspect.signature(russian["create_async_generator"].__get__(None, OpenAssistant))
    for shown in (inspect.signature(english["create_async_generator"]), bound):
        assert shape(shown) == shape(ours)
        assert shown.return_annotation is AsyncResult
    assert ours.return_annotation == "AsyncResult"


@pytest.mark.parametrize("document", [ENGLISH, RUSSIAN], ids=["english", "russian"])
def test_every_name_that_a_document_puts_in_code_is_there(document: Path) -> None:
    """Attributes, methods and the base class, by the lists that both documents have."""
    text = document.read_text("utf-8")
    listed = set(re.findall(r"^- `(\w+)(?:\(\))?`", text, re.MULTILINE))
    members = {"url", "needs_auth", "working", "model", "create_async_generator"}
    assert members <= listed
    assert not [name for name in members if not hasattr(OpenAssistant, name)]
    assert "AsyncGeneratorProvider" in text
    assert issubclass(OpenAssistant, AsyncGeneratorProvider)


def test_what_the_documents_name_can_be_imported_from_one_place() -> None:
    for name in ("OpenAssistant", "AsyncGeneratorProvider", "Messages", "AsyncResult", "format_prompt", "logger"):
        assert name in provider.__all__
        assert hasattr(provider, name)


# ----------------------------------------------------------------------------------------------------------- a proxy


def as_proxied(url: str, record: Record) -> str:
    """A request as proxy.py's log shows it."""
    query = f"?{record.query}" if record.query else ""
    return f"{record.method} {url.removeprefix('http://')}{record.path}{query}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs: its address, and its log, which another process writes."""

    url: str
    log: Path

    async def requests(self, count: int) -> list[str]:
        """Method and address of every request, once there are that many."""
        seen = await written(self.log, lambda text: text.count(" server.access_log:") >= count)
        return re.findall(r" - ([A-Z]+ \S+) - \d{3} ", seen)


@asynccontextmanager
async def real_proxy(folder: Path) -> AsyncGenerator[Proxy, None]:
    """Run proxy.py as a program."""
    port, log = folder / "port", folder / "log"
    options = ["--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port), "--log-file", str(log)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *options, "--num-acceptors", "1", "--num-workers", "1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        number = await written(port, lambda text: text.endswith("\n"))
        yield Proxy(f"http://127.0.0.1:{number.strip()}", log)
    finally:
        process.terminate()
        await process.wait()


async def written(file: Path, enough: Callable[[str], bool]) -> str:
    """What a file holds, once another process has written enough; a test's time limit ends a wait in vain."""
    while not enough(text := _text(file)):  # noqa: ASYNC110  (what another process does sets no event)
        await asyncio.sleep(0.01)
    return text


def _text(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""


def _complaints(stderr: str) -> list[str]:
    """Return what a program in development mode complained of, but for the machine's being busy."""
    return [line for line in stderr.splitlines() if not (line.startswith("Executing <") and " took " in line)]
