"""What the keys of trace events are called as attributes, and times as OpenTelemetry has them.

Rules that live here:

* Words of the semantic conventions where one fits, ours under ``chatlease.`` where none does.
* The GenAI conventions are those of version 1.41.1, status Development: the last version that has a number. They have
  moved to a repository of their own (open-telemetry/semantic-conventions-genai), which has made no release yet and
  gives some metrics other names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
CONVERSATION: Final = "gen_ai.conversation.id"
STREAM: Final = "gen_ai.request.stream"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
ERROR: Final = "error.type"
STATUS: Final = "http.response.status_code"

SERVICE: Final = "chatlease.service"
ACCOUNT: Final = "chatlease.account"
STATE: Final = "chatlease.state"
TRIGGER: Final = "chatlease.trigger"
OUTCOME: Final = "chatlease.outcome"
EVENT: Final = "chatlease.event"
CAUSE: Final = "chatlease.cause"
COMPLETE: Final = "chatlease.complete"
UNFINISHED: Final = "chatlease.unfinished"

OTHER: Final = "_OTHER"
"""What the conventions have for what cannot be named."""

ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "account": ACCOUNT,
        "age_s": "chatlease.age_s",
        "attempt": "chatlease.attempt",
        "attempts": "chatlease.attempts",
        "cause": CAUSE,
        "chat": "chatlease.chat",
        "count": "chatlease.count",
        "dest": "chatlease.dest",
        "engine": "chatlease.engine",
        "error": ERROR,
        "error_code": "chatlease.error_code",
        "final_length": "chatlease.final_length",
        "given_length": "chatlease.given_length",
        "http_status": STATUS,
        "polled": "chatlease.polled",
        "queued_s": "chatlease.queued_s",
        "retry_in_s": "chatlease.retry_in_s",
        "service": SERVICE,
        "session": "chatlease.session",
        "source": "chatlease.source",
        "state": STATE,
        "token_count": "chatlease.token_count",
        "trigger": TRIGGER,
        "waited_s": "chatlease.waited_s",
        "waits_for": "chatlease.waits_for",
    }
)
"""Every key that may leave, by the name of its attribute."""

Attributes: TypeAlias = dict[str, str | bool | int | float]

CONTEXT = frozenset({"engine", "service", "session", "account", "chat"})
"""What the session's span says for all that is below it."""
INSIDE: Mapping[str, str] = MappingProxyType({key: name for key, name in ATTRIBUTES.items() if key not in CONTEXT})


def attributes(keys: Mapping[str, Any], names: Mapping[str, str] = ATTRIBUTES) -> Attributes:
    """Return an event's keys as attributes, without those that are not to leave."""
    return {names[key]: value for key, value in keys.items() if key in names}


def nanoseconds(seconds: float) -> int:
    """Return a time as OpenTelemetry has it; to the microsecond, which is what a float of today's date can tell."""
    return round(seconds * 1e6) * 1000
