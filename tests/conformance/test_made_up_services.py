"""The made-up services themselves: decided by their seed alone, documented truly, strict, and unlike each other."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest

from tests.made_up.__main__ import main
from tests.made_up.bodies import FORM, JSON, Scribe
from tests.made_up.docs import documentation
from tests.made_up.examples import Examples
from tests.made_up.operations import Operation, operations
from tests.made_up.plan import Plan
from tests.made_up.problems import problem, status_of
from tests.made_up.refused import FAILURES, Refused
from tests.made_up.server import MadeUpServer, login, made_up

SEEDS = range(40)
PRINTED = {1: "d51d", 4: "c77b", 12: "40d1", 5116: "8ff9"}
"""What is printed for the seeds that adapters were written for: the beginning of its BLAKE2."""


@pytest.mark.parametrize("seed", PRINTED)
def test_a_seed_decides_everything(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", str(seed), "--docs"]) == 0
    printed = capsys.readouterr().out
    assert printed == documentation(Plan.of(seed))
    assert hashlib.blake2b(printed.encode()).hexdigest()[:4] == PRINTED[seed]


def test_seeds_differ_in_everything_that_is_decided() -> None:
    plans = [Plan.of(seed) for seed in range(200)]
    for part in ("looks", "manners", "statuses"):
        for field in dataclasses.fields(getattr(plans[0], part)):
            assert len({str(getattr(getattr(plan, part), field.name)) for plan in plans}) > 1, field.name
    assert len({plan.layout for plan in plans}) == 3
    assert len({plan.looks.wire for plan in plans}) == 5
    assert len({plan.looks.problem for plan in plans}) == 6
    assert len({(plan.layout, plan.looks, plan.manners) for plan in plans}) == len(plans)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_fields_of_a_service_have_one_name(seed: int) -> None:
    plan = Plan.of(seed)
    assert len(set(plan.fields.values())) == len(plan.fields)
    assert len(set(plan.events.values())) == len(plan.events)
    assert len(set(plan.codes.values())) == len(plan.codes)
    words = [word for each in plan.states.values() for word in each]
    assert len(set(words)) == len(words)
    assert len({(each.method, each.path) for each in operations(plan).values()}) == len(operations(plan))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_printed_request_is_one_that_is_taken(seed: int) -> None:
    plan = Plan.of(seed)
    scribe, examples = Scribe(plan), Examples(plan)
    for operation in operations(plan).values():
        for whole in (True, False):
            body, kind = examples.body(operation, whole=whole)
            shown = (*operation.body, *(operation.optional if whole else ()))
            assert scribe.read(operation, kind, body or b"") == {each: str(examples.values[each]) for each in shown}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_page_names_all_that_there_is(seed: int) -> None:
    plan = Plan.of(seed)
    page = documentation(plan)
    for operation in operations(plan).values():
        assert f"{operation.method} {Examples(plan).target(operation)} HTTP/1.1" in page
        for meaning in (*operation.body, *operation.optional, *operation.query):
            assert f"`{plan.fields[meaning]}`" in page
    for word in [*plan.codes.values(), *(word for words in plan.states.values() for word in words)]:
        assert f"`{word}`" in page


# ---------------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(params=[1, 4, 5, 12])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[MadeUpServer]:
    async with made_up(Plan.of(cast("int", request.param))) as running:
        yield running


async def sent(
    server: MadeUpServer, method: str, path: str, body: bytes | None = None, *, kind: str = "", token: str = "right-a"
) -> tuple[int, bytes]:
    credential = login(server.plan, token)
    headers = {**credential.headers, **({"Content-Type": kind} if kind else {})}
    for name, value in credential.cookies.items():
        headers["Cookie"] = f"{name}={value}"
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(method, server.url + path, data=body, headers=headers) as response,
    ):
        return response.status, await response.read()


def refused(server: MadeUpServer, failure: str, got: tuple[int, bytes]) -> bool:
    """Say whether an answer is a refusal in the service's own way."""
    status = 200 if server.plan.looks.always_200 else status_of(server.plan, failure)
    return got[0] == status and server.plan.codes[failure].encode() in got[1]


def creating(server: MadeUpServer) -> Operation:
    return operations(server.plan)["create_chat"]


async def test_who_is_not_known_is_refused(server: MadeUpServer) -> None:
    create, examples = creating(server), Examples(server.plan)
    body, kind = examples.body(create)
    for token in ("wrong", "", "left-a"):
        got = await sent(server, create.method, examples.target(create), body, kind=kind, token=token)
        assert refused(server, "login", got), got
    assert not server.store.chats


async def test_what_is_not_documented_is_refused(server: MadeUpServer) -> None:
    queue, examples = operations(server.plan)["queue_assistant"], Examples(server.plan)
    body, kind = examples.body(queue, whole=True)
    assert body is not None
    name = server.plan.fields["model"].encode()
    other = FORM if kind == JSON else JSON
    for wrong, media in ((body.replace(name, b"model_of_mine"), kind), (body, other), (b"", kind), (b"\xff", kind)):
        got = await sent(server, queue.method, examples.target(queue), wrong, kind=media)
        assert refused(server, "invalid", got), (wrong, got)
    got = await sent(server, queue.method, f"{examples.target(queue)}&x=1".replace("&", "?", 1), body, kind=kind)
    assert refused(server, "invalid", got)


async def test_another_path_is_refused_by_another_word_than_no_chat(server: MadeUpServer) -> None:
    got = await sent(server, "DELETE", "/nowhere")
    assert refused(server, "no_route", got)
    assert server.plan.codes["no_chat"].encode() not in got[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_refusal_has_a_code_of_its_own(seed: int) -> None:
    plan = Plan.of(seed)
    bodies = [problem(plan, Refused(each, "no"))[2] for each in FAILURES]
    assert len(set(bodies)) == len(FAILURES)


async def test_a_chat_that_is_deleted_while_it_is_written_to_is_counted_where_that_is_harm() -> None:
    plan = next(plan for plan in map(Plan.of, SEEDS) if plan.manners.deletion == "harmful")
    async with made_up(plan) as server:
        server.store.hold = True
        chat = server.store.create_chat("a", {})
        prompt = {"prompt": server.store.mint("p"), "text": "one two", "label": ""}
        chat.prompts[prompt["prompt"]] = "one two"
        server.store.queue_assistant("a", {"chat": chat.id, **prompt})
        server.store.delete_chat("a", {"chat": chat.id})
        assert (server.store.harmed, server.store.chats) == (1, {})
