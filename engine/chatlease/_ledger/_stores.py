"""The stores of this process, one for each place: a file, or a schema on a server.

Rules that live here:

* Whoever uses a place gets the same store; the last user stops it, and so does the end of the process.
* After a fork the child abandons all of them: it closes nothing, locks nothing, writes nothing. Its own use of the same
  place begins anew.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Hashable

from ._store import Store

_stores: dict[Hashable, Store] = {}
_guard = threading.Lock()
_EXIT_S = 5.0
"""So long the end of the interpreter waits for a disk; what is not written then costs one more deletion."""
_abandoned: list[Store] = []
"""Kept for ever in a forked child: the finaliser of a connection would write into its parent's file."""


def store_of(place: Hashable, make: Callable[[], Store]) -> Store:
    """Return this process's store of a place, made and started if there is none, with one user more."""
    with _guard:
        store = _stores.get(place)
        if store is None:
            store = _stores[place] = make()
            store.start()
        store.users += 1
        return store


def release(store: Store) -> bool:
    """Have one user less; returns whether it was the last one, who has to end the store."""
    with _guard:
        store.users -= 1
        if store.users > 0:
            return False
        if _stores.get(store.place) is store:
            del _stores[store.place]
    return True


def _stop_all() -> None:
    for store in list(_stores.values()):
        store.stop(_EXIT_S)


def _abandon_all() -> None:
    global _guard  # noqa: PLW0603  (another thread of the parent may have held it)
    _guard = threading.Lock()
    for store in _stores.values():
        store.abandon()
        _abandoned.append(store)
    _stores.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
