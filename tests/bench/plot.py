"""The diagram of a run: what a session costs, against the sessions at once and against the sessions lived."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# matplotlib leaves its keyword arguments without types.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench import lived, parked
from tests.bench.figures import OVER_FLOOR, Outcome, Spread
from tests.bench.peers import DEFAULT, FLOOR, NONE

_SIZE = (11.0, 4.5)
_AXES = (parked.AXIS, lived.AXIS)
_COLOURS = {FLOOR: "tab:gray", NONE: "tab:blue", DEFAULT: "tab:orange"}


def draw(outcomes: Iterable[Outcome], path: Path) -> bool:
    """Draw what there is of it as SVG; returns False, and draws nothing, where there is nothing."""
    points = [outcome for outcome in outcomes if outcome.axis and outcome.peers]
    if not points:
        return False
    figure = Figure(figsize=_SIZE, layout="constrained")
    for number, axis in enumerate(_AXES, 1):
        axes = figure.add_subplot(1, len(_AXES), number)
        _draw_axis(axes, axis, [outcome for outcome in points if outcome.axis == axis])
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none"}):  # text stays text: small, and can be searched
        figure.savefig(path, format="svg")
    return True


def _draw_axis(axes: Axes, axis: str, points: Sequence[Outcome]) -> None:
    for peer, (places, spreads) in lines(points).items():
        medians = [spread.median for spread in spreads]
        below = [spread.median - spread.low for spread in spreads]
        above = [spread.high - spread.median for spread in spreads]
        axes.errorbar(places, medians, [below, above], marker="o", capsize=3, label=peer, color=_COLOURS[peer])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(axis)
    axes.set_ylabel("CPU time of a session, in floors")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    if points:
        axes.legend()


def lines(points: Sequence[Outcome]) -> dict[str, tuple[list[float], list[Spread]]]:
    """Return by peer what is drawn: the places on the axis, in order, and the ratios there."""
    drawn: dict[str, tuple[list[float], list[Spread]]] = {}
    for point in sorted(points, key=lambda outcome: outcome.at):
        for peer, measures in point.peers.items():
            places, spreads = drawn.setdefault(peer, ([], []))
            places.append(point.at)
            spreads.append(measures[OVER_FLOOR])
    return drawn
