"""The ledger survives `kill -9` at any instant."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from kill_loop import LARGEST_BATCH, in_process

from dsfn.billing.interval import Interval
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

CYCLES = 200


def test_every_reported_row_is_there_once_after_kill_9() -> None:
    result = in_process(CYCLES)
    assert result.cycles == CYCLES
    assert result.reported > CYCLES
    assert (result.lost, result.doubled, result.problems) == (0, 0, 0)
    assert result.surplus <= CYCLES * LARGEST_BATCH


def test_a_lease_that_a_killed_node_left_open_is_closed_with_what_its_rows_came_to(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    shared = {"device": "gpu:0+gpu:1", "devices": 2, "device_class": "NVIDIA L4"}
    with closing(SqliteLedger(path)) as ledger:
        ledger.post(
            [
                Usage("i", "t", "", "f", "r", "NVIDIA L4", 10, 1, 30, 0, "succeeded",
                      lease="l", devices=2),
                Interval("restore", "l/0", "l", function="f", revision="r", tenant="",
                         started_at_us=0, duration_us=10, **shared),  # type: ignore[arg-type]
            ]
        )  # fmt: skip
    with closing(SqliteLedger(path)) as ledger:
        ledger.close_leases()
        ledger.close_leases()
        (*_, closing_row) = ledger.intervals(0, 100)
        assert (closing_row.kind, closing_row.duration_us, closing_row.devices) == ("held", 40, 2)
        assert (closing_row.closes, closing_row.reason) == (True, "fault")
        assert ledger.balance("lease/l", "us:NVIDIA L4") == 0
        assert len(list(ledger.intervals(0, 100))) == 2
        assert ledger.verify().ok


def test_what_a_killed_node_held_and_gave_to_nobody_was_lost_to_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    held = Interval("held", "l/0", "l", "cpu", 1, "cpu", "f", "", "", 0, 50)
    with closing(SqliteLedger(path)) as ledger:
        ledger.post([held])
    with closing(SqliteLedger(path)) as ledger:
        ledger.close_leases()
        assert ledger.balance("platform/faults", "us:cpu") == 50
        assert ledger.balance("lease/l", "us:cpu") == 0
        assert ledger.verify().ok
