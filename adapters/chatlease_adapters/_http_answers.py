"""Whole answers of an HTTP service, and what they mean: for `chatlease_adapters.http`, which has it all in public.

Rules that live here:

* An answer shows neither its body nor its headers; what is told of a body that cannot be understood is its shape.
* A status of 400 or more is an error; 200 with a page is none of the service's answers (a portal on the way says that
  to everything).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from chatlease.adapter import Call, Credential
from chatlease.errors import ProtocolChanged, ServiceError

from . import _http_errors

T = TypeVar("T")
_REFUSED = 400


class Answer(msgspec.Struct, frozen=True):
    """
    A whole answer. Its ``repr`` shows no content.

    Attributes:
        status: HTTP status, no redirect.
        headers: Case-insensitive where it came from a service.
        body: With the content coding undone.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {shape(self.body)}>"

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty where the service gave none."""
        return media_type(self.headers)


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
    return _http_errors.refusal(answer.status, answer.headers, answer.body, doing, secrets)


def check(call: Call, answer: Answer, doing: str, hide: Iterable[str] = ()) -> None:
    """
    Raise the error that an answer with a status of 400 or more means, without anything that the call wants hidden.

    Args:
        call: Whose login and texts (`Call.hide`) are taken out.
        answer: What came.
        doing: See `refusal`.
        hide: More texts to take out.
    """
    if answer.status >= _REFUSED:
        raise refusal(answer, doing, login=call.login.credential, hide=[*hide, *call.hide])


def check_done(call: Call, answer: Answer, doing: str) -> None:
    """
    Do as `check` does, for an answer of which nothing is read but that it is good.

    Raises:
        ProtocolChanged: It is a page, which is none of the service's answers.
    """
    check(call, answer, doing)
    if answer.content_type == "text/html":
        raise ProtocolChanged("an answer without a page", shape(answer.body), status=answer.status)


def no_stream(call: Call, answer: Answer, doing: str) -> ServiceError:
    """Return the error that an answer means which should have been an event stream."""
    if answer.status >= _REFUSED:
        return refusal(answer, doing, login=call.login.credential, hide=call.hide)
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
