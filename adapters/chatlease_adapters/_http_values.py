"""Small values that adapters of HTTP services read and send: times, options, fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from chatlease.adapter import RunOptions
from chatlease.errors import UsageError

T = TypeVar("T")


def utc(moment: datetime | float | None) -> datetime | None:
    """
    Return a time as `chatlease.adapter.ChatListing` wants it.

    Args:
        moment: A time without a zone is in UTC; a number is seconds since 1970; ``None`` stays ``None``.
    """
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def fit(options: RunOptions | Mapping[str, object], kind: type[T], service: str) -> T:
    """
    Return a session's options as a type of the adapter's own, for ``check_options``.

    Args:
        options: What the session was given.
        kind: A ``msgspec.Struct`` with ``forbid_unknown_fields=True``, whose fields are the options that the service
            has, and whose types say what they may be (``Annotated[float, msgspec.Meta(ge=0, le=2)]``).
        service: Its name, for the error.

    Raises:
        UsageError: An option that the service does not have, or a value that it does not take. Shows no value.
    """
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        wrong = str(error)
    raise UsageError(f"{service} does not take these options: {wrong}", hint=f"It has {_names(kind)}.")


def given(fields: Mapping[str, T | None]) -> dict[str, T]:
    """Return the fields that are not ``None``, for a service that takes no null: in JSON, in a form, in a query."""
    return {name: value for name, value in fields.items() if value is not None}


def _names(kind: type) -> str:
    return ", ".join(getattr(kind, "__struct_fields__", ())) or "none"
