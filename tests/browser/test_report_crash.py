"""
The report of a crash run: each killed session's last state and who swept it, as the service itself knows it.

The page is made from the workers' traces alone. What it must say comes from elsewhere: from the service's journal, and
from the parent of the processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.browser.conftest import Open
from tests.browser.report import Report
from tests.crash.harness import Run
from tests.crash.oracle import OWNER, SWEEPER, Entry, Oracle, Page
from tests.crash.schedule import mixed, stops

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked, and killed by signals"),
]

SEED = 20260102
KILLS = 40
AFTER = {
    "create_chat": "chat-created",
    "send_prompt": "prompt-sent",
    "queue_assistant": "assistant-queued",
    "open_stream": "streaming",
}
"""The state that a step leads to, where there is a chat; those of the cleanup leave the state as it was."""


class Witness(Oracle):
    """Remembers everything that the service noted of each chat."""

    def __init__(self) -> None:
        super().__init__()
        self.chats: dict[str, list[Entry]] = {}

    def take(self, page: Page) -> None:
        super().take(page)
        for entry in page.entries:
            self.chats.setdefault(entry.chat, []).append(entry)


class Known:
    """What is known of a chat without any trace: who made it, how far its owner came, who deleted it."""

    def __init__(self, entries: list[Entry]) -> None:
        self.owner = next(entry.actor for entry in entries if entry.effect == "created").partition("/")[0]
        self.swept_by = {who for who, role in self._deleted(entries) if role == SWEEPER}
        self.reply_lost = any(entry.fault for entry in entries if entry.step == "delete_chat")
        self.deleted_by_owner = any(role == OWNER for _, role in self._deleted(entries))
        mine = [entry for entry in entries if entry.actor == f"{self.owner}/{OWNER}"]
        # A stream that is refused, because the answer is there already, is as good: the answer is looked at instead.
        known = [entry for entry in mine if entry.step in AFTER and (entry.effect or entry.step == "open_stream")]
        self.states = ["cookies-ready", *(AFTER[entry.step] for entry in known)]
        # Here a run is stopped by waiting for its end: its owner looks at the chat after the last step.
        self.watched = bool(known) and mine[-1] is not known[-1]

    @staticmethod
    def _deleted(entries: list[Entry]) -> Iterator[tuple[str, str]]:
        """Yield who asked for the deletion, by name and role: the first of them did it, a later one found it gone."""
        for entry in entries:
            if entry.step == "delete_chat":
                who, _, role = entry.actor.partition("/")
                yield who, role


async def crashed(folder: Path) -> tuple[Run, Mapping[str, Known]]:
    witness = Witness()
    run = Run(SEED, mixed(SEED, KILLS), stops(SEED, KILLS), folder, keep=True, oracle=witness)
    verdict = await run.verdict()
    assert not [*verdict.broken()]
    made = {
        name: entries for name, entries in witness.chats.items() if any(each.effect == "created" for each in entries)
    }
    return run, {name: Known(entries) for name, entries in made.items() if "/" in entries[0].actor}


async def test_each_killed_session_shows_its_last_state_and_who_swept_it(opened: Open, tmp_path: Path) -> None:
    chromium.require()
    run, chats = await crashed(tmp_path)
    killed = {name for name, event in run.ended.items() if event.code == -signal.SIGKILL}
    left = {name: chat for name, chat in chats.items() if chat.owner in killed and not chat.deleted_by_owner}
    assert len(killed) == KILLS
    assert len(left) > KILLS / 2

    report = await opened(paths=traces_in(tmp_path))
    names = {f"pid {event.pid} on {os.uname().nodename}": name for name, event in run.ended.items()}
    rows = await all_rows(report, "Left, and who swept it", "left")
    ids = {session["chat"]: session["id"] for session in report.sessions if session["chat"]}
    finds = await all_rows(report, "Found in listings", "finds")
    seen = {"swept": 0, "found": 0, "in flight": 0}
    for name, chat in left.items():
        row = rows.get(ids.get(name, ""))
        if row is None:  # its process did not live to read the reply, so no session knows this id
            if find := finds.get(name):
                assert names[find["by"]] in chat.swept_by
            else:  # nor does its sweeper know what became of it
                assert chat.reply_lost or chat.swept_by <= killed, name
            seen["found"] += bool(find)
            continue
        assert row["ended"] == "killed"
        assert names[row["lost by"]] == chat.owner
        assert names[row["swept by"]] in chat.swept_by
        assert row["chat"] == "deleted"
        if row["last state"] == "stopped":
            assert chat.watched
            continue
        flight = AFTER.get(row["in flight"]) == chat.states[-1] != row["last state"]
        assert row["last state"] == (chat.states[-2] if flight else chat.states[-1]), (row, chat.states)
        seen["swept"] += 1
        seen["in flight"] += flight
    print(f"\n{KILLS} kills, {len(left)} chats left: {seen}")
    assert min(seen.values()) > 0, seen
    await the_details_agree(report, next(ids[name] for name in left if name in ids), rows)


def traces_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


async def all_rows(report: Report, title: str, table: str) -> dict[str, dict[str, str]]:
    """Return all rows of a table, by session or chat; a long one grows by a button."""
    while await (more := report.page.locator(f"#{table} tfoot button")).count():
        await more.click()
    rows = await report.table(title)
    return {row.get("data-session") or row["data-chat"]: row for row in rows if len(row) > 2}


async def the_details_agree(report: Report, session: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    await report.page.get_by_role("button", name=f"Show session {session}").click()
    fate = await report.page.locator("#fate").inner_text()
    assert f"ended in {rows[session]['last state']}" in fate
    assert f"by {rows[session]['swept by']}" in fate
    assert await report.page.locator(".state.last").get_attribute("data-state") == rows[session]["last state"]
