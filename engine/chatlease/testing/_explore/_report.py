"""What an exploration found, so that it can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chatlease import State, TraceEvent, Trigger
from chatlease._lifecycle import TABLE

from ._moves import Standing

__all__ = ["Exploration", "Violation"]

_SHOWN = 40
"""Lines of a trace that are shown, the last ones."""


@dataclass(frozen=True)
class Violation:
    """
    A law that was broken.

    Attributes:
        law: Which.
        how: What was seen.
        path: The shortest path on which it was, as ``explore(..., only=path)`` takes it.
        trace: What the session told on that path, oldest first.
        paths: On how many paths it was.
    """

    law: str
    how: str
    path: str
    trace: tuple[TraceEvent, ...] = field(repr=False, default=())
    paths: int = 1

    def __str__(self) -> str:
        return "\n        ".join([self.head(), *self.told()])

    def head(self) -> str:
        """Return what is wrong, and the path that shows it."""
        more = f", and {self.paths - 1} more" if self.paths > 1 else ""
        return f"{self.law}: {self.how}\n    path: {self.path}{more}\n    again: explore(..., only={self.path!r})"

    def told(self) -> list[str]:
        """Return the trace in lines, the last ones of it."""
        began = self.trace[0].at if self.trace else 0.0
        lines = [_line(event, began) for event in self.trace if event.event != "session.transition.started"]
        left_out = [f"... {len(lines) - _SHOWN} lines before these"] if len(lines) > _SHOWN else []
        return [*left_out, *lines[-_SHOWN:]]


def _line(event: TraceEvent, began: float) -> str:
    keys = event.keys
    if event.event == "session.transition.completed":
        what = f"{keys['dest']:<17}{keys['trigger']}"
    elif event.event == "session.transition.failed":
        what = f"{'':<17}{keys['trigger']} failed: {keys['error']}"
    else:
        what = f"{'':<17}{event.event.removeprefix('session.')}"
    status = f", HTTP {keys['http_status']}" if keys.get("http_status") else ""
    code = f" ({keys['error_code']})" if keys.get("error_code") else ""
    return f"{event.at - began:9.3f} s  {what}{code}{status}"


@dataclass(frozen=True)
class Exploration:
    """
    What was walked, and what was found; ``str`` of it is the report.

    Attributes:
        service: Of the adapter.
        paths: How many paths were played.
        standings: Where sessions stood in between, in the order in which that was found.
        faults: How often each fault happened.
        fired: How often each trigger led out of each state.
        not_fired: Why the other rows of the table were not.
        violations: What is wrong; each once, with its shortest path.
        missed: Paths whose fault did not happen: the same moves made other calls than before.
        complete: Everything was walked that was found, with every fault; not so with ``only``, with ``faults`` that
            leave some out, at the limit of paths, and when a session or an adapter came to no end.
        witness: How it was known what exists at the service.
    """

    service: str
    paths: int
    standings: tuple[Standing, ...]
    faults: Mapping[str, int]
    fired: Mapping[tuple[Trigger, State], int]
    not_fired: Mapping[tuple[Trigger, State], str]
    violations: tuple[Violation, ...]
    missed: int
    complete: bool
    witness: str

    def __str__(self) -> str:
        return "\n".join([*self._broken(), *self._coverage()])

    def _broken(self) -> Iterator[str]:
        if not self.violations:
            yield f"{self.service}: every law held on {self.paths} paths"
            return
        laws = len({violation.law for violation in self.violations})
        yield f"{self.service}: {laws} {'law is' if laws == 1 else 'laws are'} broken ({self.paths} paths played)"
        shown = set[str]()
        for number, violation in enumerate(self.violations, 1):
            yield f"\n{number}. {violation.head() if violation.path in shown else violation}"
            shown.add(violation.path)
        yield ""

    def _coverage(self) -> Iterator[str]:
        states = {standing.state for standing in self.standings}
        rows = len(self.fired) + len(self.not_fired)
        yield f"  states       {len(states)} of {len(State)}, in {len(self.standings)} standings (state and facts)"
        yield f"  transitions  {len(self.fired)} of {rows} (a trigger from a state)"
        for (trigger, state), reason in self.not_fired.items() if self.complete else ():
            yield f"      not fired: {trigger.value} from {state.value}: {reason}"
        happened = ", ".join(f"{name} {number}" for name, number in self.faults.items())
        yield f"  faults       {happened or 'none'}"
        yield f"  at the service was looked {self.witness}"
        if self.missed:
            yield f"  {self.missed} faults did not happen: the same moves did not always make the same calls"
        if not self.complete:
            yield "  not everything was walked (only=, faults=, most=, or something that came to no end)"


def rows_not_fired(fired: Counter[tuple[Trigger, State]], *, harmful: bool) -> dict[tuple[Trigger, State], str]:
    """Return the rows of the table, source by source, that never fired, and why."""
    rows = [(row.trigger, source) for row in TABLE for source in State if source in row.sources]
    return {row: _reason(row, harmful=harmful) for row in rows if not fired[row]}


def _reason(row: tuple[Trigger, State], *, harmful: bool) -> str:
    if row == (Trigger.QUEUE_ASSISTANT, State.ASSISTANT_QUEUED):
        return "no session is there with a run that failed: before its stream is open, nothing says so"
    if harmful and row == (Trigger.DELETE_CHAT, State.ASSISTANT_QUEUED):
        return "a run goes on there, and Capabilities say that a deletion would do harm"
    return "no path led there"
