"""What workers say: Latin words, an echo of the prompt, or whatever an OpenAI-compatible server makes of the thread.

Rules that live here:

* A source is called once per message with its `Work` and yields pieces; pacing is the source's own business.
* The final text is the tokens joined, unless the source yields a `FinalText`.
* A source that cannot go on raises `WorkFailed`, whose text the user sees in an ``error`` frame; it holds no secret.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import aiohttp
import msgspec

from chatlease import Clock

_WORDS = (
    *("adipisci", "aliquam", "amet", "consectetur", "dolor", "dolore", "dolorem", "eius", "est", "etincidunt"),
    *("ipsum", "labore", "magnam", "modi", "neque", "non", "numquam", "porro", "quaerat", "quiquia", "quisquam"),
    *("sed", "sit", "tempora", "ut", "velit", "voluptatem"),
)
_SHORTEST, _LONGEST = 30, 68  # tokens of recorded answers
_ROLES = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Work:
    """
    What a worker is given: never only the last prompt.

    Attributes:
        message: Id of the message to be written.
        thread: Role (``prompter`` or ``assistant``) and text of each message from the root to the prompt.
        sampling: The sampling parameters asked for.
    """

    message: str
    thread: tuple[tuple[str, str], ...]
    sampling: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Thought:
    """A plugin's step; the stream shows it as ``plugin_intermediate``, followed by an empty token."""

    thought: str
    action: str = ""
    action_input: str = ""
    action_response: str = ""


@dataclass(frozen=True, slots=True)
class FinalText:
    """The final text, where it is not the tokens joined (recorded with a stand-in worker)."""

    text: str


class WorkFailed(Exception):
    """The source cannot go on; the text is shown to the user."""


Piece: TypeAlias = str | Thought | FinalText
"""What a source yields; a ``str`` is a token."""

AnswerSource: TypeAlias = Callable[[Work], AsyncGenerator[Piece, None]]
"""Writes one answer: called once per message, paced by itself, closed when nobody wants the rest."""


async def paced(tokens: Iterator[str], clock: Clock, interval: float) -> AsyncGenerator[Piece, None]:
    """Yield the tokens, each after that many seconds."""
    for token in tokens:
        await clock.sleep(interval)
        yield token


def lorem(clock: Clock, interval: float, rng: random.Random, length: int | None) -> AnswerSource:
    """Answer in random Latin words, a token each, in sentences; ``length`` tokens, or 30 to 68."""

    def source(_work: Work) -> AsyncGenerator[Piece, None]:
        count = length or rng.randint(_SHORTEST, _LONGEST)
        return paced(_sentences(rng, count), clock, interval)

    return source


def echo(clock: Clock, interval: float) -> AnswerSource:
    """Answer with the prompt, word by word; white space stays as it was."""

    def source(work: Work) -> AsyncGenerator[Piece, None]:
        return paced(_pieces(work.thread[-1][1]), clock, interval)

    return source


def _sentences(rng: random.Random, count: int) -> Iterator[str]:
    left_in_sentence = 0
    for remaining in range(count - 1, -1, -1):
        word = rng.choice(_WORDS)
        if not left_in_sentence:
            word, left_in_sentence = word.capitalize(), rng.randint(4, 8)
        left_in_sentence -= 1
        stop = "" if left_in_sentence and remaining else "."
        yield word + stop + (" " if remaining else "")


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start
        while end < len(text) and not text[end].isspace():
            end += 1
        while end < len(text) and text[end].isspace():
            end += 1
        yield text[start:end]
        start = end


class Upstream:
    """
    Answers from an OpenAI-compatible server, the thread handed over as chat messages.

    Args:
        http: The session that carries the requests; owned by the service.
        url: The server's address, with or without ``/v1``.
        model: Name of the model.
        key: API key, if it wants one.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str, key: str | None) -> None:
        self._http = http
        self._url = completions_url(url)
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __call__(self, work: Work) -> AsyncGenerator[Piece, None]:
        """Yield the deltas as they come."""
        problem = ""
        try:
            async with self._http.post(self._url, json=self._request(work), headers=self._headers) as answer:
                if answer.status == HTTPStatus.OK:
                    async for line in answer.content:
                        token = _delta(line)
                        if token:
                            yield token
                else:
                    problem = f"The model server answered {answer.status}."
        except (aiohttp.ClientError, OSError, ValueError, msgspec.DecodeError) as error:
            problem = f"The model server could not be used: {type(error).__name__}."
        if problem:
            raise WorkFailed(problem)

    def _request(self, work: Work) -> dict[str, object]:
        messages = [{"role": _ROLES[role], "content": text} for role, text in work.thread]
        chosen = {
            "temperature": work.sampling.get("temperature"),
            "top_p": work.sampling.get("top_p"),
            "max_tokens": work.sampling.get("max_new_tokens"),
        }
        wanted = {name: value for name, value in chosen.items() if value is not None}
        return {"model": self._model, "messages": messages, "stream": True, **wanted}


def completions_url(url: str) -> str:
    """Return the address of the chat completions of a server given as origin, with ``/v1``, or in full."""
    base = url.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{base if base.endswith('/v1') else base + '/v1'}/chat/completions"


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def _delta(line: bytes) -> str:
    data = line.strip().removeprefix(b"data:").strip()
    if not line.startswith(b"data:") or data == b"[DONE]":
        return ""
    choices = _decode_chunk(data).choices
    return (choices[0].delta.content or "") if choices and choices[0].delta else ""
