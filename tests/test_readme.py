"""What the READMEs say is so: every program and fragment runs as printed, every command, table and link holds."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import typer

import chatlease
import chatlease_adapters
from chatlease import Credential, Deadlines, Engine, SqliteLedger, State, Sweep, Swept, Trigger, errors, testing
from chatlease._cli._app import application
from chatlease._cli._ledger import full
from chatlease._registry import installed
from chatlease.adapter import Adapter, Call, Login, RunOptions
from chatlease.errors import NotAuthenticated
from chatlease.events import Failed, Pending
from chatlease.ledger import Entry
from chatlease.testing import Exploration, FakeService, ManualClock, check_adapter, conformance, explore, failpoints
from chatlease.testing.fake_service import FakeChat
from chatlease_adapters import http, provider
from chatlease_adapters.langgraph import LangGraph
from chatlease_adapters.open_assistant import CookieSource, OpenAssistant
from chatlease_adapters.open_assistant.service import Fault, Service, running
from tests.bots.kit import FRAMEWORKS
from tests.langgraph.fake import running as fake_langgraph
from tests.pages import PRINTED_URL, PRINTED_URLS, ROOT, block, blocks, code, names, pages, table, text_of
from tests.parley import ParleyServer, parley
from tests.unit.otel_kit import Telemetry

# ------------------------------------------------------------------------------------------------------------- programs


COVERED = {
    "README.md": ["asyncio.run(main())", "engine.session(prompt="],
    "engine/README.md": [
        "async def run_bot",
        "async def on_message(engine",
        *(bot.words for bot in FRAMEWORKS),  # run by tests/bots
        "async def run_fleet",
        "engine.ledger.retry(",
        "def status_page",
        "async def run_observed",
    ],
    "adapters/README.md": [
        "website = ",
        "service.faults.add",
        "create_async_generator",
        "LangGraph(",
        "class Parley:",
        "def problem(",
        "class Kind(",
        "async def by_hand",
        "await check_adapter(",
        "await explore(",
        "def test_the_frames_of_parley",
    ],
    "tests/README.md": ["async def on_message", "FakeService(", '"create_chat.bound"', "await explore("],
}


@pytest.mark.parametrize("page", names(pages()))
def test_every_block_of_python_is_run_by_a_test_of_this_file(page: str) -> None:
    assert list(blocks(page)) == [block(page, words) for words in COVERED.get(page, [])]


@pytest.fixture
async def local() -> AsyncIterator[Service]:
    """A local service that says the prompt again; the test fails if it leaves a chat."""
    async with running(answers="echo", token_interval=0) as service:
        yield service
        assert not service.chats
        assert service.created


async def test_the_program_of_the_readme_runs_as_printed(local: Service) -> None:
    source = block("README.md", "asyncio.run(main())").source
    assert source.count(PRINTED_URL) == 1
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", source.replace(PRINTED_URL, local.url)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await process.communicate()
    assert (process.returncode, complaints.decode()) == (0, "")
    assert printed.decode() == "Hello, how are you?Hello\nAnd in French?\n"
    assert local.created == 2


async def test_the_steps_of_the_readme_are_as_printed(local: Service) -> None:
    async with Engine(OpenAssistant(url=local.url, cookies={"session": "any"})) as engine:
        steps = block("README.md", "engine.session(prompt=")
        after = await steps.run({"engine": engine, "State": State, "Trigger": Trigger})
        comment = re.search(r"Step\(trigger=(\w+), source=(\S+), dest=(\S+),", steps.source)
        assert comment is not None
        step = after["step"]
        assert comment.groups() == (step.trigger.value, step.source.value, step.dest.value)
        assert after["session"].state is State.DELETED


async def test_a_bot_is_built_as_the_engines_page_says(local: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[str] = []

    async def serve_updates(engine: Engine) -> None:
        handled.append(await bot["on_message"](engine, "Hello"))

    monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "any")
    page = "engine/README.md"
    bot = await block(page, "async def run_bot").run({**vars(chatlease), "OpenAssistant": OpenAssistant})
    bot |= {"URL": local.url, "serve_updates": serve_updates}
    await block(page, "async def on_message(engine").run(bot)
    await bot["run_bot"]()
    assert handled == ["Hello"]


async def test_a_fleet_sweeps_as_the_engines_page_says(local: Service, tmp_path: Path) -> None:
    """What a process that was killed left is deleted with the login that the program gives, and counted by its hook."""
    ledger, login = f"sqlite:///{tmp_path}/chats.sqlite3", Credential(cookies={"session": "any"})
    chat = await left_behind(local, ledger, "bot-7", login)
    recorded: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    def record(open_entries: int, undeleted: int, elapsed_s: float) -> None:
        recorded.put_nowait((open_entries, undeleted))

    async def serve_updates(engine: Engine) -> None:
        assert await recorded.get() == (0, 0)
        assert chat not in local.chats

    def login_of(service: str, account: str) -> Credential | None:
        return login if account == "bot-7" else None

    fleet = await block("engine/README.md", "async def run_fleet").run(
        {
            **vars(chatlease),
            "OpenAssistant": OpenAssistant,
            "URL": local.url,
            "LEDGER": ledger,
            "login_of": login_of,
            "record": record,
            "alert": pytest.fail,
            "serve_updates": serve_updates,
        }
    )
    assert chat in local.chats
    await fleet["run_fleet"]()


async def left_behind(local: Service, url: str, account: str, login: Credential) -> str:
    """Leave a chat as a process does that is gone; returns its id."""
    adapter = OpenAssistant(url=local.url)
    chat = await adapter.create_chat(Call(Login(account, login), Deadlines()), "")
    await adapter.aclose()
    ledger = SqliteLedger.from_url(url)
    await ledger.open()
    entry = Entry(id="left", service=adapter.service, origin=adapter.origin, account=account)
    await ledger.bound(await ledger.intent(entry), chat)
    await ledger.aclose()
    return chat


async def test_dead_letters_are_tried_again_as_printed(
    service: FakeService, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Engine(service, clock=clock) as engine:
        assert engine.ledger is not None
        for name, dead in (("one", True), ("two", False)):
            entry = Entry(id=name, service=service.service, origin=service.origin, account="bob")
            hold = await engine.ledger.intent(entry)
            await engine.ledger.bound(hold, f"chat-{name}")
            service.chats[f"chat-{name}"] = FakeChat("bob", name)
            await engine.ledger.hand_over(hold, attempts=20, error_code="http-500", retry_in_s=9e4, dead=dead)
        after = await block("engine/README.md", "engine.ledger.retry(").run({"engine": engine})
        assert capsys.readouterr().out == "one fake bob chat-one http-500\n"
        assert (after["swept"].swept, after["swept"].open, list(service.chats)) == (1, 1, ["chat-two"])


async def test_a_status_page_is_made_as_printed(engine: Engine) -> None:
    page = (await block("engine/README.md", "def status_page").run({"Engine": Engine}))["status_page"]
    session = engine.session(account="bob")
    await session.ready_cookies()
    assert page(engine).split() == ["0", "s", "cookies-ready", "-", "bob", "on", "fake"]


async def test_a_bot_is_observed_as_printed(local: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Telemetry()
    monkeypatch.setenv("CHATLEASE_OPEN_ASSISTANT_COOKIE", "any")
    imports = {"Engine": Engine, "OpenAssistant": OpenAssistant, "URL": local.url}
    imports |= {"trace": told.tracers, "OpenTelemetry": told.another_hook}
    await (await block("engine/README.md", "async def run_observed").run(imports))["run_observed"]()
    [root] = told.tree()
    assert [[*each] for each in root["update"]] == [["chatlease.session"]]


async def test_both_dialects_are_spoken_as_printed(local: Service, capsys: pytest.CaptureFixture[str]) -> None:
    imports = {"OpenAssistant": OpenAssistant, "Engine": Engine, "Credential": Credential}
    async with running(answers="echo", token_interval=0) as server:
        await block("adapters/README.md", "website = ").run(imports, local.url, server.url)
        assert not server.chats
        assert local.created == server.created == 1
    assert capsys.readouterr().out == "Hello\nHello\n"


async def test_the_local_service_is_used_as_printed() -> None:
    imports = {"OpenAssistant": OpenAssistant, "Engine": Engine, "running": running}
    after = await block("adapters/README.md", "service.faults.add").run(imports)
    assert after["service"].faults.hits == {("open_stream", "cut"): 1}


async def test_the_older_interface_is_used_as_printed(
    local: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider.OpenAssistant, "url", provider.OpenAssistant.url)  # put back afterwards
    await block("adapters/README.md", "create_async_generator").run({}, local.url)
    assert "Hello, how are you?" in capsys.readouterr().out
    await provider.aclose()


async def test_langgraph_is_asked_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_langgraph() as server:
        await block("adapters/README.md", "LangGraph(").run(
            {"LangGraph": LangGraph, "Engine": Engine}, *PRINTED_URLS[:2], server.url
        )
        assert not server.threads
    assert capsys.readouterr().out == "Hello\nHello\nAnd in French?\n"


async def test_a_bot_is_tested_as_printed(chatlease_engine: Engine, chatlease_trace: testing.CapturedTrace) -> None:
    kit = {**vars(chatlease), **vars(testing), "asyncio": asyncio}
    tests = await block("tests/README.md", "async def on_message").run(kit)
    await tests["test_a_message_is_answered"](chatlease_engine, chatlease_trace)


async def test_a_user_who_gives_up_is_tested_as_printed(
    chatlease_engine: Engine, chatlease_trace: testing.CapturedTrace
) -> None:
    kit = {**vars(chatlease), **vars(testing), "asyncio": asyncio}
    tests = await block("tests/README.md", "async def on_message").run(kit)
    await tests["test_a_user_who_gives_up_leaves_nothing"](chatlease_engine, chatlease_trace)


async def test_an_adapter_is_explored_as_printed(capsys: pytest.CaptureFixture[str], adapter: dict[str, Any]) -> None:
    """With two faults; `tests/conformance/test_explore_http.py` has them all."""

    async def with_two(make: Callable[[], Adapter], **more: Any) -> Exploration:
        report = await explore(make, faults=["lost", "end"], **more)
        assert not report.complete
        return replace(report, complete=True)  # as with all of them

    kit = {**adapter, "parley": parley, "Credential": Credential, "explore": with_two}
    tests = await block("tests/README.md", "await explore(").run(kit)
    await tests["test_every_path_and_every_fault"]()
    assert "parley: every law held on" in capsys.readouterr().out


async def test_the_kit_for_tests_is_used_as_printed() -> None:
    await block("tests/README.md", "FakeService(").run({**vars(chatlease), **vars(testing), **vars(errors)})


async def test_failpoints_are_used_as_printed(service: FakeService, clock: ManualClock) -> None:
    async with Engine(service, clock=clock) as engine:
        imports = {"engine": engine, "service": service, "failpoints": failpoints}
        await block("tests/README.md", '"create_chat.bound"').run(imports)
    assert service.calls["delete_chat"] == 1


# -------------------------------------------------------------------------------------------------- the example adapter


@pytest.fixture
async def room() -> AsyncIterator[ParleyServer]:
    async with parley() as server:
        yield server


@pytest.fixture
async def adapter() -> dict[str, Any]:
    """Return what the example defines."""
    return await block("adapters/README.md", "class Parley:").run({"__name__": "chatlease_adapter_parley"})


async def test_the_example_adapter_keeps_the_contract_as_printed(room: ParleyServer, adapter: dict[str, Any]) -> None:
    adapter |= {"URL": room.url, "check_adapter": check_adapter}
    await block("adapters/README.md", "await check_adapter(").run(adapter)
    await adapter["test_parley_keeps_the_contract"]()
    assert not room.rooms
    assert room.asked["GET stream"] > 2


async def test_the_example_adapter_serves_an_engine(room: ParleyServer, adapter: dict[str, Any]) -> None:
    parley = adapter["Parley"](room.url, api_key="right")
    async with Engine(parley) as engine, engine.session(temperature=0.5) as session:
        for prompt in ("a prompt", "and another one"):
            answer = session.ask(prompt)
            assert await anext(answer.events()) == Pending(1, 0)
            assert await answer.text() == prompt
    assert (room.rooms, room.warmths) == ({}, [0.5, 0.5])


async def test_the_example_adapter_is_tried_by_hand_as_printed(
    room: ParleyServer, adapter: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    adapter |= {"URL": room.url, "Call": Call, "Login": Login, "Deadlines": Deadlines, "uuid4": uuid4}
    await (await block("adapters/README.md", "async def by_hand").run(adapter))["by_hand"]()
    assert capsys.readouterr().out == "POST /rooms 200\nTrue False\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_example_adapter_is_explored_as_printed(room: ParleyServer, adapter: dict[str, Any]) -> None:
    adapter |= {"URL": room.url, "explore": explore}
    await (await block("adapters/README.md", "await explore(").run(adapter))["test_no_chat_of_parley_is_left"]()
    assert room.asked["POST rooms"] > 100


async def test_the_frames_of_the_example_are_as_printed(adapter: dict[str, Any]) -> None:
    (await block("adapters/README.md", "def test_the_frames").run(adapter))["test_the_frames_of_parley"]()


async def test_a_refusal_with_status_200_is_read_as_printed() -> None:
    imports = {"msgspec": msgspec, **vars(http), "Busy": errors.Busy}
    page = await block("adapters/README.md", "def problem(").run(imports)
    said = b'{"slug": "%s", "says": "No."}'
    assert page["problem"](http.Answer(200, {}, said % b"room_in_use")) == http.Problem(
        "room_in_use", "No.", 409, errors.Busy
    )
    assert page["problem"](http.Answer(200, {}, said % b"no_such_room")) == http.Problem("no_such_room", "No.", 404)
    assert page["problem"](http.Answer(200, {}, said % b"malformed")) == http.Problem("malformed", "No.", 400)
    assert page["problem"](http.Answer(200, {}, b'{"id": "7"}')) is None
    assert page["problem"](http.Answer(502, {}, b"Bad gateway")) is not None


async def test_frames_that_name_their_kind_are_told_as_printed(adapter: dict[str, Any]) -> None:
    tell = (await block("adapters/README.md", "class Kind(").run({**adapter, **vars(http)}))["tell"]
    growing = http.Growing()
    frames = (
        b'{"type": "growth", "partial": "Hi"}',
        b'{"type": "usage", "partial": 7}',
        b'{"type": "failure", "slug": "no"}',
    )
    *told, failed = [tell(frame, growing, str) for frame in frames]
    assert told == ["Hi", None]
    assert isinstance(failed, Failed)
    assert failed.error.code == "no"


def test_the_options_of_the_guide_are_the_code() -> None:
    paragraph = text_of("adapters/README.md").partition("Options are those of `RunOptions`: ")[2].partition("\n\n")[0]
    assert re.findall(r"`([a-z_]+)`", paragraph.partition(".")[0]) == list(RunOptions.__annotations__)


async def test_a_run_of_the_example_is_stopped_before_its_room_is_closed(
    room: ParleyServer, adapter: dict[str, Any]
) -> None:
    room.hold = True
    async with (
        Engine(adapter["Parley"](room.url, api_key="right")) as engine,
        engine.ask("never read to its end") as answer,
    ):
        assert await anext(aiter(answer)) == "never"
    assert (room.asked["POST stop"], room.rooms) == (1, {})


async def test_the_example_adapter_shows_no_prompt_and_no_key(room: ParleyServer, adapter: dict[str, Any]) -> None:
    async with Engine(adapter["Parley"](room.url, api_key="a-wrong-key")) as engine:
        with pytest.raises(NotAuthenticated, match="refuses the key") as caught:
            await engine.ask("a prompt").text()
    assert "a-wrong-key" not in repr(vars(caught.value)) + repr(caught.value)


# ------------------------------------------------------------------------------------------------------------- commands


CODE = [(page, each) for page in names(pages()) for each in dict.fromkeys(code(page))]
TARGETS = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
MAKE = [(page, each) for page, each in CODE if each.startswith("make ")]
CHATLEASE = [(page, each) for page, each in CODE if re.match(r"chatlease [^=]", each)]


@pytest.mark.parametrize(("page", "line"), MAKE)
def test_every_make_target_exists(page: str, line: str) -> None:
    assert set(re.findall(r"^make ([a-z]+)", line)) <= TARGETS


def commands() -> Mapping[str, set[str]]:
    """Return the options of every command, those of the whole program under an empty name."""
    program = typer.main.get_group(application(installed()))
    return {name: {*_options(command), *([] if name else ["--help"])} for name, command in _every("", program)}


def _every(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command and those below it, by their names as typed."""
    yield name, command
    for below, each in getattr(command, "commands", {}).items():
        yield from _every(f"{name} {below}".strip(), each)


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


COMMANDS = commands()


@pytest.mark.parametrize(("page", "line"), CHATLEASE)
def test_every_command_and_option_exists(page: str, line: str) -> None:
    first, *others = [part.split() for part in line.removeprefix("chatlease ").split(" | ")]
    for name in [first[0], *(other[0] for other in others)]:
        assert name in COMMANDS or name in COMMANDS[""]
    allowed = COMMANDS.get(" ".join(first[:2]), COMMANDS.get(first[0], COMMANDS[""]))
    assert {word for word in first if re.match("--?[a-z]", word)} <= allowed


@pytest.mark.parametrize(("page", "option"), [(page, each.split()[0]) for page, each in CODE if each.startswith("--")])
def test_every_option_that_is_named_alone_exists(page: str, option: str) -> None:
    assert option in set().union(*COMMANDS.values()) or page.startswith("tests/")


def test_the_pages_name_commands_and_targets_at_all() -> None:
    assert min(len(MAKE), len(CHATLEASE)) > 5


# --------------------------------------------------------------------------------------------------------------- tables


def test_the_table_of_deadlines_is_the_code() -> None:
    printed = {name.strip("`"): float(default) for name, default, _ in table("README.md", "Deadlines")}
    assert printed == {field.name: field.default for field in fields(Deadlines)}


async def test_the_table_of_environment_variables_is_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    printed = [name.strip("`") for name, _ in table("README.md", "Environment")]
    assert sorted(printed) == sorted({*read_by_name(), *await looked_at(monkeypatch, tmp_path)})


def read_by_name() -> set[str]:
    """Return the variables that the sources name."""
    sources = [path for package in (chatlease, chatlease_adapters) for path in Path(package.__path__[0]).rglob("*.py")]
    return {name for path in sources for name in re.findall(r"\bCHATLEASE_[A-Z_]*[A-Z]\b(?!_)", path.read_text())}


async def looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Return the variables in which a login was looked for; of an account ``X``, because no browser is asked then."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(NotAuthenticated) as caught:
        await OpenAssistant(url=PRINTED_URL).ready_cookies("X", None)
    return set(re.findall(r"\b(CHATLEASE_\w+)_X\b", str(caught.value)))


def test_the_table_of_what_a_sweep_counts_is_the_code() -> None:
    printed = [cell.strip("`") for cell, _ in table("engine/README.md", "What is counted")]
    assert sorted(printed) == sorted({*Swept.__struct_fields__} - {"elapsed_s"})


def test_the_table_of_an_entrys_keys_is_what_the_command_prints() -> None:
    rows = table("engine/README.md", "On the command line")
    printed = [each for cell, _ in rows for each in re.findall(r"`([^`]+)`", cell)]
    assert sorted(printed) == sorted(full(Entry(id="", service="", origin="", account=""), now=0.0))


def test_the_rules_of_retrying_are_as_printed() -> None:
    usual, prose = Sweep(), " ".join(text_of("engine/README.md").split())
    assert f"tried again after {usual.first_retry:g} seconds" in prose
    assert f"up to {usual.longest_retry / 3600:g} hours" in prose
    assert f"After {usual.attempts} tries, or {usual.give_up / 86400:g} days, the entry is a *dead letter*" in prose
    assert (usual.every, usual.margin, usual.probe, usual.daily) == (60, 600, 3600, 86400)  # once a minute, ...


def test_the_options_of_a_ledgers_url_are_as_printed() -> None:
    [printed] = re.findall(r"\?(lease=\S+)(?=`)", text_of("engine/README.md"))
    defaults = {name: str(default).removesuffix(".0") for name, default in signature_of_options(SqliteLedger).items()}
    assert dict(each.split("=") for each in printed.split("&")) == defaults


def signature_of_options(thing: Any) -> dict[str, Any]:
    """Return the defaults of what can be given by name alone, but for a test's clock."""
    parameters = inspect.signature(thing).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "clock"}


def test_the_map_of_the_tests_leads_to_files() -> None:
    rows = table("tests/README.md", "The harnesses, and how to break things on purpose")
    for place in (cell.strip("`") for cell, _ in rows):
        assert (ROOT / "tests" / place).exists()


LOGIN = Credential(cookies={"name": "value"})
FILE = "127.0.0.1\tFALSE\t/\tFALSE\t0\tname\tvalue"
VALUES = {"COOKIE": "name=value", "TOKEN": "value"}


def sources(place: str, folder: Path) -> list[CookieSource | Credential | None]:
    """Return what a row of the table of logins says that the program gives."""
    (folder / "given.txt").write_text(FILE)
    if "a callable" in place:
        return [lambda _host, _account: LOGIN]
    return [dict(LOGIN.cookies), folder / "given.txt", LOGIN] if "a mapping, a file" in place else [None]


def put(place: str, cell: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a login where a row of the table of logins says that it is looked for."""
    named = re.findall(r"`([^`]+)`", place if cell == "yes" else cell)
    if named and named[0].startswith("CHATLEASE_"):
        kind = named[0].split("_")[3]
        monkeypatch.setenv(named[0], VALUES.get(kind, str(folder / "given.txt")))
    elif "configuration folder" in place:
        (folder / "open-assistant").mkdir()
        (folder / "open-assistant" / named[0]).write_text(FILE)


@pytest.mark.parametrize("account", [None, "alice"])
@pytest.mark.parametrize("row", table("adapters/README.md", "Where logins come from")[2:-1], ids=itertools.count())
async def test_the_table_of_logins_is_the_code(
    row: list[str], account: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user_config_path(app: str, *, appauthor: bool) -> Path:
        return tmp_path

    monkeypatch.setattr("platformdirs.user_config_path", user_config_path)
    place, cell = row[0], row[1 if account is None else 2]
    for source in sources(place, tmp_path):
        put(place, cell, tmp_path, monkeypatch)
        search = OpenAssistant(url=PRINTED_URL, cookies=source).ready_cookies(account, None)
        assert await found(search) is not cell.startswith("no"), source


@pytest.mark.parametrize("number", [0, 1, 2], ids=["mapping", "file", "credential"])
async def test_a_login_given_for_the_default_account_is_the_only_place_for_it_and_none_for_others(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = OpenAssistant(url=PRINTED_URL, cookies=sources("a mapping, a file", tmp_path)[number])
    for suffix in ("", "_ALICE"):
        monkeypatch.setenv(f"CHATLEASE_OPEN_ASSISTANT_COOKIE{suffix}", "name=another")
    assert (await adapter.ready_cookies(None, None)).cookies == LOGIN.cookies
    assert (await adapter.ready_cookies("alice", None)).cookies == {"name": "another"}


async def found(search: Awaitable[Credential]) -> bool:
    try:
        return bool(await search)
    except NotAuthenticated:
        return False


def test_the_table_of_faults_is_what_the_local_service_takes() -> None:
    rows = table("adapters/README.md", "The local service")
    printed = [each for cell, _ in rows for each in re.findall(r"`([^`]+)`", cell)]
    assert {Fault.parse(each).kind for each in printed} == {
        *("before", "after", "drop", "late", "delay", "refuse", "html", "cut", "stall", "pings", "pending")
    }


def test_what_check_adapter_says_is_as_printed() -> None:
    source = " ".join(inspect.getsource(conformance).split())
    printed = [
        each for cell, _ in table("adapters/README.md", "Check it") for each in re.findall(r"`([a-z][^`]+)`", cell)
    ]
    parts = [part.strip() for each in printed for part in re.split(r"\.\.\.|; got", each) if part.strip()]
    assert len(parts) >= 9
    assert [part for part in parts if part not in source] == []


@pytest.mark.parametrize("row", table("tests/README.md", "Breaking things on purpose"), ids=itertools.count())
def test_what_can_be_broken_on_purpose_is_still_there(row: list[str]) -> None:
    [folder] = chatlease.__path__
    module, fragment, _, fails = (cell.strip("`") for cell in row)
    assert (Path(folder) / module).read_text().count(fragment) == 1
    for name in re.findall(r"test_\w+\.py", fails):
        assert list((ROOT / "tests").rglob(name))


# ---------------------------------------------------------------------------------------------------------------- links

LINKS = [(page, link) for page in names(pages()) for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(page))]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_every_link_leads_to_a_file(page: str, link: str) -> None:
    target = (ROOT / page).parent.joinpath(link).resolve()
    assert target.exists() or as_installed(target).exists()


def as_installed(path: Path) -> Path:
    """Return where a file of the sources is when it is the wheel that is tested."""
    for package in (chatlease, chatlease_adapters):
        source = next((each for each in path.parents if each.name == package.__name__), None)
        if source is not None:
            return Path(package.__path__[0]) / path.relative_to(source)
    return path


def test_every_folder_of_the_top_level_is_reached_from_the_readme() -> None:
    linked = {link for page, link in LINKS if page == "README.md"}
    assert {f"{name}/README.md" for name in ("engine", "adapters", "tests", "diagrams")} <= linked
