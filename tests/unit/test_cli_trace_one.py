"""``chatlease trace --session`` and ``--compare``: one session as a timeline, two beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatlease._cli._exits import Exit

from .test_cli_trace import run
from .trace_kit import START, Tale, engine_line, write

ONE = "01a1fc04-ecc4-7e70-9b29-52d16396205d"
OTHER = "01a1fc04-ecc4-7e70-9b29-111111111111"


def told() -> Tale:
    """A session that waits, retries, fails, and is handed over."""
    tale = Tale(ONE).open().step("ready_cookies", "new", "cookies-ready", http_status=None)
    tale.say("session.call.retried", trigger="create_chat", attempt=1, error="Unavailable", error_code="dns")
    tale.step("create_chat", "cookies-ready", "chat-created", after=2.0).steps("send_prompt", "send_prompt")
    tale.say("session.gate.waiting", waits_for="slot").say("session.gate.acquired", after=1.5, waited_s=1.5)
    tale.step("queue_assistant", "prompt-sent", "assistant-queued", waited_s=1.5)
    tale.step("open_stream", "assistant-queued", "streaming")
    tale.say("session.stream.first_token", waited_s=0.75, queued_s=0.25)
    tale.say("session.stream.ended", token_count=5, polled=True, elapsed_s=1.0)
    tale.fail("delete_chat", "streaming", error_code="http-500", http_status=500)
    return tale.hand_over("streaming")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    engines = [engine_line("engine.opened", -2), engine_line("engine.opened", -1, "bbbbbbbb", pid=4712, host="there")]
    swept = told().sweep("chat.deleted", attempts=3)
    return write(tmp_path / "t", engines, swept, Tale(OTHER, 0.5, account="you").whole())


def test_one_session_as_a_timeline(trace: Path) -> None:
    done = run("trace", trace, "--session", "52d16396205d")
    assert (done.code, done.err) == (Exit.OK, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == f"session {ONE}"
    assert lines[1] == "service fake, account me, model fake-1, chat chat-1, engine aaaaaaaa (process 4711 on here)"
    assert lines[3] == (
        "lived 4.750 s, waited for the account's turn 1.500 s, in the service's queue 0.250 s,"
        " first token after 0.750 s, tokens 5 (looked at, not streamed), retries 1"
    )
    states = lines[lines.index("since state for") + 1 :][:7]
    assert [state.rstrip(" #") for state in states] == [
        "0.000 s new 0.125 s",
        "0.125 s cookies-ready 2.125 s",
        "2.250 s chat-created 0.125 s",
        "2.375 s prompt-sent 1.750 s",
        "4.125 s assistant-queued 0.125 s",
        "4.250 s streaming 0.500 s",
        "4.750 s orphaned",
    ]
    assert states[1].count("#") == round(24 * 2.125 / 4.75)
    steps = lines[lines.index("ended step took status to") + 1 :][:7]
    assert steps == [
        "0.125 s ready_cookies 0.125 s - cookies-ready",
        "2.250 s create_chat 2.000 s 200 chat-created 1 retried",
        "2.375 s send_prompt 0.125 s 200 prompt-sent",
        "4.125 s queue_assistant 0.125 s 200 assistant-queued waited 1.500 s for the account's turn",
        "4.250 s open_stream 0.125 s 200 streaming",
        "4.625 s delete_chat 0.125 s 500 failed Unavailable http-500",
        "4.750 s hand_over 0.125 s - orphaned",
    ]
    errors = lines[lines.index("at error in") + 1 :][:2]
    assert errors == ["0.250 s Unavailable dns create_chat", "4.625 s Unavailable http-500 delete_chat"]
    assert lines[-1].startswith("its chat was swept by engine bbbbbbbb (process 4712 on there) at 20")
    assert lines[-1].endswith(", try 3")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "it is open, in streaming"),
        (["close"], "its chat is left: its engine is gone, in streaming"),
        (["chat.failed"], "its chat is left: sweeping it failed (http-500) by engine bbbbbbbb at "),
        (["chat.dead"], "its chat is left, a dead letter (http-500): sweeping was tried by engine bbbbbbbb at "),
        (["entry.absent"], "it never had a chat, as was found by engine bbbbbbbb at "),
        (["chat.deleted"], "its chat was swept by engine bbbbbbbb at "),
    ],
)
def test_what_became_of_a_session_is_its_last_line(more: list[str], says: str, tmp_path: Path) -> None:
    tale = Tale(ONE).open().steps(last="open_stream")
    for each in more:
        if each != "close":
            tale.sweep(each, error_code="http-500", attempts=2)
    closed = [engine_line("engine.closed", 500)] if more == ["close"] else []
    last = run("trace", write(tmp_path / "t", tale, closed), "--session", ONE).out.splitlines()[-1]
    assert last.startswith(says)
    assert last.endswith("try 2; it was last seen in streaming") == (more not in ([], ["close"]))


def test_a_killed_session_is_shown_with_its_step_in_flight(tmp_path: Path) -> None:
    tale = Tale(ONE).open().steps(last="create_chat")
    tale.say("session.transition.started", trigger="send_prompt", source="chat-created")
    path = write(tmp_path / "t", tale.sweep(attempts=1))
    assert run("trace", path, "--session", ONE).out.endswith(
        "it was last seen in chat-created, send_prompt in flight\n"
    )


def test_the_middle_of_very_many_steps_is_left_out_and_said(tmp_path: Path) -> None:
    tale = Tale(ONE).open()
    for _ in range(600):
        tale.fail("send_prompt", "chat-created")
    done = run("trace", write(tmp_path / "t", tale), "--session", ONE)
    assert "100 steps are left out here" in done.out
    assert "100 more" in done.out


def test_a_session_whose_beginning_was_not_seen_says_so(tmp_path: Path) -> None:
    done = run("trace", write(tmp_path / "t", Tale(ONE).whole().lines[3:]), "--session", ONE)
    assert "opened before this trace begins; known since " in done.out


# -- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ONE, "52d1", "5d", ONE[:-12] + "5"])
def test_a_session_is_named_by_its_beginning_or_its_end(name: str, trace: Path) -> None:
    if name == "52d1":  # neither its beginning nor its end
        done = run("trace", trace, "--session", name)
        assert done.code == Exit.USAGE
        assert done.err.startswith("error: no session's id begins or ends with '52d1'\n`chatlease trace FILE` lists")
        return
    assert f"session {ONE}" in run("trace", trace, "--session", name).out


@pytest.mark.parametrize("name", ["01a1fc04", ""])
def test_a_name_that_fits_several_is_refused(name: str, trace: Path) -> None:
    done = run("trace", trace, "--session", name)
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert not name or f"2 sessions' ids begin or end with '01a1fc04'\nWhich? {OTHER}, {ONE}" in done.err


def test_a_whole_id_is_meant_though_others_begin_with_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t", *(Tale(name, at).whole() for at, name in enumerate(["abc", "ab", "abcd"])))
    assert run("trace", path, "--session", "ab").out.startswith("session ab\n")


def test_a_name_that_fits_very_many_holds_few_of_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t", *(Tale(f"s-{number:03}", number).open() for number in range(150)))
    done = run("trace", path, "--session", "s-")
    assert done.code == Exit.USAGE
    assert "100 sessions' ids or more begin or end with 's-'" in done.err
    assert "session s-149\n" in run("trace", path, "--session", "s-149").out
    late = write(
        tmp_path / "u", *(Tale(f"x{number:03}", number).whole() for number in range(120)), Tale("x", 200).open()
    )
    assert "session x\n" in run("trace", late, "--session", "x").out


# -- two --------------------------------------------------------------------------------------------------------------


def test_two_beside_each_other_state_by_state(trace: Path) -> None:
    done = run("trace", trace, "--compare", "52d16396205d", "111111111111")
    assert (done.code, done.err) == (Exit.OK, "")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in done.out.splitlines()]
    cells = {row[0]: row[1:] for row in rows}
    assert rows[0] == ["52d16396205d", "111111111111", "difference"]
    assert cells["account"] == ["me", "you", "differs"]
    assert cells["service"] == ["fake", "fake"]
    assert cells["state"] == ["orphaned swept", "deleted", "differs"]
    assert cells["errors"] == ["Unavailable dns, Unavailable http-500", "-", "differs"]
    assert cells["in cookies-ready"] == ["2.125 s", "0.125 s", "-2.000 s"]
    assert cells["in new"] == ["0.125 s", "0.125 s", "+0.000 s"]
    assert cells["waiting for the turn"] == ["1.500 s", "-"]
    assert cells["until the first token"] == ["0.750 s", "0.250 s", "-0.500 s"]
    assert cells["all in all"] == ["4.750 s", "1.000 s", "-3.750 s"]
    assert cells["tokens"] == ["5", "3", "-2"]
    assert cells["retries"] == ["1", "0", "-1"]
    assert cells["queued again"] == ["0", "0"]
    states = [row[0] for row in rows if row[0].startswith("in ")]
    assert states[:6] == [
        *("in new", "in cookies-ready", "in chat-created"),
        *("in prompt-sent", "in assistant-queued", "in streaming"),
    ]


def test_as_objects(trace: Path) -> None:
    one = json.loads(run("trace", trace, "--json", "--session", ONE).out)
    both = json.loads(run("trace", trace, "--json", "--compare", ONE, OTHER).out)
    assert [each["session"] for each in both] == [ONE, OTHER]
    assert both[0] == one
    assert one["opened_at"] == START


def test_one_or_two_and_not_followed(trace: Path) -> None:
    for more in (
        ["-f", "--session", ONE],
        ["-f", "--compare", ONE, OTHER],
        ["--session", ONE, "--compare", ONE, OTHER],
    ):
        done = run("trace", trace, *more)
        assert (done.code, done.out) == (Exit.USAGE, "")
    assert run("trace", "-", "-f").code == run("trace", trace, trace, "-f").code == Exit.USAGE
