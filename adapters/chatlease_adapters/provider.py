"""The seeds' interface: `OpenAssistant` as gpt4free's deprecated provider had it, on top of Chatlease's engine.

`LangGraph` is asked in the same way.

For programs written against that interface; new ones use `chatlease.Engine`. Both seed documents' examples run as they
are written, but for the import. The public service closed in 2023, so point it at a server of your own::

    OpenAssistant.url = "http://127.0.0.1:8080"
    async for token in OpenAssistant.create_async_generator("", [{"role": "user", "content": "Hello"}]):
        print(token, end="")

Rules that live here:

* What is sent is what the seeds send: their five requests, their prompt, their sampling parameters.
* Nothing has to be opened or closed: an engine per running loop and origin is opened by the first call and closed 5 s
  after the last answer's end, or when the loop ends. A loop that is closed without cancelling its tasks (`asyncio.run`
  cancels them) is given `aclose` first.
* Everything that is raised is a `RuntimeError`, but for a `TypeError` for arguments that make no sense and the
  CancelledError of whoever was cancelled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, TypeAlias, TypedDict, cast

from chatlease import Deadlines, format_prompt
from chatlease import Messages as AnyMessages

from ._provider_completion import Completion, refuse_running_loop
from ._provider_engines import Question, aclose
from ._provider_result import AsyncResult, logger
from .langgraph import LangGraph as LangGraphAdapter
from .open_assistant import OpenAssistant as Adapter

__all__ = [
    "AsyncGeneratorProvider",
    "AsyncResult",
    "Completion",
    "LangGraph",
    "Message",
    "Messages",
    "OpenAssistant",
    "aclose",
    "format_prompt",
    "logger",
]


class Message(TypedDict):
    """
    A message of a conversation.

    Attributes:
        role: ``user``, ``assistant`` or ``system``.
        content: Its text.
    """

    role: str
    content: str


Messages: TypeAlias = list[Message]
"""A conversation, oldest message first; ``Messages([...])`` makes one. Any sequence of mappings is accepted."""


class AsyncGeneratorProvider(ABC):
    """
    A provider whose answers are asynchronous generators; a class that is used without making an instance of it.

    Subclasses write `create_async_generator` and have the other two ways of asking from here.

    Attributes:
        url: Address of the service.
        needs_auth: Whether it wants a login.
        working: Whether the public service is there; informative, it blocks nothing.
        model: The model used where a call names none.
    """

    url: ClassVar[str] = ""
    needs_auth: ClassVar[bool] = False
    working: ClassVar[bool] = False
    model: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def create_async_generator(
        cls,
        model: str,
        messages: AnyMessages,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncResult:
        """Return the answer, to be iterated token by token, at once or after awaiting it."""

    @classmethod
    async def create_async(
        cls,
        model: str,
        messages: AnyMessages,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Ask and return the whole answer; arguments and errors are those of `create_async_generator`."""
        return await cls.create_async_generator(model, messages, proxy, cookies, **kwargs).text()

    @classmethod
    def create_completion(
        cls,
        model: str,
        messages: AnyMessages,
        stream: bool = True,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Completion:
        """
        Ask without an event loop: return a blocking iterator over the tokens.

        Args:
            model: As for `create_async_generator`, like everything that is not named here.
            messages: The conversation.
            stream: Give out tokens as they come; otherwise the whole answer in one piece.
            proxy: URL of a proxy.
            cookies: The login.
            **kwargs: Sampling parameters.

        Raises:
            UsageError: An event loop is running in this thread, which this would block.
        """
        refuse_running_loop()
        answer = cls.create_async_generator(model, messages, proxy, cookies, **kwargs)
        return Completion(answer if stream else _in_one_piece(answer), aclose)


class OpenAssistant(AsyncGeneratorProvider):
    """
    Open-Assistant, by its website's API.

    Attributes:
        url: Set it to the address of another server: an origin, or its chat page (a trailing ``/chat`` is cut, a path
            prefix kept, ``/api/chat`` appended). As long as it is not set, ``CHATLEASE_OPEN_ASSISTANT_URL`` counts.
            Subclasses may have addresses of their own.
        needs_auth: The service wants a login: cookies.
        working: The public service closed in 2023.
        model: Used where a call gives an empty model.
        deadlines: How long to wait for what; set another `chatlease.Deadlines` to change that for later calls.
    """

    url: ClassVar[str] = "https://open-assistant.io/chat"
    needs_auth: ClassVar[bool] = True
    working: ClassVar[bool] = False
    model: ClassVar[str] = "OA_SFT_Llama_30B_6"
    deadlines: ClassVar[Deadlines] = Deadlines()

    @classmethod
    def create_async_generator(
        cls,
        model: str,
        messages: AnyMessages,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncResult:
        """
        Return the answer to a conversation, to be iterated token by token, at once or after awaiting it.

        Nothing is sent before the first token is asked for. A chat is created for this answer alone, and deleted
        however it ends.

        Args:
            model: Name of the model; empty for `model` of the class.
            messages: The conversation. A single message is sent as it is, several by `format_prompt`, both wrapped in
                ``<s>[INST]`` and ``[/INST]``.
            proxy: URL of the proxy that every request goes through: ``http://``, ``https://`` or ``socks5://``.
            cookies: The login, sent as it is. ``None`` or empty: looked for where a user keeps it, for the host of
                `url` (the environment, files, browsers; see `chatlease_adapters.open_assistant`).
            **kwargs: Sampling parameters, sent as they are over the defaults (``top_k`` 50, ``top_p`` and ``typical_p``
                null, ``temperature`` 0.35, ``repetition_penalty`` 1.1111111111111112, ``max_new_tokens`` 1024), unknown
                names too.

        Raises:
            UsageError: There is no message, one lacks role or content, or `url` is no address.
            TypeError: An argument is of a wrong type.
        """
        question = Question(
            prompt=f"<s>[INST]\n{_rendered(messages)}\n[/INST]",
            model=model or cls.model,
            cookies=_cookies(cookies),
            proxy=proxy,
            sampling=kwargs,
            deadlines=cls.deadlines,
        )
        return AsyncResult(Adapter(cls._address()), question)

    @classmethod
    def _address(cls) -> str | None:
        return None if cls.url == _DEFAULT_URL else cls.url


class LangGraph(AsyncGeneratorProvider):
    """
    LangGraph Server, whose threads are chats and whose assistants are models.

    Attributes:
        url: Set it to the address of the server. As long as it is empty, ``CHATLEASE_LANGGRAPH_URL`` counts, else where
            ``langgraph dev`` listens.
        needs_auth: Servers of one's own want no login.
        working: Informative; there is no public server.
        model: The assistant used where a call names none: a graph's name, or an assistant's UUID.
        api_key: Sent as ``x-api-key``. None: looked for in ``CHATLEASE_LANGGRAPH_API_KEY``.
        deadlines: How long to wait for what; set another `chatlease.Deadlines` to change that for later calls.
    """

    working: ClassVar[bool] = True
    model: ClassVar[str] = "agent"
    api_key: ClassVar[str | None] = None
    deadlines: ClassVar[Deadlines] = Deadlines()

    @classmethod
    def create_async_generator(
        cls,
        model: str,
        messages: AnyMessages,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncResult:
        """
        Return the answer to a conversation, to be iterated token by token, at once or after awaiting it.

        Nothing is sent before the first token is asked for. A thread is created for this answer alone, and deleted
        however it ends; its run is stopped before.

        Args:
            model: The assistant; empty for `model` of the class.
            messages: The conversation. A single message is sent as it is, several by `format_prompt`.
            proxy: URL of the proxy that every request goes through: ``http://``, ``https://`` or ``socks5://``.
            cookies: For a server behind a login of its own, sent as they are.
            **kwargs: What the graph can be told: its ``configurable``.

        Raises:
            UsageError: There is no message, one lacks role or content, or `url` is no address.
            TypeError: An argument is of a wrong type.
        """
        question = Question(
            prompt=_rendered(messages),
            model=model or cls.model,
            cookies=_cookies(cookies),
            proxy=proxy,
            sampling=kwargs,
            deadlines=cls.deadlines,
            headers={"x-api-key": cls.api_key} if cls.api_key else {},
        )
        return AsyncResult(LangGraphAdapter(cls.url or None), question)


_DEFAULT_URL = OpenAssistant.url


async def _in_one_piece(answer: AsyncResult) -> AsyncGenerator[str, None]:
    async with aclosing(answer):
        yield await answer.text()


def _rendered(messages: object) -> str:
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise TypeError("messages is a list of mappings with role and content")
    given = cast("Sequence[object]", messages)
    if not all(isinstance(message, Mapping) for message in given):
        raise TypeError("every message is a mapping with role and content")
    return format_prompt(cast("AnyMessages", given))


def _cookies(cookies: object) -> Mapping[str, str]:
    if not cookies:
        return {}
    if not isinstance(cookies, Mapping):
        raise TypeError("cookies is a mapping of names to values")
    given = dict(cast("Mapping[object, object]", cookies))
    if not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise TypeError("names and values of cookies are strings")
    return cast("dict[str, str]", given)
