"""Which paths there are: breadth first, from every standing that was found, every move and every fault at each call.

Rules that live here:

* A standing is where a session stands and what its guards can see. It is left by every move that is possible there,
  once without a fault, which shows the calls that the move makes, and then once for each fault at each of them.
* The order is always the same, and the first path to a standing is a shortest one; so is the path of a violation.
* In the second turn, and where two sessions go beside each other, nothing is made to fail.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chatlease import State, Trigger
from chatlease._lifecycle import Create, Facts, Run, allowed

from ._faults import READ, applicable
from ._laws import breaches
from ._moves import BOTH, Move, Path, Standing, moves_from
from ._play import Played, Scene, play
from ._report import Exploration, Violation, rows_not_fired

__all__ = ["Walk"]

_NTH = 2
"""A call that a move makes again and again (a look at the run) is hit the first and the second time."""
_NTH_READ = 4
_START = Standing(State.NEW, Create.NOT_SENT, Run.NONE)


@dataclass
class Walk:
    """
    Plays paths and gathers what became of them.

    Attributes:
        scene: What they have in common.
        harmful: Deleting a chat whose run is going does harm, as the adapter says.
        faults: Names of those that are made to happen.
        most: Paths that are played at most.
    """

    scene: Scene
    harmful: bool
    faults: tuple[str, ...]
    most: int
    standings: dict[Standing, Path] = field(default_factory=dict[Standing, Path])
    happened: Counter[str] = field(default_factory=Counter[str])
    fired: Counter[tuple[Trigger, State]] = field(default_factory=Counter[tuple[Trigger, State]])
    violations: dict[tuple[str, str], Violation] = field(default_factory=dict[tuple[str, str], Violation])
    paths: int = 0
    missed: int = 0
    stuck: bool = False
    _left: set[Standing] = field(default_factory=set[Standing])
    _todo: deque[tuple[Path, list[str]]] = field(default_factory=deque[tuple[Path, list[str]]])

    async def everything(self) -> None:
        """Walk everything that can be reached."""
        self.standings[_START] = ()
        self._left.add(_START)
        self._todo.append(((), moves_from(_START, allowed(_START.state, Facts()), harmful=self.harmful)))
        while self._todo:
            prefix, names = self._todo.popleft()
            for name in names:
                for path in await self._clean((*prefix, Move(name))):
                    if self.over:
                        return
                    await self._play(path)

    @property
    def over(self) -> bool:
        """Whether no more paths are to be played."""
        return self.stuck or self.paths >= self.most

    async def these(self, paths: Iterable[Path]) -> None:
        """Play these paths and no others."""
        for path in paths:
            if not self.over:
                await self._play(path)
        self._todo.clear()

    async def _clean(self, path: Path) -> list[Path]:
        """Play a move without a fault; return the paths with one at each of its calls."""
        if self.over:
            return []
        played = await self._play(path)
        if played.before is None or played.before.turn > 1 or path[-1].name == BOTH:
            return []
        return [(*path[:-1], each) for each in self._broken(path[-1].name, played.calls)]

    def _broken(self, name: str, calls: Iterable[str]) -> Iterator[Move]:
        seen: Counter[str] = Counter()
        for call in calls:
            seen[call] += 1
            if seen[call] > (_NTH_READ if call == READ else _NTH):
                continue
            for fault in self.faults:
                if fault in self.scene.arms and call == READ:
                    continue
                if fault in self.scene.arms or applicable(fault, call):
                    yield Move(name, fault, call, seen[call])

    async def _play(self, path: Path) -> Played:
        self.paths += 1
        played = await play(self.scene, path, self.paths)
        self._count(played)
        for law, how in breaches(self.scene, played):
            self._note(law, how, played)
        self.stuck = not played.over
        self._find(played)
        return played

    def _count(self, played: Played) -> None:
        fault = played.path[-1].fault
        if fault and played.hit:
            self.happened[fault] += 1
        self.missed += bool(fault) and not played.hit
        for event in played.trace:
            if event.event == "session.transition.completed":
                self.fired[Trigger(event.keys["trigger"]), State(event.keys["source"])] += 1

    def add(self, law: str, how: str, path: str) -> None:
        """Note a law that was broken beside the paths, unless one of them showed it."""
        self.violations.setdefault((law, how), Violation(law, how, path))

    def _note(self, law: str, how: str, played: Played) -> None:
        known = self.violations.get((law, how))
        path = " > ".join(map(str, played.path)) if known is None else known.path
        trace = tuple(played.trace) if known is None else known.trace
        self.violations[law, how] = Violation(law, how, path, trace, 1 if known is None else known.paths + 1)

    def _find(self, played: Played) -> None:
        """Go on from where the session stands now, if no path led there before."""
        standing = played.after
        if standing is None:
            return
        self.standings.setdefault(standing, played.path)
        if played.allowed and standing not in self._left:
            self._left.add(standing)
            self._todo.append((played.path, moves_from(standing, played.allowed, harmful=self.harmful)))

    def report(self, service: str, witness: str, *, complete: bool) -> Exploration:
        """Return what was found."""
        return Exploration(
            service=service,
            paths=self.paths,
            standings=tuple(self.standings),
            faults=dict(self.happened),
            fired=dict(self.fired),
            not_fired=rows_not_fired(self.fired, harmful=self.harmful),
            violations=tuple(sorted(self.violations.values(), key=lambda each: _simplicity(each.path))),
            missed=self.missed,
            complete=complete and not self.over,
            witness=witness,
        )


def _simplicity(path: str) -> tuple[int, int]:
    """What goes wrong without a fault comes first, then what is short."""
    return path.count("["), path.count(">")
