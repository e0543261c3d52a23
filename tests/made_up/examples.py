"""Example requests and replies for the documentation, made by what the server itself writes with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from .bodies import Scribe
from .frames import Framer
from .operations import Operation
from .plan import Plan
from .server import run_header

_BORN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_UUID = "3f1c9a52-8d0e-4c35-9b62-0a7d5e11c4f8"
_TEXT = "Two rivers meet here."


class Examples:
    """What a page shows of one service."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scribe = Scribe(plan)
        nouns = plan.nouns
        self.values: dict[str, object] = {
            "chat": _UUID if plan.manners.key == "id" else self.name(nouns.chat, 1),
            "prompt": self.name(nouns.prompt, 2),
            "run": self.name(nouns.run, 3),
            "parent": self.name(nouns.run, 3),
            "key": _UUID,
            "label": _UUID,
            "text": "What is a delta?",
            "model": plan.models[0],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_new_tokens": 200,
            "system_prompt": "Be brief.",
            "cursor": _UUID if plan.manners.key == "id" else self.name(nouns.chat, 1),
            "page": 2,
            "offset": plan.manners.page_size,
        }

    def name(self, noun: str, number: int) -> str:
        """Return an id as the service mints them."""
        return {
            "number": str(4_000 + number * 7),
            "uuid": f"00c0ffee-0000-0004-0000-00000000000{number}",
            "prefixed": f"{noun}_{number:06x}",
            "slug": f"{noun}/{number} & 100%+é?",
        }[self.plan.looks.ids]

    # ------------------------------------------------------------------------------------------------------- requests

    def target(self, operation: Operation) -> str:
        """Return path and query."""
        quoted = {each: quote(str(self.values[each]), safe="") for each in ("chat", "run")}
        path = operation.path.format_map(quoted)
        needed = {self._scribe.name(each): self.values[each] for each in operation.query if each == "chat"}
        return f"{path}?{urlencode(needed, quote_via=quote)}" if needed else path

    def body(self, operation: Operation, *, whole: bool = False) -> tuple[bytes | None, str]:
        """Return body and media type, with or without what may be left out."""
        shown = (*operation.body, *(operation.optional if whole else ()))
        return self._scribe.asked(operation, {each: self.values[each] for each in shown})

    def request(self, operation: Operation) -> str:
        lines = [f"{operation.method} {self.target(operation)} HTTP/1.1", self.login()]
        body, kind = self.body(operation, whole=True)
        if body is None:
            return "\n".join(lines)
        return "\n".join([*lines, f"Content-Type: {kind}", "", body.decode()])

    def login(self) -> str:
        kind, name = self.plan.login
        return {
            "bearer": f"Authorization: {name} YOUR-KEY",
            "scheme": f"Authorization: {name} YOUR-KEY",
            "header": f"{name}: YOUR-KEY",
            "cookie": f"Cookie: {name}=YOUR-KEY",
        }[kind]

    # -------------------------------------------------------------------------------------------------------- replies

    def reply(self, operation: Operation) -> str:
        head = f"HTTP/1.1 {operation.status}"
        if operation.gives == "stream" or (operation.gives == "made-run" and self.plan.manners.streams_at_once):
            return self._stream(head, at_once=operation.gives == "made-run")
        if operation.gives == "text":
            return f"{head}\nContent-Type: text/plain; charset=utf-8\n\n{_TEXT}"
        if operation.gives == "nothing":
            return head if operation.status == 204 else self._json(head, {"ok": True})
        if operation.gives.startswith("made") and self.plan.looks.created_in == "location":
            return f"{head}\nLocation: {self._place(operation)}"
        return self._json(head, self._shown(operation))

    def _json(self, head: str, value: object) -> str:
        return f"{head}\nContent-Type: application/json; charset=utf-8\n\n{self._scribe.written(value).decode()}"

    def _place(self, operation: Operation) -> str:
        made = {"made-chat": "chat", "made-prompt": "prompt", "made-run": "run"}[operation.gives]
        path = self.target(operation)
        return path if operation.method == "PUT" else f"{path}/{quote(str(self.values[made]), safe='')}"

    def _shown(self, operation: Operation) -> object:
        nouns, scribe = self.plan.nouns, self._scribe
        match operation.gives:
            case "made-chat":
                return scribe.one(nouns.chat, self.chat())
            case "made-prompt":
                return scribe.one(nouns.prompt, {"id": self.values["prompt"], "text": self.values["text"]})
            case "made-run":
                return scribe.one(nouns.run, self.run("pending"))
            case "run":
                return scribe.one(nouns.run, self.run("answered"))
            case "runs":
                return scribe.many(nouns.run, [self.run("answered")])
            case "chats":
                return self._listing()
            case _:
                return scribe.many(nouns.model, [{"id": each} for each in self.plan.models])

    def _listing(self) -> object:
        counted: dict[str, object] = {"count": 1} if self.plan.manners.shows_count else {}
        return self._scribe.many(self.plan.nouns.chat, [{**self.chat(), **counted}], str(self.values["cursor"]))

    def chat(self) -> Mapping[str, object]:
        shown: dict[str, object] = {"id": self.values["chat"], "owner": "you"}
        if self.plan.manners.key == "field":
            shown["key"] = self.values["key"]
        if self.plan.looks.moment != "none":
            shown["created"] = _BORN
        return shown

    def run(self, state: str) -> Mapping[str, object]:
        shown: dict[str, object] = {"id": self.values["run"], "why": None}
        shown["state"] = self._scribe.state(state, "example")
        if self.plan.manners.joined:
            shown["label"] = self.values["label"]
        else:
            shown["prompt"] = self.values["prompt"]
        if not self.plan.manners.text_apart:
            shown["answer"] = _TEXT if state == "answered" else None
        return shown

    def _stream(self, head: str, *, at_once: bool) -> str:
        framer = Framer(self.plan)
        lines = [head, f"Content-Type: {framer.content_type}"]
        if at_once:
            lines.append(f"{run_header(self.plan)}: {quote(str(self.values['run']), safe='')}")
        return "\n".join([*lines, "", self.frames().replace("\r", "")])

    def frames(self) -> str:
        """Return the body of a good stream."""
        framer = Framer(self.plan)
        pieces = ["Two ", "rivers ", "meet here."]
        frames = [*framer.waits(3), *framer.waits(1), framer.ping(), framer.note()]
        frames += [framer.token(each, "".join(pieces[: number + 1])) for number, each in enumerate(pieces)]
        return b"".join([*frames, *framer.ends(_TEXT)]).decode()
