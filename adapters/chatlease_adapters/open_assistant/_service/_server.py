"""The inference server's own dialect: paths, bodies, answers and refusals as in the ``*-server.jsonl`` recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from ._login import Logins
from ._model_list import listing
from ._refusal import Refusal
from ._replies import Reply, server_empty, server_json, server_refused
from ._routes import Answer, Call, Endpoint
from ._schema import CREATE_CHAT, check, check_limit, parse


@dataclass(frozen=True, slots=True)
class ServerDialect:
    """How the server reads, admits and refuses."""

    logins: Logins
    direct: bool = True

    async def read(self, request: web.Request) -> object:
        """Decode the body as JSON whatever it says it is."""
        return parse(await request.read())

    def login(self, request: web.Request) -> str:
        """Find the user by the trusted client's header or a bearer."""
        return self.logins.of_server(request)

    def refused(self, endpoint: Endpoint, refusal: Refusal) -> Reply:  # noqa: ARG002  (the same for all of its routes)
        """Answer ``{"detail": ...}``, nothing, or the framework's plain text."""
        return server_refused(refusal)

    def broken(self, endpoint: Endpoint, status: int) -> Reply:  # noqa: ARG002  (the same for all of its routes)
        """Answer the framework's plain text."""
        return server_refused(Refusal(status, crashed=True))


def _create_chat(call: Call) -> Answer:
    check(call.body, CREATE_CHAT)
    return server_json(call.rules.create_chat(call.user).as_listed())


def _list_chats(call: Call) -> Answer:
    return server_json(call.rules.list_chats(call.user, check_limit(call.query.get("limit")), call.query))


def _get_chat(call: Call) -> Answer:
    return server_json(call.rules.chat(call.user, call.ids["chat"]).as_json())


def _update_chat(call: Call) -> Answer:
    call.rules.update_chat(call.user, call.ids["chat"], call.body)
    return server_json(None)


def _delete_chat(call: Call) -> Answer:
    call.rules.delete_chat(call.user, call.ids["chat"])
    return server_empty()


def _add_prompt(call: Call) -> Answer:
    return server_json(call.rules.add_prompt(call.user, call.ids["chat"], call.body).as_json())


def _queue_answer(call: Call) -> Answer:
    return server_json(call.rules.queue_answer(call.user, call.body).as_json())


def _get_message(call: Call) -> Answer:
    return server_json(call.rules.message(call.user, call.ids["chat"], call.ids["message"]).as_json())


def _stream(call: Call) -> Answer:
    return call.rules.streamed(call.user, call.ids["chat"], call.ids["message"])


def _vote(call: Call) -> Answer:
    call.rules.vote(call.ids["message"], call.user, call.body)
    return server_empty()


def _who(call: Call) -> Answer:
    return server_json(call.user)


def _models(call: Call) -> Answer:
    return server_json(listing(call.rules.models))


def not_found() -> Reply:
    """Answer an unknown route."""
    return server_json({"detail": "Not Found"}, 404)


def wrong_method(allowed: Mapping[str, Endpoint]) -> Reply:
    """Answer a method that a route does not have."""
    return server_json({"detail": "Method Not Allowed"}, 405, Allow=", ".join(allowed))


ROUTES: Mapping[str, Mapping[str, Endpoint]] = {
    "/chats": {"GET": Endpoint("list_chats", _list_chats), "POST": Endpoint("create_chat", _create_chat)},
    "/chats/{chat}": {
        "GET": Endpoint("read_chat", _get_chat),
        "DELETE": Endpoint("delete_chat", _delete_chat),
        "PUT": Endpoint("other", _update_chat),
    },
    "/chats/{chat}/prompter_message": {"POST": Endpoint("send_prompt", _add_prompt)},
    "/chats/{chat}/assistant_message": {"POST": Endpoint("queue_assistant", _queue_answer)},
    "/chats/{chat}/messages/{message}": {"GET": Endpoint("read_answer", _get_message)},
    "/chats/{chat}/messages/{message}/events": {"GET": Endpoint("open_stream", _stream)},
    "/chats/{chat}/messages/{message}/votes": {"POST": Endpoint("other", _vote)},
    "/auth/check": {"GET": Endpoint("ready_cookies", _who)},
    "/configs/model_configs": {"GET": Endpoint("other", _models, open=True)},
}
"""Path, method, call. ``/auth/trusted`` is not here: it logs in whom no other call would let in."""
