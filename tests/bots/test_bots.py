"""The bots of engine/README.md, as printed, on the real frameworks: users are answered, and no chat is left."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from chatlease import SqliteLedger

from .fake_discord import FakeDiscord
from .fake_telegram import FakeTelegram
from .kit import FRAMEWORKS, Framework, Stage, staged, why_not

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
]
EACH = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)

# ------------------------------------------------------------------------------------------ a bot that lives through it


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FRAMEWORKS, ids=lambda each: each.name)
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """A bot that serves one test after the other; it must end in good order, with nothing to complain of."""
    framework: Framework = request.param
    async with staged(framework, tmp_path_factory.mktemp(framework.name)) as stage:
        await stage.start()
        await stage.platform.ready()
        yield stage
        assert await stage.terminate() == 0, stage.output
        assert stage.complaints() == []
        assert (len(stage.service.chats), stage.service.lost_messages, await left(stage)) == (0, [], 0)


async def left(stage: Stage) -> int:
    """Return how many open entries the bot's ledger has."""
    ledger = SqliteLedger.from_url(stage.ledger)
    await ledger.open()
    try:
        return len(await ledger.open_entries())
    finally:
        await ledger.aclose()


async def test_a_message_is_answered_and_edited_as_the_tokens_come(stage: Stage) -> None:
    await stage.platform.write("Hello")
    shown = await stage.platform.board.says("...")
    stage.model.say("Hello", "one ")
    await stage.platform.board.says("one")
    stage.model.say("Hello", "two", end=True)
    await stage.platform.board.says("one two")
    assert shown.texts == ["...", "one", "one two"]
    await stage.given_back()


async def test_two_users_are_answered_at_once(stage: Stage) -> None:
    board = stage.platform.board
    for user in (1, 2):
        stage.model.say(f"I am {user}", f"Hello {user}, ")
        await stage.platform.write(f"I am {user}", user=user)
    for user in (1, 2):
        await board.says(f"Hello {user},", chat=user)
    for user in (2, 1):
        stage.model.say(f"I am {user}", "good day", end=True)
        await board.says(f"Hello {user}, good day", chat=user)
    await stage.given_back()


async def test_a_user_stops_the_answer_and_nobody_elses(stage: Stage) -> None:
    board = stage.platform.board
    for user in (1, 2):
        stage.model.say(f"Tell {user}", f"story {user} ")
        await stage.platform.write(f"Tell {user}", user=user)
        await board.says(f"story {user}", chat=user)
    await stage.platform.write(stage.framework.stop, user=1)
    await board.says("story 1  (stopped)", chat=1)
    for user in (1, 2):
        stage.model.say(f"Tell {user}", "ends", end=True)
    await board.says("story 2 ends", chat=2)


async def test_an_edited_question_is_answered_instead(stage: Stage) -> None:
    board = stage.platform.board
    stage.model.say("A qestion", "What ")
    number = await stage.platform.write("A qestion")
    await board.says("What")
    stage.model.say("A question", "An answer", end=True)
    await stage.platform.rewrite(number, "A question")
    await board.says("An answer")
    await board.says("What  (stopped)")
    stage.model.say("A qestion", end=True)


async def test_a_long_answer_is_shown_whole(stage: Stage) -> None:
    longest = stage.framework.longest
    await stage.platform.write("At length")
    stage.model.say("At length", "a" * longest, "b" * longest, "c", end=True)
    for piece in ("a" * longest, "b" * longest, "c"):
        await stage.platform.board.says(piece)
    await stage.given_back()


async def test_the_last_edit_is_made_although_it_was_one_too_many(stage: Stage) -> None:
    await stage.platform.write("Too often")
    stage.model.say("Too often", "now ")
    shown = await stage.platform.board.says("now")
    stage.platform.board.floods = 1
    stage.model.say("Too often", "and then", end=True)
    await stage.platform.board.says("now and then")
    assert (stage.platform.board.floods, shown.texts) == (0, ["...", "now", "now and then"])
    await stage.given_back()


async def test_an_empty_answer_is_said_to_be_one(stage: Stage) -> None:
    await stage.platform.write("Nothing?")
    stage.model.say("Nothing?", end=True)
    await stage.platform.board.says("(an empty answer)")
    await stage.given_back()


async def test_the_user_is_told_what_to_do_and_the_log_why(stage: Stage) -> None:
    stage.service.faults.add("send_prompt", "html", times=1)
    await stage.platform.write("Not today")
    await stage.platform.board.says("I am out of order. Whoever runs me will find out why in my log.")
    assert "ProtocolChanged: expected " in stage.output
    assert "The address may not be this kind of service" in stage.output
    await stage.given_back()


async def test_no_prompt_no_answer_and_no_token_is_in_the_log(stage: Stage) -> None:
    assert "Hello" not in stage.output
    assert "story" not in stage.output
    assert stage.framework.token not in stage.output


async def test_a_model_calls_nobody_by_name(stage: Stage) -> None:
    if isinstance(stage.platform, FakeDiscord):
        assert stage.platform.mentions
        assert {str(each["parse"]) for each in stage.platform.mentions.values()} == {"[]"}


# ------------------------------------------------------------------------------------------------------------- its end


@EACH
async def test_sigterm_in_the_middle_of_an_answer_leaves_no_chat(framework: Framework, tmp_path: Path) -> None:
    async with staged(framework, tmp_path) as stage:
        process = await stage.start()
        await stage.platform.write("Hello")
        stage.model.say("Hello", "one ")
        await stage.platform.board.says("one")
        process.send_signal(signal.SIGTERM)
        await stage.platform.board.says("one  (stopped)")  # the user is told at once,
        stage.model.say("Hello", "two", end=True)  # and the chat deleted when its run is over
        assert await stage.ended() == 0, stage.output
        assert not stage.service.chats
        assert not stage.service.lost_messages
        assert stage.complaints() == []
        assert await left(stage) == 0


@EACH
async def test_what_a_killed_bot_leaves_the_next_one_deletes(framework: Framework, tmp_path: Path) -> None:
    async with staged(framework, tmp_path) as stage:
        process = await stage.start()
        await stage.platform.write("Hello")
        stage.model.say("Hello", "one ")
        await stage.platform.board.says("one")
        process.kill()
        assert await stage.ended() == -signal.SIGKILL
        stage.model.say("Hello", "two", end=True)
        assert len(stage.service.chats) == await left(stage) == 1
        stage.model.say("Hello", "again", end=True)  # a platform may send again what nobody has confirmed
        await stage.start()
        await stage.given_back()
        assert await stage.terminate() == 0
        assert await left(stage) == 0


async def test_what_a_killed_bot_leaves_without_its_ledger_stays(tmp_path: Path) -> None:
    """As in a container without a volume. The next bot does not even look: nobody has told it of a loss."""
    async with staged(FRAMEWORKS[-1], tmp_path) as stage:
        process = await stage.start()
        stage.model.say("Hello", "one ")
        await stage.platform.write("Hello")
        await stage.platform.board.says("one")
        process.kill()
        await stage.ended()
        stage.model.say("Hello", "two", end=True)
        stage.lose_the_ledger()
        await stage.start()
        stage.model.say("And now?", "Well", end=True)
        await stage.platform.write("And now?")
        await stage.platform.board.says("Well")
        assert await stage.terminate() == 0
        assert (len(stage.service.chats), await left(stage)) == (1, 0)


@EACH
async def test_a_second_sigterm_is_as_each_framework_has_it(framework: Framework, tmp_path: Path) -> None:
    """aiogram passes over it; the other two end at once, and leave the chat to the ledger."""
    async with staged(framework, tmp_path) as stage:
        process = await stage.start()
        stage.model.say("Hello", "one ")
        await stage.platform.write("Hello")
        await stage.platform.board.says("one")
        process.send_signal(signal.SIGTERM)
        await stage.platform.board.says("one  (stopped)")
        process.send_signal(signal.SIGTERM)
        if framework.name == "aiogram":
            stage.model.say("Hello", "two", end=True)
        assert await stage.ended() == {"telegram": 0, "aiogram": 0, "discord": -signal.SIGTERM}[framework.name]
        expected = 0 if framework.name == "aiogram" else 1
        assert len(stage.service.chats) == await left(stage) == expected


@EACH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_bot_ends_in_good_order(framework: Framework, number: signal.Signals, tmp_path: Path) -> None:
    async with staged(framework, tmp_path) as stage:
        process = await stage.start()
        await stage.platform.write("Hello")
        stage.model.say("Hello", "one", end=True)
        await stage.platform.board.says("one")
        process.send_signal(number)
        assert await stage.ended() == 0, stage.output
        assert stage.complaints() == []
        if isinstance(stage.platform, FakeDiscord):
            assert stage.platform.closed == 1000


@EACH
async def test_a_bot_that_fails_to_start_leaves_nothing_open(framework: Framework, tmp_path: Path) -> None:
    """For python-telegram-bot after `post_init`, where `post_stop` is not called."""
    async with staged(framework, tmp_path) as stage:
        if isinstance(stage.platform, FakeTelegram):
            stage.platform.refused.add("deleteWebhook" if framework.name == "telegram" else "getMe")
        else:
            stage.platform.url += "/nowhere"
        await stage.start()
        assert await stage.ended() == 1
        assert "Unauthorized" in stage.output or "NotFound" in stage.output
        assert not [line for line in stage.complaints() if "Warning" in line or "nclosed" in line or "never" in line]


@EACH
async def test_a_ledger_that_cannot_be_used_ends_the_start(framework: Framework, tmp_path: Path) -> None:
    async with staged(framework, tmp_path) as stage:
        (tmp_path / "chats.sqlite3").write_text("no database at all" * 1000)
        await stage.start()
        assert await stage.ended() == 1
        assert "chatlease.errors.LedgerUnavailable" in stage.output
        assert not [line for line in stage.complaints() if "Warning" in line or "nclosed" in line or "never" in line]
