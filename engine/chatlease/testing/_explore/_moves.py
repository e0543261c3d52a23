"""What a session is driven by, and how a path of it is written.

Rules that live here:

* A path is written so that it can be read and given back to `explore`: ``create_chat > send_prompt[lost]``, and where a
  move makes several calls ``stop_run[hang at read_answer#2]``: the second of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from chatlease._lifecycle import Create, Run, State, Trigger

__all__ = ["ACLOSE", "ASK", "BOTH", "READ_ON", "READ_ONE", "Move", "Path", "Standing", "moves_from", "path_of"]

ASK = "ask"
"""A whole `Engine.ask`."""
BOTH = "both"
"""Two sessions, step by step beside each other: an adapter keeps nothing of either."""
READ_ONE = "read_one"
READ_ON = "read_on"
ACLOSE = "aclose"
_STEPS = tuple(trigger.value for trigger in Trigger)
_NAMES = (ASK, BOTH, *_STEPS, READ_ONE, READ_ON, ACLOSE)
_WRITTEN = re.compile(r"(\w+)(?:\[([\w.-]+)(?: at (\w+)(?:#(\d+))?)?\])?")


@dataclass(frozen=True, slots=True)
class Move:
    """
    One thing that the caller does, and what goes wrong with one of its calls.

    Attributes:
        name: A trigger's name, or one of the five above.
        fault: Name of the fault; empty for none.
        call: Which call of the adapter it hits.
        nth: The how many-th of that name in this move, from 1.
    """

    name: str
    fault: str = ""
    call: str = ""
    nth: int = 1

    def __str__(self) -> str:
        if not self.fault:
            return self.name
        where = "" if (self.call, self.nth) == (self.name, 1) else f" at {self.call}"
        return f"{self.name}[{self.fault}{where}{f'#{self.nth}' if self.nth > 1 else ''}]"


Path = tuple[Move, ...]


def path_of(text: str, faults: Collection[str]) -> Path:
    """
    Return the path that a text spells.

    Args:
        text: See the header.
        faults: Names of the faults that there are.

    Raises:
        ValueError: It spells none.
    """
    return tuple(_move_of(part.strip(), faults) for part in text.split(">"))


def _move_of(text: str, faults: Collection[str]) -> Move:
    match = _WRITTEN.fullmatch(text)
    if match is None or match[1] not in _NAMES:
        raise ValueError(f"{text!r} is no move; there are {', '.join(_NAMES)}, each also as move[fault at call#2]")
    name, fault, call, nth = match.groups()
    if fault and fault not in faults:
        raise ValueError(f"there is no fault {fault!r}; there are {', '.join(faults)}")
    return Move(name, fault or "", (call or name) if fault else "", int(nth or 1))


@dataclass(frozen=True, slots=True)
class Standing:
    """
    Where a session stands, as far as the table and its guards can tell.

    Attributes:
        state: See `State`.
        create: See `Create`.
        run: See `Run`.
        token_given: A token of the current answer has reached the caller.
        in_doubt: Nobody knows what became of a call.
        turn: Which prompt is the current one; from the second on 2.
    """

    state: State
    create: Create
    run: Run
    token_given: bool = False
    in_doubt: bool = False
    turn: int = 1

    def __str__(self) -> str:
        facts = [f"create {self.create.value}", f"run {self.run.value}"]
        facts += ["a token given"] * self.token_given + ["in doubt"] * self.in_doubt + ["2nd turn"] * (self.turn > 1)
        return f"{self.state.value} ({', '.join(facts)})"


def moves_from(standing: Standing, allowed: Collection[Trigger], *, harmful: bool) -> list[str]:
    """
    Return what can be done there, in order.

    Args:
        standing: Where.
        allowed: What the table allows there.
        harmful: Deleting a chat whose run is going does harm, so that a session refuses it.
    """
    names = [trigger.value for trigger in Trigger if trigger in allowed]
    if harmful and Trigger.STOP_RUN in allowed:
        names.remove(Trigger.DELETE_CHAT.value)
    if standing.state is State.STREAMING and standing.run is Run.GOING and not standing.in_doubt:
        names = [READ_ON, *names] if standing.token_given else [READ_ONE, READ_ON, *names]
    if standing.state is State.NEW:
        names += [ASK, BOTH]
    return [*names, ACLOSE]
