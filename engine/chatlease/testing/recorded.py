"""The calls of an adapter, written down, so that a failed check can say what led there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, cast

from chatlease.adapter import Adapter, Call, Credential

__all__ = ["recorded"]

_LENGTH = 60


def recorded(adapter: Adapter, calls: list[str]) -> Adapter:
    """
    Return an adapter that does what another one does, and writes its calls down.

    Args:
        adapter: The other one.
        calls: Gets a line for each call: the step, what it was given, what came back, and the HTTP status. Credentials
            are no part of it.
    """
    return cast("Adapter", _Recorded(adapter, calls))


class _Recorded:
    def __init__(self, adapter: Adapter, calls: list[str]) -> None:
        self._adapter = adapter
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._adapter, name)
        return self._written(name, member) if inspect.iscoroutinefunction(member) else member

    def _written(
        self, name: str, step: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(step)
        async def written(*args: Any) -> Any:
            line = len(self._calls)
            asked = f"{name}({', '.join(_short(each) for each in args if not isinstance(each, Call | Credential))})"
            self._calls.append(f"{asked} has not returned")
            try:
                reply = await step(*args)
            except BaseException as error:
                self._calls[line] = f"{asked} raised {type(error).__name__}{_status(args)}"
                raise
            self._calls[line] = f"{asked} -> {_short(reply)}{_status(args)}"
            return reply

        return written


def _status(args: tuple[Any, ...]) -> str:
    statuses = [each.http_status for each in args if isinstance(each, Call) and each.http_status is not None]
    return f"  HTTP {statuses[0]}" if statuses else ""


def _short(value: object) -> str:
    if isinstance(value, Credential):
        return "a credential"
    text = repr(value)
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."
