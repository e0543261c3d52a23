"""What the ledger contract wants of an account's turns; see `check_ledger`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chatlease.ledger import Account, Ledger, Turn

from .conformance import _want

__all__ = ["check_at_hand", "check_awaited_turns", "check_budget", "check_dead_places", "check_queue"]

_LOOKS = 500


async def check_queue(ledger: Ledger, account: Account) -> None:
    """First come, first served, as many at once as there are slots; whoever leaves makes room."""

    async def ask(entry: str, slots: int | None = 2) -> bool:
        """Ask for a turn; says whether it was given."""
        return (await ledger.take_turn(account, entry, slots=slots, runs=None, window_s=0.0)).taken

    got = [await ask(name) for name in ("first", "second", "third", "fourth")]
    _want(got == [True, True, False, False], "as many have a turn at once as there are slots", got)
    _want(not await ask("third"), "asking again takes no second place")
    ledger.end_turn("second")
    _want(not await ask("fourth"), "a slot goes to who came first")
    _want(await _served(lambda: ask("third")), "a slot that is given back goes to the next")
    _want(not await ask("fourth"), "as many have a turn at once as there are slots")
    ledger.end_turn("third")
    _want(await _served(lambda: ask("fourth")), "a slot that is given back goes to the next")
    _want(await ask("fifth", None), "without slots everybody has a turn at once")
    elsewhere = Account(account.service, account.origin, f"{account.account}-other")
    turn = await ledger.take_turn(elsewhere, "other", slots=1, runs=None, window_s=0.0)
    _want(turn.taken, "another account has slots of its own")
    await _check_cancelled(ledger, elsewhere)
    _want(not await ledger.awaited_turns(), "where nobody else waits, no turn is awaited")
    for name in ("unknown", "first", "fourth", "fifth", "later"):
        ledger.end_turn(name)


async def _served(ask: Callable[[], Awaitable[bool]]) -> bool:
    """Ask until it is our turn: turns are given back in the ledger's own time."""
    for _ in range(_LOOKS):
        if await ask():
            return True
        await asyncio.sleep(0.01)
    return False


async def _asks(ledger: Ledger, account: Account, entry: str) -> bool:
    return (await ledger.take_turn(account, entry, slots=1, runs=None, window_s=0.0)).taken


async def _check_cancelled(ledger: Ledger, account: Account) -> None:
    """Whoever is cancelled while asking, and leaves, has no place."""
    ledger.end_turn("other")
    task = asyncio.ensure_future(_asks(ledger, account, "cancelled"))
    await asyncio.sleep(0)
    task.cancel()
    ledger.end_turn("cancelled")
    await asyncio.wait({task})
    served = await _served(lambda: _asks(ledger, account, "later"))
    _want(served, "whoever was cancelled and has left keeps no slot")


async def check_budget(ledger: Ledger, account: Account, window_s: float) -> Turn:
    """A window has so many runs; returns the refusal of the next one."""
    turns = [
        await ledger.take_turn(account, f"run-{number}", slots=None, runs=2, window_s=window_s) for number in range(3)
    ]
    _want([turn.taken for turn in turns] == [True, True, False], "a window has so many runs and no more", turns)
    _want([turn.last for turn in turns] == [False, True, False], "the last run of the budget says so", turns)
    return turns[-1]


async def check_at_hand(ledger: Ledger, account: Account, window_s: float) -> None:
    """A turn at hand is one like any other: one at a time, and counted."""
    at_hand = ledger.turn_at_hand(account, "nobody", runs=2, window_s=window_s)
    _want(at_hand is None, "no turn is at hand where this process has no place", at_hand)

    async def take(entry: str) -> Turn:
        """Take the turn at hand, else ask for one, as the engine does."""
        turn = ledger.turn_at_hand(account, entry, runs=2, window_s=window_s)
        return turn or await ledger.take_turn(account, entry, slots=1, runs=2, window_s=window_s)

    _want((await take("one")).taken, "the first who asks has a turn")
    _want(not (await take("two")).taken, "no turn is at hand while somebody has the slot")
    ledger.end_turn("one")
    turns = [Turn(taken=False)]
    _want(await _served(lambda: _taken(take, "two", turns)), "a slot that is given back goes to the next")
    _want(turns[-1].last, "a turn at hand is counted in the budget", turns[-1])
    ledger.end_turn("two")
    _want(not await _taken(take, "three", turns), "a window has so many runs and no more", turns[-1])
    ledger.end_turn("three")


async def _taken(take: Callable[[str], Awaitable[Turn]], entry: str, turns: list[Turn]) -> bool:
    turns.append(await take(entry))
    return turns[-1].taken


async def check_awaited_turns(ledger: Ledger, other: Ledger, account: Account) -> None:
    """Whoever has a turn can see that another process waits for it."""
    await _asks(ledger, account, "mine")
    _want(not await ledger.awaited_turns(), "where nobody else waits, no turn is awaited")
    _want(not await _asks(other, account, "theirs"), "slots are shared by all processes")
    awaited = list(await ledger.awaited_turns())
    _want(awaited == ["mine"], "awaited_turns names our turns for which another process waits", awaited)
    _want(not await other.awaited_turns(), "awaited_turns names only turns that one has")


async def check_dead_places(ledger: Ledger, other: Ledger, account: Account) -> None:
    """Places of a process that has ended are void; ``other`` is closed for it."""
    _want(await _served(lambda: _asks(other, account, "of-the-dead")), "a slot that is given back goes to the next")
    _want(not await _asks(ledger, account, "next"), "slots are shared by all processes")
    await other.aclose()
    _want(await _served(lambda: _asks(ledger, account, "next")), "places of a process that has ended are void")
    ledger.end_turn("next")
