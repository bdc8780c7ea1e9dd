"""Budgets: never overspent, told of once, right again after whatever happens to the node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from event_node import EventNode, ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from revisions import make_revision

from dsfn.billing.money import ATTO_PER_NANO
from dsfn.billing.periods import Month
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.usage import Status, Usage
from dsfn.functions.errors import (
    BudgetExceeded,
    BudgetReserved,
    Conflict,
    InvalidInput,
    NotFound,
    StorageFull,
)
from dsfn.functions.interface import FilterInterface
from dsfn.runtime.budgets import Budget, Budgets
from dsfn.runtime.budgets import store as store_module
from dsfn.runtime.budgets.alerts import ALERT_TYPE, Alerts
from dsfn.runtime.budgets.budget import ALERT_KEY
from dsfn.runtime.budgets.store import BudgetStore
from dsfn.runtime.model import Answer, Call, Payer
from dsfn.runtime.writer import InlineWriter, ThreadWriter, Writer, post_apart

# A microsecond costs a nano-unit.
RATE = Rate(pico_per_second=10**9)
BOOK = RateBook.of(RateCard(devices={"cpu": RATE}))
REVISION = make_revision(1, "echo")
MOST_NANO = 1_000
NOVEMBER = 1_795_000_000_000_000  # 2026-11-18


async def nobody(call: Call) -> Answer:
    raise NotImplementedError


@dataclass(eq=False)
class Desk:
    """The budgets of a node, its ledger, and a clock that a test moves."""

    root: Path
    clock: ManualClock
    writer: Writer = field(default_factory=InlineWriter)

    def __post_init__(self) -> None:
        self.node = EventNode(self.root, self.clock, nobody)
        store = BudgetStore(self.node.connection)
        alerts = Alerts(self.node.connection, store, self.node.router, self.clock, "default", "USD")
        self.budgets = Budgets(
            InlineWriter(),
            store,
            self.node.ledger,
            self.node.ledger.post,
            lambda: BOOK,
            lambda revision: MOST_NANO,
            alerts,
            self.clock,
        )

    def begin(self, id_: str, **more: Any) -> Call:
        """Reserves for a call."""
        values = {"tenant": "acme", "function": "echo", **more}
        return self.budgets.reserve(Call(id=id_, body=b"", content_type="", **values), REVISION)

    def end(self, call: Call, cost_nano: int, status: Status = "succeeded") -> None:
        """Posts the row of a call."""
        self.post(self.row(call, cost_nano, status))

    def post(self, row: Usage) -> None:
        """Posts a row, as the meter does."""
        (error,) = post_apart(self.node.ledger.post, [self.budgets.bundle(row)])
        self.budgets.settled(row, error)
        if error is not None:
            raise error

    def row(self, call: Call, cost_nano: int, status: Status = "succeeded") -> Usage:
        return Usage(
            invocation_id=call.id,
            tenant=call.tenant,
            caller="",
            function=call.function,
            revision=REVISION.id,
            device_class="cpu",
            started_at_us=self.clock.now_us(),
            busy_us=0,
            held_us=cost_nano,
            restore_us=0,
            status=status,
            key_id=call.key_id,
        )

    def set(self, amount_nano: int, **more: Any) -> str:
        """Sets a budget and gives its id."""
        values = {"tenant": "acme", "set_at_us": self.clock.now_us(), **more}
        return self.budgets.set(Budget(amount_nano=amount_nano, **values)).result().budget.id

    def spent(self, id_: str) -> int:
        return self.budgets.get(id_).spent_nano

    def reserved_in_ledger(self) -> int:
        return self.node.ledger.balance("reserved/acme", "nano:USD")

    def alerts(self) -> list[tuple[str, str]]:
        """The sources and ids of the alerts that were stored."""
        found = self.node.connection.execute(
            "SELECT source, id FROM accepted_events WHERE source LIKE '/budgets/%' ORDER BY id"
        )
        return [(str(source), str(id_)) for source, id_ in found]

    def again(self) -> Desk:
        """A new node on the same place, as after a crash: nothing was closed in order."""
        self.node.close()
        desk = Desk(self.root, self.clock)
        desk.budgets.start()
        return desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, ManualClock(NOVEMBER))
    yield desk
    desk.node.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_what_a_call_cost_is_spent_and_the_rest_free_again(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        call = desk.begin("a")
        account = desk.budgets.get(id_)
        assert call.max_cost_nano == MOST_NANO
        assert (account.spent_nano, account.reserved_nano, account.left_nano) == (0, 1_000, 9_000)
        desk.end(call, 300)
        assert (account.spent_nano, account.reserved_nano, account.left_nano) == (300, 0, 9_700)

    run(main)


def test_a_reservation_is_in_the_ledger_while_the_call_runs_and_goes_with_its_row(
    desk: Desk,
) -> None:
    async def main() -> None:
        desk.set(10_000)
        call, other = desk.begin("a"), desk.begin("b")
        assert desk.reserved_in_ledger() == 0, "nothing is written before the call runs"
        await asyncio.sleep(0)
        assert desk.reserved_in_ledger() == 2_000
        desk.end(call, 300)
        assert desk.reserved_in_ledger() == 1_000
        desk.budgets.release(other.id)
        await asyncio.sleep(0)
        assert desk.reserved_in_ledger() == 0
        assert desk.node.ledger.reservations_open("acme") == []

    run(main)


def test_a_tenant_without_a_budget_waits_for_nothing_and_has_no_rows(desk: Desk) -> None:
    async def main() -> None:
        desk.set(10_000, tenant="zoo")
        desk.set(10_000, hard=False)
        call = desk.begin("a")
        assert call.max_cost_nano is None
        await asyncio.sleep(0)
        desk.end(call, 300)
        assert desk.reserved_in_ledger() == 0
        (account,) = desk.budgets.all("acme")
        assert account.spent_nano == 300

    run(main)


def test_a_call_that_could_cost_more_than_is_left_may_cost_what_is_left(desk: Desk) -> None:
    async def main() -> None:
        desk.set(1_500)
        desk.end(desk.begin("a"), 1_000)
        call = desk.begin("b")
        assert call.max_cost_nano == 500
        cut_off = desk.budgets.exceeded(call)
        assert cut_off is not None and cut_off.fields["budget_nano"] == 1_500
        desk.end(call, 500)
        with pytest.raises(BudgetExceeded) as refused:
            desk.begin("c")
        assert refused.value.fields["resets_at"] == "2026-12-01T00:00:00Z"
        assert (refused.value.fields["spent_nano"], refused.value.fields["of"]) == (1_500, "tenant")

    run(main)


def test_what_calls_under_way_have_set_aside_is_waited_for(desk: Desk) -> None:
    async def main() -> None:
        desk.set(1_500)
        first = desk.begin("a")
        with pytest.raises(BudgetReserved) as refused:
            desk.begin("b")
        assert refused.value.fields["retry_after_s"] == 1.0
        desk.end(first, 10)
        assert desk.begin("b").max_cost_nano == MOST_NANO

    run(main)


def test_a_run_and_a_tenant_may_both_bind_a_call(desk: Desk) -> None:
    async def main() -> None:
        desk.set(700)
        assert desk.begin("a", max_cost_nano=200).max_cost_nano == 200
        assert desk.budgets.exceeded(replace(desk.begin("b", max_cost_nano=300))) is None
        desk.budgets.release("a")
        desk.budgets.release("b")
        tight = desk.begin("c", max_cost_nano=900)
        assert tight.max_cost_nano == 700 and desk.budgets.exceeded(tight) is not None

    run(main)


def test_a_call_needs_room_in_every_budget_that_it_is_about(desk: Desk) -> None:
    async def main() -> None:
        of_tenant, of_key = desk.set(10_000), desk.set(400, key_id="k1")
        of_function = desk.set(0, function="dear")
        assert desk.begin("a", key_id="k1").max_cost_nano == 400
        desk.end(desk.begin("b", key_id="k2"), 50)
        with pytest.raises(BudgetExceeded) as refused:
            desk.begin("c", function="dear")
        assert (refused.value.fields["of"], refused.value.fields["budget"]) == (
            "function",
            of_function,
        )
        assert (desk.spent(of_tenant), desk.spent(of_key)) == (50, 0)
        desk.begin("d", tenant="zoo", function="dear")

    run(main)


def test_calls_that_nobody_pays_for_cost_nothing(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        desk.end(desk.begin("a"), 300, "platform")
        desk.end(desk.begin("b"), 200, "cancelled")
        assert (desk.spent(id_), desk.budgets.get(id_).reserved_nano) == (200, 0)

    run(main)


def test_an_exhausted_budget_takes_on_no_asynchronous_call(desk: Desk) -> None:
    async def main() -> None:
        desk.set(300)
        call = desk.begin("a")
        # What is set aside may come back: it can be queued.
        desk.budgets.require_left(Payer("acme"), "echo")
        desk.end(call, 300)
        with pytest.raises(BudgetExceeded):
            desk.budgets.require_left(Payer("acme"), "echo")
        desk.budgets.require_left(Payer("zoo"), "echo")

    run(main)


def test_a_month_begins_anew_and_a_call_counts_where_it_began(desk: Desk) -> None:
    async def main() -> None:
        month, total = desk.set(1_000), desk.set(5_000, period="total")
        desk.end(desk.begin("a"), 900)
        late = desk.begin("b")
        assert late.max_cost_nano == 100
        row = desk.row(late, 100)
        desk.clock.at_us = Month.parse("2026-12").start_us
        assert desk.budgets.get(month).left_nano == 1_000 - 100
        desk.post(row)
        assert (desk.spent(month), desk.spent(total)) == (0, 1_000)
        assert desk.begin("c").max_cost_nano == MOST_NANO
        account = desk.budgets.get(month)
        assert (account.period.text, account.budget.amount_nano) == ("2026-12", 1_000)
        # Set back by an hour, the clock does not bring November back.
        desk.clock.advance(-3600)
        assert desk.budgets.get(month).period.text == "2026-12"

    run(main)


def test_spending_is_what_the_ledger_says_when_a_node_starts(desk: Desk) -> None:
    async def main() -> None:
        month, of_key = desk.set(9_000), desk.set(9_000, key_id="k1")
        of_function = desk.set(9_000, function="other")
        total = desk.set(9_000, period="total")
        desk.end(desk.begin("a", key_id="k1"), 100)
        desk.end(desk.begin("b", key_id="k2", function="other"), 20)
        desk.end(desk.begin("c"), 3, "platform")
        desk.end(desk.begin("d", tenant="zoo"), 500)
        desk.clock.at_us = Month.parse("2026-12").start_us
        desk.end(desk.begin("e", key_id="k1"), 7)
        for one in (desk, desk.again()):
            found = [one.spent(id_) for id_ in (month, of_key, of_function, total)]
            assert found == [7, 7, 0, 127]
            desk.node = one.node

    run(main)


def test_a_budget_that_is_set_late_knows_what_was_spent(desk: Desk) -> None:
    async def main() -> None:
        desk.end(desk.begin("a"), 400)
        assert desk.begin("b").max_cost_nano is None
        id_ = desk.set(1_000)
        assert (desk.spent(id_), desk.begin("c").max_cost_nano) == (400, 600)

    run(main)


def test_what_a_killed_node_had_set_aside_is_void(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        desk.end(desk.begin("a"), 100)
        desk.begin("b")
        await asyncio.sleep(0)
        assert desk.reserved_in_ledger() == 1_000
        again = desk.again()
        desk.node = again.node
        assert again.reserved_in_ledger() == 0
        account = again.budgets.get(id_)
        assert (account.spent_nano, account.reserved_nano) == (100, 0)

    run(main)


def test_what_was_set_aside_under_a_budget_that_is_gone_is_void_too(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        desk.begin("b")
        await asyncio.sleep(0)
        desk.budgets.remove(id_)
        again = desk.again()
        desk.node = again.node
        assert (again.reserved_in_ledger(), again.budgets.all()) == (0, [])

    run(main)


def test_a_row_that_the_ledger_refuses_gives_its_reservation_back(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        call = desk.begin("a")
        await asyncio.sleep(0)
        desk.node.ledger.post([desk.row(call, 1)])
        with pytest.raises(Conflict):
            desk.end(call, 2)
        await asyncio.sleep(0)
        account = desk.budgets.get(id_)
        assert (account.reserved_nano, desk.reserved_in_ledger()) == (0, 0)

    run(main)


def test_a_full_disk_takes_no_reservation_and_stops_no_call(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        id_ = desk.set(10_000)
        post = desk.node.ledger.post

        def full(rows: object) -> None:
            raise StorageFull("There is no room.")

        monkeypatch.setattr(desk.node.ledger, "post", full)
        call = desk.begin("a")
        await asyncio.sleep(0)
        with pytest.raises(StorageFull):
            desk.end(call, 5)
        assert (desk.spent(id_), desk.budgets.get(id_).reserved_nano) == (0, 1_000)
        monkeypatch.setattr(desk.node.ledger, "post", post)
        desk.end(call, 5)
        assert (desk.spent(id_), desk.budgets.get(id_).reserved_nano) == (5, 0)
        assert desk.reserved_in_ledger() == 0

    run(main)


def test_a_call_over_a_months_end_counts_where_it_was_live_and_after_a_restart(
    desk: Desk,
) -> None:
    async def main() -> None:
        month, total = desk.set(9_000), desk.set(9_000, period="total")
        end_us = desk.budgets.get(month).period.end_us
        call = desk.begin("a")
        desk.clock.at_us = end_us + 600
        row = replace(desk.row(call, 1_000), started_at_us=end_us - 400)
        desk.post(row)
        assert desk.budgets.get(month).period.start_us == end_us
        assert (desk.spent(month), desk.spent(total)) == (600, 1_000)
        again = desk.again()
        assert (again.spent(month), again.spent(total)) == (600, 1_000)

    run(main)


def test_each_threshold_is_told_of_once_a_month_whatever_happens(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(1_000, alerts=(50, 80, 100))
        source = f"/budgets/{id_}"

        def told() -> list[str]:
            return [i.rpartition(".")[0] for s, i in desk.alerts() if s == source]

        desk.end(desk.begin("a"), 499)
        assert told() == []
        desk.end(desk.begin("b"), 1)
        assert told() == ["2026-11.50"]
        desk.end(desk.begin("c"), 1)
        again = desk.again()
        desk.node, desk.budgets = again.node, again.budgets
        assert told() == ["2026-11.50"]
        desk.end(desk.begin("d"), 499)
        assert sorted(told()) == ["2026-11.100", "2026-11.50", "2026-11.80"]
        desk.clock.at_us = Month.parse("2026-12").start_us
        desk.end(desk.begin("e"), 500)
        assert "2026-12.50" in told() and len(told()) == 4

    run(main)


def test_an_alert_that_a_crash_kept_from_being_told_is_told_at_the_next_start(desk: Desk) -> None:
    async def main() -> None:
        desk.set(1_000, alerts=(50,))
        # The ledger has the row, and the node was killed before it could tell.
        desk.node.ledger.post([desk.row(replace(desk.begin("a")), 900)])
        again = desk.again()
        desk.node = again.node
        assert len(again.alerts()) == 1

    run(main)


def test_an_alert_reaches_who_subscribed_whatever_is_left(desk: Desk) -> None:
    async def main() -> None:
        desk.node.deploy("watch", FilterInterface({"type": ALERT_TYPE}, {}, {}))
        desk.set(0, tenant="default", alerts=())
        desk.set(100, alerts=(100,))
        desk.end(desk.begin("a"), 100)
        delivery = desk.node.queue.claim("watch")
        assert delivery is not None and delivery.payer == Payer("default", ALERT_KEY)
        call = delivery.call(b"", 0, 0)
        assert desk.budgets.reserve(call, REVISION) == call
        desk.end(call, 700)
        assert desk.budgets.all("default")[0].spent_nano == 0
        with pytest.raises(BudgetExceeded):
            desk.begin("b", tenant="default")
        assert b'"percent":100' in (delivery.body.inline or b"")

    run(main)


def test_a_budget_that_is_set_anew_keeps_what_is_spent_and_tells_again_what_is_ahead(
    desk: Desk,
) -> None:
    async def main() -> None:
        id_ = desk.set(1_000, alerts=(50, 100))
        desk.end(desk.begin("a"), 1_000)
        assert len(desk.alerts()) == 2
        desk.clock.advance(1)
        assert desk.set(2_000, alerts=(50, 100)) == id_
        account = desk.budgets.get(id_)
        assert (account.spent_nano, account.alerted, account.left_nano) == (1_000, {50}, 1_000)
        desk.end(desk.begin("b"), 1_000)
        assert account.alerted == {50, 100}
        assert len(desk.alerts()) == 3

    run(main)


def test_what_was_corrected_is_not_spent_any_more(desk: Desk) -> None:
    async def main() -> None:
        id_ = desk.set(1_000)
        call = desk.begin("a")
        desk.end(call, 1_000)
        row = desk.node.ledger.usage("a")
        assert row is not None
        right = replace(row, invocation_id="a.2", status="platform", error="a fault of ours")
        desk.node.ledger.correct("a", right)
        await desk.budgets.recount("acme")
        assert (desk.spent(id_), desk.begin("b").max_cost_nano) == (0, MOST_NANO)

    run(main)


def test_budgets_are_removed_and_there_are_only_so_many(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(store_module, "MAX_BUDGETS", 2)
        first = desk.set(0, function="f1")
        desk.set(0, function="f2")
        desk.set(1, function="f2")
        with pytest.raises(Conflict):
            desk.set(0, function="f3")
        desk.budgets.remove(first)
        desk.begin("a", function="f1")
        desk.set(0, function="f3")
        with pytest.raises(NotFound):
            desk.budgets.remove(first)

    run(main)


def test_while_a_call_is_written_its_reservation_waits_for_what_becomes_of_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, ManualClock(NOVEMBER), ThreadWriter())
        id_ = (await desk.budgets.set(Budget("acme", 10_000))).budget.id
        written, refused = desk.begin("a"), desk.begin("b")
        rows = [desk.row(written, 300), desk.row(refused, 1)]
        bundles = [desk.budgets.bundle(row) for row in rows]
        for call in (written, refused):
            # Its caller went away.
            desk.budgets.release(call.id)
        account = desk.budgets.get(id_)
        assert (account.spent_nano, account.reserved_nano) == (0, 2_000)
        desk.node.ledger.post([replace(rows[1], held_us=2)])
        errors = await desk.writer.run(lambda: post_apart(desk.node.ledger.post, bundles))
        assert [type(error) for error in errors] == [type(None), Conflict]
        for row, error in zip(rows, errors, strict=True):
            desk.budgets.settled(row, error)
        await desk.budgets.close()
        await desk.writer.close()
        assert (account.spent_nano, account.reserved_nano) == (300, 0)
        assert desk.reserved_in_ledger() == 0
        desk.node.close()

    run(main)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"amount_nano": -1}, "amount_nano"),
        ({"amount_nano": 10**18 + 1}, "amount_nano"),
        ({"tenant": ""}, "tenant"),
        ({"key_id": "k" * 65}, "key_id"),
        ({"function": "No Name"}, "function"),
        ({"period": "year"}, "period"),
        ({"alerts": (0,)}, "alerts"),
        ({"alerts": (1_001,)}, "alerts"),
        ({"alerts": tuple(range(1, 12))}, "alerts"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Budget(**{"tenant": "acme", "amount_nano": 1, **more})
    assert refused.value.fields["field"] == field


STEPS = st.lists(st.tuples(st.sampled_from("brepsm"), st.integers(0, MOST_NANO)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(amount=st.integers(0, 6_000), steps=STEPS, seed=st.integers(0, 999), restarts=st.booleans())
def test_no_interleaving_of_calls_overspends_or_loses_anything(
    tmp_path_factory: pytest.TempPathFactory,
    amount: int,
    steps: list[tuple[str, int]],
    seed: int,
    restarts: bool,
) -> None:
    """Calls begin, end, are lost by the platform, leave no row; the ledger writes late or early;
    the node is killed. Whatever the order: the ledger never shows more than the amount, and what
    memory says is what the ledger says."""

    async def main() -> None:
        luck = random.Random(seed)
        desk = Desk(tmp_path_factory.mktemp("desk"), ManualClock(NOVEMBER))
        id_ = desk.set(amount)
        under_way: list[Call] = []
        for number, (step, size) in enumerate(steps):
            if step == "b":
                try:
                    under_way.append(desk.begin(f"c{number}"))
                except (BudgetExceeded, BudgetReserved):
                    pass
            elif step == "s":
                await asyncio.sleep(0)
            elif step == "m" and restarts:
                desk, under_way = desk.again(), []
            elif under_way:
                call = under_way.pop(luck.randrange(len(under_way)))
                assert call.max_cost_nano is not None
                if step == "r":
                    desk.budgets.release(call.id)
                else:
                    status: Status = "platform" if step == "p" else "succeeded"
                    desk.end(call, min(size, call.max_cost_nano), status)
            account = desk.budgets.get(id_)
            held = sum(call.max_cost_nano or 0 for call in under_way)
            assert account.reserved_nano == held
            assert account.spent_nano + held <= amount
        await asyncio.sleep(0)
        again = desk.again()
        assert again.spent(id_) == account_spent(desk, id_) <= amount
        assert again.reserved_in_ledger() == 0
        again.node.close()

    run(main)


def account_spent(desk: Desk, id_: str) -> int:
    """What memory says."""
    (account,) = desk.budgets._accounts["acme"]
    assert account.budget.id == id_
    return account.spent_atto // ATTO_PER_NANO
