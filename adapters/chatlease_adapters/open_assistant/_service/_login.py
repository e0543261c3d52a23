"""Who is calling: credentials of both dialects, as recorded in ``auth-site.jsonl`` and ``auth-server.jsonl``.

Rules that live here:

* Users are shown by names that tell nothing of the credential: with ``auth="any"`` a digest of it.
* The website takes the session cookie under its secure name only, whole or split over ``.0`` and ``.1``, or the same
  token as a bearer; it registers unknown users by itself.
* The server takes a trusted client's header before a bearer; a trusted client's user must have been registered.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import msgspec
from aiohttp import web

from ._options import ServiceOptions
from ._records import Json
from ._refusal import Refusal, crashed
from ._store import Store

SESSION_COOKIE = "__Secure-next-auth.session-token"
_PARTS = 16  # more than a browser's cookie jar would hold of one token


class TrustedClient(msgspec.Struct):
    """What the website says to the server in the ``TrustedClient`` header, base64 of JSON."""

    api_key: str
    client: str
    user_id: str
    username: str
    provider_account_id: str

    def as_json(self) -> Json:
        """Return the user as its registration answers it."""
        return {
            "provider_account_id": self.provider_account_id,
            "deleted": False,
            "id": self.user_id,
            "provider": self.client,
            "display_name": self.username,
        }


@dataclass(frozen=True, slots=True)
class Logins:
    """Finds the user of a request, and registers those whom the real service would have known before."""

    options: ServiceOptions
    store: Store

    def of_site(self, request: web.Request) -> str:
        """
        Return the user of a request to the website.

        Raises:
            Refusal: 403 without words, whatever is wrong.
        """
        token = _session_token(request) or _bearer(request)
        if self.options.auth == "any":
            user = self.user_of(token or request.headers.get("Cookie", ""))
        else:
            user = self.options.sessions.get(token)
        if user is None or user in self.options.banned:
            raise Refusal(403)
        return self._known(user)

    def of_server(self, request: web.Request) -> str:
        """
        Return the user of a request to the inference server.

        Raises:
            Refusal: 403, 401 or 400, and why.
        """
        trusted = self.trusted(request)
        if trusted is not None:
            return self._known(trusted.user_id) if self.options.auth == "any" else trusted.user_id
        token = _bearer(request)
        if not token:
            raise Refusal(403, "Not authenticated")
        if self.options.auth == "any":
            return self._known(_digest(token))
        if token in self.options.refresh_tokens:
            raise Refusal(400, "Invalid token type")
        if token not in self.options.tokens:
            raise Refusal(401, "Invalid token")
        return self._known(self.options.tokens[token])

    def user_of(self, token: str) -> str | None:
        """Return who logs in with this session token or bearer; ``None`` when nobody does."""
        if self.options.auth == "any":
            return _digest(token) if token else None
        return self.options.sessions.get(token, self.options.tokens.get(token))

    def trusted(self, request: web.Request) -> TrustedClient | None:
        """Return what a trusted client says of itself and its user; ``None`` when the caller is none."""
        header = request.headers.get("TrustedClient")
        if header is None:
            return None
        client = _decode(header)
        if client is None:
            raise crashed()
        if self.options.auth == "strict" and client.api_key not in self.options.client_keys:
            raise Refusal(401, "Unauthorized client")
        return client

    def register(self, request: web.Request) -> Json:
        """Make a trusted client's user known to the server; harmless when it is."""
        client = self.trusted(request)
        if client is None:
            raise Refusal(403, "Not authenticated")
        self.store.users[client.user_id] = client.username
        return client.as_json()

    def _known(self, user: str) -> str:
        self.store.users.setdefault(user, user)
        return user


def _session_token(request: web.Request) -> str:
    cookies = request.cookies
    if SESSION_COOKIE in cookies:
        return cookies[SESSION_COOKIE]
    return "".join(cookies.get(f"{SESSION_COOKIE}.{part}", "") for part in range(_PARTS))


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(token: str) -> str:
    return f"user-{hashlib.blake2b(token.encode(errors='surrogateescape'), digest_size=6).hexdigest()}"


def _decode(header: str) -> TrustedClient | None:
    try:
        return msgspec.json.decode(base64.b64decode(header), type=TrustedClient)
    except (ValueError, msgspec.DecodeError):
        return None
