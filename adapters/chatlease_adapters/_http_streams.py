"""Answers on their way: read whole, or as they come; and what goes wrong on it. For `chatlease_adapters.http`."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

from chatlease.errors import ProtocolChanged

from . import _http_errors
from ._http_answers import Answer, ProblemReader, media_type, usual_problem


class HttpStream:
    """
    An answer whose head has been read and whose body is on its way.

    Owned by who opened it, who closes it; one task at a time reads.

    Attributes:
        status: HTTP status, no redirect.
        headers: Case-insensitive.
    """

    __slots__ = ("_content", "_limit", "_problem", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, limit: int, problem: ProblemReader = usual_problem) -> None:
        self._response = response
        self._content = response.content
        self._limit = limit
        self._problem = problem
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty where the service gave none."""
        return media_type(self.headers)

    async def read(self) -> bytes:
        """
        Wait for bytes and return all that are there, cut anywhere; empty at the end of the body.

        Cancelling it loses nothing.

        Raises:
            Unavailable: The connection broke (``connection-lost``).
        """
        try:
            return await self._content.readany()
        except Exception as error:  # noqa: BLE001  (raised below: a context would keep it)
            failure = failure_of(error, self._response.url)
        raise failure

    async def answer(self) -> Answer:
        """
        Read the rest and return it as a whole; the connection is let go of, in any case.

        Raises:
            Unavailable: The connection broke (``connection-lost``).
            ProtocolChanged: The body is larger than the client's limit (``body-too-large``).
        """
        return await whole(self._response, self._limit, self._problem)

    def close(self) -> None:
        """Let go of the connection at once, without waiting; may be called twice."""
        self._response.close()


async def whole(response: aiohttp.ClientResponse, limit: int, problem: ProblemReader) -> Answer:
    """Read an answer to its end; the connection is let go of, in any case."""
    try:
        length = response.content_length
        if length and length <= limit and "Content-Encoding" not in response.headers:
            body = await response.read()
        else:
            body = await _pieces(response, limit)
    except Exception as error:  # noqa: BLE001  (raised below: a context would keep it)
        response.close()
        failure = failure_of(error, response.url)
    except BaseException:
        response.close()
        raise
    else:
        answer = Answer(response.status, response.headers, body)
        found = problem(answer)
        return answer if found is None else msgspec.structs.replace(answer, problem=found)
    raise failure


async def _pieces(response: aiohttp.ClientResponse, limit: int) -> bytes:
    declared = 0 if "Content-Encoding" in response.headers else response.content_length or 0
    pieces: list[bytes] = []
    size = 0
    while max(size, declared) <= limit:
        piece = await response.content.readany()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    raise ProtocolChanged(
        f"an answer of at most {limit} bytes", "a larger one", status=response.status, code="body-too-large"
    )


# ------------------------------------------------------------------------------------------------------------ failures


def failure_of(error: Exception, url: URL | str) -> Exception:
    return _http_errors.transport_error(error, _origin(url)) or error


def _origin(url: URL | str) -> str:
    try:
        return str(URL(url).origin())
    except ValueError:
        return "the address given"


def path_of(url: URL | str) -> str:
    try:
        return URL(url).raw_path
    except ValueError:
        return "?"


def no_answer(response: aiohttp.ClientResponse) -> ProtocolChanged:
    """Return the error for a redirect, and for what no server may say (101, ...), having let go of the connection."""
    response.close()
    if response.status < 200:  # noqa: PLR2004  (the informational ones)
        return ProtocolChanged("an HTTP answer", "a status that ends none", status=response.status)
    return _redirect(response)


def _redirect(response: aiohttp.ClientResponse) -> ProtocolChanged:
    # Path and query of the target may hold a token.
    try:
        target = str(response.url.join(URL(response.headers.get("Location", ""))).origin())
    except ValueError:
        target = "an address that is none"
    return ProtocolChanged(
        f"an answer of {response.url.origin()}", f"a redirect to {target}", status=response.status, code="redirect"
    )
