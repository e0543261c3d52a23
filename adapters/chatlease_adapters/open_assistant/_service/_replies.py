"""Answers as they go over the wire: which headers an answer has, and which it has not.

Rules that live here (recorded; the README of the recordings, "Website routes"):

* The website: JSON has a content type with a charset, an etag, a length and ``vary``, and is gzipped over 1 KiB if the
  client accepts it; everything else is chunked and has no content type. Every answer says ``connection: close``.
* The server: JSON has a bare content type; an answer without a body has none.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import hdrs, web

from ._refusal import Refusal

_GZIP_FROM = 1024
_REASONS = {422: "Unprocessable Entity"}  # newer Pythons have another text
_SERVER = web.ResponseKey("server", str)
_TYPED = web.ResponseKey("typed", bool)
_PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer that fits into one piece.

    Attributes:
        chunked: Sent without a length.
        close: The connection is closed afterwards.
        typed: Has a content type (in ``headers``); else none is sent at all.
        server: Value of the ``server`` header; empty: the header is not sent.
    """

    status: int
    body: bytes = b""
    reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    chunked: bool = False
    close: bool = False
    server: str = ""


def site_json(value: object, status: int = 200) -> Reply:
    """Answer with JSON, as the website does."""
    body = msgspec.json.encode(value)
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: "application/json; charset=utf-8",
        hdrs.ETAG: f'"{zlib.crc32(body):x}"',
        hdrs.VARY: "Accept-Encoding",
    }
    return Reply(status, body, headers=headers, close=True)


def site_text(status: int, text: str = "", reason: str | None = None) -> Reply:
    """Answer with plain text or nothing, without saying what it is, as the website does."""
    return Reply(status, text.encode(), reason, chunked=True, close=True)


def site_failed(status: int = 500) -> Reply:
    """Answer as the website does when its request to the inference server failed."""
    return site_text(status, "Internal Server Error")


def site_page(status: int, title: str) -> Reply:
    """Answer with an HTML page, as the website does on an unknown route."""
    headers: dict[str, str] = {
        "X-Powered-By": "Next.js",
        hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
        hdrs.ETAG: '"0"',
        hdrs.VARY: "Accept-Encoding",
    }
    return Reply(status, _PAGE.format(title=title).encode(), headers=headers, close=True)


def server_json(value: object, status: int = 200, **headers: str) -> Reply:
    """Answer with JSON, as the server does."""
    return Reply(
        status, msgspec.json.encode(value), headers=headers | {hdrs.CONTENT_TYPE: "application/json"}, server="uvicorn"
    )


def server_empty(status: int = 200) -> Reply:
    """Answer with nothing, as the server does."""
    return Reply(status, server="uvicorn")


def server_refused(refusal: Refusal) -> Reply:
    """Answer a refusal, as the server does."""
    if refusal.crashed:
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: "text/plain; charset=utf-8"}
        return Reply(refusal.status, b"Internal Server Error", headers=headers, server="uvicorn")
    if refusal.detail is None:
        return server_empty(refusal.status)
    return server_json({"detail": refusal.detail}, refusal.status)


async def send(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Send an answer in one piece."""
    body, headers, chunked = reply.body, dict(reply.headers), reply.chunked
    if hdrs.VARY in headers and len(body) > _GZIP_FROM and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        body, chunked = gzip.compress(body, compresslevel=1), True
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    if not chunked and reply.status != 204:  # noqa: PLR2004  (No Content)
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
    response = bare_response(reply.status, reply.reason, headers, close=reply.close, server=reply.server)
    if chunked:
        response.enable_chunked_encoding()
    with contextlib.suppress(ConnectionError):  # a client that has left is no failure of the service
        await response.prepare(request)
        await response.write_eof(body)
    return response


def bare_response(
    status: int,
    reason: str | None,
    headers: Mapping[str, str],
    *,
    close: bool,
    server: str,
) -> web.StreamResponse:
    """Make a response that will have these headers and a date, and nothing that aiohttp adds by itself."""
    response = web.StreamResponse(status=status, reason=reason or _REASONS.get(status), headers=headers)
    response[_SERVER] = server
    response[_TYPED] = hdrs.CONTENT_TYPE in headers
    if close:
        response.force_close()
    return response


async def strip(_request: web.Request, response: web.StreamResponse) -> None:
    """Take away what aiohttp added to a `bare_response`; a signal handler of the application."""
    if _SERVER not in response:
        return
    if not response[_TYPED]:
        response.headers.pop(hdrs.CONTENT_TYPE, None)
    server = response[_SERVER]
    if not server:
        response.headers.pop(hdrs.SERVER, None)
    else:
        response.headers[hdrs.SERVER] = server
