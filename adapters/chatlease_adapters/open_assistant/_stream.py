"""What the service says about an answer, in its event stream or when asked, told in Chatlease's words.

Rules that live here:

* A read returns all that one piece from the network holds, at most some 128 kB: so a flood of tokens comes in portions
  of a few milliseconds, between which the engine can give way.
* ``message`` ends the stream with the whole text, ``error`` with a failure; what follows either is not looked at.
* A ``message`` in a state that is no end (never recorded) says nothing: the answer is then found by asking.
* The end of the stream without either is no failure here: the service ends it so when it is restarted, and for an
  answer that is already finished (recorded: ``happy-path``).
* States: ``pending`` waits, ``in_progress`` goes on, ``complete`` is answered, ``aborted_by_worker`` and ``timeout``
  have failed, ``cancelled`` was cancelled by another run of the same login.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatlease.errors import ProtocolChanged, RunCancelled, RunFailed, ServiceError
from chatlease.events import Batch, Failed, Final, Pending, PluginStep, Reading, RunStatus
from chatlease_adapters.http import EventStream, HttpStream, scrub, shape
from chatlease_adapters.sse import SseParser

from ._wire import ANY_FRAME, FRAME, KINDS, ErrorFrame, Frame, Message, MessageFrame, PendingFrame, TokenFrame

_STATES = {
    "pending": RunStatus.PENDING,
    "in_progress": RunStatus.GOING,
    "complete": RunStatus.ANSWERED,
    "aborted_by_worker": RunStatus.FAILED,
    "timeout": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}
_REASONS = {
    "aborted_by_worker": "the worker that wrote the answer was lost",
    "timeout": "no worker took the prompt in time",
}


class OpenAssistantStream(EventStream):
    """The events of one answer."""

    __slots__ = ("_hide", "_parser", "unknown")

    def __init__(self, body: HttpStream, hide: Sequence[str]) -> None:
        super().__init__(body)
        self._hide = hide
        self._parser = SseParser()
        self.unknown = 0
        """Frames of an unknown kind so far."""

    def _batch(self, chunk: bytes) -> Batch:
        frames = self._parser.feed_data(chunk)
        tokens = _tokens(frames) if len(frames) > 1 else None  # for a single one it is the longer way
        return tokens or self._mixed(frames)

    def _mixed(self, frames: list[bytes]) -> Batch:
        batch: list[str | Pending | PluginStep | Final | Failed] = []
        for data in frames:
            frame = self._decoded(data)
            if type(frame) is TokenFrame:
                batch.append(frame.text)
            elif frame is not None:
                event = self._event(frame)
                if event is not None:
                    batch.append(event)
                if isinstance(event, Final | Failed):
                    break
        return batch

    def _decoded(self, data: bytes) -> Frame | None:
        try:
            return FRAME.decode(data)
        except (ValueError, RecursionError):  # of msgspec, and for what is no UTF-8
            pass
        if not _is_unknown(data):
            raise ProtocolChanged(f"a frame of kind {', '.join(sorted(KINDS))}", shape(data))
        self.unknown += 1
        return None

    def _event(self, frame: Frame) -> Pending | PluginStep | Final | Failed | None:
        if isinstance(frame, PendingFrame):
            return Pending(frame.queue_position, frame.queue_size)
        if isinstance(frame, MessageFrame):
            return _end(frame.message)
        if isinstance(frame, ErrorFrame):
            state = frame.message.state if frame.message else ""
            return Failed(_failure(state, scrub(frame.error, self._hide)))
        if isinstance(frame, TokenFrame):
            return None
        return PluginStep(frame.current_plugin_thought, frame.current_plugin_action_taken)


def _tokens(frames: list[bytes]) -> list[str] | None:
    """Return the tokens of frames that are nothing else, all decoded by one call; ``None`` where that is not so."""
    lines = b"\n".join(frames)
    if lines.count(b"\n") != len(frames) - 1:
        return None
    try:
        decoded = FRAME.decode_lines(lines)
    except (ValueError, RecursionError):
        return None
    tokens = [frame.text for frame in decoded if type(frame) is TokenFrame]
    return tokens if len(tokens) == len(frames) else None


def _is_unknown(data: bytes) -> bool:
    try:
        return ANY_FRAME.decode(data).event_type not in KINDS
    except (ValueError, RecursionError):
        return False


def _end(message: Message) -> Final | Failed | None:
    status = _STATES.get(message.state)
    if status is RunStatus.ANSWERED:
        return Final(message.content or "")
    if status in {RunStatus.FAILED, RunStatus.CANCELLED}:
        return Failed(_failure(message.state, ""))
    return None


def _failure(state: str, said: str) -> ServiceError:
    if _STATES.get(state) is RunStatus.CANCELLED:
        return RunCancelled(said or "the service cancelled the answer", code=state)
    code = state if _STATES.get(state) is RunStatus.FAILED else "run-failed"
    return RunFailed(said or _REASONS.get(state, "the service gave the answer up"), code=code)


def reading(message: Message) -> Reading:
    """
    Tell where an answer stands.

    Raises:
        ProtocolChanged: A state that this adapter does not know.
    """
    status = _STATES.get(message.state)
    if status is None:
        raise ProtocolChanged("an answer's state", "a state that this adapter does not know", code="unknown-state")
    text = message.content or "" if status is RunStatus.ANSWERED else None
    code = message.state if status is RunStatus.FAILED else ""
    return Reading(status, text, message.id, code)
