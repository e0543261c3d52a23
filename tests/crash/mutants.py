"""Rules of the engine, broken on purpose in a worker's process: each must turn the oracle red."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from chatlease import _account_sweep, _core, _steps, _sweep
from chatlease._core import Core
from chatlease._ledger._statements import Statements
from chatlease._ledger._stored import StoredLedger
from chatlease._lifecycle import Trigger
from chatlease.errors import Unavailable
from chatlease.ledger import Entry, Hold, Lease


def apply(name: str) -> None:
    """Break a rule in this process; an empty name breaks none."""
    if name:
        MUTANTS[name]()


def _no_intent() -> None:
    """The ledger learns of a chat only from the reply to its creation."""
    waiting: dict[str, Entry] = {}
    intent, bound = StoredLedger.intent, StoredLedger.bound

    async def later(self: StoredLedger, entry: Entry) -> Hold:
        waiting[entry.id] = entry
        return Hold(entry.id, self._opened.lease)

    async def both(self: StoredLedger, hold: Hold, chat: str) -> None:
        await intent(self, waiting.pop(hold.entry))
        await bound(self, hold, chat)

    _patch(StoredLedger, "intent", later)
    _patch(StoredLedger, "bound", both)


def _no_create_deadline() -> None:
    """A create whose reply was lost is thought to take effect at once or never."""
    init = Statements.__init__

    def without(self: Statements, db: Any, horizon: float) -> None:
        init(self, db, 0.0)

    _patch(Statements, "__init__", without)


def _naive_list() -> None:
    """An empty chat unknown to the ledger is taken for a lost one, although a living session may wait for its reply."""
    _patch(_sweep, "_may_be_living", _no)


def _reviving_heartbeat() -> None:
    """A holder that was declared dead lives again with its next heartbeat, and never notices."""

    def renew(self: Statements, holder: str, now: float, lease: float) -> bool:
        self._db.execute("UPDATE holders SET state = 'live', lease_until = ? WHERE id = ?", (now + lease, holder))
        return True

    def lives(self: Statements, holder: str) -> bool:
        return self.renew(holder, time.time(), 3.0)

    _patch(Statements, "renew", renew)
    _patch(Statements, "lives", lives)
    _patch(Lease, "lost", _no)


def _gone_is_failure() -> None:
    """That a chat is gone already counts as a failed deletion."""

    async def fail(_sweep: object) -> None:
        raise Unavailable("no such chat", status=404, code="gone")

    _patch(_account_sweep.AccountSweep, "_prove_login", fail)


def _settled_first() -> None:
    """The ledger forgets a chat before it is deleted."""
    delete = _steps.delete_chat

    async def settle_and_delete(session: Core) -> None:
        ledger, hold = session.engine.ledger, session.hold
        if ledger is not None and hold is not None:
            ledger.settled(hold)
            await ledger.open_entries()  # what was only noted is durable now
        await delete(session)

    effects = MappingProxyType({**_steps.EFFECTS, Trigger.DELETE_CHAT: settle_and_delete})
    for module in (_steps, _core):
        _patch(module, "EFFECTS", effects)


def _no(*_arguments: object) -> bool:
    return False


def _patch(owner: Any, name: str, value: object) -> None:
    getattr(owner, name)  # a mutant of what is not there any more would prove nothing
    setattr(owner, name, value)


MUTANTS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "no-intent": _no_intent,
        "no-create-deadline": _no_create_deadline,
        "naive-list": _naive_list,
        "reviving-heartbeat": _reviving_heartbeat,
        "gone-is-failure": _gone_is_failure,
        "settled-first": _settled_first,
    }
)
"""By name; the docstring is the rule that each breaks."""
