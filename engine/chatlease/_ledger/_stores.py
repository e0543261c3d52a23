"""The stores of this process, one for each real path.

Rules that live here:

* Whoever uses a path gets the same store; the last user stops it, and so does the end of the process.
* After a fork the child abandons all of them: it closes nothing, locks nothing, writes nothing. Its own use of the same
  path begins anew.
"""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from chatlease._clock import Clock, SystemClock

from ._presence import Terms
from ._store import Store

_stores: dict[Path, Store] = {}
_guard = threading.Lock()
_EXIT_S = 5.0
"""So long the end of the interpreter waits for a disk; what is not written then costs one more deletion."""
_abandoned: list[Store] = []
"""Kept for ever in a forked child: the finaliser of a connection would write into its parent's file."""


def store_of(path: Path, terms: Terms, clock: Clock | None) -> Store:
    """Return this process's store of a file, with one user more."""
    with _guard:
        where = Path(os.path.realpath(path))
        store = _stores.get(where)
        if store is None:
            store = _stores[where] = Store(where, terms, clock or SystemClock())
            store.start()
        store.users += 1
        return store


def release(store: Store) -> bool:
    """Have one user less; returns whether it was the last one, who has to end the store."""
    with _guard:
        store.users -= 1
        if store.users > 0:
            return False
        if _stores.get(store.path) is store:
            del _stores[store.path]
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
