"""The names of the environment variables in which logins are looked for."""

from __future__ import annotations

import re


def variable(name: str, account: str | None) -> str:
    """Return the variable that holds this of an account: ``NAME``, or ``NAME_ALICE``."""
    return f"{name}_{re.sub('[^A-Za-z0-9]', '_', account).upper()}" if account else name
