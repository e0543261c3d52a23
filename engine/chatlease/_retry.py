"""When a call is tried again, by tenacity with the injected clock: one retrying object per call, nothing process-wide.

Rules that live here:

* A call whose error says ``sent=False`` never reached the service, so it may be repeated, ``create_chat`` included:
  twice.
* Deleting is always repeated, until the cleanup's budget is spent, unless the service said that repeating is useless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_never,
    wait_exponential_jitter,
)

from ._clock import Clock
from .errors import NotAuthenticated, Rejected, ServiceError

T = TypeVar("T")
Retried = Callable[[int, BaseException], None]
"""Told the number of the attempt that failed (1 for the first) and its error."""


async def retry_unsent(call: Callable[[], Awaitable[T]], clock: Clock, retried: Retried) -> T:
    """Make a call; twice more where it certainly never left."""
    try:
        return await call()
    except ServiceError as error:
        if not _unsent(error):
            raise
        retried(1, error)
    await clock.sleep(0.2)
    again = AsyncRetrying(
        sleep=clock.sleep,
        stop=stop_after_attempt(2),
        wait=wait_exponential_jitter(multiplier=0.5, max=1.0, jitter=0.2),
        retry=retry_if_exception(_unsent),
        before_sleep=_told(lambda attempt, error: retried(attempt + 1, error)),
        reraise=True,
    )
    return await again(call)


async def retry_cleanup(call: Callable[[], Awaitable[T]], clock: Clock, retried: Retried) -> T:
    """Make a call of the cleanup until it succeeds, is refused for good, or is interrupted by the end of the budget."""
    again = AsyncRetrying(
        sleep=clock.sleep,
        stop=stop_never,
        wait=wait_exponential_jitter(multiplier=0.25, max=5.0, jitter=0.25),
        retry=retry_if_exception(_worth_repeating),
        before_sleep=_told(retried),
        reraise=True,
    )
    return await again(call)


def _unsent(error: BaseException) -> bool:
    return isinstance(error, ServiceError) and not error.sent and error.code not in _FOR_GOOD


_FOR_GOOD = {"no-credentials", "credentials-refused", "deadline-gate", "rate-budget", "tls", "dns"}
"""Codes of failures before the first byte that the next second will not mend."""


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, ServiceError) and not isinstance(error, (NotAuthenticated, Rejected))


def _told(retried: Retried) -> Callable[[RetryCallState], None]:
    def before_sleep(state: RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        if error is not None:
            retried(state.attempt_number, error)

    return before_sleep
