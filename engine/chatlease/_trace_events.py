"""The vocabulary of the trace: every event and every key, in one place, typed and explained.

Rules that live here:

* `VOCABULARY` is closed: an event that is not in it cannot be traced. `_trace` takes the levels from it, and
  `trace-schema.json` and the tables of ``diagrams/README.md`` are generated from it (`_trace_schema`).
* INFO and above is what a reader needs to draw every session again. DEBUG is what only tells *when* within a step, or
  repeats what other events say.
* Keys are flat, but for lists of names. A key ``error`` or ``cause`` holds a class name. No secret and no text of any
  prompt or answer is ever in one.
* Events and keys may be added, and readers pass over what they do not know. What changes or goes raises
  `SCHEMA_VERSION`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from ._lifecycle import FINAL, State, Trigger

SCHEMA_VERSION = 1
"""Of `TraceEvent` and of the lines of a trace file; raised when a reader would have to change."""

KeyType: TypeAlias = Literal["string", "number", "integer", "boolean", "strings"]


class Key(NamedTuple):
    """
    A key, the same in every event that has it.

    Attributes:
        type: Of its value, in JSON; ``strings`` is a list of them.
        says: What it is, for people.
        values: The only ones, if they are few.
        pattern: What a string looks like.
    """

    type: KeyType
    says: str
    values: tuple[str, ...] = ()
    pattern: str = ""


class Word(NamedTuple):
    """
    An event.

    Attributes:
        level: As in `logging`.
        says: What happened, for people.
        required: Keys that it always has, besides ``engine``.
        optional: Keys that it has when there is something to say.
        narrowed: Values of a key that it is confined to here.
    """

    level: int
    says: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    narrowed: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_STATES = tuple(state.value for state in State)
_TRIGGERS = tuple(trigger.value for trigger in Trigger)

KEYS: Mapping[str, Key] = MappingProxyType(
    {
        # who
        "engine": Key("string", "the engine that traced it; another one for each engine", pattern="^[0-9a-f]{8}$"),
        "session": Key("string", "one session: follow it to follow a chat; also its key in the ledger"),
        "service": Key("string", "the service, by its adapter's name"),
        "account": Key("string", "as whom: the account's name, or `anon-` and the fingerprint of its credential"),
        "chat": Key("string", "the chat's id at the service, once it is known"),
        "model": Key("string", "the model that answers; empty for the service's own"),
        "pid": Key("integer", "the engine's process"),
        "host": Key("string", "its machine"),
        "version": Key("string", "of Chatlease"),
        "ledger": Key("string", "`sqlite`, `postgres`, `memory`, `none`, or the class of a ledger of the bot's own"),
        "services": Key("strings", "names of the services that the engine speaks to"),
        # the step
        "trigger": Key("string", "the step, or the call, that it is about", values=(*_TRIGGERS, "read_answer")),
        "source": Key("string", "the state before the step", values=_STATES),
        "dest": Key("string", "the state after it", values=_STATES),
        "state": Key("string", "the state now", values=_STATES),
        "http_request": Key("string", "method and path of the step's last request"),
        "http_status": Key("integer", "of the service's last answer in this step"),
        "attempt": Key("integer", "number of the try that failed, the first is 1"),
        "attempts": Key(
            "integer",
            "tries that failed so far; in `sweep.*`, all tries by the session and by sweeps, the last one too",
        ),
        # times, in seconds
        "elapsed_s": Key("number", "how long all of it took, waiting included"),
        "waited_s": Key("number", "how long was waited: for the account's turn, or on the service for the first token"),
        "queued_s": Key(
            "number", "of `waited_s`, until the run was seen to be no longer pending; left out when it never was"
        ),
        "retry_in_s": Key("number", "the next try comes after that time"),
        "age_s": Key("number", "since the chat's creation was asked for"),
        # what went wrong
        "error": Key("string", "class of what was raised; `CancelledError` where the bot gave up"),
        "error_code": Key("string", "its short machine word"),
        "cause": Key("string", "class of the exception that ended the bot's block, and so the session"),
        # the answer
        "waits_for": Key(
            "string",
            "for a free `slot` of the account in this process, its `budget` of answers, or its `turn` among processes",
            values=("slot", "budget", "turn"),
        ),
        "token_count": Key("integer", "tokens given out so far"),
        "polled": Key("boolean", "whether the answer was looked at, because no stream delivered it"),
        "given_length": Key("integer", "characters given out"),
        "final_length": Key("integer", "characters of the final text"),
        # ledger and sweeps
        "holder": Key("string", "the process, as the ledger knows it"),
        "file": Key("string", "where the old ledger was set aside, or the trace file"),
        "count": Key("integer", "how many"),
        "reaped": Key("integer", "processes that were found dead"),
        "claimed": Key("integer", "entries that were taken over"),
        "swept": Key("integer", "chats whose deletion was confirmed"),
        "absent": Key("integer", "entries whose chat never came to be"),
        "failed": Key("integer", "entries that will be tried again"),
        "parked": Key("integer", "open entries that wait for a credential that works"),
        "dead": Key("integer", "entries that became dead letters in this sweep"),
        "open": Key("integer", "entries open now, those of living sessions too"),
        "undeleted": Key("integer", "dead letters now"),
        # the trace itself
        "hook": Key("string", "name of the hook"),
    }
)
"""Every key, besides ``v``, ``at`` and ``event``, which every line has."""

_ERROR = ("error_code", "http_status")
_COUNTS = ("reaped", "claimed", "swept", "absent", "failed", "parked", "dead", "open", "undeleted")


def _session(level: int, says: str, *required: str, optional: Iterable[str] = (), **narrowed: tuple[str, ...]) -> Word:
    """Return an event of one session."""
    return Word(level, says, ("session", "service", *required), ("account", "chat", *optional), narrowed)


def _account(level: int, says: str, *required: str, optional: Iterable[str] = ()) -> Word:
    """Return an event of a sweep, about an account."""
    return Word(level, says, ("service", "account", *required), tuple(optional))


def _entry(level: int, says: str, *required: str, optional: Iterable[str] = ()) -> Word:
    """Return an event of a sweep, about what one session left."""
    chat = () if "chat" in required else ("chat",)
    return _account(level, says, "session", *required, optional=(*chat, *optional))


_DEBUG, _INFO, _WARNING, _ERROR_LEVEL = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

VOCABULARY: Mapping[str, Word] = MappingProxyType(
    {
        "engine.opened": Word(
            _INFO, "an engine is open; its other events follow", ("pid", "host", "version", "ledger", "services")
        ),
        "engine.closed": Word(_INFO, "it has closed in order, `elapsed_s` after it opened", ("elapsed_s",)),
        "session.opened": Word(_INFO, "the session's first step begins", ("session", "service", "model"), ("account",)),
        "session.closed": _session(
            _INFO,
            "a final state is reached, `elapsed_s` after the session was opened",
            "state",
            "elapsed_s",
            state=tuple(state.value for state in State if state in FINAL),
        ),
        "session.transition.started": _session(_DEBUG, "a step begins", "trigger", "source", trigger=_TRIGGERS),
        "session.transition.completed": _session(
            _INFO,
            "a step is done; `waited_s` where `queue_assistant` had to wait for the account's turn",
            *("trigger", "source", "dest", "elapsed_s"),
            optional=("http_request", "http_status", "waited_s"),
            trigger=_TRIGGERS,
        ),
        "session.transition.failed": _session(
            _WARNING,
            "a step failed; the state is what it was",
            *("trigger", "source", "elapsed_s", "error"),
            optional=("http_request", "waited_s", *_ERROR),
            trigger=_TRIGGERS,
        ),
        "session.call.retried": _session(
            _INFO,
            "a call is made again: it never left, its login was refused, it only looks, or it deletes",
            *("trigger", "attempt", "error"),
            optional=_ERROR,
        ),
        "session.credentials.cached": Word(_DEBUG, "the login was known already", ("session", "service"), ("account",)),
        "session.gate.waiting": _session(_INFO, "it is not yet the account's turn", "waits_for"),
        "session.gate.acquired": _session(_INFO, "it is the account's turn, after `waited_s`", "waited_s"),
        "session.gate.released": _session(_DEBUG, "the account's slot is free again"),
        "session.gate.alone": _session(
            _WARNING, "the ledger failed, so the turn is only kept within this process", "error"
        ),
        "session.run.requeued": _session(
            _WARNING, "something else cancelled the run before its first token; it is queued again", "attempt"
        ),
        "session.stream.first_token": _session(
            _INFO,
            "the answer begins, `waited_s` on the service after it was asked for",
            "waited_s",
            optional=["queued_s"],
        ),
        "session.stream.polling": _session(
            _INFO,
            "there is no stream, or it was lost or ended early; the answer is looked at instead",
            "token_count",
            optional=("error", *_ERROR),
        ),
        "session.stream.differs": _session(
            _WARNING, "the tokens were no prefix of the final text, which counts", "given_length", "final_length"
        ),
        "session.stream.ended": _session(
            _INFO,
            "the answer is complete, `elapsed_s` after its stream was opened",
            *("token_count", "polled", "elapsed_s"),
        ),
        "session.stream.failed": _session(
            _WARNING,
            "reading the answer ended with an exception",
            *("error", "token_count", "elapsed_s"),
            optional=_ERROR,
        ),
        "session.cleanup.started": _session(
            _INFO, "the engine begins to give the chat back", "state", optional=["cause"]
        ),
        "session.cleanup.completed": _session(_INFO, "the chat is deleted", "elapsed_s", "attempts"),
        "session.cleanup.failed": _session(
            _WARNING, "the chat could not be deleted in time", "attempts", optional=["error_code"]
        ),
        "session.cleanup.handed_over": _session(
            _ERROR_LEVEL, "the chat is left; the ledger, if there is one, keeps it", "elapsed_s", "attempts"
        ),
        "ledger.failed": Word(_ERROR_LEVEL, "it cannot be written, so no chat can be created", ("error_code",)),
        "ledger.recovered": Word(_WARNING, "it can be written again"),
        "ledger.quarantined": Word(
            logging.CRITICAL, "its file was lost; a new one was begun", ("error_code",), ("file",)
        ),
        "ledger.lease_lost": Word(
            _ERROR_LEVEL,
            "this process was stopped longer than its lease; the chats that it had are the sweepers'",
            ("holder",),
        ),
        "sweep.started": Word(_DEBUG, "a sweep begins"),
        "sweep.completed": Word(_DEBUG, "a sweep is over; its counts are metrics", (*_COUNTS, "elapsed_s")),
        "sweep.failed": Word(_WARNING, "a sweep in the background failed; the next one comes", ("error",)),
        "sweep.holder.reaped": Word(_WARNING, "processes were found dead; their chats can be swept", ("count",)),
        "sweep.chat.deleted": _entry(_INFO, "a chat that was left is deleted", "chat", "age_s", "attempts"),
        "sweep.chat.failed": _entry(
            _WARNING, "it could not be deleted, and will be tried again", "error_code", "attempts", "retry_in_s"
        ),
        "sweep.chat.dead": _entry(_ERROR_LEVEL, "it is a dead letter, tried once a day", "error_code", "attempts"),
        "sweep.account.parked": _account(
            _ERROR_LEVEL, "the account's login was refused; its chats wait for a better one", "error_code"
        ),
        "sweep.account.unparked": _account(_INFO, "the account's login works again"),
        "sweep.candidate.found": _account(_WARNING, "the empty chat of a lost create reply; only reported", "chat"),
        "sweep.candidate.ambiguous": _account(_INFO, "the same, but perhaps a living session's", "chat"),
        "sweep.candidate.deleted": _account(_INFO, "the empty chat of a lost create reply is deleted", "chat"),
        "sweep.entry.absent": _entry(_INFO, "the create call never made a chat", "attempts"),
        "hook.dropped": Word(_ERROR_LEVEL, "a hook raised, and is not called any more", ("hook", "error")),
        "trace.failed": Word(
            _WARNING,
            "a trace file cannot be written; only in the log, for the file cannot hold it",
            ("file", "error_code"),
        ),
        "trace.lost": Word(
            _WARNING, "so many lines are missing here, because the file could not be written", ("count",)
        ),
    }
)
"""Every event."""
