"""Faults on demand: what goes wrong, at which step, for whom, how often.

Rules that live here:

* A fault is programmed for one step, by its name in the lifecycle table, and optionally for one user; of several that
  match a call, the one programmed first happens.
* Chance comes from a seeded generator, so a run can be repeated.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

from chatlease.errors import UsageError

STEPS = (
    "ready_cookies",
    "create_chat",
    "send_prompt",
    "queue_assistant",
    "open_stream",
    "read_answer",
    "delete_chat",
    "read_chat",
    "list_chats",
)
"""Steps that a request can be; ``read_chat`` and ``list_chats`` are calls that several steps make on their way."""

_TIMED = ("late", "delay")
_COUNTED = ("cut", "stall", "pings", "pending")
_PLAIN = ("drop", "html", "refuse")
_STATUS = re.compile(r"([45]\d\d)(-after)?")
_NOTATION = re.compile(r"(?P<kind>[a-z]+|[45]\d\d(?:-after)?)(?:\((?P<value>\d+(?:\.\d+)?)\))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that goes wrong with one call.

    Attributes:
        kind: ``late`` (the effect happens, the reply comes ``value`` seconds later), ``delay`` (effect and reply happen
            ``value`` seconds later, also when the client has left), ``drop`` (the effect happens, the connection is cut
            without a reply), ``before`` and ``after`` (status ``value``, without or with the effect), ``refuse`` (403
            without effect), ``html`` (a page instead of the answer, without effect), and for streams ``cut`` (the
            connection breaks after ``value`` tokens), ``stall`` (nothing comes after ``value`` tokens), ``pings``
            (only pings after ``value`` tokens), ``pending`` (``pending`` for ever, no token).
        value: Seconds, tokens or a status, by kind.
    """

    kind: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        Read a fault: ``drop``, ``late(2.5)``, ``500``, ``503-after``, ``cut(3)``, ...

        Raises:
            UsageError: There is no such fault.
        """
        match = _NOTATION.fullmatch(text)
        status = _STATUS.fullmatch(text)
        if status:
            return cls("after" if status[2] else "before", float(status[1]))
        kind, value = (match["kind"], match["value"]) if match else ("", None)
        if kind in _PLAIN and value is None:
            return cls(kind)
        if kind in _TIMED and value is not None:
            return cls(kind, float(value))
        if kind in _COUNTED:
            return cls(kind, float(value or 0))
        raise UsageError(
            f"{text!r} is no fault",
            hint="Faults are drop, html, refuse, late(S), delay(S), a status, a status-after, cut(N), stall(N), "
            "pings(N), pending.",
        )


@dataclass(slots=True)
class _Plan:
    step: str
    fault: Fault
    user: str | None
    times: int | None
    skip: int
    probability: float


class Faults:
    """
    The faults programmed for a service; may be changed while it runs.

    Attributes:
        hits: How often each happened, by step and kind.
    """

    def __init__(self, seed: int = 0) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self._rng = random.Random(seed)  # noqa: S311  (repeatable, not secret)
        self._plans: list[_Plan] = []

    def add(
        self,
        step: str,
        fault: Fault | str,
        *,
        times: int | None = 1,
        skip: int = 0,
        user: str | None = None,
        probability: float = 1.0,
    ) -> None:
        """
        Program a fault.

        Args:
            step: One of `STEPS`.
            fault: A fault or its notation (`Fault.parse`).
            times: How many calls it happens to; ``None`` for all.
            skip: How many calls it spares first.
            user: Only to calls of this user, by the name in the access log.
            probability: Of each call that it happens, 0 to 1; calls that it spares by chance do not count.

        Raises:
            UsageError: There is no such step or fault.
        """
        if step not in STEPS:
            raise UsageError(f"{step!r} is no step of this service", hint=f"Steps are {', '.join(STEPS)}.")
        parsed = Fault.parse(fault) if isinstance(fault, str) else fault
        if parsed.kind in _COUNTED and step != "open_stream":
            raise UsageError(f"{parsed.kind} only happens to streams", hint="Program it for open_stream.")
        self._plans.append(_Plan(step, parsed, user, times, skip, probability))

    def program(self, text: str) -> None:
        """
        Program several faults from one line, each for all calls: ``create_chat=drop:0.1,delete_chat=500:0.05``.

        Raises:
            UsageError: The line is no such notation.
        """
        for item in filter(None, (part.strip() for part in text.split(","))):
            step, _, rest = item.partition("=")
            fault, _, chance = rest.partition(":")
            self.add(step, fault, times=None, probability=_probability(chance))

    def clear(self) -> None:
        """Forget what was programmed; `hits` stays."""
        self._plans.clear()

    def pick(self, step: str, user: str) -> Fault | None:
        """Return what happens to this call, and count it; called once per call."""
        for plan in self._plans:
            if plan.step == step and plan.user in (None, user) and self._happens(plan):
                self.hits[step, plan.fault.kind] += 1
                return plan.fault
        return None

    def _happens(self, plan: _Plan) -> bool:
        if plan.times == 0:
            return False
        if plan.skip:
            plan.skip -= 1
            return False
        if plan.probability < 1 and self._rng.random() >= plan.probability:
            return False
        if plan.times is not None:
            plan.times -= 1
        return True


def _probability(text: str) -> float:
    try:
        chance = float(text or 1)
    except ValueError:
        chance = -1.0
    if not 0 <= chance <= 1:
        raise UsageError(f"{text!r} is no probability", hint="It is a number from 0 to 1.")
    return chance
