"""The budgets of a node: what a call may cost is set aside before it runs, and given back after.

    reserve   before a call runs: in memory at once, in the ledger while the work goes on
    post      in the same commit as the call's row: what it cost is spent
    void      the call left no row: nothing is spent

What is spent is what the ledger says at the node's start, and from then on what is posted: both
give each period its part of a call, as the bill does. A call
never costs its tenant more than was set aside for it, so a budget is never overspent; tenants
without a budget have no rows for this, and wait for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from functools import partial
from typing import TypeVar

from dsfn.billing.ledger import Ledger
from dsfn.billing.periods import Month
from dsfn.billing.posting_document import Spooled
from dsfn.billing.rates import RateBook
from dsfn.billing.reservation import Reservation, ReservationKind
from dsfn.billing.usage import Usage
from dsfn.functions.errors import BudgetExceeded, BudgetReserved, Conflict, NotFound
from dsfn.functions.values import dataclass
from dsfn.runtime.budgets.account import Account
from dsfn.runtime.budgets.alerts import Alerts, resets_at
from dsfn.runtime.budgets.budget import Budget
from dsfn.runtime.budgets.spending import cost_atto, spent_atto
from dsfn.runtime.budgets.store import BudgetStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Call, Payer, Revision
from dsfn.runtime.writer import Bundle, Write, Writer, alone, post_apart

T = TypeVar("T")
# Calls that are under way end at any time.
_RETRY_AFTER_S = 1.0
_LOG = logging.getLogger("dsfn.budgets")


@dataclass(eq=False, slots=True)
class _Hold:
    """What is set aside for a call. `binding`: the budget that leaves the call less than it may
    cost, if one does. `is_noted`: in the ledger, too, which is the writer's to say. `is_settling`:
    the call's row is being written, and `is_released` whether the call is over meanwhile."""

    reservation: Reservation
    accounts: tuple[Account, ...]
    binding: Account | None
    is_noted: bool = False
    is_settling: bool = False
    is_released: bool = False


@dataclass(eq=False)
class Budgets:
    """Reserves and settles. `at_most_nano`: the most that a call of a revision can cost.
    `post_soon`: what keeps a row until the ledger has it. Belongs to the event loop's thread.
    """

    writer: Writer
    store: BudgetStore
    ledger: Ledger
    post_soon: Write
    book: Callable[[], RateBook]
    at_most_nano: Callable[[Revision], int]
    alerts: Alerts
    clock: Clock
    _accounts: dict[str, list[Account]] = field(default_factory=dict)
    _holds: dict[str, _Hold] = field(default_factory=dict)
    _unnoted: list[tuple[_Hold, Reservation]] = field(default_factory=list)

    def start(self) -> None:
        """Finds out what is spent. What a node that was killed had set aside is void.

        To be called once the ledger has all rows that are owed to it. Raises `StorageFull`.
        """
        for tenant in self.store.tenants():
            open_ones = self.ledger.reservations_open(tenant)
            if open_ones:
                now_us = self.clock.now_us()
                self.ledger.post([replace(r, kind="void", at_us=now_us) for r in open_ones])
        self.store.forget_tenants()
        for budget in self.store.all():
            period = budget.period_at(self.clock.now_us())
            spent = spent_atto(self.ledger, self.book(), budget, period)
            self._add(self._opened(budget, period, spent))

    def all(self, tenant: str | None = None) -> list[Account]:
        """Every budget with what has come of it, or those of one tenant."""
        tenants = self._accounts if tenant is None else (tenant,)
        found = [each for name in sorted(tenants) for each in self._accounts.get(name, ())]
        for account in found:
            account.roll_over(self.clock.now_us())
        return found

    def get(self, id_: str) -> Account:
        """Raises `NotFound`."""
        for account in self.all():
            if account.budget.id == id_:
                return account
        raise NotFound(f"There is no budget {id_!r}.", kind="budget", name=id_)

    def set(self, budget: Budget) -> asyncio.Future[Account]:
        """Sets a budget, or sets it anew. What is spent already counts, and so do calls that are
        under way, once they have ended.

        Raises `Conflict` when there are too many, `StorageFull`.
        """
        period = budget.period_at(self.clock.now_us())
        return self._counted(budget, period, partial(self._set, budget, period))

    def _set(self, budget: Budget, period: Month, spent: int) -> Account:
        before = next((a for a in self.all(budget.tenant) if a.budget.id == budget.id), None)
        account = self._opened(budget, period, spent)
        others = len(self.all()) - (before is not None)
        self.store.put(budget, others, account.period.text, _reached_percent(account))
        account.alerted = self.store.alerted(budget.id, account.period.text)
        if before is None:
            self._add(account)
        else:
            # Calls under way have it in their hands.
            before.budget, before.spent_atto = budget, account.spent_atto
            before.alerted, account = account.alerted, before
        self.alerts.tell(account)
        return account

    def remove(self, id_: str) -> None:
        """Takes a budget back. Raises `NotFound`, `StorageFull`."""
        account = self.get(id_)
        self.store.remove(id_)
        self._accounts[account.budget.tenant].remove(account)

    async def recount(self, tenant: str) -> None:
        """Finds out anew what a tenant has spent: a row of its was corrected."""
        for account in self.all(tenant):
            await self._counted(account.budget, account.period, partial(self._recounted, account))

    def _recounted(self, account: Account, spent: int) -> None:
        account.spent_atto = spent
        self.alerts.tell(account)

    def _counted(
        self, budget: Budget, period: Month, then: Callable[[int], T]
    ) -> asyncio.Future[T]:
        """What `then` makes of what is spent of a budget. It is given that before any row that is
        posted later counts, and after all that were posted before."""
        counted: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def count() -> int | Exception:
            try:
                return spent_atto(self.ledger, self.book(), budget, period)
            except Exception as error:  # noqa: BLE001
                # Whoever waits for it raises it.
                return error

        def tell(found: int | Exception) -> None:
            try:
                if isinstance(found, Exception):
                    raise found
                counted.set_result(then(found))
            except Exception as error:  # noqa: BLE001
                counted.set_exception(error)

        self.writer.submit(count, tell)
        return counted

    def require_left(self, payer: Payer, function: str) -> None:
        """Raises `BudgetExceeded` when a call that is taken on now could not cost anything."""
        for account in self._binding(payer, function):
            if account.left_nano + account.reserved_nano <= 0:
                raise _exceeded(account)

    def reserve(self, call: Call, revision: Revision) -> Call:
        """Sets aside what a call may cost, and gives the call, which is to cost no more.

        That is the most that it can cost, or what is left. Raises `BudgetExceeded` when nothing
        is, and `BudgetReserved` when it will be known how much is once calls under way are over.
        """
        accounts = self._binding(Payer(call.tenant, call.key_id), call.function)
        if not accounts:
            return call
        most_nano = self.at_most_nano(revision)
        if call.max_cost_nano is not None:
            most_nano = min(most_nano, call.max_cost_nano)
        least = min(accounts, key=lambda account: account.left_nano)
        if least.left_nano < most_nano and least.reserved_nano:
            raise _reserved(least)
        amount_nano = min(most_nano, least.left_nano)
        if amount_nano <= 0 < most_nano:
            raise _exceeded(least)
        binding = least if amount_nano < most_nano else None
        self._hold(call, max(0, amount_nano), accounts, binding)
        return replace(call, max_cost_nano=max(0, amount_nano))

    def exceeded(self, call: Call) -> BudgetExceeded | None:
        """Why a call may cost no more, when that is for a budget."""
        hold = self._holds.get(call.id)
        return None if hold is None or hold.binding is None else _exceeded(hold.binding)

    def release(self, call_id: str) -> None:
        """Gives back what was set aside for a call that leaves no row. One that left its row, or
        for which nothing was set aside, is no matter."""
        hold = self._holds.get(call_id)
        if hold is None:
            return
        if hold.is_settling:
            # What becomes of its row decides.
            hold.is_released = True
            return
        del self._holds[call_id]
        self._give_back(hold)
        self._note(hold, "void")

    def bundle(self, usage: Usage) -> Bundle:
        """A call's row, with what settles its reservation, if that is in the ledger by then."""
        hold = self._holds.get(usage.invocation_id)
        if hold is None:
            return alone(usage)
        self._write_notes()
        hold.is_settling = True
        settlement = self._settlement(hold, "post")
        return lambda: (usage, settlement) if hold.is_noted else (usage,)

    def settled(self, usage: Usage, error: Exception | None) -> None:
        """A bundle is in the ledger and what it cost is spent; or, with an `error`, nothing has
        changed."""
        if error is None:
            self._spend(usage)
            return
        hold = self._holds.get(usage.invocation_id)
        if hold is not None:
            hold.is_settling = False
            if hold.is_released or isinstance(error, Conflict):
                # Its caller is gone, or it is refused for good.
                self.release(usage.invocation_id)

    async def close(self) -> None:
        """Writes what there is to write; what is set aside then is void at the next start."""
        self._write_notes()
        await self.writer.run(lambda: None)

    def _opened(self, budget: Budget, period: Month, spent: int) -> Account:
        return Account(budget, period, spent, alerted=self.store.alerted(budget.id, period.text))

    def _add(self, account: Account) -> None:
        self._accounts.setdefault(account.budget.tenant, []).append(account)
        self.alerts.tell(account)

    def _binding(self, payer: Payer, function: str) -> tuple[Account, ...]:
        """The budgets that may refuse a call."""
        of_tenant = self._accounts.get(payer.tenant)
        if not of_tenant:
            return ()
        found = [
            a for a in of_tenant if a.budget.hard and a.budget.is_about(payer.key_id, function)
        ]
        for account in found:
            account.roll_over(self.clock.now_us())
        return tuple(found)

    def _hold(
        self, call: Call, amount_nano: int, accounts: tuple[Account, ...], binding: Account | None
    ) -> None:
        reservation = Reservation(
            kind="reserve",
            id=call.id,
            tenant=call.tenant,
            key_id=call.key_id,
            currency=self.book().currency,
            amount_nano=amount_nano,
            at_us=self.clock.now_us(),
        )
        for account in accounts:
            account.reserved_nano += amount_nano
        hold = self._holds[call.id] = _Hold(reservation, accounts, binding)
        self._note(hold, "reserve")

    def _give_back(self, hold: _Hold) -> None:
        for account in hold.accounts:
            account.reserved_nano -= hold.reservation.amount_nano

    def _settlement(self, hold: _Hold, kind: ReservationKind) -> Reservation:
        return replace(hold.reservation, kind=kind, at_us=self.clock.now_us())

    def _spend(self, usage: Usage) -> None:
        hold = self._holds.pop(usage.invocation_id, None)
        if hold is not None:
            self._give_back(hold)
        of_tenant = self._accounts.get(usage.tenant)
        if not of_tenant:
            return
        book, now_us = self.book(), self.clock.now_us()
        for account in of_tenant:
            if account.budget.is_about(usage.key_id, usage.function):
                account.roll_over(now_us)
                account.spent_atto += cost_atto(usage, book, account.period)
                self.alerts.tell(account)

    def _note(self, hold: _Hold, kind: ReservationKind) -> None:
        """Has a reservation, or its end, be written with the others of this turn, while calls
        run."""
        if not self._unnoted:
            asyncio.get_running_loop().call_soon(self._write_notes)
        note = hold.reservation if kind == "reserve" else self._settlement(hold, kind)
        self._unnoted.append((hold, note))

    def _write_notes(self) -> None:
        notes, self._unnoted = self._unnoted, []
        if notes:
            self.writer.submit(partial(_write, self.post_soon, notes), _tell_failures)


def _write(post: Write, notes: Sequence[tuple[_Hold, Reservation]]) -> list[Exception | None]:
    """Writes what was set aside and what is free again; what was not noted cannot be void."""
    begun = [hold for hold, note in notes if note.kind == "reserve"]
    for hold in begun:
        hold.is_noted = True
    errors = post_apart(post, [partial(_noted, hold, note) for hold, note in notes])
    for (hold, note), error in zip(notes, errors, strict=True):
        if error is not None and note.kind == "reserve":
            hold.is_noted = False
    return errors


def _noted(hold: _Hold, note: Reservation) -> Sequence[Spooled]:
    return (note,) if hold.is_noted else ()


def _tell_failures(errors: Sequence[Exception | None]) -> None:
    first = next((error for error in errors if error is not None), None)
    if first is not None:
        _LOG.warning("Reservations are not in the ledger: %s", first)


def _reached_percent(account: Account) -> int:
    amount = account.budget.amount_nano
    return account.spent_nano * 100 // amount if amount else 100


def _facts(account: Account) -> dict[str, object]:
    budget = account.budget
    of = "key" if budget.key_id else "function" if budget.function else "tenant"
    return {
        "of": of,
        "budget": budget.id,
        "budget_nano": budget.amount_nano,
        "spent_nano": account.spent_nano,
        "reserved_nano": account.reserved_nano,
        "resets_at": resets_at(account),
    }


def _exceeded(account: Account) -> BudgetExceeded:
    facts = _facts(account)
    return BudgetExceeded(f"The budget of the {facts['of']} is used up.", **facts)


def _reserved(account: Account) -> BudgetReserved:
    facts = _facts(account)
    return BudgetReserved(
        f"What is left of the budget of the {facts['of']} is set aside for calls under way.",
        **facts,
        retry_after_s=_RETRY_AFTER_S,
    )
