"""Revisions that change while calls go on: none of them notices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from live_node import LiveNode
from load import Load

TEACHER = """
import time

import dsfn


@dsfn.on(type="{kind}")
@dsfn.function(max_replicas=2)
class Teacher:
    def setup(self) -> None:
        self.lesson = {lesson!r}

    def __call__(self, seconds: float = 0.0) -> str:
        time.sleep(seconds)
        return self.lesson
"""


class Teachers:
    """Deploys lessons."""

    def __init__(self, node: LiveNode, directory: Path) -> None:
        self._node = node
        self._source = directory / "app.py"

    def deploy(self, lesson: str, kind: str = "lesson.due") -> str:
        """The revision that gives this lesson."""
        self._source.write_text(TEACHER.format(lesson=lesson, kind=kind))
        return str(self._node.deploy(self._source)["teacher"]["revision"])


@pytest.fixture
def teachers(node: LiveNode, tmp_path: Path) -> Teachers:
    return Teachers(node, tmp_path)


def test_redeploying_under_load_fails_no_call(node: LiveNode, teachers: Teachers) -> None:
    lessons = ["one", "two", "three"]
    teachers.deploy(lessons[0])
    with Load(node, "teacher", {"seconds": 0.01}, clients=4) as load:
        for lesson in lessons[1:]:
            load.go_on(4)
            teachers.deploy(lesson)
        told = len(load.answers)
        load.go_on(8)
    assert {answer.status_code for answer in load.answers} == {200}
    assert not load.broken
    given = [answer.json() for answer in load.answers]
    assert Counter(given).keys() == set(lessons)
    # A call that began before the last deployment ended may end after it: one for each client.
    assert sum(lesson != "three" for lesson in given[told:]) <= 4
    assert node.value("teacher") == "three"
    eventually(lambda: len(revisions(node)) == 1, "the old replicas to go")
    rows = {row.invocation_id: row for row in node.rows("teacher")}
    for answer in load.answers:
        row = rows[answer.headers["dsfn-invocation-id"]]
        assert (row.status, row.revision) == ("succeeded", answer.headers["dsfn-revision"])


def revisions(node: LiveNode) -> set[str]:
    return {replica["revision"] for replica in node.describe("teacher")["replicas"]}


def test_a_call_that_runs_while_its_revision_is_replaced_is_finished(
    node: LiveNode, teachers: Teachers
) -> None:
    teachers.deploy("old")
    connection = node.begin("teacher", seconds=2)
    eventually(lambda: "busy" in node.states("teacher"), "the call to run")
    teachers.deploy("new")
    assert node.value("teacher") == "new"
    answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b'"old"')
    connection.close()


def test_rollback_goes_back_and_further_back_and_to_a_revision(
    node: LiveNode, teachers: Teachers
) -> None:
    made = {lesson: teachers.deploy(lesson) for lesson in ("first", "second", "third")}
    with Load(node, "teacher", {}, clients=2) as load:
        for lesson in ("second", "first"):
            answer = node.http.post("/functions/teacher/rollback", json={})
            assert answer.json() == {"name": "teacher", "revision": made[lesson]}
            assert node.value("teacher") == lesson
        target = {"revision": made["third"]}
        assert node.http.post("/functions/teacher/rollback", json=target).status_code == 200
        assert node.value("teacher") == "third"
    assert {answer.status_code for answer in load.answers} == {200}
    history = node.http.get("/functions/teacher/history").json()["revisions"]
    shares = {one["revision"]: one["traffic_percent"] for one in history}
    assert [shares[made[lesson]] for lesson in ("first", "second", "third")] == [0, 0, 100]
    unknown = node.http.post("/functions/teacher/rollback", json={"revision": "teacher-0"})
    assert unknown.status_code == 404


def test_traffic_is_split_about_as_told(node: LiveNode, teachers: Teachers) -> None:
    made = {lesson: teachers.deploy(lesson) for lesson in ("much", "little")}
    shares = {made["much"]: 80, made["little"]: 20}
    assert put_traffic(node, shares).json() == {"name": "teacher", "traffic": shares}
    assert node.describe("teacher")["traffic"] == shares
    given = Counter(node.value("teacher") for _ in range(300))
    assert given.total() == 300
    # 60 are expected; fewer than 25 or more than 110 happen less than once in a million times.
    assert 25 <= given["little"] <= 110
    for wrong in ({made["much"]: 80}, {made["much"]: 120, made["little"]: -20}, {}):
        refused = put_traffic(node, wrong)
        assert (refused.status_code, refused.json()["field"]) == (422, "traffic")
    assert put_traffic(node, {"teacher-0000000000": 100}).status_code == 404
    assert node.describe("teacher")["traffic"] == shares


def put_traffic(node: LiveNode, shares: dict[str, int]) -> Any:
    return node.http.put("/functions/teacher/traffic", json={"traffic": shares})


def test_deleting_under_load_answers_each_call_or_says_not_found(
    node: LiveNode, teachers: Teachers
) -> None:
    teachers.deploy("gone")
    with Load(node, "teacher", {"seconds": 0.01}, clients=4) as load:
        load.go_on(8)
        pids = node.pids("teacher")
        assert node.http.delete("/functions/teacher").status_code == 204
        told = len(load.answers)
        load.go_on(12)
    statuses = [answer.status_code for answer in load.answers]
    assert set(statuses) == {200, 404}
    # A call that began before may end after: one for each client.
    assert statuses[told:].count(200) <= 4
    assert node.http.get("/functions/teacher").status_code == 404
    assert node.http.get("/functions/teacher/history").status_code == 404
    eventually(lambda: not pids & node.processes(), "its replicas to go")


def test_triggers_come_and_go_with_their_revision(node: LiveNode, teachers: Teachers) -> None:
    def triggers() -> list[dict[str, str]]:
        return [one["exact"] for one in node.describe("teacher")["subscriptions"]]

    teachers.deploy("triggers", "lesson.due")
    assert triggers() == [{"type": "lesson.due"}]
    teachers.deploy("triggers", "lesson.over")
    assert triggers() == [{"type": "lesson.over"}]
    node.http.post("/functions/teacher/rollback", json={})
    assert triggers() == [{"type": "lesson.due"}]
