"""`explore`: every path and every fault of the lifecycle table against somebody's own adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from chatlease import Deadlines
from chatlease.adapter import Adapter, Credential
from chatlease.testing.conformance import ContractBroken
from chatlease.testing.manual_clock import ManualClock

from ._closing import LAW, came_to_its_end, too_long
from ._moves import ACLOSE, path_of
from ._play import Scene
from ._report import Exploration, Violation
from ._walk import Walk

__all__ = ["Exploration", "Violation", "explore"]

_IDLE_PASSES = 10
"""Whatever is real holds the clock."""
_exploring: ContextVar[bool] = ContextVar("_exploring", default=False)


async def explore(
    make: Callable[[], Adapter],
    *,
    credential: Credential | None = None,
    chats: Callable[[], Iterable[str]] | None = None,
    harm: Callable[[], int] | None = None,
    breaking: Mapping[str, Callable[[str], object]] | None = None,
    model: str = "",
    prompt: str = "one two three",
    deadlines: Deadlines | None = None,
    clock: ManualClock | None = None,
    faults: Sequence[str] | None = None,
    only: str | Sequence[str] | None = None,
    most: int = 20_000,
    patience_s: float = 10.0,
    raises: bool = True,
) -> Exploration:
    """
    Walk every path and every fault of the lifecycle table with an adapter, and check what is promised after each.

    A session of a real engine is driven over the adapter to everywhere it can stand. From there every step that the
    table allows is taken, and so are reading, closing, and a whole `Engine.ask`: once as it is, and once for each fault
    at each call that the adapter gets: an error before the effect and after it, no answer until the deadline, a
    cancellation or a close from elsewhere before, during and after it, a refused login, a stream that breaks, stalls or
    ends. Afterwards: every chat is deleted, or has an open entry in the ledger, which a sweep then deletes; the caller
    saw the cause; no stream is open, no turn is held, no secret was shown; the trace tells the path; the adapter kept
    its contract. Run `check_adapter` first: it says shorter what is wrong with an adapter that works for nobody.

    The order is always the same, and nothing is left to chance. Time is the clock's: it jumps to the next deadline when
    nothing real is waited for, so an hour of deadlines takes a few seconds. Over real HTTP it is some thousand
    requests; the service has to answer soon, and must not limit their rate. What happens is in the report, not logged.

    Args:
        make: Makes the adapter, anew for every path; each one made is closed. One that is a service itself
            (`FakeService`) may be the same every time.
        credential: What the service accepts; ``None``: what the adapter's ``ready_cookies`` finds.
        chats: Returns the ids of all chats that exist at the service now: its own book, where the test has it. Without
            it the adapter's listing is believed, or, where it has none, what its deletions say.
        harm: Returns how often the deletion of a chat whose run was going has hurt somebody so far.
        breaking: More faults, by names of yours: each is called with the name of a step, and has the *service* fail at
            its next call; what it returns, if it can be called, ends that. They show how the adapter tells what
            happened; the others are put before and behind it.
        model: As for `Engine.session`.
        prompt: Sent in every turn; a text that the service answers soon.
        deadlines: Of the sessions, by the clock; those of an engine by default.
        clock: One that jumps by itself (``autojump=True``), which the service waits by, too; without it, one of its
            own.
        faults: Names of those that shall happen; all by default. `tests/README.md` has a table of them. With fewer the
            report is not ``complete``.
        only: A path, or some, as a report prints them, to be played alone.
        most: Paths that are played at most.
        patience_s: Real seconds for one call of the adapter, before the engine's deadline is let pass; and for a close
            of it, before that is given up.
        raises: Raise when a law is broken; else the report just says so.

    Returns:
        What was walked and found; ``str`` of it is the report.

    Raises:
        ContractBroken: A law is broken. Its text is the report: each breach with its shortest path, how to play that
            again, and its trace.
        ValueError: There is no such fault, a path of ``only`` is none, or the clock does not jump by itself.
    """
    if clock is not None and not getattr(clock, "autojump", False):
        raise ValueError(
            "nobody moves this clock while explore() walks: give clock=ManualClock(autojump=True), or none"
        )
    adapter = make()
    scene = Scene(
        make=make,
        credential=credential,
        chats=chats,
        harm=harm or (lambda: 0),
        arms=dict(breaking or {}),
        model=model,
        prompt=prompt,
        deadlines=deadlines or Deadlines(),
        clock=clock or ManualClock(autojump=True, idle_passes=_IDLE_PASSES),
        patience_s=patience_s,
    )
    with _unlogged():
        report = await _walked(scene, adapter, faults, only, most)
    if raises and report.violations:
        raise ContractBroken(f"\n{report}")
    return report


@contextmanager
def _unlogged() -> Generator[None]:
    """Log nothing of this exploration; what others do meanwhile is logged, and other explorations are left alone."""

    def is_of_others(_record: logging.LogRecord) -> bool:
        return not _exploring.get()

    log, before = logging.getLogger("chatlease"), _exploring.set(True)
    log.addFilter(is_of_others)
    try:
        yield
    finally:
        log.removeFilter(is_of_others)
        _exploring.reset(before)


async def _walked(
    scene: Scene, adapter: Adapter, faults: Sequence[str] | None, only: str | Sequence[str] | None, most: int
) -> Exploration:
    try:
        chosen = _chosen(scene, faults)
        walk = Walk(scene, adapter.capabilities.deletion_during_run == "harmful", chosen, most)
        if only is None:
            await walk.everything()
        else:
            await walk.these([path_of(each, scene.faults) for each in ([only] if isinstance(only, str) else only)])
    finally:
        ended = await came_to_its_end(adapter, scene.patience_s)
    if not ended:
        walk.add(LAW, too_long(scene.patience_s), ACLOSE)
    complete = ended and only is None and len(chosen) == len(scene.faults)
    return walk.report(adapter.service, _witness(scene, adapter), complete=complete)


def _chosen(scene: Scene, faults: Sequence[str] | None) -> tuple[str, ...]:
    if faults is None:
        return tuple(scene.faults)
    unknown = [name for name in faults if name not in scene.faults]
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}; there are {', '.join(scene.faults)}")
    return tuple(name for name in scene.faults if name in faults)


def _witness(scene: Scene, adapter: Adapter) -> str:
    if scene.chats is not None:
        return "by chats()"
    if adapter.capabilities.listing and scene.credential is not None:
        return "by the adapter's own listing"
    return "through the adapter's deletions alone: give chats=, or credential= with a listing"
