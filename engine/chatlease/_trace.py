"""What the engine tells of itself: events of one closed set, to the logger ``chatlease`` and to hooks.

Rules that live here:

* The vocabulary is `_trace_events`; another name is a KeyError. Nothing is built for an event that nobody listens to.
* Every event has the key ``engine``, the id of the engine that traced it.
* The host's structlog and logging configuration are neither used nor touched: the processors are given explicitly, and
  the logger has a NullHandler, so that with nothing configured nothing is printed.
* What the bot has bound with `structlog.contextvars` (request ids) appears in the log, renamed where it would collide
  with an attribute of `logging.LogRecord`. Hooks, and so trace files, do not get it: nobody knows what is in it.
* A hook that raises is dropped, with a trace of its own, and never disturbs a session.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ._clock import Clock
from ._trace_events import SCHEMA_VERSION, VOCABULARY

if TYPE_CHECKING:
    import structlog

EVENTS: Mapping[str, int] = MappingProxyType({event: word.level for event, word in VOCABULARY.items()})
"""Every event and its level."""

_encode = msgspec.json.Encoder().encode


class TraceEvent(msgspec.Struct, frozen=True):
    """
    One event, as hooks get it.

    Attributes:
        event: Its name, one of those in ``diagrams/README.md``.
        at: When, in seconds since the epoch, by the engine's clock.
        keys: Strings, numbers, booleans and lists of strings; never ``None``, no secret, no text of a prompt or answer.
    """

    event: str
    at: float
    keys: dict[str, Any]

    def line(self) -> bytes:
        """Return the event as one line of a trace file, with its line feed."""
        try:
            keys = _encode(self.keys)
        except UnicodeEncodeError:
            keys = _encode(_printable(self.keys))
        rest = b"," + keys[1:] if self.keys else b"}"
        return _format(self.event) % (self.at, rest)  # half the price of encoding one dict of everything


@functools.lru_cache(len(EVENTS) * 2)
def _format(event: str) -> bytes:
    return b'{"v":%d,"at":%%.6f,"event":%b%%b\n' % (SCHEMA_VERSION, _encode(event).replace(b"%", b"%%"))


def _printable(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Replace halves of characters, which names from the system may hold, and JSON may not."""
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in keys.items()
    }


Hook: TypeAlias = Callable[[TraceEvent], object]
"""
Called for every event, in the session's own task; must be quick and must not await.

A hook may have an attribute ``level``, as in `logging`: it is called for events of that level and above, and nothing is
built for others. It is read once, when the engine gets the hook. Without it, it is called for every event.
"""

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


@functools.cache
def _logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = get_logger(name).bind()  # else each event would make one
    return logger


def log(event: str, keys: Mapping[str, Any]) -> None:
    """Send an event to the log alone."""
    level = EVENTS[event]
    if _is_enabled_for(level):
        _logger(_stdlib.name).log(level, event, **keys)


def _deaf(_event: TraceEvent) -> None:
    """Stand for a hook that is called no more."""


class _Listener(msgspec.Struct, eq=False):
    """A hook, with the level that it had when it came; one that is called no more does nothing."""

    hook: Hook
    level: int


class Tracer:
    """
    Where the engine's events go: the logger, and the hooks.

    Args:
        clock: Whose time is traced.
        hooks: The hooks.

    Attributes:
        engine: The engine's id: eight hexadecimal digits, at random.
    """

    def __init__(self, clock: Clock, hooks: Iterable[Hook]) -> None:
        self.engine = os.urandom(4).hex()
        self._wall = clock.wall
        self._all: tuple[_Listener, ...] = ()
        self._listeners: dict[str, tuple[_Listener, ...]] = dict.fromkeys(EVENTS, ())
        for hook in hooks:
            self.add(hook)

    def add(self, hook: Hook) -> Callable[[], None]:
        """Call this hook too, from now on; returns what takes it away again."""
        listener = _Listener(hook, getattr(hook, "level", logging.NOTSET))
        self._set((*self._all, listener))
        return lambda: self._remove(listener)

    def wants(self, event: str) -> bool:
        """Say whether anybody would see the event; asked first, because building one costs more than asking."""
        if self._listeners[event]:
            return True
        return _is_enabled_for(EVENTS[event])

    def tell(self, event: str, **keys: Any) -> None:
        """Send an event of the engine itself, if anybody listens. Keys whose value is ``None`` are left out."""
        if self.wants(event):
            known = {name: value for name, value in keys.items() if value is not None}
            self.emit(event, {"engine": self.engine, **known})

    def emit(self, event: str, keys: dict[str, Any]) -> None:
        """
        Send an event to whoever listens.

        Args:
            event: Its name.
            keys: What it says, ``engine`` included; no ``None``.
        """
        level = EVENTS[event]
        if _is_enabled_for(level):
            _logger(_stdlib.name).log(level, event, **keys)
        listeners = self._listeners[event]
        if not listeners:
            return
        news = TraceEvent(event, self._wall(), keys)
        for listener in listeners:
            try:
                listener.hook(news)
            except Exception as error:  # noqa: BLE001  (whatever a hook does wrong must not end a session)
                self._drop(listener, error)

    def _drop(self, listener: _Listener, error: Exception) -> None:
        name = getattr(listener.hook, "__qualname__", type(listener.hook).__qualname__)
        self._remove(listener)
        self.tell("hook.dropped", hook=name, error=type(error).__name__)

    def _remove(self, listener: _Listener) -> None:
        listener.hook = _deaf  # an event that is being told goes on with the hooks that it began with
        self._set(tuple(each for each in self._all if each is not listener))

    def _set(self, listeners: tuple[_Listener, ...]) -> None:
        self._all = listeners
        for event, level in EVENTS.items():
            self._listeners[event] = tuple(each for each in listeners if each.level <= level)
