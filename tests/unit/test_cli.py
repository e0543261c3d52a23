"""The command line: what goes where, how it ends, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatlease._cli._conversation import Lines
from chatlease._cli._diagrams import files, sample_trace
from chatlease._cli._exits import MEANINGS, Exit, of_error, sentence
from chatlease._cli._show import Screen, TraceLines, printable
from chatlease._cli._signals import PATIENT
from chatlease._diagram import calls, lifecycle, sequence
from chatlease._ledger._schema import SCHEMA_VERSION
from chatlease._registry import Plugin, Registry, installed
from chatlease._trace import TraceEvent
from chatlease.adapter import AnswerStream, Call, Credential, RunOptions
from chatlease.errors import (
    ChatleaseError,
    CleanupFailed,
    LedgerUnavailable,
    NotAuthenticated,
    RateLimited,
    ServiceError,
    Unavailable,
    UsageError,
)
from chatlease.events import Pending, Reading, Token
from chatlease.testing import HANG, FakeService, Fault

from .card import PATH
from .cli_kit import Result, run_with

STATES = PATH[1:]
SECRET = "PLANTED-SECRET"
NOT_FOUND = "no login was found; looked at:\n- environment X: not set\n- file: none"
STOPPING = "the chat is deleted as soon as its answer has ended; Ctrl-C now leaves it behind\n"


class Asked(FakeService):
    """A service that keeps the options of its sessions."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options: list[tuple[str, RunOptions]] = []

    def check_options(self, model: str, options: RunOptions) -> None:
        super().check_options(model, options)
        if options.get("top_k") == 0:
            raise UsageError("top_k must be 1 or more")
        self.options.append((model, options))


Run = Callable[..., Result]


def plugin(name: str, thing: object) -> Plugin:
    return Plugin(name, lambda: thing, f"somewhere:{name}", "some-package 1.0")


@pytest.fixture
def service() -> Asked:
    """A service in memory, in real time, which answers with three tokens."""
    return Asked(tokens=["Hello", ", ", "you"])


@pytest.fixture
def run(service: Asked) -> Run:
    """Run the command line with that service as its only adapter."""
    registry = Registry({"fake": plugin("fake", lambda: service)})

    def run(*args: str, stdin: str = "") -> Result:
        return run_with(registry, *args, stdin=stdin)

    return run


# -- chat -------------------------------------------------------------------------------------------------------------


def test_the_answer_alone_goes_to_stdout_and_no_chat_is_left(run: Run, service: Asked) -> None:
    done = run("chat", "Hi")
    assert (done.code, done.out, done.err) == (0, "Hello, you\n", "")
    assert (service.calls["create_chat"], service.chats) == (1, {})


@pytest.mark.parametrize("arguments", [("chat",), ("chat", "-")])
def test_a_prompt_is_read_from_stdin(arguments: Sequence[str]) -> None:
    echo = FakeService()
    done = run_with(Registry({"fake": plugin("fake", lambda: echo)}), *arguments, stdin="two\nlines\n")
    assert (done.code, done.out) == (0, "two\nlines\n")


@pytest.mark.parametrize(("arguments", "stdin"), [(("chat", ""), ""), (("chat", " \n"), ""), (("chat",), "\n")])
def test_an_empty_prompt_is_refused_before_anything_is_sent(
    run: Run, service: Asked, arguments: Sequence[str], stdin: str
) -> None:
    done = run(*arguments, stdin=stdin)
    assert (done.code, done.out, done.err) == (2, "", "error: the prompt is empty\n")
    assert not service.calls


def test_sampling_options_and_the_model_reach_the_session(run: Run, service: Asked) -> None:
    done = run("chat", "Hi", "--model", "m", "--top-k", "5", "--temperature", "0.5", "--system-prompt", "Be kind.")
    assert done.code == 0
    assert service.options == [("m", {"top_k": 5, "temperature": 0.5, "system_prompt": "Be kind."})]


def test_json_has_the_text_the_steps_and_their_times(run: Run) -> None:
    done = run("chat", "Hi", "--json")
    result = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert (result["text"], result["state"], result["token_count"]) == ("Hello, you", "deleted", 3)
    assert (result["error"], result["chats_left"], result["exit_code"]) == (None, [], 0)
    assert [step["dest"] for step in result["steps"]] == STATES
    assert all(step["elapsed_s"] >= 0 for step in result["steps"])
    assert [step["http_status"] for step in result["steps"] if "http_status" in step] == [200] * 5


def test_json_of_a_failure_says_what_failed(run: Run, service: Asked) -> None:
    service.fail("create_chat", RateLimited("too many requests", status=429))
    done = run("chat", "Hi", "--json")
    result = json.loads(done.out)
    assert (done.code, result["exit_code"], result["text"]) == (done.code, done.code, None)
    assert result["error"] == {
        "type": "RateLimited",
        "message": "too many requests",
        "hint": RateLimited.hint,
        "code": "http-429",
        "http_status": 429,
    }


def test_trace_shows_the_steps_on_stderr_in_order(run: Run) -> None:
    done = run("chat", "Hi", "--trace")
    assert done.out == "Hello, you\n"
    assert (
        re.findall(rf"^ +[\d.]+ s  ({'|'.join(STATES)}) +\w+ +(?:200)? +[\d.]+ ms$", done.err, re.MULTILINE) == STATES
    )
    assert "stream.first_token waited_s=" in done.err


def test_a_trace_file_has_one_json_object_a_line_and_is_appended_to(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for _ in range(2):
        assert run("chat", "Hi", "--trace-file", str(path)).code == 0
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {event["v"] for event in events} == {1}
    assert [event["dest"] for event in events if event["event"] == "session.transition.completed"] == STATES * 2


def test_a_trace_file_that_cannot_be_written_is_one_sentence(run: Run, service: Asked, tmp_path: Path) -> None:
    done = run("chat", "Hi", "--trace-file", str(tmp_path / "none" / "trace.jsonl"))
    said = f"error: the trace file {tmp_path}/none/trace.jsonl cannot be opened (No such file or directory)\n"
    assert (done.code, done.err) == (2, f"{said}Name a file in a folder that is there, and that you may write to.\n")
    assert not service.calls


def no_prompt(_: str | None) -> None:
    return None


def test_a_conversation_cannot_be_had_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """CliRunner's stdin is none, so this one says that it is."""
    monkeypatch.setattr("chatlease._cli._chat._prompt", no_prompt)
    assert run("chat", "--json").err.splitlines()[0] == "error: --json needs a prompt"


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_a_chat_that_is_left_outweighs_its_cause(run: Run, service: Asked) -> None:
    service.fail("create_chat", Fault(Unavailable("gone"), when="after"))
    done = run("chat", "Hi", "--json")
    assert done.code == Exit.CHAT_LEFT
    assert json.loads(done.out)["chats_left"] == [None]
    assert "chat of unknown id is left at the service; delete it there\n" in done.err


class Interrupting(FakeService):
    """A service whose answer stays away, and a person who presses Ctrl-C at certain steps."""

    def __init__(self, *steps: str, answer_s: float) -> None:
        super().__init__(batches=[("one ",), HANG], answer_s=answer_s)
        self._steps = list(steps)

    def _press(self, step: str) -> None:
        if step in self._steps:
            self._steps.remove(step)
            asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)

    async def open_stream(self, call: Call, chat: str, run: str) -> AnswerStream | None:
        self._press("open_stream")
        return await super().open_stream(call, chat, run)

    async def read_answer(self, call: Call, chat: str, prompt: str | None, run: str | None) -> Reading:
        self._press("read_answer")
        return await super().read_answer(call, chat, prompt, run)


@pytest.fixture
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatlease._cli._chat.PATIENT", dataclasses.replace(PATIENT, grace=0.05))


@pytest.mark.usefixtures("_short_grace")
def test_ctrl_c_waits_for_the_answers_end_longer_than_a_bot_would() -> None:
    service = Interrupting("open_stream", answer_s=0.4)
    done = run_with(Registry({"fake": plugin("fake", lambda: service)}), "chat", "Hi")
    assert (done.code, done.out, done.err) == (130, "one \n", f"{STOPPING}interrupted; the chat was given back\n")
    assert (service.chats, service.lost_messages) == ({}, 0)


@pytest.mark.usefixtures("_short_grace")
def test_a_second_ctrl_c_leaves_the_chat_and_says_so() -> None:
    service = Interrupting("open_stream", "read_answer", answer_s=1000.0)
    done = run_with(Registry({"fake": plugin("fake", lambda: service)}), "chat", "Hi")
    assert (done.code, done.err) == (4, f"{STOPPING}chat chat-1 is left at the service; delete it there\n")
    assert (list(service.chats), service.lost_messages) == (["chat-1"], 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (NotAuthenticated("x"), 3),
        (Unavailable("x"), 1),
        (LedgerUnavailable("x"), 1),
        (CleanupFailed("c", 1), 4),
        (ChatleaseError("x"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: ChatleaseError, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        ("ready_cookies", NotAuthenticated(NOT_FOUND, hint="Log in."), 3),
        ("send_prompt", NotAuthenticated("refused", status=401, hint="Log in again."), 3),
        ("create_chat", Unavailable("cannot reach it", sent=False, hint="Wait."), 1),
    ],
)
def test_an_error_is_one_sentence_and_a_hint(
    run: Run, service: Asked, step: str, error: ServiceError, code: int
) -> None:
    service.fail(step, *[error] * 10)
    done = run("chat", "Hi")
    assert (done.code, done.out) == (code, "")
    assert done.err == f"error: {sentence(error)}\n{error.hint}\n"
    assert service.chats == {}


def test_a_list_of_what_was_tried_is_left_to_the_doctor() -> None:
    assert sentence(NotAuthenticated(NOT_FOUND)) == "no login was found"
    assert sentence(UsageError("one\ntwo")) == "one"
    assert sentence(UsageError("all of these:\n- a\n- b")) == "all of these"
    assert sentence(UsageError("looked at:\n- a: no such file")) == "looked at: a: no such file"


def test_debug_shows_where_an_error_was_raised(run: Run) -> None:
    assert "Traceback" not in run("chat", "Hi", "--top-k", "0").err
    done = run("--debug", "chat", "Hi", "--top-k", "0")
    assert "Traceback (most recent call last)" in done.err
    assert done.err.endswith("error: top_k must be 1 or more\n")


def test_help_lists_the_commands_and_every_exit_code(run: Run) -> None:
    shown = run("--help").out
    for name in ("chat", "sweep", "ledger", "models", "adapters", "doctor", "diagram"):
        assert f" {name} " in shown
    for code, meaning in MEANINGS.items():
        assert re.search(rf" {int(code)}  {re.escape(meaning)}", shown)
    assert set(MEANINGS) == set(Exit)


def test_version_is_the_installed_one(run: Run) -> None:
    assert re.fullmatch(r"chatlease \d+\.\d+\.\d+\n", run("--version").out)


# -- adapters and commands of other packages --------------------------------------------------------------------------


def broken() -> object:
    raise ImportError("no such library")


BROKEN = Plugin("broken", broken, "bad:thing", "bad-package 2.0")


def test_options_reach_an_adapter_that_takes_them_and_no_other() -> None:
    given: dict[str, object] = {}

    def make(url: str = "", cookies: str = "", dialect: str = "") -> FakeService:
        given.update(url=url, cookies=cookies, dialect=dialect)
        return FakeService()

    registry = Registry({"fake": plugin("fake", make)})
    options = ("--url", "http://x", "--cookie-file", "c.txt", "-o", "dialect=server")
    assert run_with(registry, "chat", "Hi", *options).code == 0
    assert given == {"url": "http://x", "cookies": "c.txt", "dialect": "server"}
    refused = run_with(registry, "chat", "Hi", "--proxy", "http://p")
    assert refused.code == 2
    assert refused.err == "error: adapter fake has no option 'proxy'; it has url, cookies, dialect\n"
    assert run_with(registry, "chat", "Hi", "-o", "dialect").code == 2


def test_an_adapter_is_chosen_by_name_where_there_are_several() -> None:
    one, other = FakeService(tokens=["one"]), FakeService(tokens=["other"])
    registry = Registry({"one": plugin("one", lambda: one), "other": plugin("other", lambda: other)})
    assert run_with(registry, "chat", "Hi", "--adapter", "other").out == "other\n"
    unsaid, unknown = run_with(registry, "chat", "Hi"), run_with(registry, "chat", "Hi", "--adapter", "third")
    assert (unsaid.code, unsaid.err.splitlines()[0]) == (2, "error: which adapter? installed: one, other")
    assert (unknown.code, unknown.err) == (2, "error: no adapter 'third' is installed; installed: one, other\n")


def test_open_assistant_is_meant_where_several_are_installed_and_none_is_named() -> None:
    one, default = FakeService(tokens=["one"]), FakeService(tokens=["default"])
    registry = Registry({"one": plugin("one", lambda: one), "open-assistant": plugin("oa", lambda: default)})
    assert run_with(registry, "chat", "Hi").out == "default\n"


def test_a_package_that_cannot_be_imported_spoils_nothing_else(service: Asked) -> None:
    registry = Registry({"fake": plugin("fake", lambda: service), "broken": BROKEN}, {"broken": BROKEN})
    assert run_with(registry, "chat", "Hi", "--adapter", "fake").code == 0
    said = "error: broken of bad-package 2.0 cannot be imported (ImportError: no such library)"
    for arguments in (("chat", "Hi", "--adapter", "broken"), ("broken",)):
        done = run_with(registry, *arguments)
        assert (done.code, done.err.splitlines()[0]) == (2, said)
    listed = json.loads(run_with(registry, "adapters", "--json").out)
    assert [(each["name"], bool(each["problem"])) for each in listed] == [("fake", False), ("broken", True)]
    assert "broken" in run_with(registry, "--help").out


def test_a_command_of_a_package_is_offered_with_its_options_and_exit_code() -> None:
    async def greet(name: str, *, times: int = 1) -> int:
        """Say hello."""
        print(f"hello {name}" * times)
        return 7

    done = run_with(Registry({}, {"greet": plugin("greet", greet)}), "greet", "you", "--times", "2")
    assert (done.code, done.out) == (7, "hello youhello you\n")


def test_the_installed_registry_has_this_packages_adapter_and_commands() -> None:
    registry = installed()
    assert "open-assistant" in registry.adapters
    assert {"demo", "serve"} <= registry.commands.keys()


def test_adapters_are_listed_with_their_package(run: Run) -> None:
    assert re.search(r"^fake +some-package 1.0 +somewhere:fake *$", run("adapters").out, re.MULTILINE)
    assert run_with(Registry(), "adapters").err.splitlines()[0] == "error: no adapter is installed"


def test_models_are_listed_one_a_line_or_as_json(run: Run) -> None:
    assert run("models").out == "fake-1\n"
    assert json.loads(run("models", "--json").out) == ["fake-1"]


# -- doctor -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's state directory, empty, as the place of the ledger."""
    monkeypatch.delenv("CHATLEASE_LEDGER")

    def user_state_path(app: str, *, appauthor: bool) -> Path:
        return tmp_path / "state" / app

    monkeypatch.setattr("platformdirs.user_state_path", user_state_path)
    return tmp_path / "state" / "chatlease"


class Hosted(FakeService):
    """A service at an address, with a login that must not be shown."""

    def __init__(self, origin: str, proxy: str | None = None) -> None:
        super().__init__()
        self.origin = origin
        self._proxy = proxy

    async def ready_cookies(self, account: str | None, rejected: Credential | None) -> Credential:
        await super().ready_cookies(account, rejected)
        return Credential(cookies={"login": SECRET}, headers={"Authorization": f"Bearer {SECRET}"}, proxy=self._proxy)


def checked(service: FakeService, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = run_with(Registry({"fake": plugin("fake", lambda: service)}), "doctor", "--json", *options)
    assert SECRET not in done.out + done.err
    return done.code, {check["name"]: check for check in json.loads(done.out)}


def test_doctor_finds_nothing_wrong(state_folder: Path) -> None:
    code, found = checked(Hosted("fake://here"))
    assert code == 0
    assert {name: check["status"] for name, check in found.items()} == {
        "versions": "ok",
        "extras": "ok",
        "ledger": "ok",
        "adapter": "ok",
        "login": "ok",
        "host": "skipped",
        "models": "ok",
    }
    assert found["login"]["found"] == "found Authorization, login (values are never shown)"
    ledger = state_folder / "ledger.sqlite3"
    assert found["ledger"]["found"] == f"{ledger} can be made; there is none yet (schema {SCHEMA_VERSION})"
    assert not state_folder.parent.exists()


@pytest.mark.usefixtures("state_folder")
def test_doctor_says_where_a_login_was_looked_for() -> None:
    service = FakeService()
    service.fail("ready_cookies", NotAuthenticated(NOT_FOUND, hint="Log in."))
    code, found = checked(service)
    assert (code, found["models"]["status"]) == (3, "skipped")
    assert (found["login"]["found"], found["login"]["do"]) == (NOT_FOUND, "Log in.")


@pytest.mark.usefixtures("state_folder")
def test_doctor_reports_a_refused_login_and_a_broken_service() -> None:
    refused, failing = FakeService(), FakeService()
    refused.fail("models", *[NotAuthenticated("refused", status=403)] * 2)
    failing.fail("models", Unavailable("out of order", status=503))
    assert checked(refused)[0] == 3
    code, found = checked(failing)
    assert (code, found["models"]["found"]) == (1, "out of order")


@pytest.mark.usefixtures("state_folder")
def test_doctor_tries_the_way_to_the_service_by_the_proxy_that_it_will_take() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = f"127.0.0.1:{listening.getsockname()[1]}"
        direct = checked(Hosted(f"http://{here}"))[1]["host"]
        proxied = checked(Hosted("https://nowhere.invalid", f"http://user:{SECRET}@{here}"))[1]["host"]
    code, found = checked(Hosted(f"http://{here}"))
    assert (direct["status"], direct["found"]) == ("ok", f"{here} can be reached")
    assert (proxied["status"], proxied["found"]) == ("ok", f"proxy {here} can be reached")
    assert (code, found["host"]["status"], found["models"]["status"]) == (1, "problem", "skipped")
    assert found["host"]["found"].startswith(f"{here} cannot be reached (")


def test_doctor_reports_a_folder_that_cannot_be_written(state_folder: Path) -> None:
    state_folder.parent.touch()
    code, found = checked(FakeService())
    assert (code, found["ledger"]["status"]) == (1, "problem")
    ledger = state_folder / "ledger.sqlite3"
    assert found["ledger"]["found"] == f"the ledger {ledger} cannot be made: {state_folder.parent}: Not a directory"
    assert found["ledger"]["do"] == LedgerUnavailable.hint


@pytest.mark.parametrize("ledger", ["memory", "none"])
def test_doctor_looks_for_no_folder_where_none_is_needed(monkeypatch: pytest.MonkeyPatch, ledger: str) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", ledger)
    found = checked(FakeService())[1]["ledger"]
    assert (found["status"], found["found"].partition(":")[0]) == ("skipped", f"CHATLEASE_LEDGER is {ledger}")


def test_doctor_reports_a_ledger_that_there_is_not_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", f"nosql://me:{SECRET}@host/db")
    code, found = checked(FakeService())
    assert (code, found["ledger"]["status"]) == (1, "problem")


@pytest.mark.usefixtures("state_folder")
def test_doctor_is_readable(run: Run) -> None:
    lines = run("doctor").out.splitlines()
    assert [line.split()[:2] for line in lines][-5:] == [
        ["ok", "adapter"],
        ["ok", "ledger"],
        ["ok", "login"],
        ["skipped", "host"],
        ["ok", "models"],
    ]


@pytest.mark.usefixtures("state_folder")
def test_doctor_without_an_adapter_checks_the_rest() -> None:
    done = run_with(Registry(), "doctor")
    assert done.code == 1
    assert "problem adapter     which adapter? installed: none" in done.out


# -- diagram ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mermaid", "table", "sequence"])
def test_diagrams_are_printed(run: Run, name: str) -> None:
    expected = {"mermaid": lifecycle(), "table": calls(), "sequence": sequence(asyncio.run(sample_trace()))}
    assert run("diagram", "--format", name).out == expected[name]


def test_diagrams_are_written_into_a_folder(run: Run, tmp_path: Path) -> None:
    done = run("diagram", "--write", str(tmp_path / "diagrams"))
    assert (done.code, done.out) == (0, "")
    assert {path.name for path in (tmp_path / "diagrams").iterdir()} == files([]).keys()


def test_a_session_is_drawn_from_a_trace_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    run("chat", "Hi", "--trace-file", str(path))
    drawn = run("diagram", "--format", "sequence", "--trace", str(path))
    assert drawn.out == sequence(asyncio.run(sample_trace()))
    path.write_text("no trace")
    refused = run("diagram", "--format", "sequence", "--trace", str(path))
    assert (refused.code, refused.err.splitlines()[0]) == (2, f"error: {path} is no trace file")


# -- the terminal -----------------------------------------------------------------------------------------------------


def test_a_services_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\nc\td\x9b1m\x7f") == "a[2Jb\nc\td1m"


def test_an_error_of_the_service_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().error(Unavailable("the service says \x1b]0;owned\x07", hint="\x1b[31mred"))
    assert "\x1b" not in capsys.readouterr().err


def test_a_failed_step_is_shown_by_its_errors_class_and_no_more() -> None:
    keys = {"session": "s", "trigger": "send_prompt", "source": "chat-created", "error": "Rejected", "http_status": 400}
    line = TraceLines().line(TraceEvent("session.transition.failed", 5.0, keys)).plain
    assert line == f"   0.000 s  {'':<17}transition.failed trigger=send_prompt error=Rejected http_status=400"


def test_the_live_line_shows_where_there_is_a_terminal_and_no_answer_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().status("not shown")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    screen.event(Pending(3, 8))
    screen.event(Token("Hello"))
    screen.status("too late")
    screen.close()
    shown = capsys.readouterr()
    assert shown.out == "Hello\n"
    assert "waiting in the queue, place 3 of 8" in shown.err
    assert "too late" not in shown.err


async def read_lines(*writes: bytes) -> list[str | None]:
    reading, writing = os.pipe()
    try:
        lines = Lines(reading)
        for data in writes:
            os.write(writing, data)
        os.close(writing)
        return [await lines.read() for _ in range(4)]
    finally:
        os.close(reading)


async def test_lines_are_given_one_by_one_also_when_they_come_together() -> None:
    assert await read_lines(b"one\n\ntw", b"o\r\n") == ["one", "", "two", None]


async def test_the_last_line_needs_no_end_and_may_hold_anything() -> None:
    assert await read_lines(b"a\n\xff\xc3\xa4") == ["a", "\ufffd\u00e4", None, None]


async def test_lines_of_a_file_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(UsageError, match="terminal"):
        await Lines(file.fileno()).read()


# -- what is imported -------------------------------------------------------------------------------------------------


def python(code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_how_to_install_it(missing: str) -> None:
    done = python(f"import sys; sys.modules[{missing!r}] = None; from chatlease._cli import main; main()")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "chatlease: the command line needs the extra cli: pip install 'chatlease[cli]'\n"


def test_the_engine_does_not_import_the_command_line() -> None:
    """(structlog imports rich where it finds it.)"""
    done = python("import sys, chatlease; print({'typer', 'chatlease._cli'} & sys.modules.keys())")
    assert (done.stdout, done.stderr) == ("set()\n", "")
