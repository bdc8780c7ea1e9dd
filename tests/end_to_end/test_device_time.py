"""Whatever becomes of replicas and calls: requests + restore + idle = held, in the ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest
from deadlines import eventually
from live_node import APPS, Document, LiveNode, StartNode, Table, environment
from load import Load

from dsfn.billing.sqlite_ledger import SqliteLedger


@dataclass
class Lease:
    """What the journal says of one holding of devices: microseconds by kind and reason or
    status, and by who has it on the account."""

    function: str = ""
    held_us: int = 0
    is_closed: bool = False
    parts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    accounts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


_ROWS = "SELECT lease, function, kind, status, error, debit, amount FROM entries WHERE lease <> ''"


def leases(node: LiveNode) -> dict[str, Lease]:
    """All leases by id."""
    found: dict[str, Lease] = defaultdict(Lease)
    node.settled()
    with closing(apsw.Connection(str(node.data / "ledger.db"))) as connection:
        connection.execute("PRAGMA query_only=ON")
        for lease, function, kind, status, error, debit, amount in connection.execute(_ROWS):
            one = found[str(lease)]
            one.function = str(function)
            if kind == "held":
                one.held_us += int(str(amount))
                one.is_closed = one.is_closed or status == "closed"
            else:
                label = status if kind == "usage" else error
                one.parts[str(kind), str(label)] += int(str(amount))
                one.accounts[str(debit)] += int(str(amount))
    return found


def of(node: LiveNode, function: str) -> list[Lease]:
    return [lease for lease in leases(node).values() if lease.function == function]


def total(node: LiveNode, function: str, kind: str, label: str) -> int:
    return sum(lease.parts[kind, label] for lease in of(node, function))


def verify(node: LiveNode) -> Document:
    """What the check of the ledger says."""
    done = subprocess.run(
        [sys.executable, "-m", "dsfn", "ledger", "verify", "--json"],
        env=environment({"DSFN_DATA": str(node.data)}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    document: Document = json.loads(done.stdout)
    return document


def assert_all_is_accounted_for(node: LiveNode) -> None:
    """Of a node that has ended: all leases are closed, nothing is left over in any, and the
    ledger stands its own check."""
    checked = verify(node)
    assert checked["ok"], checked
    found = leases(node)
    assert found
    for name, lease in found.items():
        assert lease.is_closed, (name, lease)
        assert sum(lease.parts.values()) == lease.held_us, (name, lease)


@pytest.fixture
def node(start: StartNode) -> Iterator[LiveNode]:
    node = start()
    node.deploy(APPS / "device_time.py")
    yield node


def test_every_microsecond_of_every_replica_is_somebodys(node: LiveNode) -> None:
    with ThreadPoolExecutor(40) as pool:
        calls = [pool.submit(node.call, "together", seconds=0.01 * (n % 7)) for n in range(200)]
        calls += [pool.submit(node.call, "joined", texts=["x" * n] * (n % 3)) for n in range(60)]
        for call in calls:
            assert call.result().status_code == 200
    assert node.call("together", seconds="soon").status_code == 422
    for _ in range(3):
        node.value("sleeper")
        eventually(lambda: node.states("sleeper") == ["parked"], "the replica to park")
    caller = node.begin("deaf", seconds=0.3)
    eventually(lambda: "busy" in node.states("deaf"), "the call to run")
    caller.close()
    eventually(lambda: "busy" not in node.states("deaf"), "the code to end")
    crashed = [node.begin("together", seconds=20.0) for _ in range(3)]
    eventually(lambda: "busy" in node.states("together"), "the calls to run")
    (pid,) = node.pids("together")
    os.kill(pid, signal.SIGKILL)
    for connection in crashed:
        assert b" 50" in connection.recv(1 << 16)[:12]
        connection.close()
    assert node.value("together", seconds=0.0) != pid
    (devices,) = node.http.get("/bill").json()["devices"]
    parts_us = [devices[part] for part in ("requests_us", "restore_us", "idle_us")]
    assert min(parts_us) > 0 and sum(parts_us) == devices["held_us"]
    assert node.stop() == 0
    assert_all_is_accounted_for(node)
    assert total(node, "together", "usage", "succeeded") > 0
    assert len(of(node, "sleeper")) >= 3 + 2  # and two jobs of its deployment
    assert total(node, "sleeper", "restore", "restore") > 0
    assert total(node, "deaf", "idle", "fault") > 100_000
    for lease in of(node, "together"):
        assert lease.parts["usage", "failed"] == 0


def test_kill_9_under_load_leaves_no_microsecond_open(start: StartNode, node: LiveNode) -> None:
    for _ in range(3):
        with Load(node, "together", {"seconds": 0.02}, clients=8) as load:
            load.go_on(30)
            node.kill()
        assert {answer.status_code for answer in load.answers} == {200}
        node = start()
    assert node.stop() == 0
    assert_all_is_accounted_for(node)


def test_what_is_kept_warm_is_its_tenants_to_pay(node: LiveNode) -> None:
    eventually(lambda: node.states("standby") == ["ready"], "the replica that must be there")
    node.value("standby")
    node.value("together", seconds=0)
    time.sleep(1)
    assert node.stop() == 0
    assert total(node, "standby", "idle", "keep-warm") > 900_000
    assert total(node, "together", "idle", "idle") > 900_000
    accounts = [lease.accounts for lease in of(node, "standby")]
    assert sum(one["tenant/default"] for one in accounts) > 900_000
    assert_all_is_accounted_for(node)


def test_a_batch_is_divided_by_weight_and_those_that_wait_pay_nothing(node: LiveNode) -> None:
    node.value("joined", texts=[])
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(node.call, "joined", texts=["x"])
        time.sleep(0.1)  # which runs now; the others wait for it
        light = pool.submit(node.call, "joined", texts=["x", "yz"])
        heavy = pool.submit(node.call, "joined", texts=["x" * 9])
        rows = [node.row(one.result()) for one in (first, light, heavy)]
    for row, seconds in zip(rows, (0.3, 0.075, 0.225), strict=True):
        assert row.held_us == pytest.approx(seconds * 1e6, rel=0.15)
        assert row.busy_us == pytest.approx(seconds * 1e6, rel=0.15)


def test_rows_say_where_a_call_ran_and_for_which_step(node: LiveNode) -> None:
    answer = node.http.post("/workflows/twice", json={"number": 3}, headers={"prefer": "wait"})
    assert answer.status_code in (200, 202), answer.text
    rows = eventually(lambda: r if len(r := node.rows("double")) == 2 else None, "the rows")
    for row in rows:
        assert (row.workflow, row.device, row.devices) == ("twice", "cpu", 1)
        assert row.run and row.lease
    assert len({row.step for row in rows}) == 2
    assert len({row.run for row in rows}) == 1


def test_a_call_is_charged_exactly_the_restore_that_its_tenant_has_in_the_ledger(
    start: StartNode,
) -> None:
    node = start()
    node.deploy(APPS / "device_time.py")
    # A microsecond costs a nano-unit.
    rate = {"pico_per_second": 10**9, "basis": "held+restore"}
    assert node.http.post("/rates", json={"devices": {"cpu": rate}}).status_code == 201
    charged_us = 0
    for _ in range(12):
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(node.call, "sleeper") for _ in range(6)]
            for headers in (call.result().headers for call in calls):
                charged_us += int(headers["dsfn-cost-nano"]) - int(headers["dsfn-held-us"])
        eventually(lambda: node.states("sleeper") == ["parked"], "the replica to park")
    assert node.stop() == 0
    with closing(SqliteLedger(node.data / "ledger.db")) as ledger:
        paid = [
            each
            for each in ledger.intervals(0, 1 << 52)
            if each.kind == "restore" and each.tenant and each.function == "sleeper"
        ]
        rows = list(ledger.between(0, 1 << 52))
    by_lease = {row.lease: row.restore_us for row in rows if row.restore_us}
    assert {each.lease: each.duration_us for each in paid} == by_lease
    assert charged_us == sum(each.duration_us for each in paid)
    assert len(paid) >= 12
    assert_all_is_accounted_for(node)


GPUS: Table = {
    "devices": [f"host:{200 << 20}:0", f"host:{201 << 20}:0"],
    "arena": "96MiB",
    "reserve": "0B",
    "context": "0B",
}
PAIR = """
import torch

import dsfn


@dsfn.function(gpu=2, max_replicas=1, park_after=0.3, remove_after=3600)
class Pair:
    def setup(self) -> None:
        self.weights = torch.ones(1 << 16)

    def __call__(self) -> float:
        return float(self.weights.sum())
"""


def test_two_gpus_held_are_twice_the_time(start: StartNode, tmp_path: Path) -> None:
    node = start(gpu=GPUS)
    source = tmp_path / "pair.py"
    source.write_text(PAIR)
    node.deploy(source)
    row = node.row(node.call("pair"))
    assert (row.device, row.devices) == ("gpu:0+gpu:1", 2)
    eventually(lambda: node.states("pair") == ["parked"], "the replica to park")
    again = node.row(node.call("pair"))
    assert again.lease != row.lease
    assert node.stop() == 0
    assert_all_is_accounted_for(node)
    calls = [leases(node)[each.lease].parts["usage", "succeeded"] for each in (row, again)]
    assert calls == [2 * row.held_us, 2 * again.held_us]
