"""Whatever happens to a replica: requests + restore + idle = held, to the microsecond."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from lease_node import GPUS, HandClock, Node, by_day, is_closed

from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.usage import Usage
from dsfn.runtime.leases import Slot

DAYS = 20_000  # the 4th of October 2024
MIDNIGHT_US = DAYS * DAY_US


def kinds(node: Node) -> list[tuple[str, str, str, int, int]]:
    """All rows but those of kind "held", the times counted from midnight."""
    return [
        (row.kind, row.reason, row.tenant, row.started_at_us - MIDNIGHT_US, row.duration_us)
        for row in node.rows
        if row.kind != "held"
    ]


def held_us(node: Node) -> int:
    return sum(row.duration_us for row in node.rows if row.kind == "held")


def at(offset_us: int) -> Node:
    return Node(HandClock(MIDNIGHT_US + offset_us))


def move(node: Node, microseconds: int) -> None:
    node.clock.move(1000 * microseconds)


def test_a_life_is_a_start_a_restore_a_call_and_idling() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    move(node, 300)
    lease.ready(100)
    slot = lease.enter()
    slot.waited(1_000)
    move(node, 50)
    lease.flush()
    assert slot.pay_restore("acme") == 100
    row = node.call(slot)
    move(node, 7)
    lease.end()
    assert (row.started_at_us - MIDNIGHT_US, row.held_us) == (300, 50)
    assert kinds(node) == [
        ("restore", "start", "", 0, 200),
        ("restore", "restore", "acme", 200, 100),
        ("idle", "idle", "", 350, 7),
    ]
    assert held_us(node) == 357
    assert is_closed(node.rows, row.lease)


def test_a_call_pays_only_for_as_much_of_a_restore_as_it_waited_for() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    move(node, 300)
    lease.ready()
    slot = lease.enter()
    slot.waited(40)
    lease.flush()
    assert slot.pay_restore("acme") == 40
    node.call(slot)
    later = lease.enter()
    later.waited(1_000)
    assert later.pay_restore("acme") == 0, "one call alone pays for a restore"
    node.call(later)
    lease.end()
    assert kinds(node) == [
        ("restore", "restore", "", 0, 260),
        ("restore", "restore", "acme", 260, 40),
    ]


def test_a_restore_for_a_call_that_did_not_come_to_be_is_the_platforms() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    move(node, 300)
    lease.ready()
    slot = lease.enter()
    slot.waited(1_000)
    slot.discard()
    lease.end()
    assert kinds(node) == [("restore", "restore", "", 0, 300)]


def test_rows_say_which_devices_were_held() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", GPUS)
    lease.end()
    (row,) = node.rows
    assert (row.device, row.devices, row.device_class) == ("gpu:0+gpu:1", 2, "H100")


def test_a_start_that_fails_is_the_platforms() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    move(node, 300)
    lease.end()
    assert kinds(node) == [("restore", "fault", "", 0, 300)]


def test_a_replica_that_must_be_there_is_its_tenants_while_nobody_calls() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    lease.keep("acme")
    move(node, 10)
    slot = lease.enter()
    move(node, 100)
    node.call(slot)
    move(node, 5)
    lease.keep("")
    move(node, 3)
    lease.end()
    assert kinds(node) == [("idle", "keep-warm", "acme", 0, 15), ("idle", "idle", "", 115, 3)]


def test_code_that_goes_on_after_its_caller_has_gone_is_not_the_callers() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 40)
    row = node.settle(slot)
    node.post(row)
    move(node, 60)
    slot.release()
    lease.end()
    assert row.held_us == 40
    assert kinds(node) == [("idle", "fault", "", 40, 60)]


def test_what_a_call_held_beyond_its_budget_is_not_the_callers() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 40)
    assert node.call(slot, limit_us=33).held_us == 33
    lease.end()
    assert kinds(node) == [("idle", "fault", "", 33, 7)]


def test_a_call_whose_row_cannot_be_posted_is_the_platforms() -> None:
    node = at(DAY_US - 10)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 40)
    slot.release()
    row = node.settle(slot)
    lease.end()
    assert not is_closed(node.rows, row.lease)
    node.leases.lost(row)
    assert kinds(node) == [
        ("idle", "fault", "", DAY_US - 10, 10),
        ("idle", "fault", "", DAY_US, 30),
    ]
    assert is_closed(node.rows, row.lease)


def test_a_lease_is_closed_when_the_last_of_its_calls_is_posted() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slots = [lease.enter(), lease.enter()]
    move(node, 21)
    lease.end()
    move(node, 1000)
    rows = [node.settle(slot) for slot in slots]
    assert sorted(row.held_us for row in rows) == [10, 11]
    node.post(rows[0])
    assert not is_closed(node.rows, rows[0].lease)
    node.post(rows[1])
    assert is_closed(node.rows, rows[0].lease)
    assert held_us(node) == 21


def test_a_shared_replica_is_divided_at_midnight_to_the_microsecond() -> None:
    node = at(DAY_US - 101)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slots = [lease.enter() for _ in range(3)]
    move(node, 101 + 50)
    rows = [node.call(slot) for slot in slots]
    lease.end()
    assert sum(MIDNIGHT_US + DAY_US - row.started_at_us for row in rows) == 101
    assert sum(row.held_us for row in rows) == 151
    days = by_day(node.rows, node.calls, rows[0].lease)
    assert days["held"] == days["parts"] == {DAYS: 101, DAYS + 1: 50}


def test_a_budget_that_was_spent_before_midnight_leaves_nothing_after_it() -> None:
    node = at(DAY_US - 100)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 150)
    row = node.call(slot, limit_us=60)
    lease.end()
    assert (row.started_at_us - MIDNIGHT_US, row.held_us) == (DAY_US - 60, 60)
    assert kinds(node) == [
        ("idle", "fault", "", DAY_US - 40, 40),
        ("idle", "fault", "", DAY_US, 50),
    ]


def test_a_lease_that_is_closed_is_closed_for_good() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 10)
    row = node.call(slot)
    lease.end()
    rows = len(node.rows)
    node.leases.posted([row])
    node.leases.lost(row)
    node.leases.flush()
    node.leases.close()
    assert len(node.rows) == rows


def test_of_two_midnights_that_of_the_month_is_exact() -> None:
    october = Month.parse("2024-10").start_us
    node = Node(HandClock(october - DAY_US - 10))
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slots = [lease.enter() for _ in range(2)]
    move(node, DAY_US + 20)
    rows = [node.call(slot) for slot in slots]
    assert sum(october - row.started_at_us for row in rows) == DAY_US + 10


def test_time_is_written_down_on_demand_and_once() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    move(node, 300)
    node.leases.flush()
    node.leases.flush()
    assert held_us(node) == 300
    move(node, 50)
    lease.ready()
    node.leases.flush()
    assert kinds(node) == [
        ("restore", "start", "", 0, 300),
        ("restore", "restore", "", 300, 50),
    ]
    assert held_us(node) == 350


def test_a_replica_that_comes_to_rest_has_its_time_written_once_a_second() -> None:
    node = at(0)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    for _ in range(1000):
        slot = lease.enter()
        move(node, 2000)
        node.call(slot)
        move(node, 1000)
    # After a second, and after another one, each time all that was held and all idling.
    assert [row.kind for row in node.rows] == ["idle", "held"] * 2


def test_a_wall_clock_that_is_set_back_takes_no_time_away() -> None:
    node = at(DAY_US // 2)
    lease = node.leases.begin("f", "f-1", ())
    lease.ready()
    slot = lease.enter()
    move(node, 100)
    node.clock.wall_us -= 3_600_000_000
    move(node, 100)
    assert node.call(slot).held_us == 200
    lease.end()
    assert held_us(node) == 200


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            "enter release settle post lose weigh flush keep discard end look pass set".split()
        ),
        st.integers(0, 5),
        st.one_of(st.integers(0, 10**6), st.integers(0, 4 * 10**9), st.integers(0, 10**13)),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(EVENTS, st.integers(0, DAY_US))
def test_of_whatever_happens_every_microsecond_lands_once_on_its_day(
    events: list[tuple[str, int, int]], offset_us: int
) -> None:
    node = at(offset_us)
    world = World(node)
    for what, number, nanoseconds in events:
        node.clock.move(nanoseconds)
        world.happen(what, number, nanoseconds)
    world.end()
    leases = {row.lease for row in node.rows}
    assert len({row.id for row in node.rows}) == len(node.rows)
    for lease in leases:
        assert is_closed(node.rows, lease)
        days = by_day(node.rows, node.calls, lease)
        assert sum(days["held"].values()) == sum(days["parts"].values())
        if len(days["held"]) <= 2:
            assert days["held"] == days["parts"]
        held = sorted(
            (r.started_at_us, r.duration_us)
            for r in node.rows
            if r.lease == lease and r.kind == "held"
        )
        for (start_us, duration_us), (next_us, _) in pairwise(held):
            assert start_us + duration_us == next_us
        for row in node.rows:
            if row.lease == lease:
                assert held[0][0] <= row.started_at_us
                end_us = row.started_at_us + row.duration_us
                assert end_us <= sum(held[-1])
                assert (end_us - 1) // DAY_US == row.started_at_us // DAY_US or not row.duration_us


class World:
    """Replicas to which things happen as they may."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.keeper = ""
        self.running: list[Slot] = []
        self.began_us: dict[Slot, int] = {}
        self.settled: list[tuple[Slot, Usage]] = []
        self.released: list[Slot] = []
        self.unposted: list[Usage] = []
        self._begin()

    def _begin(self) -> None:
        self.lease = self.node.leases.begin("f", "f-1", ())
        self.lease.keep(self.keeper)
        self.is_ready = False

    def happen(self, what: str, number: int, amount: int) -> None:
        if what == "enter":
            if not self.is_ready:
                self.is_ready = True
                self.lease.ready(None if number == 0 else amount % 1000)
            self.running.append(self.lease.enter())
            self.began_us[self.running[-1]] = self.node.clock.mono_ns // 1000
        elif what == "end":
            self.lease.end()
            self._begin()
        elif what == "flush":
            self.node.leases.flush()
        elif what == "keep":
            self.keeper = "acme" if number % 2 else ""
            self.lease.keep(self.keeper)
        elif what == "set":
            self.node.clock.wall_us += (number - 2) * 1_800_000_000
        elif what in ("post", "lose") and self.unposted:
            row = self.unposted.pop(number % len(self.unposted))
            self.node.post(row) if what == "post" else self.node.leases.lost(row)
        elif self.running:
            self._of_a_call(what, number, amount)

    def _of_a_call(self, what: str, number: int, amount: int) -> None:
        slot = self.running[number % len(self.running)]
        if what == "look":
            slot.so_far()
        elif what == "weigh":
            slot.weigh(number)
        elif what == "release":
            slot.release()
        elif what == "discard":
            self.running.remove(slot)
            slot.discard()
        elif what == "settle":
            self.running.remove(slot)
            limit_us = None if number < 4 else amount % 100_000
            held = slot.so_far().held_us
            row = self.node.settle(slot, limit_us)
            assert row.held_us <= held
            assert held <= self.node.clock.mono_ns // 1000 - self.began_us[slot]
            self.unposted.append(row)
            self.settled.append((slot, row))

    def end(self) -> None:
        self.lease.end()
        while self.running:
            self.happen("settle", 0, 0)
        for slot, _ in self.settled:
            self.node.clock.move(1)
            slot.release()
        while self.unposted:
            self.happen("post", 0, 0)
