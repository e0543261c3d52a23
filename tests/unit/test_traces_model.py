"""The model of a trace: what lines, made by hand, say of sessions, engines and sweeps."""

from __future__ import annotations

import itertools

import pytest

from chatlease._traces import LONGEST_LIST, QUIET_S, UNKNOWN, Failure, SessionTrace, Stay, SweepTrace
from chatlease._traces import _gatherer as gathering

from .trace_kit import HAPPY, START, Gathered, Tale, engine_line


def path(session: SessionTrace) -> list[str]:
    return [stay.state for stay in session.stays()]


# -- a session --------------------------------------------------------------------------------------------------------


def test_a_whole_session_ends_with_its_last_line_and_tells_everything() -> None:
    told = Tale().whole()
    gatherer = Gathered(told.lines)
    (session,) = gatherer.ended
    assert (gatherer.held, gatherer.rest) == (0, [])
    assert path(session) == ["new", *(dest for _, _, dest in HAPPY)]
    assert (session.id, session.service, session.account, session.engine) == ("session-1", "fake", "me", "aaaaaaaa")
    assert (session.model, session.chat, session.begun) == ("fake-1", "chat-1", True)
    assert (session.state, session.status, session.leaked) == ("deleted", "deleted", False)
    assert (session.opened_at, session.closed_at) == (START, START + 1.0)
    assert session.elapsed_s == 1.0
    assert (session.first_token_s, session.token_count, session.queued_s, session.polled) == (0.25, 3, None, False)
    assert [(step.trigger, step.http_status) for step in session.steps] == [(name, 200) for name, _, _ in HAPPY]
    assert (session.errors, session.retries, session.requeues, session.gate_wait_s) == ([], 0, 0, 0.0)


def test_a_stay_lasts_from_the_step_that_led_there_to_the_one_that_led_away() -> None:
    told = Tale().open().step("ready_cookies", "new", "cookies-ready", after=1.0)
    told.step("create_chat", "cookies-ready", "chat-created", after=5.0, elapsed_s=2.0)
    session = Gathered(told.lines).one
    assert session.stays() == [
        Stay("new", START, 1.0),
        Stay("cookies-ready", START + 1, 5.0),
        Stay("chat-created", START + 6, None),
    ]


def test_a_failed_step_leaves_the_state_and_is_an_error() -> None:
    told = Tale().open().steps(last="create_chat").fail("send_prompt", "chat-created", error_code="http-500")
    session = Gathered(told.lines).one
    assert (session.state, session.status) == ("chat-created", "open")
    assert path(session) == ["new", "cookies-ready", "chat-created"]
    failed = session.steps[-1]
    assert (failed.trigger, failed.dest, failed.error, failed.error_code) == (
        *("send_prompt", None),
        *("Unavailable", "http-500"),
    )
    assert session.errors == [Failure(told.at, "Unavailable", "http-500", "send_prompt")]


def test_retries_are_counted_for_the_step_that_they_are_in() -> None:
    told = Tale().open().step("ready_cookies", "new", "cookies-ready")
    for attempt in (1, 2):
        told.say("session.call.retried", trigger="create_chat", attempt=attempt, error="Unavailable", error_code="cut")
    told.step("create_chat", "cookies-ready", "chat-created").steps("send_prompt", "send_prompt")
    session = Gathered(told.lines).one
    assert [step.retries for step in session.steps] == [0, 2, 0]
    assert session.retries == 2
    assert [(each.error_code, each.trigger) for each in session.errors] == [("cut", "create_chat")] * 2


def test_a_deletion_that_is_tried_again_is_one_error_a_try() -> None:
    told = Tale().open().steps(last="send_prompt")
    for attempt in (1, 2):
        told.fail("delete_chat", "prompt-sent")
        told.say(
            "session.call.retried", trigger="delete_chat", attempt=attempt, error="Unavailable", error_code="http-503"
        )
    session = Gathered(told.step("delete_chat", "prompt-sent", "deleted").close().lines).one
    assert (session.retries, len(session.errors)) == (2, 2)
    assert [(step.dest, step.retries) for step in session.steps[3:]] == [(None, 0), (None, 1), ("deleted", 1)]


@pytest.mark.parametrize(("seen", "told_s"), [(True, 2.5), (True, None), (False, 2.5)])
def test_the_wait_for_a_turn_is_counted_once_whoever_tells_of_it(seen: bool, told_s: float | None) -> None:
    told = Tale().open().steps(last="send_prompt")
    if seen:
        told.say("session.gate.waiting")
        assert Gathered(told.lines).one.waiting_since == told.at
        told.say("session.gate.acquired", after=2.5, waited_s=told_s)
    told.step("queue_assistant", "prompt-sent", "assistant-queued", waited_s=told_s)
    session = Gathered(told.lines).one
    assert session.gate_wait_s == 2.5
    assert (session.waiting_since, session.steps[-1].waited_s) == (None, told_s)


def test_several_answers_on_one_chat_add_up_and_the_first_token_is_the_first_ones() -> None:
    told = Tale().open().steps(last="open_stream")
    for number in (1, 2):
        told.say("session.stream.first_token", waited_s=0.5 * number, queued_s=0.25)
        told.say("session.stream.ended", token_count=4, polled=number == 2, elapsed_s=1.0)
    session = Gathered(told.lines).one
    assert (session.first_token_s, session.queued_s, session.token_count, session.polled) == (0.5, 0.5, 8, True)


def test_what_else_goes_wrong_is_told() -> None:
    told = Tale().open().steps(last="open_stream")
    told.say("session.run.requeued", attempt=1).say("session.gate.alone", error="LedgerUnavailable")
    told.say("session.stream.polling", token_count=0, error="Unavailable", error_code="cut")
    told.say("session.stream.failed", token_count=0, error="StreamStalled", error_code="deadline-idle", elapsed_s=60.0)
    told.say("session.cleanup.started", state="streaming", cause="StreamStalled")
    session = Gathered(told.lines).one
    assert (session.requeues, session.polled, session.cause, session.closing_since) == (
        *(1, True),
        *("StreamStalled", told.at),
    )
    assert [each.error for each in session.errors] == ["LedgerUnavailable", "Unavailable", "StreamStalled"]


def test_the_step_in_flight_is_known_where_its_beginning_is_traced() -> None:
    told = Tale().open().say("session.transition.started", trigger="ready_cookies", source="new")
    assert Gathered(told.lines).one.in_flight == "ready_cookies"
    assert Gathered(told.steps(last="ready_cookies").lines).one.in_flight is None


# -- what becomes of a chat -------------------------------------------------------------------------------------------


def test_a_chat_that_was_handed_over_is_left_until_a_sweep_deletes_it() -> None:
    told = Tale().open().steps(last="send_prompt").hand_over()
    left = Gathered(told.lines)
    assert (left.ended, left.held) == ([], 1)
    assert (left.one.state, left.one.status, left.one.leaked, left.one.handed_over) == ("orphaned", "left", True, True)
    told.sweep("chat.failed", error_code="http-503", attempts=3, retry_in_s=5.0)
    failed = Gathered(told.lines).one
    assert (failed.leaked, failed.swept) == (True, SweepTrace("bbbbbbbb", told.at, "failed", 3, "http-503"))
    swept = Gathered(told.sweep("chat.deleted", attempts=4).lines)
    assert swept.held == 0
    assert (swept.one.status, swept.one.leaked) == ("swept", False)
    assert swept.one.swept == SweepTrace("bbbbbbbb", told.at, "deleted", 4)
    assert swept.one.state == "orphaned"


@pytest.mark.parametrize(
    ("outcome", "status"), [("chat.deleted", "swept"), ("entry.absent", "swept"), ("chat.dead", "left")]
)
def test_a_killed_session_keeps_its_last_state_and_who_swept_it(outcome: str, status: str) -> None:
    told = Tale().open().steps(last="open_stream").sweep(outcome, attempts=1)
    session = Gathered(told.lines).one
    assert (session.state, session.closed_at, session.status) == ("streaming", None, status)
    assert session.swept is not None
    assert (session.swept.engine, session.engine) == ("bbbbbbbb", "aaaaaaaa")


def test_a_session_whose_engine_closed_or_fell_silent_is_left_and_of_a_living_one_is_open() -> None:
    told = Tale().open().steps(last="open_stream").lines
    assert Gathered(told).one.status == "open"
    closed = Gathered([*told, engine_line("engine.closed", 9)]).one
    assert (closed.status, closed.gone, closed.leaked) == ("left", True, True)
    later = told[-1]["at"] - START + QUIET_S
    other = engine_line("engine.opened", later, "cccccccc")
    assert Gathered([*told, other]).one.status == "open"
    assert Gathered([*told, engine_line("engine.opened", later + 1, "cccccccc")]).one.leaked


def test_a_stopped_process_that_goes_on_after_its_chat_was_swept_changes_nothing() -> None:
    told = Tale().open().steps(last="open_stream").sweep(attempts=1)
    gathered = Gathered(told.fail("delete_chat", "streaming", error="LeaseLost").hand_over("streaming").lines)
    assert (gathered.one.status, gathered.one.state) == ("swept", "streaming")


def test_the_news_of_a_handing_over_may_come_after_the_sweep() -> None:
    told = Tale().open().steps(last="send_prompt").hand_over()
    late = told.lines.pop()
    assert Gathered([*told.sweep().lines, late]).one.status == "swept"


def test_what_is_traced_behind_the_end_makes_no_session_of_its_own() -> None:
    told = Tale().whole().say("session.cleanup.completed", elapsed_s=0.1, attempts=0)
    told.say("session.cleanup.failed", attempts=1).say("session.cleanup.handed_over", elapsed_s=1, attempts=1)
    assert len(Gathered(told.lines).ended) == 1
    assert Gathered(told.lines).rest == []


# -- what is not seen -------------------------------------------------------------------------------------------------


def test_a_session_whose_beginning_lies_elsewhere_is_gathered_from_where_it_was() -> None:
    told = Tale().whole()
    session = Gathered(told.lines[4:]).one  # its first line is queue_assistant's
    assert (session.begun, session.model, session.status) == (False, "", "deleted")
    assert path(session) == ["prompt-sent", "assistant-queued", "streaming", "deleted"]
    assert session.opened_at == START  # its end says how long it lived
    assert session.stays()[0] == Stay("prompt-sent", START + 0.375, 0.125)


def test_only_its_end() -> None:
    session = Gathered(Tale().whole().lines[-1:]).one
    assert (session.state, session.status, session.begun) == ("deleted", "deleted", False)
    assert path(session) == ["deleted"]


def test_a_sweep_of_a_session_never_heard_of() -> None:
    swept = Gathered(Tale().sweep("chat.deleted", chat="chat-9", attempts=1).lines).one
    assert (swept.state, swept.status, swept.chat, swept.engine, swept.begun) == (UNKNOWN, "swept", "chat-9", "", False)
    assert Gathered(Tale().sweep("chat.dead", attempts=1).lines).one.leaked


def test_a_sweep_may_be_read_before_its_session_where_files_are_read_one_after_the_other() -> None:
    told = Tale().open().steps(last="open_stream").sweep(attempts=1)
    session = Gathered([told.lines[-1], *told.lines[:-1]], in_order=False).one
    assert (session.state, session.status, session.begun) == ("streaming", "swept", True)
    told = Tale().open().steps(last="send_prompt").hand_over().sweep(attempts=1)
    gathered = Gathered([told.lines[-1], *told.lines[:-1]], in_order=False)
    assert (len(gathered.ended), gathered.held, gathered.one.status) == (1, 0, "swept")


def test_steps_that_are_missing_leave_a_stay_without_an_end() -> None:
    told = Tale().open().steps(last="create_chat").steps("open_stream", "open_stream")
    stays = Gathered(told.lines).one.stays()
    assert [(stay.state, stay.seconds is None) for stay in stays] == [
        ("new", False),
        ("cookies-ready", False),
        ("chat-created", True),
        ("assistant-queued", False),
        ("streaming", True),
    ]


def test_a_clock_that_goes_backwards_makes_no_negative_time() -> None:
    told = Tale().open().steps(last="create_chat")
    told.step("send_prompt", "chat-created", "prompt-sent", after=-500.0, elapsed_s=0.25)
    session = Gathered(told.step("delete_chat", "prompt-sent", "deleted").close().lines).one
    assert [stay.seconds for stay in session.stays()] == [
        0.125,
        0.125,
        0.0,
        0.125,
        None,
    ]
    assert session.elapsed_s == 0.0
    assert all(step.elapsed_s >= 0 for step in session.steps)


def test_two_engines_in_one_file_are_told_apart() -> None:
    first, second = Tale("s-1", engine="aaaaaaaa").whole(), Tale("s-2", 0.05, engine="bbbbbbbb", account="you").whole()
    opened = [engine_line("engine.opened", -1), engine_line("engine.opened", -0.5, "bbbbbbbb", pid=4712)]
    lines = sorted([*opened, *first.lines, *second.lines], key=lambda line: line["at"])
    gathered = Gathered(lines)
    assert [(each.id, each.engine, each.account) for each in gathered.ended] == [
        ("s-1", "aaaaaaaa", "me"),
        ("s-2", "bbbbbbbb", "you"),
    ]
    assert all(path(session)[-1] == "deleted" and len(session.steps) == 6 for session in gathered.ended)
    assert {each.id: each.pid for each in gathered.gatherer.engines.values()} == {"aaaaaaaa": 4711, "bbbbbbbb": 4712}
    assert gathered.gatherer.engines["aaaaaaaa"].opened_at == START - 1


def test_keys_and_events_that_are_not_known_are_passed_over() -> None:
    told = Tale().whole()
    strange = told.lines[0] | {"event": "session.dreamt", "dream": {"deep": [1, 2]}}
    gathered = Gathered([strange, *(line | {"colour": None} for line in told.lines)])
    assert (len(gathered.ended), gathered.counts.broken, gathered.counts.good) == (1, 0, len(told.lines) + 1)


def test_lines_that_lack_what_they_need_do_no_harm() -> None:
    """An event's keys may be of another version's mind: nothing is made of such a line."""
    events = [name for name in gathering._TAKERS if name != "engine.opened"]
    bare = [{"v": 1, "at": START, "event": event, "engine": "aaaaaaaa"} for event in events]
    assert Gathered(bare).rest == []
    sessions = Gathered([line | {"session": "s"} for line in bare])
    assert [each.id for each in [*sessions.ended, *sessions.rest]] == ["s"]


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_too_many_open_sessions_let_go_of_the_oldest_as_open() -> None:
    lines = [Tale(f"s-{number}", number).open().lines[0] for number in range(250)]
    gathered = Gathered(lines, hold=100)
    assert 90 <= gathered.held <= 100
    assert gathered.gatherer.let_go == len(gathered.ended) == 250 - gathered.held
    assert {each.status for each in gathered.ended} == {"open"}
    assert [each.id for each in [*gathered.ended, *gathered.rest]] == [f"s-{number}" for number in range(250)]


def test_the_steps_that_are_held_are_bounded_too() -> None:
    tales = [Tale(f"s-{number}", number * 10).open() for number in range(20)]
    for _, told in itertools.product(range(5), tales):
        told.fail("send_prompt", "chat-created")
    gathered = Gathered((line for told in tales for line in told.lines), hold=20)
    assert 0 < gathered.gatherer.let_go <= 4
    held = sum(len(each.steps) + len(each.errors) for each in gathered.rest)
    assert 8 * 20 - 20 <= held <= 8 * 20


def test_of_a_session_with_very_many_steps_the_middle_is_left_out_and_counted() -> None:
    told = Tale().open().steps(last="open_stream")
    for _ in range(LONGEST_LIST):
        told.step("send_prompt", "streaming", "prompt-sent").fail("queue_assistant", "prompt-sent")
    session = Gathered(told.lines).one
    assert (len(session.steps), len(session.errors)) == (LONGEST_LIST, LONGEST_LIST)
    assert (session.steps_left_out, session.errors_left_out) == (LONGEST_LIST + 5, 0)
    assert [step.trigger for step in session.steps[:2]] == ["ready_cookies", "create_chat"]
    assert session.steps[-1].at == told.at


def test_sessions_that_ended_make_room() -> None:
    """However many there were, what counts is what is held now."""
    lines = [line for number in range(100) for line in Tale(f"s-{number}", number * 5).whole().lines]
    left = [line for number in range(50) for line in Tale(f"l-{number}", number).open().steps().sweep().lines]
    gathered = Gathered([*lines, *left], hold=3)
    assert (gathered.gatherer.let_go, len(gathered.ended), gathered.held) == (0, 150, 0)
    assert gathered.gatherer._items == 0


def test_lines_that_the_writer_lost_are_counted() -> None:
    assert Gathered([engine_line("trace.lost", count=7, error_code="ENOSPC")]).gatherer.lost == 7
