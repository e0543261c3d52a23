"""Everything about the local service that can be chosen, in one place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ._answers import AnswerSource
from ._model_list import MODELS

Auth: TypeAlias = Literal["any", "strict"]
"""Whom the service lets in; see `ServiceOptions`."""

Answers: TypeAlias = Literal["lorem", "echo"]
"""What its workers answer; see `ServiceOptions`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceOptions:
    """
    How a local service behaves; every default is the recorded server's own where there is one.

    Attributes:
        models: Names of the models offered; those recorded by default.
        workers: How many workers there are at first, each doing one message at a time. 0: nobody answers.
        answers: What they answer: ``lorem`` (random Latin words), ``echo`` (the prompt, word by word), or a source of
            your own (`AnswerSource`). Ignored when ``upstream`` is given.
        upstream: URL of an OpenAI-compatible server (Ollama, vLLM, llama.cpp, ...), with or without ``/v1``, that
            answers instead; the tokens come as fast as it sends them.
        upstream_model: Name of its model; needed with ``upstream``.
        upstream_key: Its API key, for those that want one.
        token_interval: Seconds between two tokens of ``lorem`` and ``echo``. 0.2, as the recorded worker.
        answer_tokens: How many tokens a ``lorem`` answer has; ``None`` for 30 to 68, as recorded.
        auth: ``any``: every cookie and every bearer is an account of its own, only missing ones are refused.
            ``strict``: as recorded, with the logins below.
        sessions: Session cookies of the website and whose they are (strict).
        tokens: Bearer tokens of the server and whose they are (strict).
        refresh_tokens: Bearer tokens that the server refuses for being of the wrong kind (strict).
        client_keys: Keys of trusted clients (strict).
        banned: Users whom the website refuses.
        pending_interval: Seconds between two ``pending`` frames.
        ping_interval: Seconds between two pings of a stream.
        message_timeout: A worker that takes a message older than this, in seconds, lets it time out.
        queue_expire: Seconds after which a queue position and unread frames are forgotten.
        queue_limit: How many messages may wait; ``None`` for any number.
        message_length: How many characters a prompt may have; ``None`` for any number.
        chat_length: How many messages a chat may have; ``None`` for any number.
        rate_limit: How many assistant messages a user may ask for in a window; ``None`` for any number.
        rate_window: Length of that window in seconds.
        worker_reconnect: Seconds until a worker whose connection the server dropped is back. Not recorded; 1.
        faults: What goes wrong, in the notation of `Faults.program`.
        seed: Makes ids, words, seeds and faults repeatable.
        log_size: How many records the access log keeps.
        journal: How many entries ``GET /_chatlease/journal`` keeps for its reader. 0: there is no journal.
        actor_header: Name of a request header whose value the journal shows; for telling clients of one user apart.
    """

    models: Collection[str] = MODELS
    workers: int = 1
    answers: Answers | AnswerSource = "lorem"
    upstream: str | None = None
    upstream_model: str | None = None
    upstream_key: str | None = field(default=None, repr=False)
    token_interval: float = 0.2
    answer_tokens: int | None = None
    auth: Auth = "any"
    sessions: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    refresh_tokens: Collection[str] = field(default=(), repr=False)
    client_keys: Collection[str] = field(default=(), repr=False)
    banned: Collection[str] = ()
    pending_interval: float = 1.0
    ping_interval: float = 15.0
    message_timeout: float = 60.0
    queue_expire: float = 60.0
    queue_limit: int | None = None
    message_length: int | None = None
    chat_length: int | None = None
    rate_limit: int | None = 20
    rate_window: float = 660.0
    worker_reconnect: float = 1.0
    faults: str = ""
    seed: int = 0
    log_size: int = 100_000
    journal: int = 0
    actor_header: str = ""
