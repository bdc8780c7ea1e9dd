"""One command line for both targets: a node, and a cluster through its API server alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from acting_cluster import ActingCluster
from cli_runs import Dsfn
from conformance import TARGETS, Use, check_use, printed, shape
from deadlines import eventually
from live_node import LiveNode
from node_on_cluster import KEY
from test_control_and_command_line import cluster, control

__all__ = ["cluster", "control"]
APP = """
import dsfn


@dsfn.function
def add(a: int, b: int = 0) -> int:
    print(f"adding {a}")
    return a + b


@dsfn.function
def twice(text: str) -> str:
    return 2 * text


@dsfn.workflow
def adding(a: int) -> int:
    return add(a=add(a=a, b=1), b=2)
"""

LENT = """
import dsfn


@dsfn.function
def lent() -> int:
    return 7


@dsfn.workflow
def lending() -> int:
    return lent()


@dsfn.workflow
def relending() -> int:
    return lending()
"""


@pytest.fixture(scope="module")
def cli(
    cluster: ActingCluster,
    control: LiveNode,
    node: LiveNode,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Dsfn]:
    """With a context for each target."""
    port = int(control.url.rpartition(":")[2])
    cluster.add_control("functions", port)
    place = tmp_path_factory.mktemp("cli")
    (place / "app.py").write_text(APP, encoding="utf-8")
    config = {"XDG_CONFIG_HOME": str(place), "KUBECONFIG": str(cluster.kubeconfig)}
    cli = Dsfn(place, config)
    cli("context", "set", "knative", "kubernetes://home/functions", "--key", KEY)
    cli("context", "set", "node", node.url)
    yield cli


@pytest.fixture(scope="module", autouse=True)
def deployed(cli: Dsfn) -> tuple[Any, Any]:
    """What deploying the app printed for a node, and for a cluster."""
    here, there = (
        cli("deploy", "app.py", "--json", "--target", name).json() for name in ("node", "knative")
    )
    return here, there


def test_a_deployment_prints_the_same_list_and_the_url_of_the_service(
    deployed: tuple[Any, Any],
) -> None:
    here, there = deployed
    assert shape(here) == shape(there)
    assert [(one["name"], one["revision"]) for one in here] == [
        (one["name"], one["revision"]) for one in there
    ]
    urls = {one["name"]: one["url"] for one in there}
    assert urls["add"] == "http://add.functions.example.com"
    assert urls["adding"] == "http://dsfn-control.functions/workflows/adding"


def test_the_status_says_where_each_is_reached(cli: Dsfn, node: LiveNode) -> None:
    here, there = (cli("status", "--json", "--target", name).json() for name in ("node", "knative"))
    assert (here["url"], there["url"]) == (node.url, "http://dsfn-control.functions")


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "history add",
        "traffic add {revision}=100",
        "workflow list",
        "deadletters list",
        "budgets list",
        "rates list",
        "keys list",
    ],
)
def test_a_command_shows_the_same_of_both(cli: Dsfn, line: str) -> None:
    revision = cli("describe", "add", "--json", "--target", "node").json()["revision"]
    words = line.format(revision=revision).split()
    here, there = (cli(*words, "--json", "--target", name) for name in ("node", "knative"))
    assert isinstance(here.json(), type(there.json()))
    if line not in ("list", "deadletters list"):  # of which the node has more
        assert shape(here.json()) == shape(there.json())


def test_functions_are_called_run_described_read_and_billed_alike(cli: Dsfn) -> None:
    use = Use("add", '{"a": 1, "b": 2}', 3, "adding", '{"a": 1}')
    check_use(cli, use)
    for name in TARGETS:
        assert printed(cli, "add", name) == ["adding 1", "adding 1", "adding 2"]


def test_replicas_are_shown_by_what_they_are_found_by(cli: Dsfn, cluster: ActingCluster) -> None:
    def ready(target: str) -> dict[str, Any] | None:
        described = cli("describe", "twice", "--json", "--target", target).json()
        return next((each for each in described["replicas"] if each["state"] == "ready"), None)

    found = {}
    for target in ("node", "knative"):
        cli("invoke", "twice", "--data", '{"text": "a"}', "--target", target)
        found[target] = eventually(partial(ready, target), "the replica to be counted", 30)
    pod, revision = found["knative"]["pod"], found["node"]["revision"]
    assert pod in cluster.of_kind("Pod")
    assert found["knative"].keys() == found["node"].keys()
    assert found["knative"].items() >= {"pid": None, "idle_s": None, "revision": revision}.items()
    assert isinstance(found["node"]["pid"], int) and found["node"]["pod"] is None
    head, line = cli("describe", "twice", "--target", "knative").out.splitlines()[-2:]
    assert (head.split(), line.split()) == (["POD", "STATE", "REVISION"], [pod, "ready", revision])


def test_a_function_is_deleted_after_the_workflows_that_call_it(cli: Dsfn) -> None:
    (cli.directory / "lent.py").write_text(LENT, encoding="utf-8")
    for name in ("node", "knative"):
        to = ("--target", name)
        assert cli("deploy", "lent.py", *to).code == 0
        refused = cli("delete", "lent", *to)
        assert (refused.code, refused.out, refused.err) == (
            1,
            "",
            "Workflows lending and relending call lent: delete them first, or deploy them without"
            " lent.\n",
        )
        assert cli("invoke", "lent", *to).json() == 7
        for workflow in ("lending", "relending"):
            assert cli("workflow", "run", workflow, *to).json() == 7
            assert cli("workflow", "delete", workflow, *to).code == 0
        assert cli("delete", "lent", *to).out == "lent is deleted.\n"
        assert cli("invoke", "lent", *to).code == 1


def test_a_function_cannot_set_what_is_dsfns_own(cli: Dsfn) -> None:
    greedy = 'import dsfn\n\n\n@dsfn.function(env={"DSFN_DISK_BYTES": "0"})\ndef greedy() -> int:\n'
    (cli.directory / "greedy.py").write_text(f"{greedy}    return 1\n", encoding="utf-8")
    for name in ("node", "knative"):
        refused = cli("deploy", "greedy.py", "--target", name)
        assert refused.code == 1
        assert "env must not set DSFN_DISK_BYTES: names with DSFN_ are dsfn's own." in refused.err


def test_a_control_service_that_has_no_pod_is_one_sentence(cli: Dsfn) -> None:
    cli("context", "set", "empty", "kubernetes://home/nowhere")
    run = cli("list", "--target", "empty")
    assert (run.code, run.err) == (
        1,
        "The control service in namespace nowhere of context 'home' has no pod that is ready;"
        " `dsfn platform status` says why.\n",
    )


def test_a_context_of_kubeconfig_that_is_not_there_is_one_sentence(cli: Dsfn) -> None:
    cli("context", "set", "lost", "kubernetes://nobody/functions")
    run = cli("list", "--target", "lost")
    assert run.code == 2
    assert "has no context 'nobody'; it has home" in run.err


def test_what_is_large_comes_through_whole(cli: Dsfn) -> None:
    text = "".join(map(str, range(300_000)))
    run = cli("invoke", "twice", "--data", json.dumps({"text": text}), "--target", "knative")
    assert run.json() == 2 * text


def test_one_that_is_deployed_again_waits_until_the_one_that_was_deleted_is_gone(
    cli: Dsfn, cluster: ActingCluster
) -> None:
    def write(number: int) -> None:
        text = f"import dsfn\n\n\n@dsfn.function\ndef again() -> int:\n    return {number}\n"
        (cli.directory / "again.py").write_text(text, encoding="utf-8")

    to = ("--target", "knative")
    write(1)
    assert cli("deploy", "again.py", *to).code == 0
    cluster.lingering.add("again")
    assert cli("delete", "again", *to).code == 0
    eventually(
        lambda: "deletionTimestamp" in cluster.of_kind("Service")["again"]["metadata"], "its end"
    )
    write(2)
    with ThreadPoolExecutor(1) as threads:
        deploying = threads.submit(cli, "deploy", "again.py", *to)
        time.sleep(3)
        assert not deploying.done()
        cluster.let_go("again")
        run = deploying.result()
    assert run.code == 0, run.err
    assert "Waiting for the pods of the one that was deleted to be gone." in run.err
    assert cli("invoke", "again", *to).json() == 2
