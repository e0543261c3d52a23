"""When a call is tried again, by tenacity with the injected clock: one retrying object per call, nothing process-wide.

Rules that live here:

* The first attempt is the caller's: tenacity's machinery would cost a tenth of a short session.
* A call whose error says ``sent=False`` never reached the service, so it may be repeated, ``create_chat`` included:
  twice.
* Deleting is always repeated, until the cleanup's budget is spent, unless the service said that repeating is useless.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ._clock import Clock
from .errors import NotAuthenticated, Rejected, ServiceError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

T = TypeVar("T")
_FIRST_PAUSE_S = 0.25
Retried = Callable[[int, BaseException], None]
"""Told the number of the attempt that failed (1 for the first) and its error."""
_Worth = Callable[[BaseException], bool]


async def retry_unsent(call: Callable[[], Awaitable[T]], failure: ServiceError, clock: Clock, retried: Retried) -> T:
    """Make a call that failed again, at most twice, where it certainly never left; else raise its failure."""
    await _pause(failure, clock, retried, _unsent)
    return await _again(clock, retried, _unsent, attempts=2)(call)


async def retry_cleanup(call: Callable[[], Awaitable[T]], failure: ServiceError, clock: Clock, retried: Retried) -> T:
    """Make a failed call of the cleanup again until it succeeds, is refused for good, or its budget interrupts it."""
    await _pause(failure, clock, retried, _worth_repeating)
    return await _again(clock, retried, _worth_repeating, attempts=None)(call)


async def _pause(failure: ServiceError, clock: Clock, retried: Retried, worth: _Worth) -> None:
    if not worth(failure):
        raise failure
    retried(1, failure)
    await clock.sleep(_FIRST_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311  (jitter, no secret)


def _again(clock: Clock, retried: Retried, worth: _Worth, *, attempts: int | None) -> AsyncRetrying:
    import tenacity  # noqa: PLC0415  (a twentieth of what importing this package costs, for what hardly ever happens)

    return tenacity.AsyncRetrying(
        sleep=clock.sleep,
        stop=tenacity.stop_never if attempts is None else tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=_FIRST_PAUSE_S, max=5.0, jitter=_FIRST_PAUSE_S),
        retry=tenacity.retry_if_exception(worth),
        before_sleep=_told(lambda attempt, error: retried(attempt + 1, error)),
        reraise=True,
    )


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
