"""The diagrams say what the table says and what sessions do, and what is committed is what is generated."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from chatlease import Engine, MemoryLedger, TraceFile, Trigger
from chatlease._cli._diagrams import files, read_trace, sample_trace, up_to_date, write_all
from chatlease._diagram import LEDGER_WRITES, TRACE_EVENTS, calls, embed, embedded, lifecycle, sequence
from chatlease._lifecycle import TABLE, WITH_CHAT, State
from chatlease._trace import EVENTS, TraceEvent
from chatlease.errors import Rejected, ServiceError, UsageError
from chatlease.ledger import Entry, Hold
from chatlease.testing import FakeService, Fault, capture_trace
from chatlease.testing.fake_service import unavailable

from .card import PATH
from .trace_kit import Tale, write

ROOT = Path(__file__).parents[2]
DIAGRAMS = ROOT / "diagrams"
READMES = [ROOT / "README.md", DIAGRAMS / "README.md"]


# -- what is committed ------------------------------------------------------------------------------------------------


def test_the_committed_diagrams_are_the_generated_ones() -> None:
    """If this fails, the table (or the trace) was changed: run `make diagrams`."""
    generated = files(asyncio.run(sample_trace()))
    committed = {name: (DIAGRAMS / name).read_text("utf-8") for name in generated}
    assert committed == generated


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_diagrams_in_a_readme_are_the_generated_ones(readme: Path) -> None:
    """If this fails: run `make diagrams`."""
    assert readme.read_text("utf-8") == up_to_date(readme, asyncio.run(sample_trace()))


def test_the_readme_shows_the_state_machine_and_the_table_of_calls() -> None:
    text = READMES[0].read_text("utf-8")
    assert {"lifecycle", "calls"} <= set(embedded(text))
    assert f"```mermaid\n{lifecycle()}```" in text
    assert calls() in text


def test_the_guide_names_every_event_and_every_file() -> None:
    """An event is named in full, or by its last part in a row that begins with one of its kind."""
    rows = [re.findall(r"`([\w.]+)`", line) for line in (DIAGRAMS / "README.md").read_text("utf-8").splitlines()]
    named = {
        name if not name.startswith(".") else names[0].rpartition(".")[0] + name for names in rows for name in names
    }
    assert EVENTS.keys() - named == set()
    text = (DIAGRAMS / "README.md").read_text("utf-8")
    assert [path.name for path in DIAGRAMS.iterdir() if path.name != "README.md" and f"({path.name})" not in text] == []


async def test_writing_makes_the_folder_and_updates_the_readme_beside_it(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- diagram:lifecycle -->\nold\n<!-- /diagram -->\nafter\n")
    events = await sample_trace()
    write_all(tmp_path / "made", events)
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "made").iterdir()}
    assert written == files(events)
    block = f"```mermaid\n{lifecycle()}```\n"
    assert readme.read_text() == f"before\n<!-- diagram:lifecycle -->\n{block}<!-- /diagram -->\nafter\n"


def test_a_marker_without_a_diagram_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- diagram:nonsense -->\n<!-- /diagram -->\n")
    with pytest.raises(UsageError, match="nonsense"):
        up_to_date(readme, [])


def test_embedding_leaves_everything_else_and_is_stable() -> None:
    text = "a\n<!-- diagram:x -->\n\\1 old\n<!-- /diagram -->\nb <!-- a comment -->\n"
    once = embed(text, {"x": "\\2 new\n"})
    assert once == "a\n<!-- diagram:x -->\n\\2 new\n<!-- /diagram -->\nb <!-- a comment -->\n"
    assert embed(once, {"x": "\\2 new\n"}) == once


# -- the state machine and the table ----------------------------------------------------------------------------------


def test_the_state_machine_has_every_row_of_the_table_and_nothing_else() -> None:
    names = {state.value.replace("-", "_"): state for state in State}
    edges = re.findall(r"^    (\w+) --> (\w+): (\w+)(?: \[(.*)\])?$", lifecycle(), re.MULTILINE)
    drawn = {
        (source, names[dest], Trigger(trigger), when)
        for box, dest, trigger, when in edges
        for source in (WITH_CHAT if box == "has_chat" else {names[box]})
    }
    assert drawn == {(source, row.dest, row.trigger, row.when) for row in TABLE for source in row.sources}


def test_the_box_holds_the_states_that_have_a_chat() -> None:
    box = re.search(r"as has_chat \{\n(.*?)\n    \}", lifecycle(), re.DOTALL)
    assert box is not None
    assert set(re.findall(r'state "([\w-]+)"', box[1])) == {state.value for state in WITH_CHAT}


def test_the_table_of_calls_has_a_line_a_step_with_its_request() -> None:
    lines = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in calls().splitlines()[2:]]
    assert [(line[0], line[2]) for line in lines] == [
        (trigger.value, next((row.call for row in TABLE if row.trigger is trigger and row.call), "none"))
        for trigger in Trigger
    ]


# -- what the table does not hold -------------------------------------------------------------------------------------


class NotingLedger(MemoryLedger):
    """A ledger that notes what is written into it, and the step under way."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: defaultdict[Trigger, set[str]] = defaultdict(set)
        self.step = Trigger.READY_COOKIES

    def hook(self, event: TraceEvent) -> None:
        if event.event == "session.transition.started":
            self.step = Trigger(event.keys["trigger"])

    async def intent(self, entry: Entry) -> Hold:
        self.writes[self.step].add("intent")
        return await super().intent(entry)

    async def bound(self, hold: Hold, chat: str) -> None:
        self.writes[self.step].add("bound")
        await super().bound(hold, chat)

    def settled(self, hold: Hold) -> None:
        self.writes[self.step].add("settled")
        super().settled(hold)

    def absent(self, hold: Hold) -> None:
        self.writes[self.step].add("absent")
        super().absent(hold)

    async def hand_over(
        self, hold: Hold, *, attempts: int, error_code: str, retry_in_s: float = 0.0, dead: bool = False
    ) -> None:
        self.writes[self.step].add("hand_over")
        await super().hand_over(hold, attempts=attempts, error_code=error_code, retry_in_s=retry_in_s, dead=dead)


async def ask(service: FakeService, ledger: NotingLedger) -> None:
    async with Engine(service, ledger=ledger, hooks=[ledger.hook]) as engine:
        await engine.ask("Hello").text()


async def test_the_ledger_writes_are_those_that_sessions_make() -> None:
    """A session that works, one whose chat is refused, one whose chat's creation is unclear."""
    ledger, refused, unclear = NotingLedger(), FakeService(), FakeService()
    await ask(FakeService(), ledger)
    refused.fail("create_chat", Rejected("no", status=400))
    unclear.fail("create_chat", Fault(unavailable(), when="after"))
    for service in (refused, unclear):
        with pytest.raises(ServiceError):
            await ask(service, ledger)
    assert ledger.writes == {trigger: set(writes) for trigger, writes in LEDGER_WRITES.items()}


def told_apart(events: Iterable[TraceEvent]) -> dict[Trigger, set[str]]:
    """Return which events came in, or after, which step; cleanup is no step."""
    found: defaultdict[Trigger, set[str]] = defaultdict(set)
    step = Trigger.READY_COOKIES
    for event in events:
        if event.event == "session.transition.started":
            step = Trigger(event.keys["trigger"])
        elif not event.event.startswith(("session.transition.", "session.cleanup.")):
            found[step].add(event.event)
    return found


async def test_the_trace_events_are_those_that_sessions_send() -> None:
    """Two sessions of one account at once: the second finds its login cached and waits for its turn."""
    async with Engine(FakeService(pending=3)) as engine:
        with capture_trace(engine) as trace:
            await asyncio.gather(engine.ask("Hello").text(), engine.ask("Hello").text())
            session = engine.session()
            await session.abandon()
        first = trace[0].keys["session"]
    whole = told_apart(event for event in trace if event.keys["session"] == first)
    others = told_apart(event for event in trace if event.keys["session"] not in {first, session.id})
    abandoned = told_apart(event for event in trace if event.keys["session"] == session.id)
    seen = {trigger: whole.get(trigger, set()) | others.get(trigger, set()) for trigger in Trigger}
    seen[Trigger.ABANDON] = abandoned[Trigger.READY_COOKIES] - {"session.opened"} | abandoned[Trigger.ABANDON]
    expected = {trigger: set(TRACE_EVENTS.get(trigger, ())) for trigger in Trigger}
    expected[Trigger.HAND_OVER] = set()  # its like is abandon's
    assert seen == expected


# -- a session --------------------------------------------------------------------------------------------------------


def messages(drawn: str) -> Sequence[str]:
    return [line.strip() for line in drawn.splitlines()[5:]]


async def test_a_sequence_shows_the_states_in_order() -> None:
    drawn = messages(sequence(await sample_trace()))
    states = [line.removeprefix("Note over Session: ") for line in drawn if line.startswith("Note over Session: ")]
    assert [state for state in states if state in {each.value for each in State}] == PATH


async def test_a_sequence_of_a_failed_step_shows_the_failure_and_the_cleanup() -> None:
    service = FakeService()
    service.fail("send_prompt", Rejected("no", status=400))
    async with Engine(service) as engine:
        with capture_trace(engine) as trace, pytest.raises(Rejected):
            await engine.ask("Hello").text()
    drawn = messages(sequence(trace))
    assert "Service--xSession: 400" in drawn
    assert drawn[-5:] == [
        "Session->>Service: delete_chat",
        "Service-->>Session: 200",
        "Session->>Ledger: settled",
        "Note over Session: deleted",
        "Session-->>Bot: done",
    ]


async def test_a_trace_file_is_enough_to_draw_the_session_again(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace.jsonl")
    async with Engine(FakeService(), hooks=[file]) as engine:
        with capture_trace(engine) as trace:
            await engine.ask("Hello").text()
            await engine.ask("Hello again").text()
    file.close()
    assert sequence(read_trace(tmp_path / "trace.jsonl")) == sequence(trace)
    assert sequence(trace).count("Note over Session: new") == 1


def test_what_a_trace_has_that_this_version_does_not_know_is_passed_over(tmp_path: Path) -> None:
    known = Tale().open().steps(last="create_chat").fail("send_prompt", "chat-created").close()
    more = Tale().open().steps(last="create_chat").step("dance", "chat-created", "dancing").fail("dance", "dancing")
    more.fail("send_prompt", "chat-created").close()
    drawn = [sequence(read_trace(write(tmp_path / "t", tale))) for tale in (known, more)]
    assert drawn[0] == drawn[1]


def test_no_text_of_a_trace_can_be_a_line_of_a_diagram(tmp_path: Path) -> None:
    bad = "new\n    Bot->>Session: \x1b[2J"
    tale = Tale().open().step("abandon", "new", bad).fail("abandon", "new", error=bad)
    tale.say("session.transition.failed", trigger="abandon", source="new").close()
    drawn = sequence(read_trace(write(tmp_path / "t", tale)))
    assert [line.strip() for line in drawn.splitlines() if "Note" in line] == [
        "Note over Session: new",
        *["Note over Session: ?"] * 3,
    ]
    assert "\x1b" not in drawn
