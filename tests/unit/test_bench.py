"""The benchmark's arithmetic, its targets, what it prints, writes and draws."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("orjson", reason="what the benchmark needs is in the extra dev")

from tests.bench import (
    __main__,
    first_token,
    held,
    imports,
    lifetime,
    lived,
    measure,
    parked,
    parts,
    report,
)
from tests.bench.figures import ADDS, CPU, OVER_FLOOR, OVER_SEEDS, SHARE, Outcome, Spread, added, cpu_measures, over
from tests.bench.peers import DEFAULT, FLOOR, NONE, SEEDS, TRACED
from tests.bench.shapes import SHAPES, SHORT_16
from tests.bench.targets import TARGETS, Target, verdict

# --------------------------------------------------------------------------------------------------------- arithmetic


def test_a_spread_is_the_median_and_the_quartiles_around_it() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, low=2.0, high=4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that is three times as slow in one round changes nothing."""
    rounds = {FLOOR: [1.0, 3.0, 1.0], NONE: [2.0, 6.0, 2.0], DEFAULT: [2.5, 7.5, 2.5]}
    assert over(rounds, NONE, FLOOR) == Spread(2.0, 2.0, 2.0)
    assert added(rounds, DEFAULT, NONE, FLOOR) == Spread(0.5, 0.5, 0.5)


def test_rounds_that_are_not_the_same_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="longer"):
        over({FLOOR: [1.0, 1.0], NONE: [1.0]}, NONE, FLOOR)


def test_cpu_time_is_told_per_unit_and_over_those_who_were_there() -> None:
    measures = cpu_measures({FLOOR: [0.002], SEEDS: [0.004], NONE: [0.003], DEFAULT: [0.0035]}, units=2)
    assert measures[FLOOR][CPU].median == pytest.approx(1000.0)
    assert measures[DEFAULT][OVER_FLOOR].median == pytest.approx(1.75)
    assert measures[DEFAULT][OVER_SEEDS].median == pytest.approx(0.875)
    assert measures[DEFAULT][ADDS].median == pytest.approx(0.25)
    assert ADDS not in measures[NONE]
    assert SHARE not in measures[DEFAULT]
    traced = cpu_measures({FLOOR: [0.002], NONE: [0.004], TRACED: [0.005]}, units=2)
    assert traced[TRACED][SHARE].median == pytest.approx(0.25)
    assert OVER_SEEDS not in cpu_measures({FLOOR: [0.002]}, units=2)[FLOOR]


def test_peers_take_turns_at_being_first() -> None:
    assert [measure.turned("abc", number) for number in range(4)] == [[*"abc"], [*"bca"], [*"cab"], [*"abc"]]


def test_what_an_interpreter_needs_anyway_is_taken_off_an_import() -> None:
    seconds = {imports.NOTHING: [0.01, 0.02], imports.AIOHTTP: [0.11, 0.12], imports.PLAIN: [0.04, 0.05]}
    measures = imports.measures_of(seconds, imports.PLAIN)
    assert measures[imports.OVER_AIOHTTP].median == pytest.approx(0.3)
    assert measures[imports.CPU_MS].median == pytest.approx(30.0)


def test_a_program_that_fails_is_no_import(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        imports.cpu_of("raise SystemExit(3)", str(tmp_path))


def test_an_import_finds_the_bytecode_of_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    imports.cpu_of("import chatlease", str(tmp_path))
    assert any("chatlease" in path.parts for path in tmp_path.rglob("_engine.*.pyc"))


# ------------------------------------------------------------------------------------------------------------ targets


@pytest.mark.parametrize(
    ("median", "said"), [(1.05, "met"), (0.9, "met"), (1.25, "missed by 0.20"), (None, "not measured")]
)
def test_a_target_is_met_by_its_median(median: float | None, said: str) -> None:
    target = Target(SHORT_16, NONE, OVER_FLOOR, 1.05)
    peers = {} if median is None else {NONE: {OVER_FLOOR: Spread(median, 0.0, 9.0)}}
    found = target.found({SHORT_16: Outcome(SHORT_16, "session", peers)})
    assert verdict(target, found) == said


def _measured() -> dict[str, set[str]]:
    """Return the peers of every outcome of a whole run that has targets."""
    comparison = lived.growth_of(lived.FULL)
    return {
        **{shape.name: {*shape.peers} for shape in SHAPES},
        **{parked.name_of(plan.at_once): {*parked.PEERS} for plan in parked.FULL if plan.memory},
        comparison: {*lifetime.PEERS},
        first_token.NAME: {*first_token.PEERS},
        **{name: {*held.PEERS} for name in held.SCRIPTS},
        imports.NAME: {*imports.PROGRAMS},
    }


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.shape}, {target.peer}, {target.measure}")
def test_every_target_is_about_something_that_a_whole_run_measures(target: Target) -> None:
    assert target.peer in _measured()[target.shape]


def test_the_floor_comes_first_in_every_shape() -> None:
    assert {next(iter(shape.peers)) for shape in SHAPES} == {FLOOR}


def test_no_account_is_asked_more_often_in_a_round_than_the_service_allows() -> None:
    allowed = 20
    assert [shape for shape in SHAPES if (shape.at_once if shape.one_account else shape.in_turn) > allowed] == []


def test_the_seeds_are_asked_for_no_answer_that_they_cannot_read() -> None:
    """aiohttp reads no longer line, and the final event, which is one, has the whole answer."""
    longest = 512 * 1024 - 1024
    assert [shape for shape in SHAPES if SEEDS in shape.peers and len(shape.script.text) > longest] == []


def test_a_quick_run_has_the_parts_of_a_whole_one() -> None:
    whole, quick = ({part.name for part in make(None)} for make in (parts.whole, parts.quick))
    assert quick < whole
    assert all(name.startswith("parked") for name in whole - quick)


# ------------------------------------------------------------------------------------------------------------- report

OUTCOMES: Mapping[str, Outcome] = {
    outcome.name: outcome
    for outcome in (
        Outcome(
            SHORT_16,
            "session",
            {
                FLOOR: {CPU: Spread(812.4, 800.0, 820.0)},
                NONE: {CPU: Spread.sure(90.0), OVER_FLOOR: Spread(1.1, 1.0, 1.2)},
            },
            ["3 rounds"],
            raw={FLOOR: [1.0], NONE: [1.1]},
        ),
        Outcome("later", "session", {NONE: {OVER_FLOOR: Spread(1.3, 1.2, 1.5)}}, axis=parked.AXIS, at=100),
        Outcome("sooner", "session", {NONE: {OVER_FLOOR: Spread(1.2, 1.1, 1.4)}}, axis=parked.AXIS, at=1),
    )
}


def test_a_table_has_a_line_per_peer_with_median_and_quartiles() -> None:
    lines = report.table(OUTCOMES[SHORT_16]).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        f"{SHORT_16} (per session)",
        f"{CPU} {OVER_FLOOR}",
        "floor 812 (800 to 820)",
        "chatlease, no ledger 90.00 1.10 (1.00 to 1.20)",
        "3 rounds",
    ]


def test_the_table_of_targets_has_every_target_and_its_verdict() -> None:
    lines = report.targets_table(OUTCOMES).splitlines()[1:]
    assert len(lines) == len(TARGETS)
    assert lines[0].endswith("1.10 (1.00 to 1.20)       missed by 0.05")
    assert lines[-1].endswith("not measured")


def test_what_is_written_down_has_every_round_and_every_verdict(tmp_path: Path) -> None:
    report.write(tmp_path / "results" / "latest.json", OUTCOMES)
    written = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert written["shapes"][0]["raw"] == {FLOOR: [1.0], NONE: [1.1]}
    assert [target["verdict"] for target in written["targets"]][:2] == ["missed by 0.05", "not measured"]
    assert written["packages"].keys() >= {"aiohttp", "msgspec"}


def test_a_line_is_drawn_through_its_points_in_order() -> None:
    plot = pytest.importorskip("tests.bench.plot", exc_type=ImportError)
    points = [outcome for outcome in OUTCOMES.values() if outcome.axis]
    assert plot.lines(points) == {NONE: ([1, 100], [Spread(1.2, 1.1, 1.4), Spread(1.3, 1.2, 1.5)])}


def test_a_diagram_is_drawn_where_there_is_something_to_draw(tmp_path: Path) -> None:
    plot = pytest.importorskip("tests.bench.plot", exc_type=ImportError)
    assert plot.draw(OUTCOMES.values(), tmp_path / "new" / "cost.svg")
    drawn = (tmp_path / "new" / "cost.svg").read_text()
    assert all(text in drawn for text in (NONE, parked.AXIS, lived.AXIS))
    assert not plot.draw([OUTCOMES[SHORT_16]], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


# ----------------------------------------------------------------------------------------------------------- the whole


def test_a_run_prints_writes_and_leaves_the_environment_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLEASE_LEDGER")
    before = dict(os.environ)
    path = tmp_path / "results" / "one.json"
    __main__.main(["--quick", "--rounds", "1", "--only", first_token.NAME, "--json", str(path)])
    said = capsys.readouterr().out
    assert f"{first_token.NAME} (per session)" in said
    assert "not measured" in said
    assert [shape["name"] for shape in json.loads(path.read_text())["shapes"]] == [first_token.NAME]
    assert dict(os.environ) == before


def test_a_shape_that_there_is_not_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--only", "no such shape"])
    assert "no shape has 'no such shape' in its name" in capsys.readouterr().err
