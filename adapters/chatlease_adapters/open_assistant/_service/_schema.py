"""Checks the bodies of requests as the server's validation does (pydantic 1, recorded in ``errors-server.jsonl``).

Rules that live here:

* Every problem of a body is listed, not only the first; unknown keys are dropped silently.
* Numbers may come as text and the other way round, as pydantic 1 allows; null only where the field is optional.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from ._refusal import Problems, Refusal

MISSING = object()
"""A body that is not there at all."""

_MOST_LISTED = 100
_LONGEST_TITLE = 100

_Path: TypeAlias = tuple[str | int, ...]


class _Invalid(Exception):
    def __init__(self, msg: str, kind: str, **ctx: object) -> None:
        super().__init__(msg)
        self.msg = msg
        self.kind = kind
        self.ctx = ctx


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    convert: Callable[[object], object]
    default: object = MISSING
    optional: bool = False


def parse(raw: bytes) -> object:
    """
    Decode a body as the server's framework does.

    Raises:
        Refusal: It is no JSON; says where, as recorded.
    """
    if not raw:
        return MISSING
    problem: Problems = []
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        ctx = {"msg": error.msg, "doc": error.doc, "pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        problem = [{"loc": ["body", error.pos], "msg": str(error), "type": "value_error.jsondecode", "ctx": ctx}]
    except UnicodeDecodeError:
        pass
    raise Refusal(422, problem) if problem else Refusal(400, "There was an error parsing the body")


def check(body: object, fields: Sequence[_Field]) -> dict[str, object]:
    """
    Return the fields of a body, with defaults.

    Raises:
        Refusal: Something is wrong with it; the list of all problems.
    """
    problems: Problems = []
    values: dict[str, object] = {}
    if body is MISSING:
        problems.append(_problem(("body",), _Invalid("field required", "value_error.missing")))
    elif not isinstance(body, dict):
        problems.append(_problem(("body",), _Invalid("value is not a valid dict", "type_error.dict")))
    else:
        values = _object(cast("dict[str, object]", body), fields, ("body",), problems)
    if problems:
        raise Refusal(422, problems)
    return values


def check_limit(text: str | None) -> int:
    """
    Return the ``limit`` of a listing, 10 when not given.

    Raises:
        Refusal: It is no number from 1 to 100.
    """
    try:
        return 10 if text is None else _limit(text)
    except _Invalid as error:
        problem = _problem(("query", "limit"), error)
    raise Refusal(422, [problem])


def _limit(text: str) -> int:
    limit = _integer(text)
    if limit <= 0:
        raise _Invalid("ensure this value is greater than 0", "value_error.number.not_gt", limit_value=0)
    if limit > _MOST_LISTED:
        kind = "value_error.number.not_le"
        raise _Invalid(f"ensure this value is less than or equal to {_MOST_LISTED}", kind, limit_value=_MOST_LISTED)
    return limit


def _object(body: Mapping[str, object], fields: Sequence[_Field], path: _Path, problems: Problems) -> dict[str, object]:
    values: dict[str, object] = {}
    for field in fields:
        try:
            values[field.name] = _value(body, field, (*path, field.name), problems)
        except _Invalid as error:
            problems.append(_problem((*path, field.name), error))
    return values


def _value(body: Mapping[str, object], field: _Field, path: _Path, problems: Problems) -> object:
    value = body.get(field.name, field.default)
    if value is MISSING:
        raise _Invalid("field required", "value_error.missing")
    if value is None:
        if field.optional:
            return None
        raise _Invalid("none is not an allowed value", "type_error.none.not_allowed")
    if field.convert is _sampling:
        return _object(_mapping(value), _SAMPLING, path, problems)
    return field.convert(value)


def _problem(path: _Path, error: _Invalid) -> dict[str, object]:
    problem: dict[str, object] = {"loc": list(path), "msg": error.msg, "type": error.kind}
    return {**problem, "ctx": error.ctx} if error.ctx else problem


def _mapping(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    raise _Invalid("value is not a valid dict", "type_error.dict")


def _sampling(value: object) -> object:
    return value


def _integer(value: object) -> int:
    if isinstance(value, int | float | str):
        try:
            return int(value)
        except (ValueError, OverflowError):
            pass
    raise _Invalid("value is not a valid integer", "type_error.integer")


def _float(value: object) -> float:
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise _Invalid("value is not a valid float", "type_error.float")


def _text(value: object) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise _Invalid("str type expected", "type_error.str")


def _title(value: object) -> str:
    text = _text(value)
    if len(text) > _LONGEST_TITLE:
        kind = "value_error.any_str.max_length"
        raise _Invalid(f"ensure this value has at most {_LONGEST_TITLE} characters", kind, limit_value=_LONGEST_TITLE)
    return text


def _flag(value: object) -> bool:
    if value in (True, False):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false", "on", "off", "yes", "no", "1", "0"):
        return value.lower() in ("true", "on", "yes", "1")
    raise _Invalid("value could not be parsed to a boolean", "type_error.bool")


def _plugins(value: object) -> object:
    if isinstance(value, list):
        return [_plugin(item) for item in cast("list[object]", value)]
    raise _Invalid("value is not a valid list", "type_error.list")


def _plugin(value: object) -> dict[str, object]:
    entry = _mapping(value)
    if "url" not in entry:
        raise _Invalid("field required", "value_error.missing")
    return {"enabled": True, "plugin_config": None, "trusted": False, **entry}


_SAMPLING = (
    _Field("top_k", _integer, None, optional=True),
    _Field("top_p", _float, None, optional=True),
    _Field("typical_p", _float, None, optional=True),
    _Field("temperature", _float, None, optional=True),
    _Field("repetition_penalty", _float, None, optional=True),
    _Field("max_new_tokens", _integer, 1024),
)

CREATE_CHAT: tuple[_Field, ...] = ()
PROMPT = (_Field("content", _text), _Field("parent_id", _text, None, optional=True))
ANSWER = (
    _Field("parent_id", _text),
    _Field("model_config_name", _text),
    _Field("sampling_parameters", _sampling, {}),
    _Field("system_prompt", _text, None, optional=True),
    _Field("user_profile", _text, None, optional=True),
    _Field("user_response_instructions", _text, None, optional=True),
    _Field("plugins", _plugins, []),
)
UPDATE = (
    _Field("title", _title, None, optional=True),
    _Field("hidden", _flag, None, optional=True),
    _Field("allow_data_use", _flag, None, optional=True),
)
VOTE = (_Field("score", _integer),)
