"""Who is told of what happens to a ledger."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping

from chatlease.ledger import Listener

_REMEMBERED = 100


class News:
    """Tells listeners; what happens while there is none (at the start, above all) is told to the first who comes."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._untold: deque[tuple[str, Mapping[str, object]]] = deque(maxlen=_REMEMBERED)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell this listener from now on; returns what makes it stop."""
        self._listeners.append(listener)
        while self._untold:
            self._call(listener, *self._untold.popleft())

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def tell(self, event: str, **keys: object) -> None:
        """Tell everybody; in the thread in which it happened."""
        listeners = tuple(self._listeners)
        if not listeners:
            self._untold.append((event, keys))
        for listener in listeners:
            self._call(listener, event, keys)

    @staticmethod
    def _call(listener: Listener, event: str, keys: Mapping[str, object]) -> None:
        with contextlib.suppress(Exception):  # whatever a listener does wrong must not end the writing
            listener(event, keys)
