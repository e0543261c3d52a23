"""Rules of the protocol that hold in its SQL alone, whatever a backend checks before."""

from __future__ import annotations

import pytest

from chatlease._ledger._statements import Statements
from chatlease.ledger import Account, Claim, Entry, EntryState, Lease

ONE, TWO = (Account("fake", "fake://1", name) for name in ("one", "two"))


def lease_of(holder: str) -> Lease:
    return Lease(holder, lambda: 0.0, 1e9)


def intend(statements: Statements, *names: str, account: Account = ONE, holder: str = "theirs") -> None:
    owner = (account.service, account.origin, account.account)
    statements.intend([(name, *owner, None, holder, 1000.0) for name in names])


def claim(statements: Statements, *accounts: Account, limit: int = 9, holder: str = "mine") -> list[Claim]:
    return statements.claim(lease_of(holder), 2000.0, accounts, limit)


def test_who_is_dead_claims_nothing(statements: Statements) -> None:
    intend(statements, "left")
    for holder in ("mine", "theirs"):
        statements.bury(holder, 1500.0)
    assert claim(statements, ONE) == []


def test_a_limit_is_one_for_all_accounts_together(statements: Statements) -> None:
    intend(statements, "a", "b")
    intend(statements, "c", "d", account=TWO)
    statements.bury("theirs", 1500.0)
    assert [each.entry.id for each in claim(statements, ONE, TWO, limit=3)] == ["a", "b", "c"]
    assert [each.entry.id for each in claim(statements, ONE, TWO, limit=3)] == ["d"]


def test_what_a_dead_process_held_is_an_orphan_and_no_living_intent_before_and_after_its_claim(
    statements: Statements,
) -> None:
    intend(statements, "left")
    assert statements.known(ONE, 1500.0).living_intents == (1000.0,)
    statements.bury("theirs", 1500.0)
    assert statements.known(ONE, 1500.0).living_intents == ()
    (claimed,) = claim(statements, ONE)
    assert (claimed.entry.orphaned, claimed.entry.alive) == (True, True)
    assert statements.known(ONE, 2000.0).living_intents == ()


@pytest.mark.parametrize("end", ["bury", "leave"])
def test_a_holder_that_ends_leaves_no_place_in_any_queue(statements: Statements, end: str) -> None:
    for account in (ONE, TWO):
        statements.take_turn(account, f"of {account}", "theirs", 1000.0, slots=1, runs=None, window_s=0.0)
    getattr(statements, end)("theirs", 1500.0)
    assert list(statements._db.execute("SELECT * FROM turns")) == []


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_what_is_written_again_from_memory_does_not_undo_a_later_claim(statements: Statements, epoch: int) -> None:
    """An old copy of the file is in the place of a lost one, and others were quicker."""
    intend(statements, "e")
    statements.bury("theirs", 1500.0)
    (claimed,) = claim(statements, ONE)
    assert claimed.hold.epoch == 1
    statements.join("former", 1000.0, lease=1e9, host="", lock="")
    owner = (ONE.service, ONE.origin, ONE.account)
    remembered = Entry(
        id="e", service=owner[0], origin=owner[1], account=owner[2], state=EntryState.BOUND, chat="chat", intent_at=1e3
    )
    statements.restore("former", [(remembered, epoch)], [], 2000.0)
    (found,) = statements.open_entries()
    assert (found.holder, found.chat) == (("mine", None) if epoch == 0 else ("former", "chat"))


def test_a_holder_is_remembered_for_as_long_as_it_has_open_entries(statements: Statements) -> None:
    intend(statements, "left")
    for holder in ("mine", "theirs"):
        statements.bury(holder, 1500.0)
    statements.purge(1e9)
    assert (statements.state_of("mine"), statements.state_of("theirs")) == ("", "dead")
