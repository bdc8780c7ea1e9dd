"""The same file on a node and on a cluster: the same answers, events, errors and bills."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from acting_cluster import BROKEN, LATE, ActingCluster, acting_cluster
from conformance import BOTH, STRUCTURED, TEXT, billed, check_calls
from deadlines import eventually
from live_node import DeployFailed, LiveNode
from live_pod import TestStore, s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server
from stacks import WITH_STACKS, stacks
from wheels import make_wheel

from dsfn.billing.rates import RateCard
from dsfn.knative.manifests.function import FUNCTION
from dsfn.knative.manifests.images import image_with
from dsfn.knative.manifests.secrets import VARIABLES
from dsfn.knative.manifests.words import COMPONENT, FUNCTION_LABEL, REVISION_ANNOTATION
from dsfn.runtime import landlock

HOST = ".functions.svc.cluster.local"
KNATIVE_REVISION = "serving.knative.dev/revision"
# As the control service's own container has them.
SECRETS = {"DSFN_API_KEY": KEY, "DSFN_LEDGER": "postgresql://db", "DSFN_LEDGER_KEY": "PEM"}
SPY = """
import os

import dsfn


@dsfn.function
class Spy:
    def setup(self) -> None:
        raise ValueError(" ".join(["it sees", *os.environ]))

    def __call__(self) -> int:
        return 0
"""
FUNCTIONS = {"shout", "measure", "count-up", "hear", "repeat", "choke"}


@pytest.fixture(scope="module")
def store(s3: S3Server) -> TestStore:
    return s3_store(s3)


@pytest.fixture(scope="module")
def cluster(store: TestStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActingCluster]:
    secret = {**store.variables, "DSFN_API_KEY": KEY}
    with acting_cluster(tmp_path_factory.mktemp("cluster") / "acting", secret) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def start(
    cluster: ActingCluster,
    store: TestStore,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str, str], None],
) -> Callable[[], LiveNode]:
    """Starts the control service, each time with the same data and at the same port."""
    require("kubernetes", "pip install 'dsfn[knative]'")
    place, port = tmp_path_factory.mktemp("control-service"), free_port()
    variables = {**SECRETS, **WITH_STACKS, "DSFN_STORE": store.url}
    return lambda: start_control(place, cluster, store, port, variables)


@pytest.fixture(scope="module")
def control(start: Callable[[], LiveNode], cluster: ActingCluster) -> Iterator[LiveNode]:
    control = start()
    try:
        try:
            control.deploy(BOTH)
        except httpx.TimeoutException as error:
            error.add_note(f"{stacks(control)}\n{cluster.stacks()}")
            raise
        yield control
        assert control.stop() == 0, control.log
    finally:
        control.end()


@pytest.fixture(scope="module")
def embedded(node: LiveNode) -> LiveNode:
    node.deploy(BOTH)
    return node


def test_calls_come_to_the_same_and_are_billed_the_same(
    embedded: LiveNode, control: LiveNode
) -> None:
    check_calls(embedded, control)


def test_a_run_of_a_workflow_calls_services_and_its_steps_are_billed_once(
    embedded: LiveNode, control: LiveNode
) -> None:
    documents = []
    for each in (embedded, control):
        answer = each.http.post("/workflows/loudness", json={"text": "hello"})
        assert (answer.status_code, answer.text) == (200, "5")
        run = each.http.get(f"/runs/{answer.headers['dsfn-run-id']}").json()
        rows = [row for row in each.rows() if row.run == run["id"]]
        assert len({row.invocation_id for row in rows}) == len(rows) == 2
        cost = each.http.get(f"/runs/{run['id']}/cost").json()
        assert run["cost"]["amount_nano"] == pytest.approx(cost["amount_nano"], abs=2)
        assert cost["held_us"] == sum(row.held_us for row in rows)
        documents.append([billed(replace(row, caller="", idempotency_key="")) for row in rows])
    assert [row["function"] for row in documents[0]] == ["shout", "measure"]
    assert documents[0] == documents[1]


def test_large_results_go_from_step_to_step(embedded: LiveNode, control: LiveNode) -> None:
    for each in (embedded, control):
        answer = each.http.post("/workflows/crowd", json={"word": "hey", "times": 100_000})
        assert (answer.status_code, answer.text) == (200, "HEY" * 100_000)


def test_what_a_client_has_put_is_read_by_a_pod(embedded: LiveNode, control: LiveNode) -> None:
    for each in (embedded, control):
        put = each.http.post("/blobs", content=b"quiet" * 50_000, headers=TEXT).json()
        answer = each.call("shout", text={"$ref": put["ref"]})
        assert (answer.status_code, answer.text) == (200, "QUIET" * 50_000)


def test_a_budget_counts_each_call_once_and_holds(embedded: LiveNode, control: LiveNode) -> None:
    answers = []
    for each in (embedded, control):
        made = each.http.post("/budgets", json={"function": "measure", "amount_nano": 10**12})
        path, before_nano = made.headers["location"], made.json()["spent_nano"]
        called = each.call("measure", text="four")
        each.http.post("/workflows/loudness", json={"text": "hello"})
        step = each.rows("measure")[-1]
        costs_nano = [int(called.headers["dsfn-cost-nano"]), RateCard().cost_nano(step)]
        spent_nano = each.http.get(path).json()["spent_nano"] - before_nano
        assert spent_nano == pytest.approx(sum(costs_nano), abs=2)
        each.http.post("/budgets", json={"function": "measure", "amount_nano": 1})
        answers.append(each.call("measure", text="four"))
        assert each.http.delete(path).status_code == 204
    assert [each.status_code for each in answers] == [402, 402]


def test_an_event_reaches_its_function_and_is_billed_once(
    embedded: LiveNode, control: LiveNode
) -> None:
    event = {
        "specversion": "1.0",
        "id": "e1",
        "type": "word.said",
        "source": "/mouth",
        "data": {"word": "hello"},
    }
    rows = []
    for each in (embedded, control):
        for _ in range(2):
            answer = each.http.post(
                "/events", content=json.dumps(event), headers={"content-type": STRUCTURED}
            )
            assert answer.status_code == 202
        eventually(partial(each.rows, "hear"), "the event to be heard")
        (row,) = each.rows("hear")
        rows.append(billed(row))
    assert rows[0] == rows[1]


def test_an_event_is_retried_as_its_function_says(
    cluster: ActingCluster, embedded: LiveNode, control: LiveNode
) -> None:
    event = {"specversion": "1.0", "id": "e2", "type": "word.swallowed", "source": "/mouth"}
    letters = []
    for each in (embedded, control):
        answer = each.http.post("/events", json=event, headers={"content-type": STRUCTURED})
        assert answer.status_code == 202

        def given_up(node: LiveNode = each) -> Any:
            return node.http.get("/deadletters").json()["deadletters"]

        (letter,) = eventually(given_up, "the event to be given up")
        letters.append({name: letter[name] for name in ("name", "attempts")})
        assert len({row.invocation_id for row in each.rows("choke")}) == 2
    assert letters == [{"name": "choke", "attempts": 2}] * 2
    # What the control service does with its own events, a Broker is told to do with its.
    delivery = cluster.of_kind("Trigger")["choke"]["spec"]["delivery"]
    del delivery["deadLetterSink"]
    assert delivery == {
        "retry": 1,
        "backoffPolicy": "linear",
        "backoffDelay": "PT0.05S",
        "timeout": "PT20S",
    }


def test_a_subscription_is_the_brokers_too_until_it_is_ended(
    cluster: ActingCluster, embedded: LiveNode, control: LiveNode
) -> None:
    def filters() -> list[Any]:
        (found,) = cluster.of_kind("Trigger")["hear"]["spec"]["filters"]
        return [each for one in found["any"] for each in one["all"]]

    before = filters()
    event: dict[str, Any] = {"specversion": "1.0", "id": "e3", "type": "word.sung"}
    event |= {"source": "/mouth", "data": {"word": "la"}}
    for each in (embedded, control):
        calls = len(each.rows("hear"))
        wanted = {"function": "hear", "exact": {"type": "word.sung"}}
        made = each.http.post("/subscriptions", json=wanted)
        assert made.status_code == 201, made.text
        if each is control:
            assert filters() == [*before, {"exact": {"type": "word.sung"}}]
        sent = each.http.post("/events", json=event, headers={"content-type": STRUCTURED})
        assert sent.status_code == 202

        def heard(node: LiveNode = each, before: int = calls) -> bool:
            return len(node.rows("hear")) == before + 1

        eventually(heard, "the event to be heard")
        path = f"/subscriptions/{made.json()['id']}"
        assert each.http.delete(path).status_code == 204
    assert filters() == before


def test_a_subscription_that_the_broker_cannot_have_is_refused(control: LiveNode) -> None:
    wanted = {"function": "hear", "exact": {"1st": "x"}}
    refused = control.http.post("/subscriptions", json=wanted)
    assert refused.status_code == 422
    assert "Knative takes no filter on the attribute '1st'" in refused.json()["detail"]
    kept = control.http.get("/subscriptions").json()["subscriptions"]
    assert not any("1st" in each["exact"] for each in kept)


def test_pods_of_a_function_with_requirements_have_an_image_with_these(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    wheel = str(make_wheel(tmp_path, "greeting", "1.0", "WORD = 'hello'"))
    app = f"import dsfn\n\n@dsfn.function(requirements=[{wheel!r}])\n"
    (tmp_path / "app.py").write_text(
        f"{app}def greeted() -> int:\n    return 1\n", encoding="utf-8"
    )
    control.deploy(tmp_path / "app.py")

    def image(name: str) -> str:
        spec = cluster.of_kind("Service")[name]["spec"]["template"]["spec"]
        return str(spec["containers"][0]["image"])

    assert image("greeted") == image_with("runtime", [wheel])
    assert image("hear") == "runtime"
    assert control.http.delete("/functions/greeted").status_code == 204
    eventually(lambda: "greeted" not in cluster.of_kind("Service"), "its Service to go", 30)


def test_a_function_whose_name_is_taken_in_the_namespace_is_refused_at_once(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    path = "/api/v1/namespaces/functions/services/dsfn-control"
    metadata = {"name": "dsfn-control"}
    taken: Any = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    cluster.objects[path] = taken
    with pytest.raises(DeployFailed) as failed:
        control.deploy(written(tmp_path, "@dsfn.function(name='dsfn-control')"))
    assert failed.value.problem["detail"] == (
        "The function dsfn-control needs another name here: namespace functions has a Service"
        " dsfn-control already, which is not the function's."
    )
    # What Knative has made for the function itself is no hindrance, a Service of others is.
    route = {"kind": "Route", "name": "dsfn-control"}
    cluster.objects[path] = {**taken, "metadata": {**metadata, "ownerReferences": [route]}}
    others = "/apis/serving.knative.dev/v1/namespaces/functions/services/dsfn-control"
    cluster.objects[others] = {**taken, "apiVersion": "serving.knative.dev/v1", "kind": "Other"}
    with pytest.raises(DeployFailed, match="needs another name here"):
        control.deploy(written(tmp_path, "@dsfn.function(name='dsfn-control')"))
    del cluster.objects[path], cluster.objects[others]
    assert not {"dsfn-control"} & set(cluster.of_kind("Service"))


def test_a_function_is_deployed_again_where_its_hosts_are_its_own_routes(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    source = written(tmp_path, "@dsfn.function(name='owned')")
    first = control.deploy(source)["owned"]["revision"]
    root = "/apis/serving.knative.dev/v1/namespaces/functions/services/owned"
    host = "/api/v1/namespaces/functions/services/owned"
    service = cluster.objects[root]

    def owned_by(kind: str, name: str) -> Any:
        metadata = {"name": "owned", "ownerReferences": [{"kind": kind, "name": name}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata}

    def deploys() -> bool:
        source.write_text(source.read_text() + "\n# again\n", encoding="utf-8")
        try:
            return bool(control.deploy(source)["owned"]["created"])
        except DeployFailed as error:
            assert "needs another name here" in str(error.problem["detail"])
            return False

    try:
        # As Knative makes it for the function's Route, and as others do.
        cluster.objects[host] = owned_by("Route", "owned")
        assert deploys()
        second = control.describe("owned")["revision"]
        cluster.objects[host] = owned_by("Route", "another")
        assert not deploys()
        cluster.objects[host] = owned_by("Gateway", "owned")
        assert not deploys()
        del cluster.objects[host]
        # A Service of the function's name that another function has.
        labels = service["metadata"]["labels"]
        labels[FUNCTION_LABEL] = "another"
        assert not deploys()
        labels[FUNCTION_LABEL] = "owned"
        assert (control.describe("owned")["revision"], second != first) == (second, True)
        assert control.value("owned") == 1
    finally:
        cluster.objects.pop(host, None)
        control.http.delete("/functions/owned")


def test_a_timeout_that_knative_does_not_take_is_refused_in_the_options_terms(
    control: LiveNode, tmp_path: Path
) -> None:
    with pytest.raises(DeployFailed) as failed:
        control.deploy(written(tmp_path, "@dsfn.function(name='patient', timeout=700)"))
    assert failed.value.problem["detail"] == (
        "The timeout of patient is 700 s: that and 40 s must be at most the"
        " max-revision-timeout-seconds of this cluster's Knative, 600."
    )


def written(place: Path, decorator: str) -> Path:
    path = place / "app.py"
    text = f"import dsfn\n\n{decorator}\ndef one() -> int:\n    return 1\n"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_later_call_is_answered_as_on_a_node(control: LiveNode) -> None:
    answer = control.http.post(
        "/functions/measure", json={"text": "later"}, headers={"prefer": "respond-async"}
    )
    assert answer.status_code == 202
    path = answer.headers["location"]
    eventually(lambda: control.http.get(path).json()["state"] == "succeeded", "the answer")
    assert control.http.get(f"{path}/result").json() == 5


def test_a_function_is_a_service_with_its_trigger_and_its_own_url(
    cluster: ActingCluster, control: LiveNode
) -> None:
    control.deploy(BOTH)
    pods = set(cluster.pods)
    deployed = control.deploy(BOTH)
    assert deployed["shout"]["url"] == "http://shout.functions.example.com"
    assert not deployed["shout"]["created"]
    assert set(cluster.of_kind("Service")) >= FUNCTIONS
    assert set(cluster.of_kind("Trigger")) >= {"hear", "choke"}
    assert set(cluster.pods) == pods  # none was started for what is the same


def test_a_model_is_captured_here_and_restored_in_its_pod(control: LiveNode) -> None:
    deployed = control.deploy(BOTH.with_name("model.py"))
    assert deployed["model"]["snapshot"] is not None
    answer = control.call("model")
    assert answer.json() == {"sum": float(sum(range(100_000))), "restored": True}
    assert control.describe("model")["snapshot"]["digest"]


def test_what_is_set_up_here_finds_no_secret_in_its_environment(
    control: LiveNode, tmp_path: Path
) -> None:
    source = tmp_path / "spy.py"
    source.write_text(SPY, encoding="utf-8")
    with pytest.raises(DeployFailed, match="it sees") as failed:
        control.deploy(source)
    seen = str(failed.value.problem)
    assert "DSFN_STORE" in seen
    assert not [name for name in VARIABLES if name in seen]


GRABBER = """
from pathlib import Path

import dsfn


@dsfn.function
class Grabber:
    def setup(self) -> None:
        Path({place!r}).read_bytes()

    def __call__(self) -> int:
        return 0
"""


@pytest.mark.skipif(not landlock.version(), reason="The kernel has no Landlock.")
def test_code_that_is_deployed_reaches_nothing_of_the_platforms(
    control: LiveNode, tmp_path: Path
) -> None:
    (bundle, *_) = (control.data / "bundles").glob("*/both.py")
    for place in (control.data / "node.key", control.data / "node.db", bundle):
        assert place.exists()
        app = tmp_path / "app.py"
        app.write_text(GRABBER.format(place=str(place)), encoding="utf-8")
        with pytest.raises(DeployFailed, match="PermissionError"):
            control.deploy(app)


def changed(place: Path, text: str, to: str) -> Path:
    place.mkdir()
    path = place / "both.py"
    path.write_text(BOTH.read_text().replace(text, to), encoding="utf-8")
    return path


def test_a_new_revision_takes_over_once_it_is_ready_and_can_be_taken_back(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    before = control.describe("measure")["revision"]
    control.deploy(changed(tmp_path / "new", "return len(text)", "return 2 * len(text)"))
    after = control.describe("measure")["revision"]
    assert control.value("measure", text="four") == 8

    def shares() -> list[int]:
        service = cluster.of_kind("Service")["measure"]
        return [each["percent"] for each in service["spec"]["traffic"]]

    assert shares() == [100]
    split = control.http.put(
        "/functions/measure/traffic", json={"traffic": {before: 50, after: 50}}
    )
    assert split.status_code == 200, split.text
    assert shares() == [50, 50]
    assert {control.value("measure", text="four") for _ in range(40)} == {4, 8}
    control.http.post("/functions/measure/rollback", json={"revision": before})
    assert shares() == [100]
    assert {control.value("measure", text="four") for _ in range(5)} == {4}


def test_functions_that_do_not_become_ready_hold_up_no_other(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    def target(function: str) -> Any:
        (found,) = cluster.of_kind("Service")[function]["status"]["traffic"]
        return found["revisionName"]

    stuck = ("shout", "hear", "repeat", "choke", "count-up")
    control.deploy(changed(tmp_path / "next", "import dsfn", "import dsfn\n\nNEXT = 1"))
    before = {each: target(each) for each in (*stuck, "measure")}
    newest = control.describe("shout")["revision"]
    cluster.unready |= {*stuck}
    with ThreadPoolExecutor(len(stuck) + 1) as threads:
        back = [
            threads.submit(
                control.http.post, f"/functions/{each}/rollback", json={"revision": None}
            )
            for each in stuck
        ]
        try:
            eventually(
                lambda: all(told_of(cluster, each) != before[each] for each in stuck), "them"
            )
            control.http.post("/functions/measure/rollback", json={"revision": None})
            assert target("measure") != before["measure"]
            control.deploy(written(tmp_path, "@dsfn.function(name='beside')"))
            assert control.value("beside") == 1
            assert control.http.delete("/functions/beside").status_code == 204
            assert "beside" not in cluster.of_kind("Service")
            # The last word counts, though what was said before has not come about.
            back.append(
                threads.submit(
                    control.http.post, "/functions/shout/rollback", json={"revision": newest}
                )
            )
        finally:
            cluster.unready.clear()
        assert {each.result().status_code for each in back} == {200}
    eventually(lambda: told_of(cluster, "shout") == before["shout"], "the last word to be heard")
    eventually(lambda: target("hear") != before["hear"], "the others to be as they were told")


def test_many_that_are_waited_for_hold_up_nothing_and_are_not_proved_when_one_fails(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    # More than there are threads for requests.
    late = [f"late-{number}" for number in range(40)]
    cluster.images |= dict.fromkeys((*late, "measure"), LATE)
    source = changed(tmp_path / "late", "return len(text)", "return 3 * len(text)")
    lines = (
        f"\n\n@dsfn.function(name='{each}')\ndef {each.replace('-', '_')}() -> int: return 1\n"
        for each in late
    )
    source.write_text(f"{source.read_text()}{''.join(lines)}", encoding="utf-8")
    proved = {*cluster.of_kind("ConfigMap")}
    with ThreadPoolExecutor(1) as threads:
        deploying = threads.submit(control.deploy, source)
        eventually(lambda: {*late} <= {*cluster.of_kind("Service")}, "all to be waited for", 60)
        assert control.http.get("/bill").status_code == 200
        cluster.break_pod("late-1")
        with pytest.raises(DeployFailed, match="cannot be pulled"):
            deploying.result()
    assert control.value("measure", text="four") == 4
    came = {*cluster.of_kind("ConfigMap")} - proved
    assert not [each for each in came if each.startswith(("measure", "late"))]
    assert not {*late} & {*cluster.of_kind("Service")}


def test_what_is_taken_back_before_it_came_about_is_taken_back(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    def shares() -> list[int]:
        told = cluster.of_kind("Service")["measure"]["spec"]["traffic"]
        return [each["percent"] for each in told]

    before = control.describe("measure")["revision"]
    control.deploy(changed(tmp_path / "new", "return len(text)", "return 4 * len(text)"))
    after = control.describe("measure")["revision"]
    cluster.unready.add("measure")

    def share(traffic: dict[str, int]) -> None:
        control.http.put("/functions/measure/traffic", json={"traffic": traffic})

    with ThreadPoolExecutor(2) as threads:
        try:
            threads.submit(share, {before: 50, after: 50})
            eventually(lambda: shares() == [50, 50], "the Service to be told")
            threads.submit(share, {after: 100})
            eventually(lambda: shares() == [100], "the Service to be told what it was before")
        finally:
            cluster.unready.clear()
    control.http.post("/functions/measure/rollback", json={"revision": before})
    assert control.value("measure", text="four") == 4


def told_of(cluster: ActingCluster, function: str) -> str:
    """Which revision has a function's calls, as Knative was told."""
    (found,) = cluster.of_kind("Service")[function]["spec"]["traffic"]
    return str(found["revisionName"])


def test_a_call_of_a_revision_that_the_ingress_does_not_know_yet_waits_for_it(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    control.deploy(changed(tmp_path / "new", "return len(text)", "return 2 * len(text)"))
    control.deploy(BOTH)
    cluster.is_away = True
    try:
        control.http.post("/functions/measure/rollback", json={"revision": None})
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(control.value, "measure", text="four")
            time.sleep(0.5)  # it is under way
            cluster.is_away = False
            assert call.result() == 8
    finally:
        cluster.is_away = False
    control.http.post("/functions/measure/rollback", json={"revision": None})
    assert control.value("measure", text="four") == 4


def test_what_does_not_become_ready_is_told_and_the_revision_before_goes_on(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.images["shout"] = BROKEN
    before = json.dumps(cluster.of_kind("Service")["shout"]["spec"], sort_keys=True)
    with pytest.raises(DeployFailed, match="cannot be pulled") as failed:
        control.deploy(changed(tmp_path / "broken", "text.upper()", "text.lower()"))
    assert failed.value.problem["type"].endswith("/not-ready")
    assert json.dumps(cluster.of_kind("Service")["shout"]["spec"], sort_keys=True) == before
    assert control.value("measure", text="four") == 4
    answer = control.http.post(
        "/functions/shout", content="on", headers={"content-type": "text/plain"}
    )
    assert answer.text == "ON"


def test_what_cannot_start_in_its_pod_is_told_and_the_revision_before_goes_on(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    before = json.dumps(cluster.of_kind("Service")["shout"]["spec"], sort_keys=True)
    revisions = {*cluster.of_kind("Revision")}
    ends = 'if "K_SERVICE" in os.environ:\n    os._exit(7)\n\n\n@dsfn.function\ndef shout'
    with pytest.raises(DeployFailed) as failed:
        control.deploy(changed(tmp_path / "ends", "@dsfn.function\ndef shout", ends))
    assert failed.value.problem["type"].endswith("/not-ready")
    told = str(failed.value)
    assert "its container ends after its start (exit code 1" in told
    assert "could not be started: its process ended" in told
    assert {*cluster.of_kind("Revision")} == revisions  # or its pod would begin again for ever
    assert json.dumps(cluster.of_kind("Service")["shout"]["spec"], sort_keys=True) == before
    answer = control.http.post("/functions/shout", content="on", headers=TEXT)
    assert answer.text == "ON"


def test_what_the_cluster_could_not_be_told_it_is_told_later_whatever_it_has_answered(
    cluster: ActingCluster, control: LiveNode
) -> None:
    odd = "/api/v1/namespaces/functions/pods/odd"
    labels = {COMPONENT: FUNCTION, FUNCTION_LABEL: "odd"}
    cluster.objects[odd] = {
        "kind": "Pod",
        "metadata": {"name": "odd", "labels": labels},
        "status": {"conditions": [{}]},
    }
    words = "The cluster may not be as the registry says."
    try:
        eventually(lambda: words in control.log, "the control service to stumble", 30)
    finally:
        del cluster.objects[odd]
    cluster.is_away = True
    try:
        assert control.http.delete("/functions/count-up").status_code == 204
        assert control.value("measure", text="four") == 4
    finally:
        cluster.is_away = False
    eventually(lambda: "count-up" not in cluster.of_kind("Service"), "the Service to go", 30)


def test_a_pod_that_is_asked_itself_is_billed_once(
    cluster: ActingCluster, control: LiveNode
) -> None:
    hosts = json.loads(cluster.hosts.read_bytes())
    answer = httpx.post(hosts[f"shout{HOST}"], content="me", headers=TEXT)
    assert answer.text == "ME"
    assert len(control.rows_of(answer.headers["dsfn-invocation-id"])) == 1


@contextmanager
def made_by_hand(cluster: ActingCluster, annotated: bool) -> Iterator[str]:
    """What Knative calls a revision that somebody has made of a function's Service."""
    name, namespace = "shout-00002", "namespaces/functions"
    template = json.loads(json.dumps(cluster.of_kind("Service")["shout"]["spec"]["template"]))
    metadata, spec = template["metadata"], template["spec"]
    if not annotated:
        del metadata["annotations"][REVISION_ANNOTATION]
    revision = {**metadata, "name": name, "creationTimestamp": "2027-01-01T00:00:00Z"}
    labels = {**metadata["labels"], KNATIVE_REVISION: name}
    pod = {**metadata, "name": f"{name}-pod", "labels": labels}
    made: dict[str, tuple[str, Any, Any]] = {
        f"/apis/serving.knative.dev/v1/{namespace}/revisions/{name}": ("Revision", revision, {}),
        f"/api/v1/{namespace}/pods/{name}": ("Pod", pod, {"status": {}}),
    }
    for path, (kind, about, more) in made.items():
        cluster.objects[path] = {"kind": kind, "metadata": about, "spec": spec, **more}
    try:
        yield name
    finally:
        for path in made:
            del cluster.objects[path]


@pytest.mark.parametrize("annotated", [True, False])
def test_pods_are_shown_by_their_names_and_revisions_and_those_that_are_not_dsfns_as_such(
    cluster: ActingCluster, control: LiveNode, annotated: bool
) -> None:
    def shown() -> dict[str, str]:
        replicas = control.describe("shout")["replicas"]
        assert all(each["pid"] is None and each["idle_s"] is None for each in replicas)
        return {each["pod"]: each["revision"] for each in replicas}

    newest = cluster.of_kind("Service")["shout"]["spec"]["template"]["metadata"]["name"]
    with made_by_hand(cluster, annotated) as name:
        eventually(lambda: f"{name}-pod" in shown(), "the pods to be counted")
        assert shown()[f"{name}-pod"] == f"{name} (not dsfn's)"
        assert shown()[f"{newest}-pod"] == control.describe("shout")["revision"]


def test_a_control_service_that_starts_again_finds_what_serves_and_what_does_not(
    cluster: ActingCluster, control: LiveNode, start: Callable[[], LiveNode]
) -> None:
    assert control.stop() == 0, control.log
    assert cluster.delete("/apis/serving.knative.dev/v1/namespaces/functions/services/hear")
    pods, traffic = set(cluster.pods), cluster.of_kind("Service")["shout"]["spec"]["traffic"]
    with made_by_hand(cluster, annotated=True):
        again = start()
        try:
            assert again.value("measure", text="four") == 4
            eventually(lambda: again.describe("shout")["url"].endswith(".example.com"), "the URL")
            eventually(lambda: "ready" in again.states("shout"), "the pods to be counted")
            assert again.describe("hear")["url"] is None
            assert set(cluster.pods) == pods
            answer = again.http.post("/functions/shout", content="again", headers=TEXT)
            assert answer.text == "AGAIN"
            # What somebody has made by hand gets no calls.
            assert cluster.of_kind("Service")["shout"]["spec"]["traffic"] == traffic
            assert again.stop() == 0, again.log
        finally:
            again.end()
