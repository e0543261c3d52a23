"""What a session tells of itself: one closed set of events, through structlog into the stdlib logger ``chatlease``.

Rules that live here:

* `EVENTS` is the whole vocabulary: dotted, past tense, with its level. Another name is a KeyError.
* Keys are flat (``session``, ``service``, ``account``, ``trigger``, ``source``, ``dest``, ``elapsed_s``,
  ``http_request``, ``http_status``, ``chat``, ``token_count``, ``error``, ``error_code``, ...). A key ``error`` holds a
  class name. No secret and no text of any prompt or answer ever goes in.
* The host's structlog and logging configuration are neither used nor touched: the processors are given explicitly, and
  the logger has a NullHandler, so that with nothing configured nothing is printed.
* What the bot has bound with `structlog.contextvars` (request ids) appears in our events, renamed where it would
  collide with an attribute of `logging.LogRecord`.
* The same events reach hooks. A hook that raises is dropped, with a trace of its own, and never disturbs a session.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ._clock import Clock

if TYPE_CHECKING:
    import structlog

SCHEMA_VERSION = 1
"""Of `TraceEvent` and of the lines of a trace file; raised when a reader would have to change."""

EVENTS: Mapping[str, int] = MappingProxyType(
    {
        "session.opened": logging.INFO,
        "session.closed": logging.INFO,
        "session.transition.started": logging.DEBUG,
        "session.transition.completed": logging.INFO,
        "session.transition.failed": logging.WARNING,
        "session.call.retried": logging.INFO,
        "session.credentials.cached": logging.DEBUG,
        "session.gate.waiting": logging.INFO,
        "session.gate.acquired": logging.DEBUG,
        "session.gate.released": logging.DEBUG,
        "session.gate.alone": logging.WARNING,
        "session.run.requeued": logging.WARNING,
        "session.stream.first_token": logging.INFO,
        "session.stream.polling": logging.INFO,
        "session.stream.differs": logging.WARNING,
        "session.stream.ended": logging.INFO,
        "session.cleanup.started": logging.DEBUG,
        "session.cleanup.completed": logging.DEBUG,
        "session.cleanup.failed": logging.WARNING,
        "session.cleanup.handed_over": logging.ERROR,
        "ledger.failed": logging.ERROR,
        "ledger.recovered": logging.WARNING,
        "ledger.quarantined": logging.CRITICAL,
        "ledger.lease_lost": logging.ERROR,
        "sweep.started": logging.DEBUG,
        "sweep.completed": logging.DEBUG,
        "sweep.failed": logging.WARNING,
        "sweep.holder.reaped": logging.WARNING,
        "sweep.chat.deleted": logging.INFO,
        "sweep.chat.failed": logging.WARNING,
        "sweep.chat.dead": logging.ERROR,
        "sweep.account.parked": logging.ERROR,
        "sweep.account.unparked": logging.INFO,
        "sweep.candidate.found": logging.WARNING,
        "sweep.candidate.ambiguous": logging.INFO,
        "sweep.candidate.deleted": logging.INFO,
        "sweep.entry.absent": logging.INFO,
        "hook.dropped": logging.ERROR,
    }
)
"""Every event and its level."""


class TraceEvent(msgspec.Struct, frozen=True):
    """
    One event, as hooks get it.

    Attributes:
        event: A name of `EVENTS`.
        at: When, in seconds since the epoch.
        keys: Flat, JSON-able; see the module's rules.
    """

    event: str
    at: float
    keys: dict[str, Any]

    def line(self) -> bytes:
        """Return the event as one line of a trace file, with its line feed."""
        return (
            msgspec.json.encode({"v": SCHEMA_VERSION, "at": round(self.at, 6), "event": self.event, **self.keys})
            + b"\n"
        )


Hook: TypeAlias = Callable[[TraceEvent], object]
"""Called for every event, in the session's own task; must be quick and must not await."""

_stdlib = logging.getLogger("chatlease")
_stdlib.addHandler(logging.NullHandler())
_is_enabled_for = _stdlib.isEnabledFor
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _rename_reserved(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in _RESERVED & event.keys():
        event[f"{key}_"] = event.pop(key)
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """
    Return a structlog logger around a stdlib logger, whose keys become attributes of the log record.

    Made as the engine's own is, for adapters: with explicit processors, so that the host's configuration of structlog
    and logging is neither used nor touched, and with what the bot has bound by `structlog.contextvars`.

    Args:
        name: Of the stdlib logger; below ``chatlease`` it is silent unless the host configures logging.
    """
    import structlog  # noqa: PLC0415  (it takes as long as all of ours, and a bot that does not log needs it never)

    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            _rename_reserved,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


_logger = functools.cache(get_logger)


class TraceFile:
    """
    A hook that appends every event to a file, one JSON object a line.

    Each event is one ``write`` to a file opened for appending, so several processes may share it, and a killed process
    loses nothing that it had traced.

    Args:
        path: The file; created with mode 0600 where it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(Path(path).expanduser(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, event: TraceEvent) -> None:
        """Append the event."""
        os.write(self._file, event.line())

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Tracer:
    """Where the engine's events go: the logger, and the hooks."""

    def __init__(self, clock: Clock, hooks: Iterable[Hook]) -> None:
        self._clock = clock
        self._hooks = list(hooks)

    def add(self, hook: Hook) -> Callable[[], None]:
        """Call this hook too, from now on; returns what takes it away again."""
        self._hooks.append(hook)

        def remove() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)

        return remove

    def wants(self, event: str) -> bool:
        """Say whether anybody would see the event; asked first, because building one costs more than asking."""
        return bool(self._hooks) or _is_enabled_for(EVENTS[event])

    def emit(self, event: str, keys: dict[str, Any]) -> None:
        """Send an event to whoever listens. Keys whose value is ``None`` are left out."""
        keys = {name: value for name, value in keys.items() if value is not None}
        if _is_enabled_for(EVENTS[event]):
            _logger(_stdlib.name).log(EVENTS[event], event, **keys)
        for hook in tuple(self._hooks):
            if hook in self._hooks:  # the news of another one's dropping may have dropped it meanwhile
                self._call(hook, TraceEvent(event, self._clock.wall(), keys))

    def _call(self, hook: Hook, event: TraceEvent) -> None:
        try:
            hook(event)
        except Exception as error:  # noqa: BLE001  (whatever a hook does wrong must not end a session)
            self._hooks.remove(hook)
            name = getattr(hook, "__qualname__", type(hook).__qualname__)
            self.emit("hook.dropped", {"hook": name, "error": type(error).__name__})
