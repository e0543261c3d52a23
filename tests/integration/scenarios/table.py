"""One scenario per recording: what has to be known to play it that the recording itself does not say."""

from __future__ import annotations

from .playing import Player, Scenario, Script

_LEFT_MESSAGE = "06b00e28-c91e-7f43-8000-9301fc71ea46"


def _again(n: int, times: int) -> Scenario:
    """Between the calls that were kept, the same good call was made over and over."""

    async def repeat(player: Player) -> None:
        for _ in range(times):
            async with await player.request(player.exchange(n)) as response:
                assert response.status == 200

    return Scenario(before={_after_the_gap(n): repeat})


def _after_the_gap(n: int) -> int:
    return n + 18


async def _create_45_chats(player: Player) -> None:
    user = player.recording.exchanges[0].user
    for _ in range(45):
        player.service.store.add_chat(str(user))


async def _someone_else_asks(player: Player) -> None:
    """The two recordings of this scenario were made at the same time, so each saw the other's message in the queue."""
    store = player.service.store
    chat = store.add_chat("someone else")
    prompt = store.add_message(chat, "prompter", None, content="something else")
    answer = {"parent_id": prompt.id, "model_config_name": "_lorem"}
    player.service._core.rules.queue_answer("someone else", answer)


async def _worker_comes(player: Player) -> None:
    player.service.add_worker()


async def _server_goes(player: Player) -> None:
    await player.service.kill_server()


# What the eight tokens of the stand-in worker were is in the recorded final text; when it said those that the dead
# stream took is not. The first comes when it is the dead stream's turn: just after the living one began to wait anew.
_LEFT_TOKENS = [30.23, 30.8812, 31.0, 31.1865, 31.3, 31.4918, 31.6, 31.7949]
_LEFT = Script([(t, f"t{number} ") for number, t in enumerate(_LEFT_TOKENS, 1)], (31.9, "t1 t2 t3 t4 t5 t6 t7 t8 "))

SCENARIOS: dict[str, Scenario] = {
    "auth-server": Scenario(),
    "auth-site": Scenario(),
    "client-leaves-upstream-stays-site": Scenario(scripts={_LEFT_MESSAGE: _LEFT}),
    "delete-while-pending-server": Scenario(),
    "delete-while-pending-site": Scenario(),
    "delete-while-streaming-server": Scenario(),
    # The lost message was counted as taken in one of the two recordings and not in this one: a race in the real server.
    "delete-while-streaming-site": Scenario(positions=False),
    "errors-server": Scenario(),
    "errors-site": Scenario(),
    "happy-path-server": Scenario(),
    "happy-path-site": Scenario(),
    "list-chats-server": Scenario(before={47: _create_45_chats}),
    "list-chats-site": Scenario(before={46: _create_45_chats}),
    "models": Scenario(),
    "multi-turn-and-drafts-server": Scenario(),
    "multi-turn-and-drafts-site": Scenario(),
    "no-worker-long-site": Scenario(gap=(20.5, 146.0)),
    "no-worker-then-late-worker-server": Scenario(before={5: _someone_else_asks}, at={97.1: _worker_comes}),
    "no-worker-then-late-worker-site": Scenario(before={3: _someone_else_asks}, at={97.1: _worker_comes}),
    "rate-limit-server": _again(4, times=14),
    "rate-limit-site": _again(3, times=14),
    "server-down-site": Scenario(at={0.0: _server_goes}),
    "server-killed-mid-stream": Scenario(hangs=True),
    "two-sessions-first-pending-server": Scenario(),
    "two-sessions-first-pending-site": Scenario(),
    "two-sessions-first-running-server": Scenario(),
    "two-sessions-first-running-site": Scenario(),
    "worker-dies-mid-stream-server": Scenario(hangs=True),
    "worker-dies-mid-stream-site": Scenario(hangs=True),
}
