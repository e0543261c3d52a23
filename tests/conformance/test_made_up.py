"""Adapters for made-up services, written from the guide and a documentation alone, do all that an adapter has to."""

from __future__ import annotations

import importlib
import itertools
from functools import partial
from typing import Any

import pytest

from chatlease.adapter import Adapter
from tests.made_up.examine import EXAMINATIONS, Examination, Make, examine, rides_out_a_storm
from tests.made_up.known import ADAPTERS, doubles, known
from tests.made_up.plan import Plan
from tests.made_up.reference import Reference
from tests.made_up.sameness import same

SEEDS = sorted(int(path.stem.removeprefix("seed_")) for path in ADAPTERS.glob("seed_*.py"))
SHORT = [each for each in EXAMINATIONS if each is not rides_out_a_storm]


def named(examination: Examination) -> str:
    return examination.__name__


def maker(seed: int) -> Make:
    module = importlib.import_module(f"tests.made_up.adapters.seed_{seed}")
    cls: Any = getattr(module, Plan.of(seed).vendor)

    def make(url: str) -> Adapter:
        adapter: Adapter = cls(url)
        return adapter

    return make


@pytest.mark.parametrize("examination", EXAMINATIONS, ids=named)
@pytest.mark.parametrize("seed", SEEDS)
async def test_an_adapter_written_from_the_guide(seed: int, examination: Examination) -> None:
    await examine(maker(seed), Plan.of(seed), examination)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_holds_no_code_that_another_adapter_has(seed: int) -> None:
    assert [*map(str, doubles(ADAPTERS / f"seed_{seed}.py"))] == []


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(["open_assistant", "langgraph", "parley"], 2)])
def test_the_adapters_here_hold_no_code_twice(one: str, other: str) -> None:
    assert [*map(str, same(known()[one], known()[other]))] == []


@pytest.mark.parametrize("examination", SHORT, ids=named)
@pytest.mark.parametrize("seed", range(24))
async def test_every_made_up_service_can_be_adapted(seed: int, examination: Examination) -> None:
    """A seed that nobody has tried has no flaw of the generator's: one adapter, which reads the plan, does it all."""
    plan = Plan.of(seed)
    await examine(partial(Reference, plan), plan, examination)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_no_made_up_service_is_left_with_a_chat(seed: int) -> None:
    plan = Plan.of(seed)
    await examine(partial(Reference, plan), plan, rides_out_a_storm)
