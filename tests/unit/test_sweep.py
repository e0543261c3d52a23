"""The sweeper's rules that need no service: how long to wait, when to give up, and which chats are whose."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from chatlease._sweep import Match, Sweep, clock_ahead, is_hopeless, is_outage, match, ready_at, retry_in
from chatlease.adapter import ChatListing
from chatlease.errors import NotAuthenticated, ProtocolChanged, RateLimited, Rejected, Unavailable, UsageError
from chatlease.ledger import Entry, Known

SWEEP = Sweep()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
T0 = NOON.timestamp()
DEAD = Entry(id="dead", service="s", origin="o", account="a", intent_at=T0, create_deadline=T0 + 300, orphaned_at=T0)


def known(*chats: str, living: tuple[float, ...] = ()) -> Known:
    return Known(frozenset(chats), living, T0 + 2000)


def empty(chat: str, at: float | None = 10.0, key: str | None = None, *, is_empty: bool | None = True) -> ChatListing:
    """A chat without prompts, created so many seconds after noon."""
    return ChatListing(chat, None if at is None else NOON + timedelta(seconds=at), is_empty, key)


def judge(*chats: ChatListing, of: Known | None = None, offset: float = 0.0, by_key: bool = False) -> Match:
    return match(chats, [DEAD], of or known(), skew=5.0, offset=offset, by_key=by_key)


class TestSettings:
    @pytest.mark.parametrize(
        "wrong", [{"every": 0.0}, {"every": math.inf}, {"every": -1.0}, {"at_once": 0}, {"reconcile": "perhaps"}]
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            Sweep(**wrong)  # type: ignore[arg-type]


class TestBackOff:
    def test_waits_double_from_five_seconds_to_six_hours_with_full_jitter(self) -> None:
        for attempts in range(1, 80):
            longest = min(5.0 * 2 ** (attempts - 1), 6 * 3600.0)
            waits = [retry_in(SWEEP, attempts) for _ in range(50)]
            assert max(waits) <= longest
            assert min(waits) >= longest / 10
            assert max(waits) - min(waits) > longest / 10, "no two entries that failed together come back together"

    def test_an_entry_is_given_up_at_its_twentieth_failure(self) -> None:
        assert not is_hopeless(SWEEP, DEAD, 19, T0)
        assert is_hopeless(SWEEP, DEAD, 20, T0)

    def test_an_entry_is_given_up_three_days_after_it_was_orphaned(self) -> None:
        orphan = Entry(id="x", service="s", origin="o", account="a", orphaned_at=T0)
        assert not is_hopeless(SWEEP, orphan, 1, T0 + 72 * 3600)
        assert is_hopeless(SWEEP, orphan, 1, T0 + 72 * 3600 + 1)

    def test_a_dead_letter_stays_one(self) -> None:
        assert is_hopeless(SWEEP, Entry(id="x", service="s", origin="o", account="a", dead=True), 1, 0.0)

    @pytest.mark.parametrize(
        ("error", "counts"),
        [
            (Unavailable("x", status=503), True),
            (RateLimited("x"), True),
            (Unavailable("x", code="run-going"), False),
            (Unavailable("x", code="unproven"), False),
            (Rejected("x", status=400), False),
            (ProtocolChanged("a", "b"), False),
            (NotAuthenticated("x"), False),
            (ValueError(), False),
        ],
    )
    def test_only_what_speaks_of_the_service_itself_breaks_the_circuit(self, error: Exception, *, counts: bool) -> None:
        assert is_outage(error) is counts


class TestReadiness:
    def test_an_intent_is_looked_for_only_after_its_create_deadline_a_lease_and_the_margin(self) -> None:
        assert ready_at(SWEEP, DEAD, 60.0) == T0 + 300 + 60 + 600


class TestClockAhead:
    def test_the_date_header_tells_how_far_a_service_is_ahead(self) -> None:
        assert clock_ahead("Sat, 21 Nov 2026 12:00:07 GMT", T0) == 7.0

    @pytest.mark.parametrize("header", [None, "", "yesterday", "Sat, 21 Nov 2026 12:00:07 -0000", "x" * 1000])
    def test_a_header_that_tells_nothing_is_no_offset(self, header: str | None) -> None:
        assert clock_ahead(header, T0) == 0.0


class TestMatch:
    @pytest.mark.parametrize("at", [-5.0, 0.0, 299.0, 305.0])
    def test_an_empty_unknown_chat_of_the_intents_time_is_taken_for_its_chat(self, at: float) -> None:
        assert judge(empty("c", at)) == Match({}, ("c",))

    @pytest.mark.parametrize("at", [-5.5, -86400.0, 305.5, 1000.0])
    def test_a_chat_of_another_time_is_somebody_elses(self, at: float) -> None:
        assert judge(empty("c", at)) == Match({})

    def test_a_chat_that_is_not_certainly_empty_is_never_taken(self) -> None:
        assert judge(empty("full", is_empty=False), empty("unclear", is_empty=None)) == Match({})

    def test_a_chat_that_the_ledger_knows_is_never_taken(self) -> None:
        assert judge(empty("c"), of=known("c")) == Match({})

    def test_a_chat_with_anybodys_key_is_never_taken_by_its_time(self) -> None:
        assert judge(empty("c", key="somebody's"), empty("d", key="dead")) == Match({})

    def test_the_services_clock_is_corrected(self) -> None:
        assert judge(empty("c", 3600 + 10.0), offset=3600.0).ours == ("c",)
        assert judge(empty("c", 10.0), offset=3600.0).ours == ()

    @pytest.mark.parametrize(("began", "unclear"), [(0.0, True), (15.0, True), (15.5, False), (60.0, False)])
    def test_a_chat_that_a_living_session_may_have_made_is_ambiguous(self, began: float, *, unclear: bool) -> None:
        found = judge(empty("c", 10.0), of=known(living=(T0 + began,)))
        assert (found.ambiguous, found.ours) == ((("c",), ()) if unclear else ((), ("c",)))

    def test_where_the_service_tells_no_time_any_living_intent_makes_it_ambiguous(self) -> None:
        assert judge(empty("c", None)).ours == ("c",)
        assert judge(empty("c", None), of=known(living=(T0 + 1e6,))).ambiguous == ("c",)

    def test_a_time_without_a_zone_is_no_time(self) -> None:
        naive = ChatListing("c", NOON.replace(tzinfo=None) - timedelta(days=1), empty=True)
        assert judge(naive).ours == ("c",)
        assert judge(naive, of=known(living=(T0 + 1e6,))).ambiguous == ("c",)

    def test_by_key_only_our_own_keys_count_full_or_empty_and_whatever_their_time(self) -> None:
        mine = empty("mine", 1e6, "dead", is_empty=False)
        found = judge(mine, empty("theirs", 10.0, "else"), empty("nobody's", 10.0), by_key=True)
        assert found == Match({"dead": mine})
