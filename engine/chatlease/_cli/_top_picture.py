"""The picture of what a bot does: engines, open sessions, who waits, rates, errors, chats that are left.

Rules that live here:

* A picture fits a screen: of everything that can be long, the worst few are shown, and how many there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chatlease._lifecycle import State
from chatlease._traces import ERRORS_S, QUIET_S, EngineTrace, Gatherer, Recent, SessionTrace

from . import _trace_text as text
from ._show import age
from ._trace_one import error_name

_ROWS = 8
_ORDER = {state.value: number for number, state in enumerate(State)}
_RATES = ("opened", "ended", "left", "swept", "waited", "retried", "requeued", "tokens")


def picture(file: Path, gatherer: Gatherer, recent: Recent, now: float) -> RenderableType:
    """
    Return the picture at some time.

    Args:
        file: Whose trace it is, for the title.
        gatherer: Fed with the trace.
        recent: Fed with the trace.
        now: In seconds since the epoch.
    """
    held = [gatherer.judged(session) for session in gatherer.held]
    open_ = [session for session in held if session.status == "open"]
    left = [session for session in held if session.leaked]
    parts = (
        ("engines", _engines(gatherer, open_, left, now)),
        ("open sessions", _states(open_, now)),
        ("the oldest of them", _oldest(open_, now)),
        ("waiting for their account's turn", _waiting(open_, now)),
        (f"errors of the last {ERRORS_S // 60} minutes", _errors(recent, now)),
        ("chats that are left", _left(left, now)),
    )
    sums = f"{text.plain(str(file))}  {text.moment(now)}  open {len(open_)}, left {len(left)}"
    return Group(Text(sums, "bold red" if left else "bold"), _rates(recent, now), *_titled(parts))


def _titled(parts: Iterable[tuple[str, Table]]) -> Iterator[RenderableType]:
    for title, part in parts:
        if part.row_count:
            yield Text(f"\n{title}", "bold")
            yield part


def _rates(recent: Recent, now: float) -> Text:
    rates = recent.rates(now)
    return Text("last minute: " + ", ".join(f"{name} {rates.get(name, 0)}" for name in _RATES))


def _age(since: float, now: float) -> str:
    return age(max(0.0, now - since))


def _engines(gatherer: Gatherer, open_: Iterable[SessionTrace], left: Iterable[SessionTrace], now: float) -> Table:
    made = text.table("engine", "process", "host", "version", "ledger", "up", "heard of", "open", "left")
    opens, lefts = Counter(each.engine for each in open_), Counter(each.engine for each in left)
    shown = [each for each in gatherer.engines.values() if _is_there(each, now) or opens[each.id] or lefts[each.id]]
    for engine in sorted(shown, key=lambda engine: engine.last_at, reverse=True)[:_ROWS]:
        made.add_row(
            text.plain(engine.id) or "-",
            "-" if engine.pid is None else str(engine.pid),
            text.plain(engine.host) or "-",
            text.plain(engine.version) or "-",
            text.plain(engine.ledger) or "-",
            _up(engine, now),
            f"{_age(engine.last_at, now)} ago",
            str(opens[engine.id]),
            str(lefts[engine.id]),
        )
    _more(made, len(shown))
    return made


def _is_there(engine: EngineTrace, now: float) -> bool:
    return engine.closed_at is None and now - engine.last_at <= QUIET_S


def _up(engine: EngineTrace, now: float) -> str:
    if engine.closed_at is not None:
        return "closed"
    since = engine.first_at if engine.opened_at is None else engine.opened_at
    return f"{'> ' if engine.opened_at is None else ''}{_age(since, now)}"


def _states(sessions: Sequence[SessionTrace], now: float) -> Table:
    made = text.table("state", "sessions", "oldest", "longest in it", right=("sessions",))
    by_state: defaultdict[str, list[SessionTrace]] = defaultdict(list)
    for session in sessions:
        by_state[session.state].append(session)
    for state in sorted(by_state, key=lambda state: _ORDER.get(state, len(_ORDER)))[:_ROWS]:
        there = by_state[state]
        oldest = min(session.opened_at for session in there)
        longest = min(session.stays()[-1].since for session in there)
        made.add_row(text.plain(state), str(len(there)), _age(oldest, now), _age(longest, now))
    return made


def _oldest(sessions: Sequence[SessionTrace], now: float) -> Table:
    made = text.table("age", "session", "service", "account", "state", "doing")
    for session in sorted(sessions, key=lambda session: session.opened_at)[:_ROWS]:
        made.add_row(_age(session.opened_at, now), *_named(session), text.plain(session.state), _doing(session, now))
    _more(made, len(sessions))
    return made


def _named(session: SessionTrace) -> tuple[str, str, str]:
    return text.short(session.id), text.plain(session.service) or "-", text.plain(session.account) or "-"


def _doing(session: SessionTrace, now: float) -> str:
    if session.waiting_since is not None:
        return f"waits for its turn, {_age(session.waiting_since, now)}"
    if session.closing_since is not None:
        return f"is given back, {_age(session.closing_since, now)}"
    return text.plain(session.in_flight or "")


def _waiting(sessions: Sequence[SessionTrace], now: float) -> Table:
    made = text.table("account", "sessions", "longest", right=("sessions",))
    since: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for session in sessions:
        if session.waiting_since is not None:
            since[session.service, session.account].append(session.waiting_since)
    for (service, account), times in sorted(since.items(), key=lambda item: -len(item[1]))[:_ROWS]:
        made.add_row(text.plain(f"{service} {account}"), str(len(times)), _age(min(times), now))
    _more(made, len(since))
    return made


def _errors(recent: Recent, now: float) -> Table:
    made = text.table("times", "error", "in", right=("times",))
    errors: Mapping[tuple[str, str, str], int] = recent.errors(now)
    for (error, code, where), times in sorted(errors.items(), key=lambda item: -item[1])[:_ROWS]:
        made.add_row(str(times), error_name(error, code), text.plain(where))
    _more(made, len(errors))
    return made


def _left(sessions: Sequence[SessionTrace], now: float) -> Table:
    made = text.table("age", "session", "service", "account", "state", "chat", "last try")
    for session in sorted(sessions, key=lambda session: session.opened_at)[:_ROWS]:
        tried = "-" if session.swept is None else error_name(session.swept.outcome, session.swept.error_code)
        chat = text.plain(session.chat) or "unknown"
        made.add_row(_age(session.opened_at, now), *_named(session), text.plain(session.state), chat, tried)
    _more(made, len(sessions))
    return made


def _more(made: Table, count: int) -> None:
    if count > _ROWS:
        made.add_row(f"{count - _ROWS} more", style="dim")
