"""The website's dialect: paths, bodies, answers and refusals as in the ``*-site.jsonl`` recordings.

Rules that live here:

* The website hands every call to the inference server. Only the two posting routes pass on why a call was refused; all
  others answer 500, but for a chat that is not found.
* All routes but ``/api/chat`` itself ignore the HTTP method.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs, web

from ._login import Logins
from ._model_list import listing
from ._refusal import Refusal, failed
from ._replies import Reply, site_failed, site_json, site_page, site_text
from ._routes import Answer, Call, Endpoint, Unreadable

_MOST_BODY = 1024 * 1024
_PAGE_SIZE = 20
_NOTHING_SAID = "Something went wrong"
_UNKNOWN = "undefined"  # what JavaScript makes of an id that is not there


@dataclass(frozen=True, slots=True)
class SiteDialect:
    """How the website reads, admits and refuses."""

    logins: Logins
    direct: bool = False

    async def read(self, request: web.Request) -> object:
        """
        Decode a JSON body; anything that does not say it is JSON counts as no body.

        Raises:
            Unreadable: It is too long or no JSON; answered before the login is looked at.
        """
        raw = await request.read()
        if len(raw) > _MOST_BODY:
            raise Unreadable(_framework(413, "Body exceeded 1mb limit"))
        if not raw or request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip() != "application/json":
            return {}
        try:
            return json.loads(raw)
        except ValueError:
            pass
        raise Unreadable(_framework(400, "Invalid JSON"))

    def login(self, request: web.Request) -> str:
        """Find the user by the session cookie."""
        return self.logins.of_site(request)

    def refused(self, endpoint: Endpoint, refusal: Refusal) -> Reply:
        """Pass a refusal on where the website does, else answer 500."""
        if refusal.status == HTTPStatus.FORBIDDEN:
            return site_text(403)
        if endpoint.telling:
            return site_json({"message": refusal.detail or _NOTHING_SAID}, refusal.status)
        if endpoint.step == "read_chat" and refusal.status == HTTPStatus.NOT_FOUND:
            return site_text(404)
        if endpoint.step == "open_stream" and refusal.status == HTTPStatus.NO_CONTENT:
            return site_text(200)
        return site_failed()

    def broken(self, endpoint: Endpoint, status: int) -> Reply:
        """Say nothing in JSON on the posting routes, plain text elsewhere."""
        return site_json({"message": _NOTHING_SAID}, status) if endpoint.telling else site_failed(status)


def _framework(status: int, text: str) -> Reply:
    return site_text(status, text, reason=text)


def _create_chat(call: Call) -> Answer:
    return site_json(call.rules.create_chat(call.user).as_listed())


def _list_chats(call: Call) -> Answer:
    cursors = {name: call.query[name] for name in ("after", "before", "include_hidden") if name in call.query}
    return site_json(call.rules.list_chats(call.user, _PAGE_SIZE, cursors))


def _get_chat(call: Call) -> Answer:
    return site_json(call.rules.chat(call.user, call.query["chat_id"]).as_json(javascript=True))


def _update_chat(call: Call) -> Answer:
    call.rules.update_chat(call.user, call.field("chat_id"), call.body)
    return site_text(200)


def _delete_chat(call: Call) -> Answer:
    call.rules.delete_chat(call.user, call.query.get("chat_id", _UNKNOWN))
    return site_text(200)


def _add_prompt(call: Call) -> Answer:
    message = call.rules.add_prompt(call.user, call.field("chat_id") or _UNKNOWN, call.body)
    return site_json(message.as_json(javascript=True))


def _queue_answer(call: Call) -> Answer:
    return site_json(call.rules.queue_answer(call.user, call.body).as_json(javascript=True))


def _get_message(call: Call) -> Answer:
    return site_json(call.rules.message(call.user, *_ids(call)).as_json(javascript=True))


def _stream(call: Call) -> Answer:
    return call.rules.streamed(call.user, *_ids(call))


def _models(call: Call) -> Answer:
    return site_json(listing(call.rules.models))


def _vote(call: Call) -> Answer:
    score = call.fields.get("score")
    if score not in (-1, 0, 1):
        text = b"Invalid score"
        return Reply(400, text, headers={hdrs.ETAG: '"0"'}, close=True)
    call.rules.vote(call.field("message_id"), call.user, call.body)
    return site_json("")


def _ids(call: Call) -> tuple[str, str]:
    return call.query.get("chat_id", _UNKNOWN), call.query.get("message_id", _UNKNOWN)


def not_found() -> Reply:
    """Answer an unknown route."""
    return site_page(404, "404: This page could not be found")


def wrong_method() -> Reply:
    """Answer a method that ``/api/chat`` does not have."""
    return site_text(404)


def unreachable() -> Refusal:
    """Return the refusal of every call while the inference server is not there."""
    return failed()


_LIST = Endpoint("list_chats", _list_chats)
_CHAT: Mapping[str, Endpoint] = {
    "GET": Endpoint("read_chat", _get_chat),
    "POST": Endpoint("create_chat", _create_chat),
    "PUT": Endpoint("other", _update_chat),
    "DELETE": Endpoint("delete_chat", _delete_chat),
}


def endpoint_of_chat(method: str, query: Mapping[str, str]) -> Endpoint | None:
    """Return the call that ``/api/chat`` is, by its method; ``None`` for a method that it does not have."""
    return _LIST if method == "GET" and not query.get("chat_id") else _CHAT.get(method)


ROUTES: Mapping[str, Endpoint] = {
    "/api/chat/prompter_message": Endpoint("send_prompt", _add_prompt, telling=True),
    "/api/chat/assistant_message": Endpoint("queue_assistant", _queue_answer, telling=True),
    "/api/chat/events": Endpoint("open_stream", _stream),
    "/api/chat/message": Endpoint("read_answer", _get_message),
    "/api/chat/models": Endpoint("ready_cookies", _models),
    "/api/chat/vote": Endpoint("other", _vote),
}
"""Every other path, for any method."""
