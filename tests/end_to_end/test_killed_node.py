"""kill -9 of a node at any moment: nothing that was promised is lost, nothing happens twice."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode
from load import Load

CYCLES = 3
EVENTS_AT_ONCE = 5


class Events:
    """Sends events until the node dies; `accepted` are the ids that it has promised to deliver."""

    def __init__(self, node: LiveNode, folder: Path, cycle: int) -> None:
        self.accepted: list[str] = []
        self._node = node
        self._folder = folder
        self._cycle = cycle
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _send(self) -> None:
        number = 0
        while True:
            ids = [f"{self._cycle}-{number + n}" for n in range(EVENTS_AT_ONCE)]
            number += EVENTS_AT_ONCE
            try:
                answer = self._node.http.post(
                    "/events",
                    content=json.dumps([self._event(id) for id in ids]),
                    headers={"Content-Type": "application/cloudevents-batch+json"},
                )
            except (httpx.TransportError, RuntimeError):  # the latter once the client is closed
                return
            assert answer.status_code == 202, answer.text
            self.accepted += ids

    def _event(self, id: str) -> dict[str, object]:
        data = {"folder": str(self._folder)}
        return {"specversion": "1.0", "type": "tally", "source": "/test", "id": id, "data": data}


class Deployments:
    """Deploys one revision after the other until the node dies; `confirmed` is the last one that
    the node said serves."""

    def __init__(self, node: LiveNode, source: Path, confirmed: int) -> None:
        self.confirmed = confirmed
        self._node = node
        self._source = source
        self._thread = threading.Thread(target=self._deploy)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _deploy(self) -> None:
        number = self.confirmed
        while True:
            number += 1
            self._source.write_text(EDITION.format(number=number))
            try:
                last = self._node.deploy_steps(self._source)[-1]
            except httpx.TransportError:
                return
            assert last["stage"] == "done", last
            self.confirmed = number


EDITION = """
import dsfn


@dsfn.function
class Edition:
    def setup(self) -> None:
        self.number = {number}

    def __call__(self) -> int:
        return self.number
"""


def test_kill_9_of_the_node_under_load_loses_and_doubles_nothing(
    start: StartNode, tmp_path: Path
) -> None:
    folder = tmp_path / "effects"
    folder.mkdir()
    node = start()
    deployed = {**node.deploy(APPS / "records.py"), **node.deploy(APPS / "scaling.py")}
    answered: list[str] = []
    accepted: list[str] = []
    edition = 0
    for cycle in range(CYCLES):
        events = Events(node, folder, cycle)
        deployments = Deployments(node, tmp_path / "edition.py", edition)
        with Load(node, "crowd", {"seconds": 0.001}, clients=3) as load:
            load.go_on(1)
            first = keyed_call(node, cycle)
            time.sleep(random.uniform(0.05, 1.0))
            node.kill()
        events.join()
        deployments.join()
        answered += [answer.headers["dsfn-invocation-id"] for answer in load.answers]
        assert {answer.status_code for answer in load.answers} == {200}
        assert len(load.broken) == 3
        accepted += events.accepted
        node = start()
        listed = node.http.get("/functions").json()["functions"]
        revisions = {one["name"]: one["revision"] for one in listed}
        assert (
            revisions.items() >= {name: one["revision"] for name, one in deployed.items()}.items()
        )
        # What the node had said serves, or the one that it was just about to say so of.
        if deployments.confirmed or "edition" in revisions:
            edition = node.value("edition")
        assert edition - deployments.confirmed in (0, 1)
        assert node.value("napper") == 499_500
        again = keyed_call(node, cycle)
        assert again.headers["dsfn-replayed"] == "true"
        assert again.headers["dsfn-invocation-id"] == first.headers["dsfn-invocation-id"]
        answered.append(first.headers["dsfn-invocation-id"])
    eventually(lambda: node.http.get("/status").json()["events"]["queued"] == 0, "the queue")
    effects = {path.name.removeprefix("effect-") for path in folder.glob("effect-*")}
    eventually(lambda: set(accepted) <= effects | _effects(folder), "every event's effect")
    check_books(node, answered, accepted)
    assert node.stop() == 0
    assert "Traceback" not in node.log, node.log


def keyed_call(node: LiveNode, cycle: int) -> httpx.Response:
    """The one call of a cycle that has a key."""
    headers = {"Idempotency-Key": f"cycle-{cycle}"}
    return node.http.post("/functions/crowd", json={"seconds": 0}, headers=headers)


def _effects(folder: Path) -> set[str]:
    return {path.name.removeprefix("effect-") for path in folder.glob("effect-*")}


def check_books(node: LiveNode, answered: list[str], accepted: list[str]) -> None:
    """Every answered call has its one row, every delivered event its one success."""
    eventually(lambda: _succeeded_events(node) >= set(accepted), "every event's row")
    rows = node.rows()
    ids = Counter(row.invocation_id for row in rows)
    assert set(ids.values()) == {1}
    succeeded = {row.invocation_id for row in rows if row.status == "succeeded"}
    assert set(answered) <= succeeded
    keys = Counter(row.idempotency_key for row in rows if row.status == "succeeded")
    del keys[""]
    assert set(keys.values()) <= {1}
    # Whoever was answered has a row; who was not may have one at most: three calls a cycle.
    calls = [row for row in rows if row.function == "crowd" and row.status == "succeeded"]
    assert len(answered) <= len(calls) <= len(answered) + 3 * CYCLES
    runs = Counter((Path(node.place) / "effects" / "runs").read_text().split())
    assert set(runs) >= set(accepted)


def _succeeded_events(node: LiveNode) -> set[str]:
    """The ids of the tally's events that have a row of success; a key is source, id, function."""
    rows = [row for row in node.rows("tally") if row.status == "succeeded"]
    return {row.idempotency_key.split("5:/test")[1].split(":")[1][:-1] for row in rows}


def test_what_waits_when_a_node_is_killed_is_delivered_by_the_next(
    start: StartNode, tmp_path: Path
) -> None:
    node = start()
    node.deploy(APPS / "calls.py")
    path = tmp_path / "runs"
    first = node.http.post(
        "/functions/count-runs",
        json={"path": str(path), "seconds": 3600},
        headers={"Prefer": "respond-async"},
    )
    assert first.status_code == 202
    eventually(lambda: path.exists() and path.read_text() == "x", "the call to run")
    node.kill()
    node = start()
    eventually(lambda: path.read_text() == "xx", "the call to run again")
    state = node.http.get(first.headers["location"]).json()
    assert (state["state"], state["function"]) == ("running", "count-runs")


def test_the_workers_of_a_killed_node_end_whatever_they_do(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(libraries=())
    node.deploy(APPS / "stopping.py")
    begun = {name: tmp_path / name for name in ("rest", "ignore")}
    connections = [
        node.begin("rest", seconds=3600, path=str(begun["rest"])),
        node.begin("ignore", path=str(begun["ignore"])),
    ]
    eventually(lambda: all(path.exists() for path in begun.values()), "the calls to run")
    assert node.pids("rest") | node.pids("ignore") < node.processes()
    node.kill()  # which waits until no process of it is left
    for connection in connections:
        connection.close()


def test_a_killed_node_leaves_nothing_half_done_behind(start: StartNode, tmp_path: Path) -> None:
    node = start()
    source = tmp_path / "app.py"
    source.write_text(
        "import dsfn, time\n\n\n@dsfn.function\nclass Slow:\n    def setup(self) -> None:\n"
        "        time.sleep(3600)\n\n    def __call__(self) -> int:\n        return 1\n"
    )

    def deploy() -> None:
        try:
            node.deploy(source)
        except httpx.TransportError:
            return

    thread = threading.Thread(target=deploy)
    thread.start()
    eventually(lambda: list((node.data / "snapshots").glob(".staging-*")), "a deployment")
    node.kill()
    thread.join()
    after = start()
    assert not [*after.data.rglob(".staging-*")]
    assert after.http.get("/functions").json() == {"functions": []}
