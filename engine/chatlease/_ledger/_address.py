"""Where a ledger on PostgreSQL is, and what may be said of it in front of people.

Rules that live here:

* An address may hold a password. It is handed to the driver, and to nobody else: in no error, no repr, no trace.
* What people are shown is the server, the database and the schema. An address in which these cannot be told from a
  password for certain (one that was not written with %) is refused.
* Options of ours are taken out of the address; all others are the driver's (``sslmode``, ``application_name``, ...).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from chatlease.errors import UsageError

SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_HOSTS = re.compile(r"(?:[\w.%-]+|\[[0-9A-Fa-f:.]+\])?(?::\d+)?(?:,(?:[\w.%-]+|\[[0-9A-Fa-f:.]+\])?(?::\d+)?)*")
_SECONDS = frozenset({"lease", "horizon", "keep"})
_SWITCHES = {"on": True, "off": False}


@dataclass(frozen=True)
class Address:
    """
    A schema of a database on a server.

    Attributes:
        dsn: For the driver.
        schema: The schema's name; a plain lower-case identifier.
        options: What else the URL says: ``lease``, ``horizon``, ``keep`` (seconds), ``migrate``.
        name: What to call it in front of people.
    """

    dsn: str = field(repr=False)
    schema: str
    options: dict[str, float | bool] = field(compare=False)
    name: str = field(compare=False)

    def __hash__(self) -> int:
        return hash((self.dsn, self.schema))


def parsed(url: str, schema: str | None) -> Address:
    """
    Return the address that a URL names.

    Args:
        url: ``postgresql://USER@HOST/DATABASE``, ``?`` and options.
        schema: Instead of the one in the URL.

    Raises:
        UsageError: It is no such URL; its text is not shown.
    """
    parts = _parts(url)
    if parts is None:
        raise UsageError(
            "a ledger on PostgreSQL is named as postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            hint="In a name or password, write @ as %40, : as %3A, / as %2F, ? as %3F and # as %23.",
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    named = query.pop("schema", "chatlease")
    chosen = schema or named
    if not _SCHEMA.fullmatch(chosen):
        raise UsageError("a ledger's schema is named by a letter, and letters, digits and _ behind it, in lower case")
    options = {name: _option(name, query.pop(name)) for name in (*_SECONDS, "migrate") if name in query}
    dsn = parts._replace(scheme="postgresql", query=urlencode(query, quote_via=quote)).geturl()
    if not parts.netloc:  # urlsplit leaves the slashes of an empty one out
        dsn = dsn.replace("postgresql:", "postgresql://", 1) if not dsn.startswith("postgresql://") else dsn
    return Address(dsn, chosen, options, f"postgresql://{_hosts(parts)}{parts.path}?schema={chosen}")


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL that cannot be misread; `urlsplit` shows some that it refuses in its errors."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    plain = "@" not in parts.path + parts.query and not parts.fragment and _HOSTS.fullmatch(_hosts(parts))
    return parts if parts.scheme in SCHEMES and plain and not any(each in url for each in "\0\r\n") else None


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _option(name: str, value: str) -> float | bool:
    if name == "migrate" and value in _SWITCHES:
        return _SWITCHES[value]
    if name in _SECONDS:
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if 0 < seconds < float("inf"):
            return seconds
    raise UsageError(
        f"a ledger on PostgreSQL has no option {name!r} of that value",
        hint="Options are lease, horizon and keep, in seconds, schema=NAME, and migrate=off.",
    )
