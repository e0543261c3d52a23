"""Whole answers of an HTTP service, and what they mean: for `chatlease_adapters.http`, which has it all in public.

Rules that live here:

* An answer shows neither its body nor its headers; what is told of a body that cannot be understood is its shape.
* A status of 400 or more is an error; 200 with a page is none of the service's answers (a portal on the way says that
  to everything).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, TypeVar
from urllib.parse import unquote

import msgspec

from chatlease.adapter import Call, Credential
from chatlease.errors import ProtocolChanged, ServiceError

from . import _http_errors

T = TypeVar("T")
_REFUSED = 400


class Problem(msgspec.Struct, frozen=True):
    """
    What a service says when it refuses.

    Attributes:
        code: Its own word for what is wrong, for programs; compared with, never shown.
        words: What it says to people; shown, scrubbed. Empty where it says nothing.
        status: The HTTP status that says the same, where the answer's own does not (a refusal with status 200).
        error: The error that it is, where the status does not tell: `chatlease.errors.Busy`, ...
    """

    code: str
    words: str = ""
    status: int | None = None
    error: type[ServiceError] | None = None


class Answer(msgspec.Struct, frozen=True):
    """
    A whole answer. Its ``repr`` shows no content.

    Attributes:
        status: HTTP status, no redirect.
        headers: Case-insensitive where it came from a service.
        body: With the content coding undone.
        problem: What is refused by it; ``None`` for a good answer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    problem: Problem | None = None

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {shape(self.body)}>"

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty where the service gave none."""
        return media_type(self.headers)

    @property
    def code(self) -> str:
        """The service's own word for what it refuses (`Problem.code`); empty for a good answer."""
        return self.problem.code if self.problem else ""


ProblemReader: TypeAlias = Callable[[Answer], Problem | None]
"""How a service says that it refuses: is given every answer, whatever its status; ``None``: this one is good."""


def usual_problem(answer: Answer) -> Problem | None:
    """
    Return what most services say by a status of 400 or more and JSON.

    The words are its ``message``, ``detail`` or ``error``; the code is the ``code`` beside them, or else the words.
    Both may stand in an object ``error`` or in the first of a list ``errors``.
    """
    if answer.status < _REFUSED:
        return None
    words = _http_errors.own_words(answer.body)
    return Problem(_http_errors.own_code(answer.body) or words, words)


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type in small letters, without parameters; empty where there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def refusal(answer: Answer, doing: str, *, login: Credential | None = None, hide: Iterable[str] = ()) -> ServiceError:
    """
    Return the error that an answer with a status of 400 or more means.

    401 and 403 are `NotAuthenticated`, 429 is `RateLimited`, 408, 425 and 5xx are `Unavailable`, 404 or 405 with an
    HTML page is `ProtocolChanged` (no such API at this address), everything else `Rejected`. Where the service says
    what is wrong (``message``, ``detail`` or ``error`` of a JSON object, or a list of problems), that is the text.

    Args:
        answer: What came.
        doing: What was asked for, as it shall read in "the service answered HTTP 500 to ...".
        login: Its secrets are taken out of the text.
        hide: More texts to take out: what was sent and may come back, such as the prompt.
    """
    secrets = [*(login.secrets() if login else ()), *hide]
    problem = answer.problem or usual_problem(answer)
    words = problem.words if problem else own_words(answer)
    error = _http_errors.refusal(_status(answer), answer.headers, answer.body, doing, words=words, hide=secrets)
    wanted = problem.error if problem else None
    if wanted is None or isinstance(error, wanted):
        return error
    return wanted(str(error), status=error.status, sent=error.sent, retry_after_s=error.retry_after_s)


def is_refused(answer: Answer) -> bool:
    """Say whether an answer refuses, by its status or in the service's own way."""
    return answer.status >= _REFUSED or answer.problem is not None


def _status(answer: Answer) -> int:
    status = answer.problem.status if answer.problem else None
    return answer.status if status is None else status


def scrubber(call: Call, hide: Iterable[str] = ()) -> Callable[[str], str]:
    """
    Return what takes the login and the texts of a call out of a service's own words: for streams, which outlive it.

    Args:
        call: Whose secrets and texts (`Call.hide`) are taken out.
        hide: More texts to take out.
    """
    hidden = [*call.login.credential.secrets(), *call.hide, *hide]
    return lambda text: scrub(text, hidden)


def check(call: Call, answer: Answer, doing: str, hide: Iterable[str] = ()) -> None:
    """
    Raise the error that a refusal means (a status of 400 or more, a `Problem`), without what the call wants hidden.

    Args:
        call: Whose login and texts (`Call.hide`) are taken out.
        answer: What came.
        doing: See `refusal`.
        hide: More texts to take out.
    """
    if is_refused(answer):
        raise refusal(answer, doing, login=call.login.credential, hide=[*hide, *call.hide])


def check_done(call: Call, answer: Answer, doing: str, hide: Iterable[str] = ()) -> None:
    """
    Do as `check` does, for an answer of which perhaps nothing is read but that it is good.

    Raises:
        ProtocolChanged: It is a page, which is none of the service's answers.
    """
    check(call, answer, doing, hide)
    if answer.content_type == "text/html":
        raise ProtocolChanged("an answer without a page", shape(answer.body), status=answer.status)


def no_stream(call: Call, answer: Answer, doing: str, hide: Iterable[str] = ()) -> ServiceError:
    """Return the error that an answer means which should have been an event stream."""
    if is_refused(answer):
        return refusal(answer, doing, login=call.login.credential, hide=[*hide, *call.hide])
    return ProtocolChanged("an event stream", shape(answer.body), status=answer.status)


def own_words(answer: Answer) -> str:
    """Return what a JSON answer says about a failure (``message``, ``detail``, ``error``), unscrubbed; or nothing."""
    return _http_errors.own_words(answer.body)


def decode(answer: Answer, decoder: msgspec.json.Decoder[T], expected: str) -> T:
    """
    Decode a JSON answer.

    Args:
        answer: What came.
        decoder: Of the type wanted; fields that the type does not have are skipped.
        expected: What the contract says, in words, for the error.

    Raises:
        ProtocolChanged: No JSON, or not of that shape. Tells type and keys of what came, never its content.
    """
    # ValueError: of msgspec, and for what is no UTF-8.
    with contextlib.suppress(ValueError, RecursionError):
        return decoder.decode(answer.body)
    raise ProtocolChanged(expected, shape(answer.body), status=answer.status)


def shape(body: bytes) -> str:
    """Return what an answer is, in words that tell nothing of its content: ``JSON object with keys id, title``."""
    return _http_errors.shape(body)


def scrub(text: str, hide: Iterable[str]) -> str:
    """
    Return a service's text as it may be shown.

    Every text of ``hide`` is replaced by ``[hidden]``, as it is and as JSON or Python quote it, and so is every part of
    it of 16 characters or more. Texts of one or two characters are no secrets; up to five count as whole words only.
    The result has at most 300 characters.
    """
    return _http_errors.scrub(text, hide)


def plain(answer: Answer, expected: str) -> str:
    """
    Return an answer that is text, as it is.

    Raises:
        ProtocolChanged: A page, which a portal on the way says to everything, or no UTF-8.
    """
    if answer.content_type != "text/html":
        with contextlib.suppress(ValueError):
            return answer.body.decode()
    raise ProtocolChanged(expected, shape(answer.body), status=answer.status)


class _Head(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def close(self) -> None: ...


def located(answer: Answer | _Head, header: str = "Location") -> str:
    """
    Return the id that an answer's head names: the last part of the address in a header, or all of it, unquoted.

    Args:
        answer: An `Answer`, or an `HttpStream`, which is closed where there is none.
        header: Where the address or the id stands.

    Raises:
        ProtocolChanged: There is none.
    """
    path = answer.headers.get(header, "").partition("?")[0]
    found = unquote(path.rstrip("/").rpartition("/")[2])
    if not found:
        if not isinstance(answer, Answer):
            answer.close()
        raise ProtocolChanged(f"an id in the header {header}", "none", status=answer.status)
    return found
