"""The crash harness's oracle sees what it is for, and nothing else."""

from __future__ import annotations

import pytest

from tests.crash.oracle import Entry, Oracle, Page
from tests.crash.verdict import Verdict

OWNER, SWEEPER = "w1/owner", "w2/sweep"


def read(*entries: tuple[str, str, str], at: float = 0.0) -> Oracle:
    """Let an oracle read the story of one chat: actor, step and effect, a second each."""
    oracle = Oracle()
    story = [("w1/owner", "create_chat", "created"), *entries]
    oracle.take(
        Page(
            0, [Entry(n, at + n, step, "chat", actor, 200, effect, "") for n, (actor, step, effect) in enumerate(story)]
        )
    )
    return oracle


SWEPT = (SWEEPER, "delete_chat", "deleted")
USED = (OWNER, "send_prompt", "")
CLEANED_UP = (OWNER, "delete_chat", "")
CONFIRMED = (OWNER, "read_chat", "")


@pytest.mark.parametrize("request_", [USED, CLEANED_UP, CONFIRMED])
def test_a_living_owner_that_meets_its_chat_swept_is_hurt(request_: tuple[str, str, str]) -> None:
    (hurt,) = read(SWEPT, request_).judge({}, ())[0]
    assert (hurt.owner, hurt.sweeper, hurt.step) == ("w1", "w2", request_[1])


def test_an_owner_that_was_dead_before_is_not_hurt() -> None:
    oracle = read(SWEPT, USED)
    assert not oracle.judge({"w1": 0.5}, ())[0]
    assert oracle.judge({"w1": 1.5}, ())[0]


def test_an_owner_that_was_stopped_too_long_may_make_one_request_more() -> None:
    assert not read(SWEPT, USED).judge({}, {"w1"})[0]
    assert not read(SWEPT, CLEANED_UP, CONFIRMED).judge({}, {"w1"})[0]
    assert len(read(SWEPT, USED, CLEANED_UP).judge({}, {"w1"})[0]) == 1


@pytest.mark.parametrize(
    "story",
    [
        [(OWNER, "delete_chat", "deleted"), CLEANED_UP, (SWEEPER, "delete_chat", "")],
        [USED, SWEPT, (SWEEPER, "read_chat", ""), ("w3/sweep", "delete_chat", "")],
    ],
)
def test_nobody_is_hurt_by_what_happens_in_order(story: list[tuple[str, str, str]]) -> None:
    assert not read(*story).encounters


def test_sweepers_are_counted_and_what_they_meet_as_gone() -> None:
    oracle = read(SWEPT, (SWEEPER, "delete_chat", ""))
    assert (oracle.counts["swept"], oracle.counts["gone"]) == (1, 1)


def test_a_chat_is_forgotten_a_while_after_its_deletion() -> None:
    oracle = read(SWEPT)
    oracle.take(Page(0, [Entry(9, 9.0, "list_chats", "", SWEEPER, 200, "done", "")]))
    assert oracle.held == 1
    oracle.take(Page(0, [Entry(10, 1000.0, "list_chats", "", SWEEPER, 200, "done", "")]))
    assert oracle.held == 0


def test_a_run_that_left_nothing_is_green_but_must_have_seen_everything() -> None:
    verdict = Verdict(seed=1)
    assert not [*verdict.broken()]
    assert len(verdict.never_seen(["sweep.claimed"])) == 7
    verdict.failpoints["sweep.claimed"] += 1
    assert len(verdict.never_seen(["sweep.claimed"])) == 6


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(seed=1, left=1),
        Verdict(seed=1, messages_lost=1),
        Verdict(seed=1, foreign_lost=1),
        Verdict(seed=1, unfinished=1),
        Verdict(seed=1, undeleted=1),
        Verdict(seed=1, stopped=2, lost_leases=1),
        Verdict(seed=1, unexpected=["Traceback"]),
        Verdict(seed=1, hurt=read(SWEPT, USED).encounters),
    ],
)
def test_whatever_should_not_have_happened_makes_a_run_red(verdict: Verdict) -> None:
    assert len([*verdict.broken()]) == 1
