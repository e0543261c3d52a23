"""The shapes whose CPU time is taken: what is asked of every peer in a round, and of which peers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from tests.bench import ours, plain
from tests.bench.peers import DEFAULT, FLOOR, LOGGED, MEMORY, NONE, SEEDS, TRACED, Peers
from tests.bench.server import Script

SHORT_16 = "short sessions, 16 at once on 16 accounts"
SHORT_100 = "short sessions, 100 at once on 100 accounts"
ONE_ACCOUNT = "short sessions, 16 at once on one account"
ONE_A_WRITE = "long answer, one token a write"
MANY_A_WRITE = "long answer, 64 tokens a write"
TEN_MEGABYTES = "10 MB answer"


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What is asked of every peer in a round.

    Attributes:
        name: For the report.
        script: What the service answers.
        peers: Whom it is asked of.
        at_once: Sessions side by side.
        in_turn: So many times, one after the other; a service allows an account about 20 sessions in a while.
        per: What the report divides by: ``"session"`` or ``"token"``.
        one_account: All that are side by side have one account, each time another one. Else each has one of its own
            for the whole round.
        budget_s: Seconds of wall-clock time after which no further round begins.
        note: What else must be said.
    """

    name: str
    script: Script
    peers: Peers
    at_once: int
    in_turn: int
    per: str
    one_account: bool = False
    budget_s: float = 40.0
    note: str = ""

    @property
    def sessions(self) -> int:
        """Sessions in a round."""
        return self.at_once * self.in_turn

    @property
    def tokens(self) -> int:
        """Tokens in a round."""
        return self.sessions * self.script.tokens

    @property
    def units(self) -> int:
        """How many of what the report divides by are in a round."""
        return self.sessions if self.per == "session" else self.tokens

    def shortened(self) -> Self:
        """Return the same with less in a round."""
        return replace(self, in_turn=max(1, self.in_turn // 4))


_MAIN: Peers = {
    FLOOR: plain.floor,
    SEEDS: plain.seeds,
    NONE: ours.chatlease(ledger=None),
    DEFAULT: ours.chatlease(),
}
_ALL: Peers = {
    **_MAIN,
    MEMORY: ours.chatlease(ledger="memory"),
    LOGGED: ours.logged,
    TRACED: ours.traced,
}
_IN_TURN: Peers = {**_MAIN, FLOOR: plain.floor_in_turn, SEEDS: plain.seeds_in_turn}
_WITHOUT_SEEDS: Peers = {name: peer for name, peer in _MAIN.items() if name != SEEDS}

_SHORT = Script(tokens=16)

SHAPES = (
    Shape(SHORT_16, _SHORT, _ALL, at_once=16, in_turn=12, per="session"),
    Shape(SHORT_100, _SHORT, _ALL, at_once=100, in_turn=12, per="session", budget_s=80),
    Shape(ONE_ACCOUNT, _SHORT, _IN_TURN, at_once=16, in_turn=12, per="session", one_account=True),
    Shape(ONE_A_WRITE, Script(tokens=16_000), _MAIN, at_once=1, in_turn=1, per="token"),
    Shape(MANY_A_WRITE, Script(tokens=98_304, per_write=64), _MAIN, at_once=1, in_turn=1, per="token"),
    Shape(
        TEN_MEGABYTES,
        Script(tokens=262_144, per_write=64, words=8),
        _WITHOUT_SEEDS,
        at_once=1,
        in_turn=1,
        per="token",
        note="the seeds' algorithm cannot: aiohttp reads no line of more than 512 KiB",
    ),
)
