"""
A PostgreSQL server for tests: the one that CHATLEASE_TEST_POSTGRES names, else one of our own, else a reason.

Rules that live here:

* Our own is a cluster in a folder of its own, made from the installed binaries, on a port of its own on loopback. It
  runs as a user without rights (``initdb`` refuses root), and ends with the tests.
* Every test has a schema of its own, which is dropped after it; a server that was named is otherwise left as it is.
* A test that there is no server for is skipped, and says so.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from chatlease._ledger import _server_schema
from chatlease._ledger._address import parsed
from chatlease._ledger._server_faults import Fault
from chatlease._ledger._wire import Wire

NAMED = os.environ.get("CHATLEASE_TEST_POSTGRES", "")
"""The server that is named; read before tests empty the environment."""
_WAIT_S = 60.0
T = TypeVar("T")
_numbers = itertools.count(1)


class NoServer(Exception):
    """There is none, and none can be started; says why."""


@contextmanager
def server() -> Generator[str]:
    """Yield the address of a server's database."""
    if NAMED:
        yield NAMED
        return
    with cluster() as own:
        yield own.url


class Cluster:
    """
    A server of our own.

    Attributes:
        url: Its address.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://tests@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        """Make its files."""
        _run([binary("initdb"), "--auth=trust", "--username=tests", "--encoding=UTF8", "--no-locale", self._folder])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "off",  # what is tested ends processes, not machines
            "log_min_messages": "panic",
            "deadlock_timeout": "100ms",
        }
        options = [each for name, value in settings.items() for each in ("-c", f"{name}={value}")]
        self._process = _started([binary("postgres"), "-D", self._folder, *options])
        _await_answer(self.url)

    def stop(self, *, at_once: bool = False) -> None:
        """End it: cut everybody off, or (``at_once``) as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(_WAIT_S)
            self._process = None


@contextmanager
def cluster() -> Generator[Cluster]:
    """Make and start a server of our own for the block."""
    folder = Path(tempfile.mkdtemp(prefix="chatlease-postgres-"))
    try:
        _give_away(folder)
        own = Cluster(folder)
        own.make()
        own.start()
        try:
            yield own
        finally:
            own.stop(at_once=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def pooled(url: str) -> Generator[str]:
    """Put PgBouncer in front of a database, giving connections away by the transaction; yield its address."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NoServer("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    parts, port = urlsplit(url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="chatlease-pgbouncer-"))
    try:
        _give_away(folder)
        settings = folder / "pgbouncer.ini"
        user = f" user={parts.username or getpass.getuser()}"
        password = f" password={parts.password}" if parts.password else ""
        settings.write_text(
            f"[databases]\npooled = host={parts.hostname} port={parts.port or 5432} dbname={parts.path[1:]}"
            f"{user}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n"
        )
        process = _started([program, "-q", settings])
        try:
            found = f"postgresql://pooled@127.0.0.1:{port}/pooled"
            _await_answer(found)
            yield found
        finally:
            process.kill()
            process.wait(_WAIT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def schema(url: str) -> Generator[str]:
    """Yield the address of a schema of its own, which is not there yet, and is dropped in the end."""
    name = f"chatlease_test_{os.getpid()}_{next(_numbers)}"
    parts = urlsplit(url)
    try:
        yield urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, f"schema={name}"]))))
    finally:
        ask(url, f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@contextmanager
def wire(url: str, *, seconds: float = 30.0) -> Generator[Wire]:
    """Connect for the block."""
    found = Wire(parsed(url, None), seconds)
    found.set_deadline()
    try:
        found.connect()
        yield found
    finally:
        found.close()


@contextmanager
def begun(url: str, *, seconds: float = 120.0) -> Generator[Wire]:
    """Connect for the block, in a transaction with the ledger's tables in it, of which nothing remains."""
    with wire(url, seconds=seconds) as found:
        name = f"chatlease_test_{os.getpid()}_{next(_numbers)}"
        found.run(f'BEGIN; SET LOCAL search_path TO "{name}"')
        _server_schema.migrate(found, name)
        yield found
        found.run("ROLLBACK")


def ask(url: str, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
    """Run one statement from outside, in the address's schema; return the rows."""

    def asked() -> list[Any]:
        with wire(url) as found:
            found.run(f'SET search_path TO "{parsed(url, None).schema}"')
            return found.execute(sql, parameters)

    return _aside(asked)


def _aside(work: Callable[[], T]) -> T:
    """Call in another thread: an event loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def binary(name: str) -> Path:
    """Return an installed program of PostgreSQL's, of the newest version that is there."""
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if found is None and not versions:
        raise NoServer(
            f"no server is named by CHATLEASE_TEST_POSTGRES, and {name} is not installed (Debian: postgresql)"
        )
    return versions[-1] if versions else Path(str(found))


class User(NamedTuple):
    """Who runs a server; ``None`` for whoever runs the tests."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


def unprivileged() -> User:
    """Return a user without rights, for root."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return User()
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return User(found.pw_uid, found.pw_gid, ())
    raise NoServer("a server does not run as root, and there is no user postgres or nobody")


def _give_away(folder: Path) -> None:
    user, group, _ = unprivileged()
    if user is not None and group is not None:
        os.chown(folder, user, group)


def _started(command: Sequence[object]) -> subprocess.Popen[bytes]:
    user, group, groups = unprivileged()
    nothing = subprocess.DEVNULL
    words = [str(each) for each in command]
    return subprocess.Popen(
        words, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", user=user, group=group, extra_groups=groups
    )


def _run(command: Sequence[object]) -> None:
    process = _started(command)
    if process.wait(_WAIT_S) != 0:
        raise NoServer(f"{Path(str(command[0])).name} failed")


def _await_answer(url: str) -> None:
    pause = threading.Event()
    for _ in range(int(_WAIT_S / 0.05)):
        if _aside(lambda: _answers(url)):
            return
        pause.wait(0.05)
    raise NoServer("the server that was started does not answer")


def _answers(url: str) -> bool:
    try:
        with wire(url, seconds=5.0):
            return True
    except Fault:
        return False
