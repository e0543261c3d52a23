"""Where an adapter finds the key of an account: what the program gave, else the environment.

Rules that live here:

* The default account's key is the one given, else the variable's; a named account's is in the variable with its name
  behind (``..._ALICE``), and never the default account's.
* Where a server may want no key, none is sent where none is to be had, unless the server has just refused that.
* An account called ``anon-...`` is a fingerprint, and its key is the default account's, if it is that one.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from chatlease.adapter import Credential
from chatlease.errors import NotAuthenticated

from ._environment import variable


class KeySource:
    """
    Finds keys for ``ready_cookies``.

    Args:
        service: The service's name, as people read it; also the first argument's owner in hints.
        variable: The environment variable; by custom ``CHATLEASE_<SERVICE>_API_KEY``.
        login: Makes a login of a key.
        given: The default account's key; the variable is not looked at then.
        needed: Whether the service refuses calls without a key.
    """

    def __init__(
        self,
        service: str,
        variable: str,
        login: Callable[[str], Credential],
        *,
        given: str | None = None,
        needed: bool = True,
    ) -> None:
        self._service = service
        self._variable = variable
        self._login = login
        self._given = given
        self._needed = needed

    def find(self, account: str | None, rejected: Credential | None) -> Credential:
        """
        Return the login of an account; empty where the service is to be used without one.

        Raises:
            NotAuthenticated: There is none (``no-credentials``), or the service refused what there is
                (``credentials-refused``). Names the variable.
        """
        name = variable(self._variable, account)
        default = self._given or _set(self._variable)
        key = _set(name) if account else default
        if not key and (self._needed or (account and default)):
            whose = f"account {account!r}" if account else self._service
            raise self._missing(name, f"no key for {whose}: {name} is not set", "no-credentials")
        found = self._login(key) if key else Credential()
        if rejected is not None and found.fingerprint() == rejected.fingerprint():
            what = "the key" if key else "calls without a key"
            raise self._missing(name, f"the {self._service} server refuses {what}", "credentials-refused")
        return found

    def _missing(self, name: str, words: str, code: str) -> NotAuthenticated:
        hint = f"Set {name}, or give {self._service}(api_key=...) or Engine(credentials=...)."
        return NotAuthenticated(words, code=code, sent=False, hint=hint)


def _set(name: str) -> str:
    return os.environ.get(name, "").strip()
