"""What may be asked of an answer, and how it is sent.

Rules that live here:

* The defaults are those of the seeds, and all six sampling parameters are always sent, in the order of the seeds.
* The server itself checks types only, and a worker refuses a bad value long after the prompt was sent: what cannot work
  is refused here, before a chat exists.
* ``sampling`` is the way past all this: sent verbatim, over the typed ones, unknown names too (the server drops them).
* The other options are sent only when they are given.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import msgspec

from chatlease.adapter import RunOptions
from chatlease.errors import UsageError

SAMPLING: Mapping[str, float | None] = {
    "top_k": 50,
    "top_p": None,
    "typical_p": None,
    "temperature": 0.35,
    "repetition_penalty": 1.1111111111111112,
    "max_new_tokens": 1024,
}
_WAY_OUT = "What the option `sampling` holds is sent as it is, unchecked."
_TEXTS = ("system_prompt", "user_profile", "user_response_instructions")
_EXTRAS = ("used_plugin", *_TEXTS)


def check(model: str, options: RunOptions) -> None:
    """
    Refuse what cannot be sent or cannot work.

    Raises:
        UsageError: Names the option and what it may be; never its value, which may be a text of the user's.
    """
    if not model:
        raise UsageError("model is the name of a model, not an empty string")
    for name, value in options.items():
        if name not in _RULES:
            raise UsageError(f"unknown option {name!r}", hint=_suggestion(name, _RULES))
        may, words = _RULES[name]
        if not may(value):
            raise UsageError(f"{name} must be {words}", hint=_WAY_OUT if name in SAMPLING else "")


def body(model: str, options: RunOptions) -> dict[str, object]:
    """Return the part of the request that says how to answer, in the order of the seeds."""
    given = cast("Mapping[str, object]", options)
    sampling: dict[str, object] = {**SAMPLING, **{name: given[name] for name in SAMPLING if name in given}}
    sampling.update(options.get("sampling") or {})
    extras = {name: given[name] for name in _EXTRAS if name in given}
    return {
        "model_config_name": model,
        "sampling_parameters": sampling,
        "plugins": list(options.get("plugins") or ()),
        **extras,
    }


def texts(options: RunOptions) -> list[str]:
    """Return the texts of the user's that an answer of the service might echo."""
    given = cast("Mapping[str, object]", options)
    return [value for value in map(given.get, _TEXTS) if isinstance(value, str)]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that looks most like ``name``, whatever its case; ``None`` if none does."""
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return by_lower[found[0]] if found else None


def _suggestion(name: str, names: Iterable[str]) -> str:
    best = nearest(name, names)
    return f"Did you mean {best}?" if best else f"Known are: {', '.join(names)}."


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return _is_number(value) and cast("float", value) > 0


def _is_share(value: object) -> bool:
    return _is_positive(value) and cast("float", value) <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping) and _is_json(cast("object", value))


def _is_objects(value: object) -> bool:
    if not isinstance(value, Sequence):
        return False
    return all(map(_is_object, cast("Sequence[object]", value)))


def _is_json(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _or_none(may: Callable[[object], bool], words: str) -> tuple[Callable[[object], bool], str]:
    return lambda value: value is None or may(value), f"{words}, or None"


_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "top_k": _or_none(_is_count, "an integer of 1 or more"),
    "top_p": _or_none(_is_share, "a number above 0 and up to 1"),
    "typical_p": _or_none(_is_share, "a number above 0 and up to 1"),
    "temperature": _or_none(_is_positive, "a number above 0"),
    "repetition_penalty": _or_none(_is_positive, "a number above 0"),
    "max_new_tokens": (_is_count, "an integer of 1 or more"),
    "plugins": (_is_objects, "a list of JSON objects"),
    "used_plugin": _or_none(_is_object, "a JSON object"),
    **{name: _or_none(_is_text, "a string") for name in _TEXTS},
    "sampling": (_is_object, "a mapping that can be sent as JSON"),
}
