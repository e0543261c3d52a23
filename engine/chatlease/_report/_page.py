"""Puts the page together: markup, style, scripts and the document in one file that needs no network.

Rules that live here:

* The page's policy lets nothing be loaded, and nothing run but the one script and the one style that stand in it, by
  their hashes. No string can become markup (trusted types): text from outside is only ever text.
* Characters that turn the direction of what is written around them are shown as ``?``, as on a terminal: a name must
  not make another one look different.
* The document stands in the page as JSON in which nothing can end a script element, or a line of JavaScript.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import msgspec

from ._document import Document
from ._drawing import svg

SCRIPTS = ("text", "trace", "filter", "shares", "overview", "timeline", "lifecycle", "session", "tables", "page")
"""The parts of the script, in their order; they become one, with one scope."""

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_UNSAFE = re.compile("[<>&\u2028\u2029]")
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARK = re.compile(r"@(policy|title|style|lifecycle|document|script)@")


def page(document: Document) -> str:
    """Return the page of a document."""
    style, script = _part("report.css"), _script()
    parts = {
        "policy": _policy(script, style),
        "title": escape(_straight(_title(document.files))),
        "style": style,
        "lifecycle": svg(),
        "document": embedded(document),
        "script": script,
    }
    return _MARK.sub(lambda mark: parts[mark[1]], _part("page.html"))


def embedded(value: object) -> str:
    """Return a value as JSON that may stand in a script element, whatever texts are in it."""
    return _UNSAFE.sub(lambda found: _ESCAPES[found[0]], _straight(msgspec.json.encode(value).decode()))


def _straight(text: str) -> str:
    return _TURNING.sub("?", text)


def _script() -> str:
    return "".join(('"use strict";\n(() => {\n', *(_part(f"{name}.js") for name in SCRIPTS), "})();\n"))


def _part(name: str) -> str:
    return (files("chatlease._report") / "page" / name).read_text("utf-8")


def _policy(script: str, style: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "trusted-types 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _title(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} · Chatlease trace" if names else "Chatlease trace"
