"""`assert_path`: what it accepts, and that what it says of another path can be read."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import EllipsisType
from typing import Any

import pytest

from chatlease import Engine, State, TraceEvent, TraceFile
from chatlease.errors import Rejected, Unavailable
from chatlease.testing import CapturedTrace, FakeService, ManualClock, assert_path, capture_trace, read_trace

HAPPY = ("cookies-ready", "chat-created", "prompt-sent", "assistant-queued", "streaming", "deleted")


def walked(*states: str, session: str = "s") -> CapturedTrace:
    """Return the trace of a made-up session."""
    keys = [{"session": session}] + [
        {"session": session, "trigger": "go", "source": a, "dest": b, "elapsed_s": 0.0}
        for a, b in pairwise(("new", *states))
    ]
    names = ["session.opened"] + ["session.transition.completed"] * len(states)
    return CapturedTrace(TraceEvent(name, 0.0, each) for name, each in zip(names, keys, strict=True))


@pytest.fixture
async def trace(engine: Engine) -> CapturedTrace:
    """The trace of a session in which nothing goes wrong."""
    with capture_trace(engine) as trace:
        await engine.ask("one two").text()
    return trace


# -- what agrees ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "states",
    [
        HAPPY,
        ("new", *HAPPY),
        tuple(State(name) for name in HAPPY),
        (...,),
        (..., "deleted"),
        ("cookies-ready", ..., "deleted"),
        ("cookies-ready", ...),
        ("new", ..., "streaming", ...),
        (..., ..., State.CHAT_CREATED, ..., "prompt-sent", ..., "deleted", ...),
    ],
    ids=repr,
)
def test_a_path_may_be_spelled_in_many_ways(trace: CapturedTrace, states: Sequence[str | EllipsisType]) -> None:
    assert_path(trace, *states)


@pytest.mark.parametrize(
    "states",
    [
        HAPPY[:-1],
        HAPPY[1:],
        (*HAPPY, "deleted"),
        ("deleted",),
        ("cookies-ready", "deleted"),
        ("cookies-ready", ..., "orphaned"),
        (..., "orphaned", ...),
        ("new", "new", ...),
        (..., "streaming", "streaming", ...),
        (..., "streaming", ..., "assistant-queued", ...),
    ],
    ids=repr,
)
def test_another_path_does_not_agree(trace: CapturedTrace, states: Sequence[str | EllipsisType]) -> None:
    with pytest.raises(AssertionError, match="took another path than expected"):
        assert_path(trace, *states)


def test_ellipses_are_laid_as_a_plain_search_would_lay_them() -> None:
    """The same answer as trying out every way, on a few thousand random paths."""

    def fits(taken: Sequence[str], expected: Sequence[str | EllipsisType]) -> bool:
        if not expected:
            return not taken
        if expected[0] is ...:
            return any(fits(taken[at:], expected[1:]) for at in range(len(taken) + 1))
        return bool(taken) and taken[0] == expected[0] and fits(taken[1:], expected[1:])

    rng, fitted = random.Random(1), 0
    for _ in range(3000):
        taken = rng.choices(["stopped", "streaming"], k=rng.randint(1, 6))
        pieces: list[str | EllipsisType] = ["stopped", "streaming", ...]
        expected = ["new", *rng.choices(pieces, k=rng.randint(0, 5))]
        agrees = fits(["new", *taken], expected)
        fitted += agrees
        try:
            assert_path(walked(*taken), *expected)
        except AssertionError:
            assert not agrees
        else:
            assert agrees
    assert 300 < fitted < 2700


def test_a_step_that_failed_is_no_part_of_the_path_and_a_run_queued_again_is() -> None:
    again = ("assistant-queued", "streaming", "assistant-queued", "streaming")
    assert_path(walked(*HAPPY[:3], *again, "deleted"), *HAPPY[:3], *again, "deleted")
    with pytest.raises(AssertionError):
        assert_path(walked(*HAPPY[:3], *again, "deleted"), *HAPPY)


# -- which session ----------------------------------------------------------------------------------------------------


async def test_one_of_several_sessions_is_named_by_itself_or_by_its_id(engine: Engine) -> None:
    with capture_trace(engine) as trace:
        first, second = engine.session(prompt="one"), engine.session(prompt="two")
        await first.step()
        for _ in range(6):
            await second.step()
        assert_path(trace, "cookies-ready", session=first)
        assert_path(trace, ..., "deleted", session=second.id)
        with pytest.raises(ValueError, match=rf"several sessions, say which .*\n    {first.id}  new > cookies-ready\n"):
            assert_path(trace, ..., "deleted")
        with pytest.raises(AssertionError, match=rf"session nobody left no trace; there are:\n    {first.id}"):
            assert_path(trace, ..., "deleted", session="nobody")
        await first.aclose()


def test_no_session_is_no_path() -> None:
    with pytest.raises(AssertionError, match="no session left a trace"):
        assert_path(CapturedTrace(), ...)


async def test_a_session_whose_first_step_failed_is_new(engine: Engine, service: FakeService) -> None:
    service.fail("ready_cookies", Unavailable("out of order", status=503))
    with capture_trace(engine) as trace:
        with pytest.raises(Unavailable):
            await engine.session().ready_cookies()
        assert_path(trace, "new")


# -- a trace file -----------------------------------------------------------------------------------------------------


async def test_a_trace_file_is_as_good_as_a_trace(service: FakeService, clock: ManualClock, tmp_path: Path) -> None:
    path, captured = tmp_path / "trace.jsonl", CapturedTrace()
    file = TraceFile(path)
    async with Engine(service, clock=clock, hooks=[file, captured.append]) as engine:
        await engine.ask("one").text()
    file.close()
    with path.open("ab") as lines:
        lines.write(b'\n{"event":"session.closed"}\n[1]\n\xff\n{"v":1,"at":1.0,"event":"session.op')
    assert_path(path, *HAPPY)
    assert_path(str(path), *HAPPY)
    told = [event.event for event in read_trace(path)]
    assert told
    assert set(told) <= set(captured.names())


LINE = b'{"v":1,"at":1.0,"event":"session.opened","session":"s"}\n'


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LINE.replace(b'"s"', b"[" * 20_000 + b"]" * 20_000), id="deep"),
        pytest.param(LINE.replace(b'"v":1', b'"v":2'), id="newer"),
        pytest.param(LINE.replace(b'"v":1', b'"v":"1"'), id="no version"),
        pytest.param(LINE.replace(b"1.0", b"1" * 400), id="no time"),
    ],
)
def test_a_line_that_cannot_be_read_or_is_newer_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(LINE + line + LINE)
    assert read_trace(path).names() == ["session.opened"] * 2


def test_a_gzipped_trace_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.1.gz"
    path.write_bytes(gzip.compress(LINE * 3))
    assert read_trace(path).sessions() == ["s"]
    assert len(read_trace(path)) == 3
    path.write_bytes(gzip.compress(LINE) + b"no gzip")
    assert read_trace(path).names() == ["session.opened"]


def test_a_trace_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "trace.jsonl")


# -- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cookie-ready", "there is no state 'cookie-ready'; did you mean 'cookies-ready'"),
        ("CHAT_CREATED", "there is no state 'CHAT_CREATED'; did you mean 'chat-created'?"),
        ("assistant", "there is no state 'assistant'; did you mean 'assistant-queued'?"),
        ("xyz", "there is no state 'xyz'; there are new, cookies-ready, chat-created, prompt-sent, "),
    ],
)
def test_a_state_that_there_is_not_is_a_mistake_of_the_test(trace: CapturedTrace, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        assert_path(trace, ..., name)


@pytest.mark.parametrize("state", [5, None, ["deleted"]], ids=repr)
def test_what_cannot_be_a_state_is_named(trace: CapturedTrace, state: Any) -> None:
    with pytest.raises(TypeError) as caught:
        assert_path(trace, ..., state)
    assert str(caught.value) == f"a state is a State, its spelling in traces, or ...; {state!r} is none"


@pytest.mark.parametrize(
    ("event", "keys", "message"),
    [
        ("completed", {"session": "s", "trigger": "go"}, "its 'dest' is None"),
        ("completed", {"session": "s", "dest": "deleted"}, "its 'trigger' is None"),
        ("failed", {"session": "s"}, "its 'trigger' is None"),
        ("completed", {"session": ["s"], "trigger": "go", "dest": "deleted"}, r"its 'session' is \['s'\]"),
    ],
)
def test_an_event_that_cannot_be_one_is_named(event: str, keys: dict[str, Any], message: str) -> None:
    trace = [TraceEvent(f"session.transition.{event}", 7.0, keys)]
    with pytest.raises(ValueError, match=f"session.transition.{event} at 7 is no event of a session: {message}"):
        assert_path(trace, ..., "deleted")


def test_a_time_that_is_none_is_no_reason_to_fail() -> None:
    trace = walked("deleted")
    trace[-1].keys["elapsed_s"] = None
    assert_path(trace, "deleted")


def test_no_state_at_all_is_a_mistake_of_the_test(trace: CapturedTrace) -> None:
    with pytest.raises(ValueError, match="name at least one state"):
        assert_path(trace)


async def test_both_paths_are_shown_beside_each_other_and_the_first_difference_is_marked(
    engine: Engine, service: FakeService, clock: ManualClock
) -> None:
    service.fail("open_stream", Unavailable("out of order", status=503))
    service.fail("delete_chat", Rejected("no", status=400))
    with capture_trace(engine) as trace:
        with pytest.raises(Unavailable):
            await engine.ask("one").text()
        [session] = trace.sessions()
        with pytest.raises(AssertionError) as caught:
            assert_path(trace, "cookies-ready", ..., "deleted")
    assert str(caught.value).splitlines() == [
        f"session {session} took another path than expected",
        "",
        "    expected            taken",
        "    cookies-ready       cookies-ready       ready_cookies             0.0 ms",
        "    ...                 chat-created        create_chat      200      0.0 ms",
        "                        prompt-sent         send_prompt      200      0.0 ms",
        "                        assistant-queued    queue_assistant  200      0.0 ms",
        "                          open_stream failed after 0.0 ms: Unavailable (http-503), HTTP 503",
        "                        stopped             stop_run         200      0.0 ms",
        "                          delete_chat failed after 0.0 ms: Rejected (http-400), HTTP 400",
        "  > deleted             orphaned            hand_over                 0.0 ms",
    ]
    await engine.sweep()


@pytest.mark.parametrize(
    ("expected", "marked"),
    [
        (("cookies-ready",), "  > (no more)           chat-created"),
        ((*HAPPY[:2], "deleted"), "  > deleted             (no more: the session is still open)"),
        (("chat-created", ...), "  > chat-created        cookies-ready"),
        ((..., "stopped", ..., "chat-created"), "  > stopped             cookies-ready"),
        (("new", "cookies-ready", ..., "deleted"), "  > deleted             chat-created"),
    ],
)
def test_the_mark_stands_at_the_first_difference(expected: Sequence[str | EllipsisType], marked: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_path(walked("cookies-ready", "chat-created"), *expected)
    lines = str(caught.value).splitlines()
    [line] = [line for line in lines if line.startswith("  >")]
    assert line.startswith(marked)


def test_a_failure_before_the_first_expected_state_is_shown_too() -> None:
    trace = walked("cookies-ready")
    keys = {"session": "s", "trigger": "ready_cookies", "source": "new", "elapsed_s": 30.0, "error": "Unavailable"}
    trace.insert(1, TraceEvent("session.transition.failed", 0.0, keys))
    with pytest.raises(AssertionError, match=r"ready_cookies failed after 30\.000 s: Unavailable\n"):
        assert_path(trace, "cookies-ready", "chat-created")
