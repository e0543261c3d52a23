"""One session of a trace as a timeline, and two of them beside each other.

Rules that live here:

* First the states, with the time in each and its share of the whole; then the steps, each with when it ended, and what
  it says of itself; then what went wrong; last what became of the chat.
* A difference is shown where there are two numbers; more is red, because it is time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from rich.table import Table
from rich.text import Text

from chatlease._lifecycle import State
from chatlease._traces import EngineTrace, SessionTrace, Stay, StepTrace

from . import _trace_text as text

Times: TypeAlias = Mapping[str, float | None]

_BAR = 24
_SEEN_S = 0.0005
"""Waits that are shorter are none: they would be shown as 0.000 s."""
_ORDER = {state.value: number for number, state in enumerate(State)}


# -- one --------------------------------------------------------------------------------------------------------------


def timeline(session: SessionTrace, engines: Mapping[str, EngineTrace]) -> None:
    """Print a session: who and where, the time in each state, its steps, what went wrong, what became of its chat."""
    console = text.stdout()
    for line in _head(session, engines):
        console.print(line, soft_wrap=True)
    for part in (_states(session), _steps(session), _errors(session)):
        if part.row_count:
            console.print()
            console.print(part)
    console.print()
    console.print(Text(_end(session, engines), text.style_of(session)), soft_wrap=True)


def _head(session: SessionTrace, engines: Mapping[str, EngineTrace]) -> Iterator[Text]:
    yield Text(f"session {text.plain(session.id)}", "bold")
    facts = {
        "service": session.service,
        "account": session.account,
        "model": session.model,
        "chat": session.chat,
        "engine": engine_name(session.engine, engines),
    }
    yield Text(", ".join(f"{name} {text.plain(value)}" for name, value in facts.items() if value))
    opened = text.moment(session.opened_at)
    yield Text(f"opened {opened}" if session.begun else f"opened before this trace begins; known since {opened}")
    yield Text(", ".join(f"{name} {value}" for name, value in _sums(session) if value))


def _sums(session: SessionTrace) -> Iterator[tuple[str, str]]:
    yield "lived", text.seconds(session.elapsed_s)
    yield "waited for the account's turn", _some(session.gate_wait_s)
    yield "in the service's queue", _some(session.queued_s)
    yield "first token after", _some(session.first_token_s)
    yield "tokens", f"{session.token_count}{' (looked at, not streamed)' if session.polled else ''}"
    yield "retries", str(session.retries or "")
    yield "queued again", str(session.requeues or "")


def _some(value: float | None) -> str:
    return text.seconds(value) if value and value >= _SEEN_S else ""


def engine_name(name: str, engines: Mapping[str, EngineTrace]) -> str:
    """Return an engine's id, and in which process of which machine it ran, where that is known."""
    engine = engines.get(name)
    if engine is None or engine.pid is None:
        return text.plain(name)
    return f"{text.plain(name)} (process {engine.pid} on {text.plain(engine.host) or 'an unknown host'})"


def _states(session: SessionTrace) -> Table:
    made = text.table("since", "state", "for", "", right=("since", "for"))
    stays = session.stays()
    whole = sum(stay.seconds or 0.0 for stay in stays) or 1.0
    for stay in stays:
        share = "#" * round(_BAR * (stay.seconds or 0.0) / whole)
        made.add_row(text.seconds(stay.since - session.opened_at), text.plain(stay.state), _for(stay), share)
    return made


def _for(stay: Stay) -> str:
    return "" if stay.seconds is None else text.seconds(stay.seconds)


def _steps(session: SessionTrace) -> Table:
    made = text.table("ended", "step", "took", "status", "to", "", right=("ended", "took"))
    half = len(session.steps) // 2 if session.steps_left_out else -1
    for number, step in enumerate(session.steps):
        if number == half:
            made.add_row("", f"{session.steps_left_out} steps are left out here", "", "", "", "", style="dim")
        ended = text.seconds(step.at - session.opened_at)
        status = "-" if step.http_status is None else str(step.http_status)
        to = "failed" if step.dest is None else text.plain(step.dest)
        style = "red" if step.dest is None else ""
        made.add_row(
            ended, text.plain(step.trigger), text.seconds(step.elapsed_s), status, to, _said(step), style=style
        )
    return made


def _said(step: StepTrace) -> str:
    parts = [
        f"waited {text.seconds(step.waited_s)} for the account's turn" if step.waited_s else "",
        f"{step.retries} retried" if step.retries else "",
        error_name(step.error or "", step.error_code or ""),
    ]
    return ", ".join(part for part in parts if part)


def error_name(error: str, code: str) -> str:
    """Return the class of an error and its code."""
    return text.plain(" ".join(part for part in (error, code) if part))


def _errors(session: SessionTrace) -> Table:
    made = text.table("at", "error", "in", right=("at",))
    for failure in session.errors:
        at = text.seconds(failure.at - session.opened_at)
        made.add_row(at, error_name(failure.error, failure.error_code), text.plain(failure.trigger) or "-")
    if session.errors_left_out:
        made.add_row("", f"{session.errors_left_out} more", "", style="dim")
    return made


def _end(session: SessionTrace, engines: Mapping[str, EngineTrace]) -> str:
    swept = session.swept
    where = text.plain(f"in {session.state}{f', {session.in_flight} in flight' if session.in_flight else ''}")
    if swept is None:
        ends = {
            "deleted": "its chat is deleted",
            "open": f"it is open, {where}",
            "left": f"its chat is left: {'handed over' if session.handed_over else f'its engine is gone, {where}'}",
        }
        return ends[session.status]
    who = f"by engine {engine_name(swept.engine, engines)} at {text.moment(swept.at)}"
    what = {
        "deleted": "its chat was swept",
        "absent": "it never had a chat, as was found",
        "failed": f"its chat is left: sweeping it failed ({text.plain(swept.error_code)})",
        "dead": f"its chat is left, a dead letter ({text.plain(swept.error_code)}): sweeping was tried",
    }
    last = "" if session.closed_at is not None else f"; it was last seen {where}"
    return f"{what[swept.outcome]} {who}, try {swept.attempts}{last}"


# -- two --------------------------------------------------------------------------------------------------------------


def compared(one: SessionTrace, other: SessionTrace) -> None:
    """Print two sessions beside each other, state by state, with what the second one has more."""
    made = text.table("", text.short(one.id), text.short(other.id), "difference", right=("difference",))
    for name, first, second in _facts(one, other):
        made.add_row(name, first or "-", second or "-", "" if first == second or name == "opened" else "differs")
    _add_times(made, "in ", _by_state(one), _by_state(other))
    _add_times(made, "", _waits(one), _waits(other))
    for name, a, b in _numbers(one, other):
        made.add_row(name, str(a), str(b), f"{b - a:+}" if a != b else "")
    text.stdout().print(made)


def _facts(one: SessionTrace, other: SessionTrace) -> Iterator[tuple[str, str, str]]:
    for name in ("service", "account", "model", "engine"):
        yield name, text.plain(getattr(one, name)), text.plain(getattr(other, name))
    yield "opened", text.moment(one.opened_at), text.moment(other.opened_at)
    yield "state", text.state_of(one), text.state_of(other)
    yield "errors", _kinds(one), _kinds(other)


def _kinds(session: SessionTrace) -> str:
    return ", ".join(dict.fromkeys(error_name(each.error, each.error_code) for each in session.errors))


def _by_state(session: SessionTrace) -> Times:
    sums: dict[str, float] = {}
    for stay in session.stays():
        if stay.seconds is not None:
            sums[text.plain(stay.state)] = sums.get(text.plain(stay.state), 0.0) + stay.seconds
    return sums


def _waits(session: SessionTrace) -> dict[str, float | None]:
    return {
        "waiting for the turn": session.gate_wait_s or None,
        "in the service's queue": session.queued_s,
        "until the first token": session.first_token_s,
        "all in all": session.elapsed_s,
    }


def _numbers(one: SessionTrace, other: SessionTrace) -> Iterator[tuple[str, int, int]]:
    yield "tokens", one.token_count, other.token_count
    yield "steps", len(one.steps) + one.steps_left_out, len(other.steps) + other.steps_left_out
    yield "failures", len(one.errors) + one.errors_left_out, len(other.errors) + other.errors_left_out
    yield "retries", one.retries, other.retries
    yield "queued again", one.requeues, other.requeues


def _add_times(made: Table, before: str, one: Times, other: Times) -> None:
    for name in _ordered([*one, *other]):
        first, second = one.get(name), other.get(name)
        if first is None and second is None:
            continue
        made.add_row(f"{before}{name}", text.seconds(first), text.seconds(second), _more(first, second))


def _ordered(names: Iterable[str]) -> list[str]:
    """Return names once each: states in the order of the lifecycle, others as they came."""
    return sorted(dict.fromkeys(names), key=lambda name: _ORDER.get(name, len(_ORDER)))


def _more(one: float | None, other: float | None) -> Text:
    if one is None or other is None:
        return Text("")
    return Text(f"{other - one:+.3f} s", "red" if other > one else "green" if other < one else "dim")
