"""How a made-up service says that it refuses: six shapes."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape, quoteattr

from .bodies import Scribe
from .plan import Plan
from .refused import Refused


def status_of(plan: Plan, failure: str) -> int:
    """Return the HTTP status of a failure, where it is not always 200."""
    statuses = plan.statuses
    own = {
        "login": statuses.login,
        "no_chat": statuses.gone,
        "busy": statuses.busy,
        "over": statuses.over,
        "invalid": statuses.invalid,
        "exists": 409,
        "broken": 500,
    }
    return own.get(failure, 404)


def problem(plan: Plan, refused: Refused) -> tuple[int, str, bytes]:
    """Return status, media type and body."""
    status = status_of(plan, refused.failure)
    kind, body = _body(plan, Scribe(plan), status, plan.codes[refused.failure], refused.words)
    return 200 if plan.looks.always_200 else status, kind, body


def _body(plan: Plan, scribe: Scribe, status: int, code: str, words: str) -> tuple[str, bytes]:
    if plan.looks.always_200:
        shown = {"ok": False, scribe.name("code"): code, scribe.name("said"): words}
        return "application/json", json.dumps(shown).encode()
    named = {scribe.name("code"): code, scribe.name("said"): words}
    match plan.looks.problem:
        case "nested":
            return "application/json", json.dumps({"error": {"message": words, "code": code}}).encode()
        case "rfc9457":
            kind = f"https://{plan.vendor.lower()}.example/problems/{code}"
            shown = {"type": kind, "title": words, "status": status, "detail": f"{words}.", "instance": "urn:trace:77"}
            return "application/problem+json", json.dumps(shown).encode()
        case "plain":
            return "text/plain", f"{code}: {words}\n".encode()
        case "list":
            return "application/json", json.dumps({"errors": [named]}).encode()
        case "xml":
            text = f"<problem code={quoteattr(code)}><text>{escape(words)}</text></problem>"
            return "application/xml", f'<?xml version="1.0"?>\n{text}\n'.encode()
        case "odd":
            return "application/json", json.dumps({"fault": named, "request": "r-77"}).encode()
