"""The benchmark measures what it says: every peer, every shape at its smallest, and what ends a run."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import time
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("orjson", reason="what the benchmark needs is in the extra dev")

from chatlease import TraceFile
from tests.bench import (
    descriptors,
    first_token,
    held,
    lifetime,
    lived,
    measure,
    ours,
    parked,
    plain,
)
from tests.bench.figures import BUSY, CPU, OVER_FLOOR, Spread
from tests.bench.peers import DEFAULT, FLOOR, LOGGED, NONE, SEEDS, TRACED, Ask, Opened, Peer
from tests.bench.server import WORD, Script
from tests.bench.serving import serving
from tests.bench.shapes import SHAPES, Shape

SHORT = Script(tokens=4, per_write=2)


@pytest.fixture(autouse=True)
def _ledger_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATLEASE_LEDGER", f"sqlite:///{tmp_path / 'ledger.sqlite3'}")


@pytest.fixture(autouse=True)
def _no_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how much was used, so what is left to later need not be waited for."""
    for module in (measure, parked):
        monkeypatch.setattr(module, "TAIL_S", 0.0)


# -------------------------------------------------------------------------------------------------------------- peers

PEERS: Mapping[str, Peer] = {
    **{name: peer for shape in SHAPES for name, peer in shape.peers.items()},
    FLOOR: plain.floor,
    SEEDS: plain.seeds,
    "floor in turn": plain.floor_in_turn,
    "seeds in turn": plain.seeds_in_turn,
    "without a budget": ours.chatlease(ours.Unbudgeted, ledger=None),
    "patient": ours.patient(ledger=None),
}


@pytest.mark.parametrize("name", PEERS)
async def test_every_peer_gives_out_the_whole_answer_and_deletes_its_chats(name: str) -> None:
    async with serving(SHORT) as server:
        async with PEERS[name](server.url) as peer:
            with peer.at_work():
                answers = [[token async for token in peer.ask("me")] for _ in range(2)]
        await server.check()
    assert answers == [[WORD] * 4] * 2


@pytest.mark.parametrize("name", ["floor in turn", "seeds in turn", NONE, DEFAULT])
async def test_sessions_of_one_account_wait_for_the_first_token_of_another_and_not_for_its_end(name: str) -> None:
    """All three stand in the middle of their answers at once."""
    async with serving(replace(SHORT, park_after=2)) as server, PEERS[name](server.url) as peer:
        park = parked.Park(peer, server, ["me"] * 3, replace(SHORT, park_after=2))
        await park.fill()
        await park.empty()
        await server.check()


async def test_the_floor_in_turn_queues_no_answer_before_the_first_token_of_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[str] = []
    most = 0
    post = plain.post

    async def spy(http: object, path: str, *rest: object) -> str:
        nonlocal most
        if path.endswith("assistant_message"):
            waiting.append(path)
            most = max(most, len(waiting))
        return await post(http, path, *rest)  # type: ignore[arg-type]  # handed on as it came

    async def session(ask: Ask) -> None:
        first = True
        async for _token in ask("me"):
            if first:
                waiting.pop()
                first = False

    monkeypatch.setattr(plain, "post", spy)
    async with serving(SHORT) as server, plain.floor_in_turn(server.url) as peer:
        await asyncio.gather(*(session(peer.ask) for _ in range(5)))
    assert most == 1


def nothing(*_: object) -> None:
    """Stands for what writes into a file."""


@pytest.mark.parametrize("name", [LOGGED, TRACED])
async def test_a_trace_that_lacks_a_session_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(url: str) -> None:
        async with PEERS[name](url) as peer:
            with peer.at_work():
                assert [token async for token in peer.ask("me")]

    monkeypatch.setattr(logging.FileHandler, "emit", nothing)
    monkeypatch.setattr(TraceFile, "__call__", nothing)
    async with serving(SHORT) as server:
        with pytest.raises(RuntimeError, match="of 1 sessions, 0 are in the file"):
            await once(server.url)


async def test_the_log_is_only_turned_on_for_its_own_rounds() -> None:
    logger = logging.getLogger("chatlease")
    before = logger.level, list(logger.handlers)
    async with serving(SHORT) as server, ours.logged(server.url) as peer:
        assert (logger.level, logger.handlers) == before
        with peer.at_work():
            assert logger.isEnabledFor(logging.INFO)
        assert (logger.level, logger.handlers) == before


# -------------------------------------------------------------------------------------------------------------- shapes


def wrapped(change: Callable[[AsyncIterator[str]], AsyncIterator[str]]) -> Peer:
    """The floor, with something done to its answers."""

    @asynccontextmanager
    async def peer(url: str) -> AsyncGenerator[Opened]:
        async with plain.floor(url) as floor:

            def ask(account: str) -> AsyncIterator[str]:
                return change(aiter(floor.ask(account)))

            yield Opened(ask)

    return peer


async def _lossy(tokens: AsyncIterator[str]) -> AsyncIterator[str]:
    await anext(tokens)
    async for token in tokens:
        yield token


@asynccontextmanager
async def leaving(url: str) -> AsyncGenerator[Opened]:
    """A peer that creates a chat besides, and forgets it."""
    async with plain.floor(url) as floor, plain.client(url) as http:

        async def ask(account: str) -> AsyncIterator[str]:
            await plain.post(http, "/api/chat", {}, None)
            async for token in floor.ask(account):
                yield token

        yield Opened(ask)


def tiny(*, one_account: bool = False, **peers: Peer) -> Shape:
    """The smallest shape."""
    return Shape("tiny", SHORT, {FLOOR: plain.floor, **peers}, 2, 2, "token", one_account=one_account)


@pytest.mark.parametrize("one_account", [False, True])
async def test_a_shape_is_measured_in_rounds(*, one_account: bool) -> None:
    shape = tiny(one_account=one_account, other=ours.chatlease(ledger=None))
    (outcome,) = await measure.measure(shape, rounds=2)
    assert {name: len(rounds) for name, rounds in outcome.raw.items()} == {FLOOR: 2, "other": 2}
    used = outcome.raw["other"]
    assert outcome.peers["other"][CPU].median == pytest.approx(sum(used) / 2 / 16 * 1e6)
    assert outcome.peers["other"][OVER_FLOOR].median > 0
    assert 0 < outcome.peers["other"][BUSY].median < 2


async def test_a_shape_whose_time_is_up_has_three_rounds() -> None:
    (outcome,) = await measure.measure(replace(tiny(), budget_s=0.0), rounds=5)
    assert len(outcome.raw[FLOOR]) == 3


async def test_a_peer_that_loses_a_token_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="12 tokens of 16"):
        await measure.measure(tiny(lossy=wrapped(_lossy)), rounds=1)


async def test_a_peer_that_leaves_a_chat_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="chats were left"):
        await measure.measure(tiny(leaving=leaving), rounds=1)


@pytest.mark.parametrize("script", [{"tokens": 3, "per_write": 2}, {"tokens": 4, "per_write": 2, "park_after": 1}])
def test_a_script_that_does_not_come_out_even_is_refused(script: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="are no writes of 2"):
        Script(**script)


# -------------------------------------------------------------------------------------------------------------- parked


@pytest.mark.slow
async def test_parked_sessions_are_measured_in_cpu_time_and_memory() -> None:
    (outcome,) = await parked.measure(parked.Plan(3, rounds=1, sessions=3), rounds=2)
    assert outcome.peers.keys() == {FLOOR, NONE, DEFAULT}
    assert outcome.peers[FLOOR][parked.OWN].median == 0
    assert outcome.peers[NONE][parked.MEMORY].median > 1
    assert outcome.peers[DEFAULT][OVER_FLOOR].median > 0
    assert "chatlease, no ledger: " in outcome.notes[1]
    assert (outcome.axis, outcome.at) == (parked.AXIS, 3)


async def test_a_size_that_the_system_does_not_allow_is_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no(_sessions: int) -> bool:
        return False

    monkeypatch.setattr(descriptors, "allow", no)
    (outcome,) = await parked.measure(parked.Plan(10_000, rounds=1), rounds=1)
    assert outcome.peers == {}
    assert outcome.notes == ["left out: the system does not allow 10,000 open files"]


@pytest.mark.parametrize(("soft", "set_to"), [(resource.RLIM_INFINITY, []), (20_000, []), (1_024, [(10_500, 10_500)])])
def test_the_limit_of_open_files_is_raised_where_it_is_too_low(
    soft: int, set_to: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[tuple[int, int]] = []

    def limits(_kind: int) -> tuple[int, int]:
        return soft, 4_096

    def limit(_kind: int, to: tuple[int, int]) -> None:
        raised.append(to)

    monkeypatch.setattr(resource, "getrlimit", limits)
    monkeypatch.setattr(resource, "setrlimit", limit)
    assert descriptors.allow(10_000)
    assert raised == set_to


def test_a_limit_that_may_not_be_raised_is_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def limits(_kind: int) -> tuple[int, int]:
        return 1_024, 4_096

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", limits)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert not descriptors.allow(10_000)


async def _short_lived(tokens: AsyncIterator[str]) -> AsyncIterator[str]:
    yield await anext(tokens)


async def test_a_session_that_ends_before_all_are_parked_ends_the_run() -> None:
    script = replace(SHORT, park_after=2)
    async with serving(script) as server, wrapped(_short_lived)(server.url) as peer:
        with pytest.raises(RuntimeError, match="ended before all were parked"):
            await parked.Park(peer, server, ["me"], script).fill()


async def test_a_parked_session_that_loses_a_token_ends_the_run() -> None:
    script = Script(tokens=6, per_write=2, park_after=4)
    async with serving(script) as server, wrapped(_lossy)(server.url) as peer:
        park = parked.Park(peer, server, ["me"], replace(script, park_after=2))
        with pytest.raises(RuntimeError, match="5 to 5 tokens"):
            await park.whole()


# --------------------------------------------------------------------------------------------------------------- lived

LIFE = lifetime.Plan(sooner=(16,), traced_from=64, look_from=80, end=112, slices=1, turns=1)


@pytest.mark.slow
async def test_a_life_is_measured_at_its_points_and_compared() -> None:
    sooner, later, compared = await lived.measure(LIFE)
    assert [(point.axis, point.at) for point in (sooner, later)] == [(lived.AXIS, 16), (lived.AXIS, 112)]
    assert sooner.peers.keys() == later.peers.keys() == compared.peers.keys() == {NONE, DEFAULT}
    ratio = later.peers[NONE][OVER_FLOOR].median / sooner.peers[NONE][OVER_FLOOR].median
    assert compared.peers[NONE][lived.LATER].median == pytest.approx(ratio)
    assert compared.peers[DEFAULT][lived.LEDGER].median > 0
    assert lived.LEDGER not in compared.peers[NONE]


async def test_what_a_life_keeps_is_growth(tmp_path: Path) -> None:
    """A peer that keeps a kilobyte a session, over 32 sessions."""
    kept: list[bytearray] = []

    async def keeping(tokens: AsyncIterator[str]) -> AsyncIterator[str]:
        kept.append(bytearray(1024))
        async for token in tokens:
            yield token

    async with (
        serving(lifetime.SCRIPT) as server,
        wrapped(keeping)(server.url) as peer,
        plain.floor(server.url) as floor,
    ):
        life = lifetime.Life("keeping", peer, floor, tmp_path, LIFE)
        await life.traced()
    assert len(kept) == 112
    assert life.found.traced[1] - life.found.traced[0] > 32 * 1024


def test_strings_that_come_and_go_are_no_growth() -> None:
    """The interpreter's table of them is: the first time that it is allocated anew after tracing began."""
    tracemalloc.start(1)
    try:
        lifetime.renew_interned()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100_000):
            sys.intern(f"a string of which there are many {number}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100 * 1024


async def test_a_life_that_ends_too_soon_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="did not live to its end"):
        async with lived.process("nobody", LIFE) as process:
            await lived.goes_on(process)


# --------------------------------------------------------------------------------------------------------------- waits


async def test_the_time_to_the_first_token_is_taken_of_every_peer() -> None:
    (outcome,) = await first_token.measure(rounds=1, sessions=2)
    assert outcome.peers.keys() == first_token.PEERS.keys()
    assert outcome.peers[FLOOR][OVER_FLOOR] == Spread(1.0, 1.0, 1.0)
    assert outcome.peers[DEFAULT][first_token.WAITED].median > 0


async def test_the_longest_time_that_the_loop_is_held_is_taken_of_every_peer() -> None:
    (outcome,) = await held.measure(held.FLOOD, rounds=2, script=Script(tokens=64, per_write=64))
    for peer in held.PEERS:
        measures = outcome.peers[peer]
        assert measures[held.LONGEST].median >= measures[held.TYPICAL].high > 0


async def test_a_loop_that_is_held_makes_the_ticks_late() -> None:
    ticks = held.Ticks()
    ticking = asyncio.create_task(ticks.run())
    await asyncio.sleep(0)
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    await asyncio.sleep(held.PERIOD_S)
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking
    assert ticks.cpu >= 0.02
    assert ticks.wall >= 0.02 - held.PERIOD_S
