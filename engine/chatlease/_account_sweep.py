"""What a sweep does with the chats of one account.

Rules that live here:

* It claims what is due, a number at a time, once a login is known, and tries each once. Every claim ends: settled,
  absent, or handed on with the time of the next try. What is left when it is cancelled or fails is handed on at once.
* A run that may still be going is stopped, or waited for within ``settle``, before its chat is deleted: the sweeper
  does no harm that a session would not do. Where deletion during a run is harmful, the chat is tried again later.
* "No such chat" is success only if this login was accepted in this sweep: with another one every chat looks gone. Where
  the id is known from the intent on, the chat may also still come: it is final only after the create deadline.
* A refused login is asked for once more and then parks the account, with one alert; a parked account is tried with one
  chat first. A service that fails several times in a row, or asks to be left alone, is left alone until the next sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from . import _failpoints
from ._interrupt import Deadline, ledger_is_late, uncut
from ._lost_creates import LostCreates
from ._sweep import is_hopeless, is_outage, retry_in
from ._tasks import done_or_later
from .adapter import Adapter, Call, Credential, Login
from .errors import LedgerError, NotAuthenticated, RateLimited, Rejected, ServiceError, Unavailable
from .events import RunStatus
from .ledger import Account, Claim, EntryState, Ledger

if TYPE_CHECKING:
    from ._sweeper import Sweeper

T = TypeVar("T")
_CLAIMED_AT_ONCE = 100
_ROUNDS = 1000
"""Claims of one account come in so many rounds at most; the next sweep goes on."""
_GIVES_UP_AFTER = 3
_SHARE = 3
"""An account has this part of its service's places at most, so that one that hangs leaves some to the others."""
_FIRST_LOOK_S = 0.25


class AccountSweep:
    """
    One account in one sweep.

    Args:
        sweeper: Whose.
        ledger: Where the claims come from.
        adapter: Of the account's service.
        account: The account.
        done: Counts what was done.

    Attributes:
        over: Nothing more is to be tried for it in this sweep.
    """

    def __init__(
        self, sweeper: Sweeper, ledger: Ledger, adapter: Adapter, account: Account, done: Counter[str]
    ) -> None:
        self.over = False
        self.ledger = ledger
        self.adapter = adapter
        self.account = account
        self.settings = sweeper.settings
        self.clock = sweeper.engine.clock
        self.deadlines = sweeper.engine.deadlines
        self.done = done
        self.together = sweeper.together
        self._sweeper = sweeper
        self._places = sweeper.places[adapter.service, adapter.origin]
        self._login = Login(account.account, Credential())
        self._left: dict[str, Claim] = {}
        self._tried: set[str] = set()
        self._parked = False
        self._accepted = False
        self._asked_again = False
        self._renewing = asyncio.Lock()
        self._failures = 0
        self._pause_s = 0.0

    async def work(self) -> None:
        """Give the account's chats back; every claim has ended when this has."""
        credential = await self._sweeper.login(self.adapter, self.account)
        if credential is None:
            return
        self._login = Login(self.account.account, credential)
        lost = LostCreates(self)
        try:
            for _ in range(_ROUNDS):
                if self.over or not (claims := self._untried(await self._claim())):
                    break
                await self._give_all_back([claim for claim in claims if claim.entry.chat is not None])
                await lost.take([claim for claim in claims if claim.entry.chat is None])
            if not self.over:
                await lost.look()
        finally:
            await self._release()

    # -- claims -------------------------------------------------------------------------------------------------------

    async def _claim(self) -> list[Claim]:
        """Claim some entries; a claim that is under way when we are cancelled is taken, so that it can be released."""
        claiming = self._sweeper.engine.keeper.own(self._claim_some(), "chatlease claim", _looked_at)
        try:
            await asyncio.wait({claiming})
        except asyncio.CancelledError:
            await done_or_later(claiming, self.clock, self.deadlines.grace)
            raise
        claims = claiming.result()
        if claims:
            self.done["claimed"] += len(claims)
            _failpoints.reach("sweep.claimed")
        return claims

    async def _claim_some(self) -> list[Claim]:
        claims = list(await self.ledger.claim([self.account], _CLAIMED_AT_ONCE))
        self._left |= {claim.hold.entry: claim for claim in claims}
        self._parked = self._parked or any(claim.entry.parked for claim in claims)
        return claims

    def _untried(self, claims: list[Claim]) -> list[Claim]:
        """Leave out what failed in this sweep, and whose next try has come meanwhile: it waits for the next one."""
        new = [claim for claim in claims if claim.hold.entry not in self._tried]
        self._tried |= {claim.hold.entry for claim in new}
        return new

    async def _release(self) -> None:
        """Hand on what is left; where the ledger fails, it goes free with our lease."""
        left = list(self._left.values())
        with contextlib.suppress(LedgerError), Deadline(self.clock, self.deadlines.grace, ledger_is_late):
            await self.together(self.hand_on(claim, self._pause_s) for claim in left)

    def settle(self, claim: Claim, chat: str | None) -> None:
        """End a claim: its chat's deletion was confirmed."""
        self.ledger.settled(claim.hold)
        self._left.pop(claim.hold.entry, None)
        self.done["swept"] += 1
        age_s = round(max(claim.at - claim.entry.intent_at, 0.0), 3)
        attempts = claim.entry.attempts + 1
        self.trace("sweep.chat.deleted", claim, chat=chat, age_s=age_s, attempts=attempts)
        _failpoints.reach("sweep.settled")

    async def miss(self, claim: Claim) -> None:
        """End a claim: its chat is not there, and never came to be, or may still come."""
        wait = claim.entry.create_deadline - claim.at
        if wait > 0:
            await self.hand_on(claim, wait)
            return
        self.ledger.absent(claim.hold)
        self._left.pop(claim.hold.entry, None)
        self.done["absent"] += 1
        self.trace("sweep.entry.absent", claim, attempts=claim.entry.attempts + 1)

    async def fail(self, claim: Claim, error: Exception) -> None:
        """End a claim for now: its chat could not be deleted."""
        self._count(error)
        code = getattr(error, "code", "") or type(error).__name__
        attempts = claim.entry.attempts + 1
        if is_hopeless(self.settings, claim.entry, attempts, claim.at):
            await self.bury(claim, code, attempts)
            return
        seconds = max(retry_in(self.settings, attempts), self._asked_to_wait(error))
        self.done["failed"] += 1
        self.trace("sweep.chat.failed", claim, error_code=code, attempts=attempts, retry_in_s=round(seconds, 3))
        await self.hand_on(claim, seconds, attempts=attempts, error_code=code)

    def _asked_to_wait(self, error: Exception) -> float:
        """Return how long the service asked to be left alone; not for longer than we would leave it alone ourselves."""
        return min(getattr(error, "retry_after_s", None) or 0.0, self.settings.longest_retry)

    async def bury(self, claim: Claim, code: str, attempts: int) -> None:
        """End a claim as a dead letter, to be tried once a day."""
        if not claim.entry.dead:
            self.done["dead"] += 1
            self.trace("sweep.chat.dead", claim, error_code=code, attempts=attempts)
        await self.hand_on(claim, self.settings.daily, attempts=attempts, error_code=code, dead=True)

    async def hand_on(
        self,
        claim: Claim,
        seconds: float,
        *,
        attempts: int | None = None,
        error_code: str | None = None,
        dead: bool = False,
    ) -> None:
        """End a claim: somebody tries (again) after that time."""
        entry = claim.entry
        await self.ledger.hand_over(
            claim.hold,
            attempts=entry.attempts if attempts is None else attempts,
            error_code=entry.error_code if error_code is None else error_code,
            retry_in_s=seconds,
            dead=dead or entry.dead,
        )
        self._left.pop(claim.hold.entry, None)

    # -- chats whose id is known --------------------------------------------------------------------------------------

    async def _give_all_back(self, claims: list[Claim]) -> None:
        if self._parked and not self._accepted:  # with a login that may still be refused, once is enough
            await self._give_back_each(iter(claims[:1]))
            claims = claims[1:]
        waiting = iter(claims)
        at_once = min(max(self.settings.at_once // _SHARE, 1), len(claims))
        await self.together(self._give_back_each(waiting) for _ in range(at_once))

    async def _give_back_each(self, claims: Iterator[Claim]) -> None:
        for claim in claims:
            if self.over:
                return
            await self._give_back(claim)

    async def _give_back(self, claim: Claim) -> None:
        chat, created = claim.entry.chat, claim.entry.state is EntryState.BOUND
        assert chat is not None
        with self.blamed() as blame:
            # No prompt is ever sent before the chat is bound.
            created = await self.delete(chat, may_run=created) or created
        if not await self.excused(blame, [claim]):
            return
        if created:
            self.settle(claim, chat)
        else:
            await self.miss(claim)

    async def delete(self, chat: str, *, may_run: bool = True) -> bool:
        """Delete a chat as a session would, and say whether it was there; it is gone when this returns."""
        if may_run:
            await self._end_run(chat)
        _failpoints.reach("sweep.stopped")
        deleted = await self.ask(lambda call: self.adapter.delete_chat(call, chat))
        if not deleted:
            await self._prove_login()
        await self.accept()
        _failpoints.reach("sweep.deleted")
        return deleted

    async def _end_run(self, chat: str) -> None:
        can = self.adapter.capabilities
        harmful = can.deletion_during_run == "harmful"
        if not (harmful or can.stopping):
            return
        try:
            if not await self._is_over_in_time(chat) and harmful:
                raise Unavailable("the chat's run is still going", code="run-going")
        except (NotAuthenticated, RateLimited):
            raise
        except ServiceError:
            if harmful:
                raise

    async def _is_over_in_time(self, chat: str) -> bool:
        if self.adapter.capabilities.stopping:
            await self._unless_gone(lambda call: self.adapter.stop_run(call, chat, None))
        ends, pause = self.clock.now() + self.deadlines.settle, _FIRST_LOOK_S
        while await self._is_going(chat):
            left = ends - self.clock.now()
            if left <= 0:
                return False
            await self.clock.sleep(min(pause, left))
            pause = min(pause * 2, self.deadlines.poll)
        return True

    async def _is_going(self, chat: str) -> bool:
        reading = await self._unless_gone(lambda call: self.adapter.read_answer(call, chat, None, None))
        return reading is not None and reading.status in {RunStatus.PENDING, RunStatus.GOING}

    async def _unless_gone(self, make: Callable[[Call], Awaitable[T]]) -> T | None:
        try:
            return await self.ask(make)
        except Rejected as error:
            if error.status in {404, 410}:
                return None
            raise

    # -- what went wrong ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def blamed(self) -> Generator[list[Exception]]:
        """Catch whatever an adapter does wrong: it must not cost the other chats."""
        blame: list[Exception] = []
        try:
            yield blame
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001
            blame.append(error)

    async def excused(self, blame: Iterable[Exception], claims: Iterable[Claim]) -> bool:
        """Say whether nothing went wrong; else the claims end, or the account is parked."""
        for error in blame:
            if isinstance(error, NotAuthenticated):
                await self._park(error)
                return False
            await self.together(self.fail(claim, error) for claim in claims if claim.hold.entry in self._left)
            return False
        return True

    def _count(self, error: Exception) -> None:
        self._failures += is_outage(error)
        if self._failures >= _GIVES_UP_AFTER or isinstance(error, RateLimited):
            self.over = True
            self._pause_s = max(self._pause_s, self._asked_to_wait(error))

    # -- the account --------------------------------------------------------------------------------------------------

    async def _prove_login(self) -> None:
        """Make sure that the service accepts this login, now that it says "no such chat"."""
        if self._accepted:
            return
        if not self.adapter.capabilities.listing:
            raise Unavailable(
                "the chat seems gone, and nothing proves that the login is the right one", code="unproven"
            )
        await self.ask(self._look_into_listing)

    async def _look_into_listing(self, call: Call) -> None:
        chats = self.adapter.list_chats(call)
        async for _ in chats:
            break
        close = getattr(chats, "aclose", None)
        if close is not None:
            await close()

    async def accept(self) -> None:
        """Note that the service accepted the login."""
        self._accepted, self._failures = True, 0
        if self._parked:
            self._parked = False
            if await self.ledger.unpark(self.account):
                self.trace("sweep.account.unparked", None)

    async def _park(self, error: NotAuthenticated) -> None:
        self.over = True
        news = await self.ledger.park(self.account, seconds=self.settings.probe, error_code=error.code)
        if news:
            self.trace("sweep.account.parked", None, error_code=error.code)

    async def ask(self, make: Callable[[Call], Awaitable[T]], seconds: float | None = None) -> T:
        """Make a call of the adapter, once more with another credential of the same account where it is refused."""
        login = self._login
        try:
            return await self._call(make, seconds)
        except NotAuthenticated:
            if not await self._renew(login):
                raise
        return await self._call(make, seconds)

    async def _call(self, make: Callable[[Call], Awaitable[T]], seconds: float | None) -> T:
        limit = self.deadlines.call if seconds is None else seconds
        async with self._places:
            with Deadline(self.clock, limit, late):
                return await uncut(make(Call(self._login, self.deadlines)))

    async def _renew(self, refused: Login) -> bool:
        """Ask for another credential, once a sweep, whoever of us was refused."""
        async with self._renewing:
            if self._login is not refused:
                return True
            if self._asked_again:
                return False
            self._asked_again = True
            credential = await self._sweeper.find(self.adapter, self.account, refused.credential)
            if credential is None:
                return False
            self._login, self._accepted = Login(self.account.account, credential), False
            return True

    def trace(self, event: str, claim: Claim | None, **keys: Any) -> None:
        """Send an event of this account, and of a claim's session."""
        mine: dict[str, Any] = {"service": self.account.service, "account": self.account.account}
        if claim is not None:
            mine |= {"session": claim.entry.id, "chat": claim.entry.chat}
        self._sweeper.trace(event, **(mine | keys))


def late() -> Exception:
    """Return the error for a call that takes too long."""
    return Unavailable("the service did not answer in time", code="deadline-call")


def _looked_at(claiming: asyncio.Task[Any]) -> None:
    """Take note of how it ended: whoever waited may have gone before."""
    if not claiming.cancelled():
        claiming.exception()
