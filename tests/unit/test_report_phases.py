"""Where a session's time went: its phases follow one another, and the waits are cut out of the states."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from chatlease._lifecycle import FINAL, State
from chatlease._report._phases import ORDER, WAITS, phases

from .trace_kit import START, Gathered, Tale


def phases_of(tale: Tale, ends: float | None = None, until: float | None = None) -> list[tuple[str, float]]:
    """Return a session's phases and how long each took; checks that they follow one another without a gap."""
    session = Gathered(tale.lines).one
    last = session.last_at if session.closed_at is None else session.closed_at
    found = phases(session, last if ends is None else START + ends, last if until is None else START + until)
    for one, other in pairwise(found):
        assert one.until == other.since
    return [(each.name, round(each.until - each.since, 6)) for each in found]


def test_a_whole_session_is_in_each_state_until_it_leaves_it() -> None:
    tale = Tale().whole()
    assert phases_of(tale) == [
        ("new", 0.125),
        ("cookies-ready", 0.125),
        ("chat-created", 0.125),
        ("prompt-sent", 0.125),
        ("assistant-queued", 0.125),
        ("first-token", 0.25),
        ("giving-back", 0.125),
    ]
    assert sum(seconds for _, seconds in phases_of(tale)) == tale.at - START


def test_waiting_for_the_turn_is_no_part_of_the_state_that_it_happens_in() -> None:
    tale = Tale().open().steps(last="send_prompt")
    tale.say("session.gate.waiting", after=0.0).say("session.gate.acquired", after=2.0, waited_s=2.0)
    tale.step("queue_assistant", "prompt-sent", "assistant-queued", after=0.5, elapsed_s=2.5, waited_s=2.0)
    assert phases_of(tale)[3:5] == [("turn", 2.0), ("prompt-sent", 0.5)]


def test_a_session_that_still_waits_for_the_turn_is_seen_waiting() -> None:
    tale = Tale().open().steps(last="send_prompt").say("session.gate.waiting", after=0.5)
    assert phases_of(tale, ends=5.0)[3:] == [("prompt-sent", 0.5), ("turn", 4.125)]


def test_tokens_are_streamed_after_the_first_one_was_waited_for() -> None:
    tale = Tale().open().steps(last="open_stream").say("session.stream.first_token", after=1.0, waited_s=1.0)
    tale.say("session.stream.ended", after=3.0, token_count=9)
    tale.step("delete_chat", "streaming", "deleted", after=0.25).close()
    assert phases_of(tale)[-3:] == [("first-token", 1.0), ("streaming", 3.0), ("giving-back", 0.25)]


def test_giving_back_begins_with_the_first_of_the_last_steps_that_are_all_cleanup() -> None:
    tale = Tale().open().steps(last="open_stream").say("session.stream.first_token", after=0.0, waited_s=0.0)
    tale.step("stop_run", "streaming", "stopped", after=1.0)  # to ask again: that is no giving back
    tale.step("send_prompt", "stopped", "prompt-sent", after=1.0)
    tale.fail("delete_chat", "prompt-sent", after=4.0).say("session.call.retried", after=2.0)
    tale.step("delete_chat", "prompt-sent", "deleted", after=0.5).close()
    assert phases_of(tale)[-3:] == [("streaming", 1.0), ("stopped", 1.0), ("giving-back", 6.5)]


def test_a_chat_is_left_from_its_end_until_it_is_swept() -> None:
    tale = Tale().open().steps(last="send_prompt").hand_over().sweep(after=60.0)
    assert phases_of(tale)[-2:] == [("giving-back", 0.125), ("left", 60.0)]


def test_a_chat_that_nobody_swept_is_left_until_the_trace_ends() -> None:
    tale = Tale().open().steps(last="send_prompt").hand_over()
    assert phases_of(tale, until=100.0)[-1] == ("left", 100.0 - 0.5)


def test_a_sweep_that_failed_ends_nothing() -> None:
    tale = Tale().open().steps(last="send_prompt").hand_over().sweep("chat.failed", after=5.0)
    assert phases_of(tale, until=100.0)[-1] == ("left", 100.0 - 0.5)


def test_a_session_that_is_open_is_in_its_state_until_the_trace_ends() -> None:
    assert phases_of(Tale().open().steps(last="create_chat"), ends=9.0)[-1] == ("chat-created", 8.75)


def test_what_was_not_seen_has_no_phase() -> None:
    tale = Tale().step("queue_assistant", "prompt-sent", "assistant-queued", elapsed_s=0.0625)
    tale.step("delete_chat", "streaming", "deleted", after=1.0, elapsed_s=0.5).close()
    session: Any = Gathered(tale.lines).one
    found = phases(session, tale.at, tale.at)
    assert {each.name for each in found} <= {"prompt-sent", "streaming", "giving-back"}
    assert sum(each.until - each.since for each in found) < 1.0


def test_every_phase_that_there_can_be_has_its_place() -> None:
    assert sorted(ORDER) == sorted([*(state.value for state in State if state not in FINAL), *WAITS])
