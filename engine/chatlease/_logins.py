"""Whose credentials a session uses: given ones, a named account's, or what the adapter finds.

Rules that live here:

* An account is a name. A credential given (or found) without one is named by its fingerprint, so that a chat is only
  ever deleted with the login that made it: a foreign chat answers 404, which looks like success.
* Found credentials are cached. A refusal (401, 403) drops them and asks their source once more; what comes must be
  another credential of the same account, or the refusal stands.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from ._lifecycle import Create
from .adapter import Credential, CredentialProvider, Login

if TYPE_CHECKING:
    from ._core import Core

_KEPT = 10_000
_Key: TypeAlias = tuple[str, str, str | None]


class Logins:
    """
    The logins of one engine.

    Args:
        provider: Gives the credential of a named account; asked before the adapter.
    """

    def __init__(self, provider: CredentialProvider | None) -> None:
        self._provider = provider
        self._cached: dict[_Key, Login] = {}
        self._locks: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    def given(self, service: str, account: str) -> Credential | None:
        """Return what the engine was given for a named account."""
        return None if self._provider is None else self._provider(service, account)

    def brought(self, session: Core) -> Login | None:
        """Return the login of a session that was given a credential."""
        return None if session.credential is None else _named(session.account_name, session.credential)

    async def find(self, session: Core) -> Login:
        """
        Return the login of a session.

        Raises:
            NotAuthenticated: There is none.
        """
        login = self.brought(session)
        if login is not None:
            return login
        key = _key(session)
        self._forget_some()
        async with self._locks[key]:
            if key not in self._cached:
                self._cached[key] = _named(session.account_name, await self._ask(session, None))
            else:
                session.trace("session.credentials.cached")
            return self._cached[key]

    async def renew(self, session: Core) -> bool:
        """
        Ask the source once more, after a refusal; say whether the session has another credential now.

        Raises:
            NotAuthenticated: The source has none.
        """
        if session.credential is not None:
            return False
        key, refused = _key(session), session.call.login
        async with self._locks[key]:
            login = self._cached.pop(key, refused)
            if login == refused:
                login = _named(session.account_name, await self._ask(session, refused.credential))
            self._cached[key] = login
        if login.credential == refused.credential or (
            session.create is Create.CREATED and login.account != refused.account
        ):
            self._cached.pop(key, None)
            return False
        session.log_in(login)
        return True

    def _forget_some(self) -> None:
        """Forget the logins that were found first: a bot that serves anybody must not grow for ever."""
        while len(self._locks) > _KEPT and not next(iter(self._locks.values())).locked():
            key = next(iter(self._locks))
            del self._locks[key]
            self._cached.pop(key, None)

    async def _ask(self, session: Core, rejected: Credential | None) -> Credential:
        if session.account_name is not None:
            credential = self.given(session.adapter.service, session.account_name)
            if credential is not None:
                return credential
        return await session.adapter.ready_cookies(session.account_name, rejected)


def _key(session: Core) -> _Key:
    return session.adapter.service, session.adapter.origin, session.account_name


def _named(account: str | None, credential: Credential) -> Login:
    return Login(account if account is not None else credential.fingerprint(), credential)
