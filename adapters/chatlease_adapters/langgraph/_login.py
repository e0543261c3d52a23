"""Where the key of a LangGraph Server comes from.

Rules that live here:

* The default account's is the one given, else ``CHATLEASE_LANGGRAPH_API_KEY``; a named account's is ``..._ALICE``, and
  never the default account's.
* A server may want none (``langgraph dev`` does not). Where no key is to be had, none is sent, unless the server has
  just refused that.
* An account called ``anon-...`` is a fingerprint, and its key is the default account's, if it is that one.
"""

from __future__ import annotations

import os

from chatlease.adapter import Credential
from chatlease.errors import NotAuthenticated
from chatlease_adapters._environment import variable

_NAME = "CHATLEASE_LANGGRAPH_API_KEY"
_HEADER = "x-api-key"


def find_key(given: str | None, account: str | None, rejected: Credential | None) -> Credential:
    """
    Return the login of an account, which is empty where the server is to be used without one.

    Raises:
        NotAuthenticated: The server refused what there is, or another account has a key and this one has not.
    """
    name = variable(_NAME, account)
    default = given or os.environ.get(_NAME, "").strip()
    key = os.environ.get(name, "").strip() if account else default
    if account and not key and default:
        raise _missing(name, f"no key for account {account!r}: {name} is not set", "no-credentials")
    found = Credential(headers={_HEADER: key} if key else {})
    if rejected is not None and found.fingerprint() == rejected.fingerprint():
        what = "the key" if key else "calls without a key"
        raise _missing(name, f"the LangGraph server refuses {what}", "credentials-refused")
    return found


def _missing(name: str, words: str, code: str) -> NotAuthenticated:
    hint = f"Set {name}, or give LangGraph(api_key=...) or Engine(credentials=...)."
    return NotAuthenticated(words, code=code, sent=False, hint=hint)
