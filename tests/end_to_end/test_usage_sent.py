"""Usage arrives elsewhere, though the node is killed and the receiver fails."""

from __future__ import annotations

from pathlib import Path

from deadlines import eventually
from live_node import LiveNode, StartNode
from usage_receiver import Receiver, receiving

SOURCE = """\
import dsfn


@dsfn.function
def count(number: int) -> int:
    return number
"""
CYCLES = 5
CALLS = 8


def arrived(node: LiveNode, receiver: Receiver) -> bool:
    return {row.invocation_id for row in node.rows()} <= set(receiver.ids)


def test_every_call_arrives_though_the_node_is_killed_between_deliveries(
    start: StartNode, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(SOURCE, encoding="utf-8")
    with receiving(Receiver()) as receiver:
        node = start(libraries=(), billing={"outbox.receiver.url": receiver.url})
        node.deploy(tmp_path / "app.py")
        for cycle in range(CYCLES):
            # Taken without an answer, cut off, refused: whatever the node is doing when it ends.
            receiver.faults = ["lost", "cut", "503"][cycle % 3 :]
            for number in range(CALLS):
                assert node.value("count", number=number) == number
            if cycle % 2:
                receiver.requests.clear()
                eventually(lambda: receiver.requests, "a request to be made")
            node.kill()
            node = start(libraries=(), billing={"outbox.receiver.url": receiver.url})
        receiver.faults = []
        eventually(lambda: arrived(node, receiver), "all usage to arrive")
        rows = {row.invocation_id: row for row in node.rows("count")}
        assert len(rows) == CYCLES * CALLS
        for event in receiver.taken:
            row = rows[event["id"]]
            assert event["data"]["held_us"] == row.held_us
            assert event["data"]["function"] == "count"
        assert node.stop() == 0


def test_a_receiver_that_is_away_holds_up_neither_calls_nor_the_end_of_a_node(
    start: StartNode, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(SOURCE, encoding="utf-8")
    receiver = Receiver()
    with receiving(receiver):
        pass
    node = start(libraries=(), billing={"outbox.receiver.url": receiver.url})
    node.deploy(tmp_path / "app.py")
    for number in range(CALLS):
        assert node.value("count", number=number) == number
    name = {"receiver": "receiver"}
    eventually(lambda: node.metric("dsfn_outbox_failures_total", **name) >= 1, "a failure")
    eventually(lambda: node.metric("dsfn_outbox_pending", **name) >= CALLS, "all to wait there")
    assert node.stop() == 0
    with receiving(receiver):
        node = start(libraries=(), billing={"outbox.receiver.url": receiver.url})
        eventually(lambda: arrived(node, receiver), "what was missed")
        assert len(set(receiver.ids)) == CALLS
