"""
The local Open-Assistant in a process of its own.

``python -m tests.crash.server`` prints its address and serves until its standard input is closed. Its one argument is
JSON (`Setup`), and so is every line that it is told (`Planting`): it makes a chat as another program would, without any
fault, and prints its id.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from chatlease_adapters.open_assistant.service import Service, ServiceOptions, running
from tests.crash.terms import ACTOR, FAULTS, UNLUCKY


class Setup(msgspec.Struct, frozen=True):
    """
    What the harness decides of the service.

    Attributes:
        seed: Of its choices.
        unlucky: Tokens of accounts for which hardly anything works.
    """

    seed: int
    unlucky: list[str]


class Planting(msgspec.Struct, frozen=True):
    """
    A chat that another program makes.

    Attributes:
        token: Whose.
        empty: Without a prompt.
    """

    token: str
    empty: bool


def _options(setup: Setup) -> ServiceOptions:
    return ServiceOptions(
        workers=32,
        answers="echo",
        token_interval=0.02,
        rate_limit=None,
        seed=setup.seed,
        log_size=1000,
        journal=200_000,
        actor_header=ACTOR,
    )


def _program(service: Service, setup: Setup) -> None:
    for token in setup.unlucky:
        for item in UNLUCKY.split(","):
            step, _, rest = item.partition("=")
            fault, _, chance = rest.partition(":")
            user = service.user_of(token)
            service.faults.add(step, fault, times=None, user=user, probability=float(chance))
    service.faults.program(FAULTS)


async def _serve(setup: Setup) -> None:
    async with running(_options(setup)) as service:
        _program(service, setup)
        sys.stdout.write(f"{service.url}\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(f"{_plant(service, msgspec.json.decode(line, type=Planting))}\n")
            sys.stdout.flush()


def _plant(service: Service, planting: Planting) -> str:
    user = service.user_of(planting.token)
    assert user is not None
    service.store.users.setdefault(user, user)
    chat = service.store.add_chat(user)
    if not planting.empty:
        chat.title = "of another program"
        service.store.add_message(chat, "prompter", None, content=chat.title)
    return chat.id


if __name__ == "__main__":
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=Setup)))
