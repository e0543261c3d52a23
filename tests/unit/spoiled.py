"""Ways in which a session goes wrong, by name: for tests of what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chatlease.errors import NotAuthenticated, RunFailed, Unavailable
from chatlease.events import Batch, Failed, Final, Pending
from chatlease.testing import HANG, FakeService, Fault

ANSWER = "planted-answer-5e6f"

Spoil = Callable[[FakeService], object]


def faults() -> Iterator[tuple[str, Spoil]]:
    """Ways in which a session goes wrong, each of which says something somewhere."""
    for step in ("create_chat", "send_prompt", "queue_assistant", "open_stream", "delete_chat"):
        for name, fault in (
            ("failed", Fault(Unavailable("out of order", status=503))),
            ("lost", Fault(Unavailable("cut"), when="after")),
            ("unsent", Fault(Unavailable("no connection", sent=False))),
            ("refused", Fault(NotAuthenticated("no", status=401))),
            ("hangs", Fault(delay_s=float("inf"))),
        ):
            yield f"{step}-{name}", failing(step, fault)
    yield "stream-fails", lambda service: script(service, [(ANSWER, Failed(RunFailed("worker died")))])
    yield "stream-stalls", lambda service: script(service, [(ANSWER,), HANG])
    yield "stream-waits", lambda service: script(service, [(Pending(1, 1),), HANG])
    yield "stream-ends", lambda service: script(service, [(ANSWER[:5],)])
    yield "stream-differs", lambda service: script(service, [("something else",), (Final(ANSWER),)])
    yield "nothing", lambda service: None


def failing(step: str, fault: Fault) -> Spoil:
    return lambda service: service.fail(step, *[fault] * 99)


def script(service: FakeService, batches: list[Batch]) -> None:
    service._batches = batches
    service._answer_s = 50
