"""The ledger on SQLite: the default. One file for all processes of a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from chatlease._clock import Clock, SystemClock
from chatlease.errors import UsageError

from . import _stores
from ._file_store import FileStore
from ._place import default_path
from ._presence import Terms
from ._stored import StoredLedger


class SqliteLedger(StoredLedger):
    """
    A ledger in a SQLite file (`chatlease.ledger.Ledger`).

    Any number of engines, threads and processes of one host may use the same file at once; what they write together is
    made durable together. A process is known to be dead by the lock that it let go of, else by its lease.

    Args:
        path: The file; by default in the user's state folder. Made with mode 0600, its folder with 0700.
        lease: Seconds after which a process that does not answer for itself loses its chats. 60 by default.
        horizon: Seconds after which a create call, lost on its way, takes effect no more. 300 by default.
        keep: Seconds for which settled entries are kept. A week by default.
        liveness: ``"lease"`` to use no lock files, where they cannot be trusted.
        clock: For tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        lease: float = 60.0,
        horizon: float = 300.0,
        keep: float = 7 * 86400.0,
        liveness: Literal["flock", "lease"] = "flock",
        clock: Clock | None = None,
    ) -> None:
        self.path = default_path() if path is None else Path(path).expanduser()
        super().__init__(self.path, Terms(lease, horizon, keep, liveness))
        self._clock = clock or SystemClock()

    @classmethod
    def from_url(cls, url: str) -> SqliteLedger:
        """
        Return the ledger of a URL: ``sqlite:///PATH``, ``?`` and ``lease=``, ``horizon=``, ``keep=``, ``liveness=``.

        Four slashes make an absolute path, three a relative one, as everywhere; ``sqlite:///~/x`` is the user's folder.

        Raises:
            UsageError: It is no such URL.
        """
        parts = urlsplit(url)
        path = unquote(parts.path.removeprefix("/"))
        plain = parts.path.startswith("/") and not parts.netloc and not parts.fragment and "\0" not in path
        if parts.scheme != "sqlite" or not plain or not path or path == ":memory:":
            raise UsageError(
                "a SQLite ledger is named as sqlite:///PATH (sqlite:////PATH for an absolute one)",
                hint="The one in memory is named memory; # in a path is written %23.",
            )
        return cls(path, **_terms(dict(parse_qsl(parts.query, keep_blank_values=True))))

    def _obtain_store(self) -> FileStore:
        place = Path(os.path.realpath(self.path))
        return cast("FileStore", _stores.store_of(place, lambda: FileStore(place, self._terms, self._clock)))


def _terms(query: dict[str, str]) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    for name, value in query.items():
        if name == "liveness" and value in {"flock", "lease"}:
            terms[name] = value
        elif name in {"lease", "horizon", "keep"} and _is_positive(value):
            terms[name] = float(value)
        else:
            raise UsageError(
                f"a SQLite ledger has no option {name!r} of that value",
                hint="Options are lease, horizon and keep, in seconds, and liveness=flock or liveness=lease.",
            )
    return terms


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
