"""Fixtures for pytest: a clock, a service, an engine, its trace; and a test fails that leaves a chat.

Rules that live here:

* pytest imports this module in every run wherever Chatlease is installed. So it is no part of the package `chatlease`,
  whose import would then come before coverage is measured and cost every run: that is imported when a fixture is asked.
* No fixture is a coroutine: they serve pytest-asyncio in both of its modes, anyio's plugin (on asyncio), and a test
  that calls ``asyncio.run``, all alike. The engine is entered by the test, on the test's own event loop.
* ``-p no:chatlease`` leaves all of it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from typing import Self

    from chatlease import Engine, MemoryLedger
    from chatlease.testing import CapturedTrace, FakeService, ManualClock

__all__ = [
    "chatlease_clock",
    "chatlease_engine",
    "chatlease_service",
    "chatlease_trace",
    "pytest_configure",
    "pytest_runtest_setup",
]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for runs with ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "chatlease(swept_later=False): what `chatlease_engine` may leave: with swept_later=True chats that an open "
        "entry of its ledger stands for, as in tests whose deletions fail",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker that says what we do not know: a test would believe that it is heard."""
    for marker in item.iter_markers("chatlease"):
        known = all(name == "swept_later" and isinstance(value, bool) for name, value in marker.kwargs.items())
        if marker.args or not known:
            said = [*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())]
            pytest.fail(
                f"@pytest.mark.chatlease({', '.join(said)}) is not understood; it takes swept_later=True or =False",
                pytrace=False,
            )


@pytest.fixture
def chatlease_clock() -> ManualClock:
    """A clock that jumps to the next timer whenever nothing else is left to do: half an hour takes milliseconds."""
    from chatlease.testing import ManualClock  # noqa: PLC0415  (see the header)

    return ManualClock(autojump=True)


@pytest.fixture
def chatlease_service(chatlease_clock: ManualClock) -> FakeService:
    """A chat service in memory, by that clock; override it to have another one, or an adapter of your own."""
    from chatlease.testing import FakeService  # noqa: PLC0415  (see the header)

    return FakeService(clock=chatlease_clock)


@pytest.fixture
def chatlease_engine(
    request: pytest.FixtureRequest, chatlease_service: FakeService, chatlease_clock: ManualClock
) -> Iterator[Engine]:
    """
    An engine on that service, by that clock, with a ledger in memory: ``async with chatlease_engine as engine:``.

    After the test it has to be closed, and everything given back: no chat at the service, no entry in the ledger.
    """
    from chatlease import Engine, MemoryLedger  # noqa: PLC0415  (see the header)
    from chatlease.testing.leftovers import left  # noqa: PLC0415

    class Watched(Engine):
        """Knows who closed it: a loop that ends closes an engine, too, which a test must not rely on."""

        entered = left = False

        async def __aenter__(self) -> Self:
            await super().__aenter__()
            self.entered = True
            return self

        async def aclose(self) -> None:
            self.left = True
            await super().aclose()

    engine = Watched(chatlease_service, ledger=MemoryLedger(chatlease_clock), sweep=None, clock=chatlease_clock)
    yield engine
    ledger = cast("MemoryLedger", engine.ledger)
    marker = request.node.get_closest_marker("chatlease")
    swept_later = marker is not None and bool(marker.kwargs.get("swept_later"))
    chats: set[str] = set(getattr(chatlease_service, "chats", ()))
    found = left(chats, ledger.entries, engine.sessions, swept_later=swept_later)
    if engine.entered and not engine.left:
        found = f"the engine was entered and never closed: write «async with chatlease_engine as engine:»\n{found}"
    if found:
        pytest.fail(f"chatlease_engine was not left as it was found:\n{found}", pytrace=False)


@pytest.fixture
def chatlease_trace(chatlease_engine: Engine) -> CapturedTrace:
    """Everything that the sessions of `chatlease_engine` trace, in order."""
    from chatlease.testing import CapturedTrace  # noqa: PLC0415  (see the header)

    trace = CapturedTrace()
    chatlease_engine.tracer.add(trace.append)
    return trace
