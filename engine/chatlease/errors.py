"""Every error that Chatlease raises, who is to blame, and what to do next.

Rules that live here:

* One root, `ChatleaseError`, which is a `RuntimeError`; below it one branch per culprit: `UsageError` (the calling
  code), `ServiceError` (the chat service or the way to it), `LedgerError` (the disk or database that keeps the
  promise), `CleanupFailed` (nobody's single call: deletion did not succeed and no ledger will try again).
* ``str(error)`` is what went wrong; `ChatleaseError.hint` is the next step for whoever reads it.
* No error holds a cookie, a key, a proxy password, a prompt or an answer: not in its arguments, its attributes, its
  notes, its cause or its context. Whoever maps a foreign error raises outside the ``except`` block (so that no context
  is kept) and chains it only when it is known to be clean.
* `asyncio.CancelledError` is never mapped to any of these.
"""

from __future__ import annotations

from collections.abc import Collection

__all__ = [
    "Busy",
    "ChatleaseError",
    "CleanupFailed",
    "LeaseLost",
    "LedgerError",
    "LedgerUnavailable",
    "NotAuthenticated",
    "ProtocolChanged",
    "RateLimited",
    "Rejected",
    "RunCancelled",
    "RunFailed",
    "ServiceError",
    "SessionClosed",
    "StepInFlight",
    "StreamStalled",
    "TransitionNotAllowed",
    "Unavailable",
    "UsageError",
]


class ChatleaseError(RuntimeError):
    """
    Root of all errors of this library.

    It is a `RuntimeError` because the provider interface of the seeds promises one for everything that goes wrong.

    Attributes:
        hint: What to do next, one sentence for a person; empty when the message says it all.
    """

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class UsageError(ChatleaseError):
    """The calling code asked for something that makes no sense; nothing was sent."""


class TransitionNotAllowed(UsageError):
    """
    A step was asked for that the lifecycle table does not allow now; the state is what it was.

    Attributes:
        trigger: The step asked for, by its name in the table.
        state: The session's state, spelled as in traces.
        allowed: Names of the steps that are allowed now, sorted.
    """

    def __init__(self, trigger: str, state: str, allowed: Collection[str]) -> None:
        self.trigger = trigger
        self.state = state
        self.allowed = tuple(sorted(allowed))
        choice = ", ".join(self.allowed) or "nothing: the session is over"
        super().__init__(f"{trigger} is not allowed in state {state}; allowed now: {choice}")


class StepInFlight(UsageError):
    """A second step was asked for while one is under way; the first is not disturbed."""

    hint = "Await one step of a session before asking for the next; use several sessions to work in parallel."


class SessionClosed(UsageError):
    """The session was closed (or is closing), by `aclose()`, its engine, or from another task."""

    hint = "Open a new session with engine.session() or engine.ask()."


class ServiceError(ChatleaseError):
    """
    The service, or the way to it, failed.

    Attributes:
        status: HTTP status of the answer; ``None`` when there was no answer.
        code: Short machine word for what happened, safe to log (``connection-refused``, ``http-500``, ...).
        sent: False only where it is certain that no byte of the request reached the service, so that it may be
            repeated.
        retry_after_s: Seconds that the service asked to wait, where it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        sent: bool = True,
        retry_after_s: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code or (f"http-{status}" if status else "")
        self.sent = sent
        self.retry_after_s = retry_after_s


class NotAuthenticated(ServiceError):
    """No credentials were found, or the service refused those it got."""

    hint = "Run `chatlease doctor` to see where credentials were looked for."


class Rejected(ServiceError):
    """The service understood the request and refuses it; repeating it changes nothing."""


class RateLimited(ServiceError):
    """Too many requests for this account; wait `retry_after_s` (or the service's window) before the next."""

    hint = "Spread the work over time or over several accounts."


class Busy(ServiceError):
    """The account's only running slot (or the service's queue) stayed taken longer than the `gate` deadline."""

    hint = "Wait for the account's other session, raise Deadlines.gate, or use another account."


class Unavailable(ServiceError):
    """The service could not be reached, did not answer in time, or failed on its own side."""

    hint = "Check the address, the proxy and the service itself; `chatlease doctor` tries all three."


class ProtocolChanged(ServiceError):
    """
    The service answered something that its contract does not provide for.

    Attributes:
        expected: What the contract says, in words.
        got: What came instead: type and shape, never the content.
    """

    hint = "The address may not be this kind of service, or its version is one that this adapter does not know."

    def __init__(self, expected: str, got: str, *, status: int | None = None, code: str = "protocol-changed") -> None:
        self.expected = expected
        self.got = got
        super().__init__(f"expected {expected}, got {got}", status=status, code=code)


class RunFailed(ServiceError):
    """The service began to answer, or should have, and gave up (its worker failed, its own time-out passed)."""


class RunCancelled(ServiceError):
    """The run was cancelled at the service by something other than this session, more often than it is queued again."""

    hint = "Another program probably uses the same login; give each program an account of its own."


class StreamStalled(ServiceError):
    """
    The answer stopped coming.

    Attributes:
        deadline: Name of the deadline in `chatlease.Deadlines` that passed (``queue``, ``idle``, ...).
    """

    def __init__(self, deadline: str, seconds: float, message: str) -> None:
        self.deadline = deadline
        super().__init__(
            message,
            code=f"deadline-{deadline}",
            hint=f"Raise Deadlines.{deadline} (now {seconds:g} s) if that is normal.",
        )


class LedgerError(ChatleaseError):
    """The ledger, which keeps track of chats that must still be deleted, failed."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be written, so no new chat may be created; running sessions finish and delete theirs."""

    hint = "Make the ledger writable, point CHATLEASE_LEDGER elsewhere, or give the promise up with ledger=None."


class LeaseLost(LedgerError):
    """This process was stopped longer than its lease, so its chats belong to the sweepers now."""

    hint = "Open new sessions; the old chats are being deleted."


class CleanupFailed(ChatleaseError):
    """
    A chat could not be deleted, and nothing will try again unless a ledger holds it.

    Attributes:
        chat: The chat's id at the service; ``None`` when even that was never learned.
        attempts: How many calls of the cleanup were tried.
    """

    hint = "Delete the chat by hand, or use a ledger so that a sweeper does it."

    def __init__(self, chat: str | None, attempts: int, *, error: str = "") -> None:
        self.chat = chat
        self.attempts = attempts
        why = f" (last error: {error})" if error else ""
        super().__init__(f"chat {chat or 'of unknown id'} was not deleted after {attempts} attempts{why}")
