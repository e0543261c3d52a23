"""How a made-up service writes and reads bodies: its names, its order, its envelopes. Strict with what it gets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import parse_qsl, urlencode

from .dice import Dice
from .operations import Operation
from .plan import Plan
from .refused import Refused
from .words import cased, plural

IDS = frozenset({"id", "chat", "prompt", "run", "parent"})
NUMBERS = frozenset({"temperature", "top_p"})
WHOLE = frozenset({"max_new_tokens", "page", "offset", "count"})
RANGES: Mapping[str, tuple[float, float]] = {"temperature": (0, 2), "top_p": (0, 1), "max_new_tokens": (1, 4096)}
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Scribe:
    """Writes and reads for one service."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._dice = Dice(plan.seed)

    # -------------------------------------------------------------------------------------------------------- replies

    def name(self, meaning: str) -> str:
        return self.plan.fields[meaning]

    def noun(self, noun: str, *, many: bool = False) -> str:
        return cased(plural(noun) if many else noun, self.plan.looks.casing)

    def record(self, values: Mapping[str, object]) -> dict[str, object]:
        """Name and order fields; a field that says nothing is among them."""
        known = {meaning: self._value(meaning, value) for meaning, value in values.items()}
        known["note"] = self._dice.number("note", 1000)
        return {self.name(each): known[each] for each in self._dice.order("record", known)}

    def one(self, noun: str, values: Mapping[str, object]) -> object:
        """Write the reply that holds one record."""
        record = self.record(values)
        match self.plan.looks.envelope:
            case "bare":
                return record
            case "data":
                return {"data": record}
            case "noun":
                return {self.noun(noun): record}
            case "result":
                return {"ok": True, "result": record}
            case "pairs":
                return [list(pair) for pair in record.items()]

    def many(self, noun: str, records: Sequence[Mapping[str, object]], after: str | None = None) -> object:
        """Write the reply that holds a list, and where it goes on."""
        listed: list[object] = [self.record(each) for each in records]
        paged = self.plan.manners.paging == "cursor" and noun == self.plan.nouns.chat
        more = {self.name("next"): after} if paged else {}
        match self.plan.looks.envelope:
            case "bare":
                return listed
            case "data":
                return {"data": listed, **more}
            case "noun":
                return {self.noun(noun, many=True): listed, **more}
            case "result":
                return {"ok": True, "result": {"items": listed, **more}}
            case "pairs":
                return [[list(pair) for pair in self.record(each).items()] for each in records]

    def written(self, value: object) -> bytes:
        return json.dumps(value, indent=2 if self.plan.looks.pretty else None, ensure_ascii=False).encode()

    def value_of(self, moment: datetime) -> object:
        match self.plan.looks.moment:
            case "seconds":
                return int(moment.timestamp())
            case "millis":
                return int(moment.timestamp() * 1000)
            case "naive":
                return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
            case _:
                return moment.isoformat().replace("+00:00", "Z")

    def state(self, state: str, salt: str) -> object:
        """Return the word, or number, for a state; where there are two, the id of the run decides."""
        word = self._dice.pick(f"state of {salt}", self.plan.states[state])
        return int(word) if word.isdigit() else word

    def _value(self, meaning: str, value: object) -> object:
        if isinstance(value, datetime):
            return self.value_of(value)
        if meaning in IDS and isinstance(value, str) and self.plan.looks.ids == "number":
            return int(value) if value.isdigit() else value
        return value

    # ------------------------------------------------------------------------------------------------------- requests

    def asked(self, operation: Operation, values: Mapping[str, object]) -> tuple[bytes | None, str]:
        """Write the body of a request as it has to be, and its media type."""
        if not operation.body and not operation.optional:
            return None, ""
        fields = {self.name(each): self._value(each, value) for each, value in values.items()}
        if self.plan.looks.asking == "form":
            return urlencode(fields).encode(), FORM
        if self.plan.looks.asking == "wrapped":
            return self.written({self.noun(operation.wrap): fields}), JSON
        return self.written(fields), JSON

    def read(self, operation: Operation, kind: str, body: bytes) -> dict[str, str]:
        """
        Read the body of a request, strictly; returns texts by their meaning.

        Raises:
            Refused: It is not what is documented.
        """
        allowed = (*operation.body, *operation.optional)
        if not allowed:
            if body:
                raise Refused("invalid", "no body is expected here")
            return {}
        if not body and not operation.body:
            return {}
        fields = self._fields(operation, kind, body)
        meanings = {self.name(each): each for each in allowed}
        for name in fields:
            if name not in meanings:
                raise Refused("invalid", f"unknown field {name}")
        for meaning in operation.body:
            if self.name(meaning) not in fields:
                raise Refused("invalid", f"{self.name(meaning)} is missing")
        return {meanings[name]: self._checked(meanings[name], value) for name, value in fields.items()}

    def _fields(self, operation: Operation, kind: str, body: bytes) -> dict[str, object]:
        form = self.plan.looks.asking == "form"
        if kind != (FORM if form else JSON):
            raise Refused("invalid", f"the body has to be {FORM if form else JSON}")
        if form:
            return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        try:
            value: object = json.loads(body)
        except ValueError:
            raise Refused("invalid", "the body is not JSON") from None
        if self.plan.looks.asking == "wrapped":
            around = _mapping(value)
            if list(around) != [self.noun(operation.wrap)]:
                raise Refused("invalid", f"the body is an object with {self.noun(operation.wrap)} alone")
            value = around[self.noun(operation.wrap)]
        return _mapping(value)

    def _checked(self, meaning: str, value: object) -> str:
        """Return a value as text, if it has the type that is documented."""
        form = self.plan.looks.asking == "form"
        numeric = meaning in NUMBERS or meaning in WHOLE or (meaning in IDS and self._counts(meaning))
        if not form and (isinstance(value, bool) or isinstance(value, str) is numeric):
            raise Refused("invalid", f"{self.name(meaning)} has the wrong type")
        if not form and not isinstance(value, str | int | float):
            raise Refused("invalid", f"{self.name(meaning)} has the wrong type")
        self._in_range(meaning, str(value))
        return str(value)

    def _counts(self, meaning: str) -> bool:
        chosen = meaning == "chat" and self.plan.manners.key == "id"
        return self.plan.looks.ids == "number" and not chosen

    def _in_range(self, meaning: str, text: str) -> None:
        if meaning not in RANGES:
            return
        low, high = RANGES[meaning]
        try:
            fits = low <= float(text) <= high and (meaning not in WHOLE or text.isdecimal())
        except ValueError:
            fits = False
        if not fits:
            raise Refused("invalid", f"{self.name(meaning)} is out of range")


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Refused("invalid", "the body has to be an object")
    return cast("dict[str, object]", value)
