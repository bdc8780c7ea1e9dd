"""Workflows that are deployed, and what their runs keep to while all around them changes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from deadlines import eventually
from live_node import DeployFailed, Document, LiveNode, StartNode

PARTS = """
import time
from pathlib import Path

import dsfn


@dsfn.function
def lesson(text: str) -> str:
    return f"{text} by WHO"


@dsfn.function
def pause(folder: str) -> str:
    place = Path(folder)
    (place / "begun").touch()
    while not (place / "go").exists():
        time.sleep(0.01)
    return folder
"""
FLOW = """
import dsfn

lesson, pause = dsfn.deployed("lesson"), dsfn.deployed("pause")


@dsfn.workflow
def school(folder: str) -> list[str]:
    return dsfn.map(lesson, [pause(folder), "two"])
"""
YAML = """
name: evening
inputs:
  text: {json: {type: string}}
steps:
  said:
    call: lesson
    with: {text: $text}
output: $said
"""


class School:
    """Deploys parts by a teacher, and workflows of them."""

    def __init__(self, node: LiveNode, place: Path) -> None:
        self.node = node
        self.place = place
        self.folder = place / "folder"
        self.folder.mkdir(parents=True)

    def deploy(self, source: str, name: str = "app.py") -> dict[str, Document]:
        path = self.place / name
        path.write_text(source, encoding="utf-8")
        return self.node.deploy(path)

    def teacher(self, name: str) -> str:
        """The revision of `lesson` by this teacher, which serves from now on."""
        return str(self.deploy(PARTS.replace("WHO", name))["lesson"]["revision"])

    def begin(self) -> str:
        """A run that waits in its first step."""
        answer = self.node.http.post(
            "/workflows/school",
            json={"folder": str(self.folder)},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202, answer.text
        eventually((self.folder / "begun").exists, "the run to pause")
        return str(answer.json()["id"])

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def ended(self, run: str) -> Document:
        def over() -> Document | None:
            found: Document = self.node.http.get(f"/runs/{run}").json()
            return found if found["state"] != "running" else None

        return eventually(over, "the run to end")


@pytest.fixture
def school(node: LiveNode, tmp_path: Path) -> School:
    return School(node, tmp_path)


def start(node: LiveNode, workflow: str, **inputs: Any) -> httpx.Response:
    return node.http.post(f"/workflows/{workflow}", json=inputs)


def given(node: LiveNode, workflow: str, **inputs: Any) -> Any:
    answer = start(node, workflow, **inputs)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_functions_and_workflows_of_a_file_are_deployed_together(
    node: LiveNode, school: School
) -> None:
    source = """
import dsfn

@dsfn.function
def double(number: int) -> int:
    return 2 * number

@dsfn.workflow
def quadruple(number: int) -> int:
    return double(double(number))
"""
    first = school.deploy(source)
    assert {name: one["kind"] for name, one in first.items()} == {
        "double": "function",
        "quadruple": "workflow",
    }
    flow = first["quadruple"]
    assert flow["created"] and flow["url"] == f"{node.url}/workflows/quadruple"
    assert given(node, "quadruple", number=3) == 12
    again = school.deploy(source)
    assert [one["created"] for one in again.values()] == [False, False]
    assert again["quadruple"]["revision"] == flow["revision"]


def test_a_file_of_workflows_alone_uses_what_is_deployed(node: LiveNode, school: School) -> None:
    school.teacher("Ada")
    assert list(school.deploy(FLOW)) == ["school"]
    school.go_on()
    folder = str(school.folder)
    assert given(node, "school", folder=folder) == [f"{folder} by Ada", "two by Ada"]


def test_a_workflow_in_yaml_is_deployed_like_any_other(node: LiveNode, school: School) -> None:
    school.teacher("Ada")
    deployed = school.deploy(YAML, "evening.yaml")
    assert [one["kind"] for one in deployed.values()] == ["workflow"]
    assert given(node, "evening", text="three") == "three by Ada"
    assert not school.deploy(YAML, "evening.yaml")["evening"]["created"]


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("app.py", FLOW.replace('"lesson"', '"lession"'), "calls 'lession', which is not deployed"),
        (
            "app.py",
            FLOW.replace("dsfn.workflow", "dsfn.workflow(name='lesson')"),
            "name of a function",
        ),
        ("app.py", FLOW.replace("folder: str", "folder: dsfn.Image"), "cannot be given Image"),
        (
            "app.py",
            FLOW.replace("dsfn.workflow", "dsfn.workflow(schedule='0 25 * * *')"),
            "no cron expression",
        ),
        ("flow.yaml", YAML.replace("lesson", "lession"), "calls 'lession', which is not deployed"),
        ("flow.yaml", YAML.replace("output:", "outputs:"), "outputs"),
        ("flow.yaml", "{", "flow.yaml"),
    ],
)
def test_a_workflow_that_cannot_run_is_refused_and_nothing_changes(
    node: LiveNode, school: School, name: str, source: str, reason: str
) -> None:
    school.teacher("Ada")
    before = node.http.get("/workflows").json()
    with pytest.raises(DeployFailed) as caught:
        school.deploy(source, name)
    assert reason in caught.value.problem["detail"]
    assert node.http.get("/workflows").json() == before


def test_a_run_keeps_the_revisions_that_it_started_with(node: LiveNode, school: School) -> None:
    old = school.teacher("Ada")
    school.deploy(FLOW)
    run = school.begin()
    new = school.teacher("Bob")
    school.go_on()
    ended = school.ended(run)
    folder = str(school.folder)
    assert ended["output"] == [f"{folder} by Ada", "two by Ada"]
    assert {s["revision"] for s in ended["steps"] if s["function"] == "lesson"} == {old}
    assert given(node, "school", folder=folder) == [f"{folder} by Bob", "two by Bob"]
    assert old != new


def test_a_run_ends_well_although_its_functions_and_its_workflow_are_deleted(
    node: LiveNode, school: School
) -> None:
    school.teacher("Ada")
    school.deploy(FLOW)
    run = school.begin()
    delete_school(node)
    assert node.call("lesson", text="x").status_code == 404
    assert start(node, "school", folder="x").status_code == 404
    school.go_on()
    ended = school.ended(run)
    assert ended["state"] == "succeeded"
    assert ended["output"] == [f"{school.folder} by Ada", "two by Ada"]
    assert ended["workflow"] == "school"


def test_a_node_that_is_killed_goes_on_with_revisions_of_deleted_functions(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(libraries=())
    school = School(node, tmp_path / "school")
    school.teacher("Ada")
    school.deploy(FLOW)
    run = school.begin()
    delete_school(node)
    node.kill()
    school.node = node = start(libraries=())
    assert retained(node) == 2
    school.go_on()
    assert school.ended(run)["output"] == [f"{school.folder} by Ada", "two by Ada"]
    assert node.stop() == 0
    node = start(libraries=())
    eventually(lambda: retained(node) == 0, "what nobody needs to be forgotten")
    assert node.http.get(f"/runs/{run}").json()["state"] == "succeeded"


def delete_school(node: LiveNode) -> None:
    """The functions, and before them all workflows that call them."""
    assert node.http.delete("/functions/lesson").status_code == 409
    workflows = [
        f"/workflows/{one['name']}" for one in node.http.get("/workflows").json()["workflows"]
    ]
    for path in (*workflows, "/functions/lesson", "/functions/pause"):
        assert node.http.delete(path).status_code == 204


def retained(node: LiveNode) -> int:
    with closing(apsw.Connection(str(node.data / "node.db"))) as connection:
        connection.set_busy_timeout(5000)
        rows = connection.execute("SELECT count(*) FROM retained_revisions").fetchone()
        assert rows is not None
        return int(rows[0])


def test_a_node_that_stops_in_mid_run_goes_on_with_it(start: StartNode, tmp_path: Path) -> None:
    node = start(libraries=(), shutdown_timeout_s=1)
    school = School(node, tmp_path / "school")
    school.teacher("Ada")
    school.deploy(FLOW)
    run = school.begin()
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log
    school.node = start(libraries=())
    school.go_on()
    assert school.ended(run)["state"] == "succeeded"


def test_a_function_that_no_longer_fits_is_told_of_at_its_deploy_and_at_the_next_run(
    node: LiveNode, school: School
) -> None:
    school.teacher("Ada")
    school.deploy(YAML, "evening.yaml")
    path = school.place / "app.py"
    path.write_text(PARTS.replace("lesson(text: str)", "lesson(text: int)"), encoding="utf-8")
    steps = node.deploy_steps(path)
    assert steps[-1]["stage"] == "done"
    (warning,) = [s for s in steps if s.get("warning") and s["function"] == "evening"]
    assert "Its next run will fail, until it is deployed again" in warning["message"]
    refused = start(node, "evening", text="three")
    assert refused.status_code == 409
    assert "does not fit the functions that are deployed now" in refused.json()["detail"]
    school.teacher("Ada")
    assert given(node, "evening", text="three") == "three by Ada"


def test_a_function_cannot_take_the_name_of_a_workflow(node: LiveNode, school: School) -> None:
    school.teacher("Ada")
    school.deploy(YAML, "evening.yaml")
    with pytest.raises(DeployFailed, match="'evening' is the name of a workflow"):
        school.deploy("import dsfn\n\n@dsfn.function\ndef evening() -> int:\n    return 1\n")


def test_an_event_starts_one_run_and_a_poison_one_holds_up_nobody(
    node: LiveNode, school: School
) -> None:
    school.teacher("Ada")
    school.deploy(YAML.replace("evening", "listening"), "listening.yaml")
    answer = node.http.post(
        "/subscriptions", json={"function": "listening", "exact": {"type": "lesson.asked"}}
    )
    assert answer.status_code == 201 and answer.json()["kind"] == "workflow"
    assert answer.json() in node.http.get("/subscriptions").json()["subscriptions"]

    def ask(id: str, text: object) -> int:
        event = {"specversion": "1.0", "type": "lesson.asked", "source": "/pupil", "id": id}
        body = json.dumps({**event, "data": {"text": text}})
        headers = {"Content-Type": "application/cloudevents+json"}
        accepted = node.http.post("/events", content=body, headers=headers)
        assert accepted.status_code == 202, accepted.text
        return int(accepted.json()["deliveries"])

    dead_before = node.metric("dsfn_events_dead")
    assert [ask("1", "a"), ask("2", 5), ask("1", "a"), ask("3", "b")] == [1, 1, 0, 1]

    def outputs() -> set[str] | None:
        runs = node.http.get("/runs", params={"workflow": "listening"}).json()["runs"]
        found = [node.http.get(f"/runs/{run['id']}").json() for run in runs]
        over = all(run["state"] == "succeeded" for run in found)
        return {run["output"] for run in found} if len(found) == 2 and over else None

    assert eventually(outputs, "two runs to succeed") == {"a by Ada", "b by Ada"}
    eventually(lambda: node.metric("dsfn_events_dead") == dead_before + 1, "a dead event")
    assert node.metric("dsfn_runs_total", state="succeeded", workflow="listening") == 2
    assert node.http.delete(f"/subscriptions/{answer.json()['id']}").status_code == 204
