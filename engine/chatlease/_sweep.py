"""What a sweep may do, and when: settings, what it reports, and the rules that need no service.

Rules that live here:

* Failed deletions wait twice as long each time, with full jitter; after so many tries, or so long, the entry is a dead
  letter: shown, tried once a day, never dropped.
* A create whose reply was lost is looked for in a listing only once it can take effect no more, and then some. What is
  taken for its chat is *empty* (it holds nothing of anyone's), unknown to the ledger, and of the right time; and
  nothing is taken while a living session may just have created it. Where the service gives back the key that a chat
  was made with, none of that is needed: the key is proof, and a chat without it is somebody else's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from .adapter import ChatListing
from .errors import RateLimited, Unavailable, UsageError
from .ledger import Entry, Known

Reconcile = Literal["delete", "report", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """
    How chats that others left are deleted. All times are in seconds.

    Attributes:
        every: Between two sweeps in the background.
        reconcile: What happens to an empty chat that is probably the one of a lost create reply: it is deleted, or only
            reported (for accounts that people use, too), or not even looked for. Where the service gives back our own
            key there is no guess, so that it is deleted always.
        margin: How long such a chat must have been out of anybody's hands, beyond create deadline and lease. Ten
            minutes.
        skew: How far the service's clock may be from its own ``Date`` header and ours from the truth.
        at_once: Calls to one service at the same time.
        first_retry: Wait after the first failed deletion, doubled by every further one.
        longest_retry: Longest of these waits. Six hours.
        attempts: After so many failed tries an entry is a dead letter.
        give_up: After so long it is one, too. Three days.
        probe: Between two tries with an account whose credential was refused. An hour.
        daily: Between two tries with a dead letter. A day.
    """

    every: float = 60.0
    reconcile: Reconcile = "delete"
    margin: float = 600.0
    skew: float = 5.0
    at_once: int = 12
    first_retry: float = 5.0
    longest_retry: float = 6 * 3600.0
    attempts: int = 20
    give_up: float = 3 * 86400.0
    probe: float = 3600.0
    daily: float = 86400.0

    def __post_init__(self) -> None:
        if self.reconcile not in {"delete", "report", "off"}:
            raise UsageError("reconcile is 'delete', 'report' or 'off'")
        if not 0 < self.every < math.inf or self.at_once < 1:
            raise UsageError("a sweep is made every so many seconds, more than 0, with at least one call at once")


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one sweep did; the keys of the trace event ``sweep.completed``.

    Attributes:
        reaped: Holders that were found dead.
        claimed: Entries that were taken over.
        swept: Chats whose deletion was confirmed.
        absent: Entries whose chat never came to be.
        failed: Entries that will be tried again.
        parked: Open entries that wait for a credential that works.
        dead: Entries that became dead letters in this sweep.
        open: Entries open now, those of living sessions too.
        undeleted: Dead letters now.
        elapsed_s: How long it took.
    """

    reaped: int = 0
    claimed: int = 0
    swept: int = 0
    absent: int = 0
    failed: int = 0
    parked: int = 0
    dead: int = 0
    open: int = 0
    undeleted: int = 0
    elapsed_s: float = 0.0


def retry_in(sweep: Sweep, attempts: int) -> float:
    """Return how long to wait after so many failed tries."""
    longest = min(sweep.first_retry * 2.0 ** min(attempts - 1, 40), sweep.longest_retry)
    return random.uniform(0.1, 1.0) * longest  # noqa: S311  (jitter, no secret)


def is_hopeless(sweep: Sweep, entry: Entry, attempts: int, now: float) -> bool:
    """Say whether an entry is a dead letter after so many failed tries."""
    return entry.dead or attempts >= sweep.attempts or now - entry.orphaned_at > sweep.give_up


_OURS = frozenset({"run-going", "unproven"})
"""Codes of failures that are findings of the sweeper's own: the service has answered."""


def is_outage(error: BaseException) -> bool:
    """Say whether an error speaks of the service's state rather than of one chat."""
    return isinstance(error, (Unavailable, RateLimited)) and error.code not in _OURS


def ready_at(sweep: Sweep, entry: Entry, lease_s: float) -> float:
    """Return from when on the chat of a lost create reply may be looked for by its time alone."""
    return entry.create_deadline + lease_s + sweep.margin


class Match(msgspec.Struct, frozen=True):
    """
    What a listing shows of lost create replies.

    Attributes:
        by_key: Chats that carry an intent's key, by the intent.
        ours: Chats that are taken for theirs.
        ambiguous: Chats that may be theirs, or of a living session that does not know its chat's id yet.
    """

    by_key: Mapping[str, ChatListing]
    ours: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()


def match(
    listings: Collection[ChatListing],
    intents: Collection[Entry],
    known: Known,
    *,
    skew: float,
    offset: float = 0.0,
    by_key: bool = False,
) -> Match:
    """
    Tell the chats of dead intents from others.

    Args:
        listings: The account's chats, listed before ``known`` was asked for.
        intents: Of the account, claimed, their time to be judged come.
        known: What the ledger knows of the account.
        skew: See `Sweep`.
        offset: Seconds by which the service's clock is ahead of the ledger's.
        by_key: The service gives back our keys, so that nothing else counts.
    """
    names = {entry.id for entry in intents}
    keyed = {each.client_key: each for each in listings if each.client_key is not None and each.client_key in names}
    if by_key:
        return Match(keyed)
    candidates = [each for each in listings if _fits(each, intents, known, skew, offset)]
    ambiguous = [each.chat for each in candidates if _may_be_living(each, known, skew, offset)]
    return Match({}, tuple(each.chat for each in candidates if each.chat not in ambiguous), tuple(ambiguous))


def clock_ahead(http_date: str | None, now: float) -> float:
    """Return by how many seconds a service's clock is ahead of ours; 0 where its ``Date`` header does not tell."""
    try:
        moment = parsedate_to_datetime(http_date or "")
    except ValueError:
        return 0.0
    return 0.0 if moment.tzinfo is None else moment.timestamp() - now


def _fits(listing: ChatListing, intents: Collection[Entry], known: Known, skew: float, offset: float) -> bool:
    if listing.client_key is not None or not listing.empty or listing.chat in known.chats:
        return False
    created = _at(listing.created_at, offset)
    return created is None or any(
        entry.intent_at - skew <= created <= entry.create_deadline + skew for entry in intents
    )


def _may_be_living(listing: ChatListing, known: Known, skew: float, offset: float) -> bool:
    created = _at(listing.created_at, offset)
    return any(created is None or at <= created + skew for at in known.living_intents)


def _at(moment: datetime | None, offset: float) -> float | None:
    return None if moment is None or moment.tzinfo is None else moment.timestamp() - offset
