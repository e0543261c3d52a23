"""What a made-up service knows and does: chats, prompts, runs that write by themselves. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from .plan import Plan
from .refused import Refused

UNDER_WAY = frozenset({"pending", "going"})
_WAIT = 2  # passes of the event loop, in the queue
_BORN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(slots=True)
class Run:
    """
    An answer being written.

    Attributes:
        words: Those written until now.
        state: ``pending``, ``going``, ``answered``, ``failed``, ``cancelled``.
        moved: Set, and replaced, whenever anything of it changes.
        watched: Set when somebody has seen its place in the queue.
        writer: Who writes it.
    """

    id: str
    prompt: str
    label: str
    order: list[str]
    words: list[str] = field(default_factory=list[str])
    state: str = "pending"
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    watched: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        return "".join(self.words)

    def move(self, state: str) -> None:
        self.state = state
        self.tell()

    def tell(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()


@dataclass(slots=True)
class Chat:
    """A chat and what is in it, oldest first."""

    id: str
    owner: str
    key: str | None
    born: datetime
    prompts: dict[str, str] = field(default_factory=dict[str, str])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])

    def under_way(self) -> list[Run]:
        return [run for run in self.runs.values() if run.state in UNDER_WAY]


class Store:
    """
    The service behind its API. A method's name is the step of its operation.

    Attributes:
        chats: What exists now, by id.
        created: How many chats there ever were.
        harmed: Runs whose chat was deleted while they went on: nobody can stop them any more.
        stopped: Runs that were stopped by a call of that name.
        hold: Answers stay half written until they are stopped.
        fail: How many of the next runs fail after their first word.
        patient: A run waits until it is watched.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chats: dict[str, Chat] = {}
        self.created = 0
        self.harmed = 0
        self.stopped = 0
        self.hold = False
        self.fail = 0
        self.patient = False
        self._held = asyncio.Event()
        self._ids = itertools.count(1)
        self._writers: set[asyncio.Task[None]] = set()

    def mint(self, noun: str) -> str:
        """Return a new id, in the service's way."""
        number = next(self._ids)
        match self.plan.looks.ids:
            case "number":
                return str(4_000 + number * 7)
            case "uuid":
                return str(UUID(int=0xC0FFEE << 96 | 4 << 76 | 8 << 60 | number))
            case "prefixed":
                return f"{noun}_{number:06x}"
            case "slug":
                return f"{noun}/{number} & 100%+é?"

    # ------------------------------------------------------------------------------------------------------ the calls

    def create_chat(self, account: str, given: Mapping[str, str]) -> Chat:
        name = given.get("chat") or self.mint(self.plan.nouns.chat)
        if name in self.chats:
            raise Refused("exists", "there is one of that name")
        self.created += 1
        self.chats[name] = Chat(name, account, given.get("key"), _BORN + timedelta(seconds=self.created))
        return self.chats[name]

    def send_prompt(self, account: str, given: Mapping[str, str]) -> str:
        chat = self._chat(account, given)
        self._parent(chat, given)
        prompt = self.mint(self.plan.nouns.prompt)
        chat.prompts[prompt] = given["text"]
        return prompt

    def queue_assistant(self, account: str, given: Mapping[str, str]) -> Run:
        chat = self._chat(account, given)
        if given.get("model", self.plan.models[0]) not in self.plan.models:
            raise Refused("no_model", f"there is no such {self.plan.nouns.model}")
        crowd = self._runs(account) if self.plan.manners.one_run else chat.under_way()
        if crowd:
            raise Refused("busy", f"a {self.plan.nouns.run} is under way")
        prompt = self._asked(chat, given)
        words = chat.prompts[prompt].replace(" ", "\0 \0").split("\0")
        run = Run(self.mint(self.plan.nouns.run), prompt, given.get("label", ""), words)
        chat.runs[run.id] = run
        run.writer = asyncio.get_running_loop().create_task(self._write(run))
        self._writers.add(run.writer)
        run.writer.add_done_callback(self._writers.discard)
        return run

    def read_run(self, account: str, given: Mapping[str, str]) -> Run:
        return self._run(account, given)[1]

    def open_stream(self, account: str, given: Mapping[str, str]) -> Run:
        _, run = self._run(account, given)
        if run.state not in UNDER_WAY and self.plan.manners.finished_stream == "refused":
            raise Refused("over", f"the {self.plan.nouns.run} is over")
        return run

    def read_text(self, account: str, given: Mapping[str, str]) -> str:
        _, run = self._run(account, given)
        if run.state != "answered":
            raise Refused("no_run", "there is no text")
        return run.text

    def list_runs(self, account: str, given: Mapping[str, str]) -> list[Run]:
        runs = list(self._chat(account, given).runs.values())
        return runs[::-1] if self.plan.manners.newest_first else runs

    def stop_run(self, account: str, given: Mapping[str, str]) -> None:
        if self.plan.manners.stop == "chat":
            for run in self._chat(account, given).under_way():
                self._end(run)
            return
        _, run = self._run(account, given)
        if run.state not in UNDER_WAY:
            raise Refused("over", f"the {self.plan.nouns.run} is over")
        self._end(run)

    def delete_chat(self, account: str, given: Mapping[str, str]) -> None:
        name = given["chat"]
        if not self.plan.manners.second_delete_gone and name not in self.chats:
            return
        chat = self._chat(account, given)
        going = chat.under_way()
        if going and self.plan.manners.deletion == "refused":
            raise Refused("busy", f"a {self.plan.nouns.run} is under way")
        if self.plan.manners.deletion == "harmful":
            self.harmed += len(going)
        for run in going:
            self._end(run)
            self.stopped -= 1
        del self.chats[name]

    def list_chats(self, account: str) -> list[Chat]:
        return [chat for chat in reversed(self.chats.values()) if chat.owner == account]

    def let_go(self) -> None:
        """Let what is held be written to its end."""
        self.hold = False
        self._held.set()

    def close(self) -> None:
        for writer in self._writers:
            writer.cancel()

    # ------------------------------------------------------------------------------------------------------- the rest

    def _chat(self, account: str, given: Mapping[str, str]) -> Chat:
        chat = self.chats.get(given["chat"])
        if chat is None or chat.owner != account:
            raise Refused("no_chat", f"there is no such {self.plan.nouns.chat}")
        return chat

    def _run(self, account: str, given: Mapping[str, str]) -> tuple[Chat, Run]:
        chats = [self._chat(account, given)] if "chat" in given else self.list_chats(account)
        for chat in chats:
            if given["run"] in chat.runs:
                return chat, chat.runs[given["run"]]
        raise Refused("no_run", f"there is no such {self.plan.nouns.run}")

    def _runs(self, account: str) -> list[Run]:
        return [run for chat in self.list_chats(account) for run in chat.under_way()]

    def _asked(self, chat: Chat, given: Mapping[str, str]) -> str:
        if not self.plan.manners.joined:
            if given["prompt"] not in chat.prompts:
                raise Refused("no_prompt", f"there is no such {self.plan.nouns.prompt}")
            return given["prompt"]
        self._parent(chat, given)
        prompt = self.mint(self.plan.nouns.prompt)
        chat.prompts[prompt] = given["text"]
        return prompt

    def _parent(self, chat: Chat, given: Mapping[str, str]) -> None:
        if not self.plan.manners.parents:
            return
        newest = next(reversed(chat.runs), None)
        if given.get("parent") != newest:
            raise Refused("invalid", f"this is not the last {self.plan.nouns.run}")

    def _end(self, run: Run) -> None:
        self.stopped += 1
        if run.writer is not None:
            run.writer.cancel()
        run.move("cancelled")

    async def _write(self, run: Run) -> None:
        for _ in range(_WAIT):
            await asyncio.sleep(0)
        if self.patient:
            await run.watched.wait()
        failing, self.fail = self.fail > 0, max(0, self.fail - 1)
        run.move("going")
        for number, word in enumerate(run.order):
            run.words.append(word)
            run.tell()
            if failing:
                run.move("failed")
                return
            if self.hold and 2 * number >= len(run.order) - 1:
                await self._held.wait()
            await asyncio.sleep(0)
        run.move("answered")
