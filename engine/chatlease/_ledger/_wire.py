"""A connection to PostgreSQL, driven statement by statement from one thread.

Rules that live here:

* The driver is asyncio's; its event loop is the wire's own, and runs only while a statement does. So the statements of
  the protocol are the same functions as on SQLite, and no engine's loop, nor the end of one, has a part in them.
* Everything has to be done by one deadline, which is set before a batch: connecting, each statement, the commit. After
  that, or after any failure of the connection, it is dropped, and the next batch makes another.
* The same works behind a pooler that gives connections away by the transaction (PgBouncer): nothing is set but for the
  transaction, nothing is listened to, no lock outlives it. Statements are prepared only where nothing stands between
  (the server is the one that greeted us), which halves what they cost; one that is lost all the same ends that.
* A loop's selector must not be shared with a forked child, as ``epoll`` would be: the child's exit would reach into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import selectors
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from ._address import Address
from ._server_faults import Fault, fault_of

_CLOSE_S = 1.0


class Rows(list[Any]):
    """
    The rows of a statement.

    Attributes:
        rowcount: How many rows it changed, or returned.
    """

    def __init__(self, rows: Iterable[Any], rowcount: int | None = None) -> None:
        super().__init__(rows)
        self.rowcount = len(self) if rowcount is None else rowcount


class Wire:
    """
    A connection, made when it is needed.

    Args:
        address: Of the server.
        seconds: Within which everything is done that is done at once.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self.seconds = seconds
        self._address = address
        self._driver: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self._ends = 0.0
        self._may_prepare = True
        self._prepared: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def has_time(self) -> bool:
        """Whether the deadline is ahead."""
        return self._loop is not None and self._loop.time() < self._ends

    def set_deadline(self, share: float = 1.0) -> None:
        """Count the time from now: all of it, or a share."""
        if self._loop is None:
            self._loop = asyncio.SelectorEventLoop(_selector())
            self._loop.set_exception_handler(_ignored)
        self._ends = self._loop.time() + self.seconds * share

    def connect(self) -> None:
        """
        Connect to the server, to the one of several that can be written to.

        Raises:
            Fault: That cannot be done now.
        """
        self.drop()
        if self._driver is None:
            self._driver = importlib.import_module("asyncpg")
        # Its own limit is for all hosts together, and a server that does not answer must leave some time.
        self._connection = self._wait(
            self._driver.connect(
                self._address.dsn,
                statement_cache_size=0,
                target_session_attrs=None if "target_session_attrs=" in self._address.dsn else "read-write",
                timeout=self.seconds,
            )
        )

        self._prepared = {} if self._may_prepare and self._is_direct() else None

    def _is_direct(self) -> bool:
        """Say whether the process that greeted us is the one that answers: a pooler gives a number of its own."""
        answers = self._wait(self._connection.fetchval("SELECT pg_backend_pid()"))
        return bool(answers == self._connection.get_server_pid())

    def run(self, sql: str) -> str:
        """Run statements without parameters, in one go; returns the last one's tag."""
        return str(self._wait(self._connection.execute(sql)))

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Rows:
        """See `_schema.Database`."""
        text = numbered(sql)
        statement = self._statement(text) if parameters else None
        if statement is not None:
            rows = self._wait(statement.fetch(*parameters))
            return Rows(map(tuple, rows), None if _is_read(text) else _number_in(statement.get_statusmsg()))
        if _is_read(text):
            return Rows(map(tuple, self._wait(self._connection.fetch(text, *parameters))))
        return Rows((), _number_in(str(self._wait(self._connection.execute(text, *parameters)))))

    def executemany(self, sql: str, parameters: Iterable[Sequence[object]], /) -> Rows:
        """See `_schema.Database`; in one round trip, but for the preparation."""
        rows = list(parameters)
        if not rows:
            return Rows(())
        text = f"{numbered(sql)} RETURNING 1"
        statement = self._statement(text)
        done = self._connection.fetchmany(text, rows) if statement is None else statement.fetchmany(rows)
        return Rows((), len(self._wait(done)))

    def _statement(self, text: str) -> Any:
        """Return the prepared statement; ``None`` where nothing is prepared."""
        if self._prepared is None:
            return None
        found = self._prepared.get(text)
        if found is None:
            name = f"chatlease_{len(self._prepared)}"
            found = self._prepared[text] = self._wait(self._connection.prepare(text, name=name))
        return found

    def drop(self) -> None:
        """Let go of the connection without a word; whatever it was doing is undone by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._settle()

    def close(self) -> None:
        """Say goodbye; for ever."""
        connection, self._connection = self._connection, None
        if self._loop is None:
            return
        if connection is not None:
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(connection.close(timeout=_CLOSE_S))
            connection.terminate()
        self._settle()
        self._loop.close()

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        assert self._loop is not None
        try:
            return self._loop.run_until_complete(_by(self._ends, awaitable))
        except Exception as error:  # noqa: BLE001  (the driver's errors have no common root)
            fault = fault_of(error)
        except asyncio.CancelledError:  # of the driver's own: nobody else cancels anything here
            fault = Fault("cancelled", cut=True)
        if fault.unprepared:
            self._may_prepare = False
        raise fault

    def _settle(self) -> None:
        """End what the driver left to be done: its attempts to cancel a statement, the closing of a socket."""
        assert self._loop is not None
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(_ended(tasks))


async def _by(ends: float, awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout_at(ends):
        return await awaitable


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.sleep(0)
    if tasks:
        await asyncio.wait(list(tasks), timeout=_CLOSE_S)


def _ignored(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """What the driver forgot of a connection that was lost is no business of the bot's log."""


def _selector() -> selectors.BaseSelector:
    return getattr(selectors, "PollSelector", selectors.SelectSelector)()


@lru_cache(maxsize=256)
def numbered(sql: str) -> str:
    """Return a statement with PostgreSQL's marks for parameters instead of SQLite's."""
    number = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"${found[1] or number}"

    return re.sub(r"\?(\d*)", mark, sql)


def _number_in(tag: str) -> int:
    number = tag.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


@lru_cache(maxsize=256)
def _is_read(sql: str) -> bool:
    return sql.lstrip().startswith("SELECT") or " RETURNING " in sql


__all__ = ["Fault", "Rows", "Wire", "numbered"]
