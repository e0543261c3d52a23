"""The graph that the real LangGraph Server runs in the tests: an echo, without a model and without a network.

It runs in the server's own environment, not in the project's, whose type checkers therefore leave it out.

What it does is told by the first word of the prompt: ``slow`` gives out a word every tenth of a second for a minute
(``slow 5``: five words), ``crawl`` a word a second, ``boom`` fails after two, ``quiet`` answers without streaming,
``wait`` waits for a person, and everything else is repeated word by word.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

SLOW_WORDS = 600
PAUSES_S = {"slow": 0.05, "crawl": 0.5}


class State(TypedDict):
    """What the graph keeps."""

    messages: Annotated[list[AnyMessage], add_messages]


class Paced(GenericFakeChatModel):
    """Gives out what it is told, word by word, with a pause before each."""

    pause_s: float = 0.0

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for chunk in super()._astream(*args, **kwargs):
            await asyncio.sleep(self.pause_s)
            yield chunk


async def answer(state: State) -> State:
    """Answer the last message."""
    text = str(state["messages"][-1].content)
    kind = text.partition(" ")[0]
    if kind == "quiet":
        return {"messages": [AIMessage(content=text)]}
    if kind == "wait":
        text = str(interrupt("a person is asked"))
    wanted = text.partition(" ")[2]
    count = int(wanted) if wanted.isdigit() else SLOW_WORDS
    words = " ".join(f"w{number}" for number in range(count)) if kind in PAUSES_S else text
    model = Paced(messages=iter([AIMessage(content=words)]), pause_s=PAUSES_S.get(kind, 0.0))
    whole = None
    async for chunk in model.astream(state["messages"]):
        whole = chunk if whole is None else whole + chunk
        if kind == "boom" and str(whole.content).count(" ") > 1:
            raise RuntimeError(f"stub model exploded over {text}")
    return {"messages": [AIMessage(content=whole.content if whole else "", id=whole.id if whole else None)]}


_builder = StateGraph(State)
_builder.add_node("answer", answer)
_builder.add_edge(START, "answer")
_builder.add_edge("answer", END)
graph = _builder.compile()
