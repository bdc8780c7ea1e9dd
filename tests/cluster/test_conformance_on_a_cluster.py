"""The same file on a node and on a real cluster: the same answers, runs, events, errors and bills,
and what SinkBindings do, which a node does not know."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cli_runs import Dsfn
from conformance import (
    BOTH,
    STRUCTURED,
    TARGETS,
    Target,
    Use,
    billed,
    check_calls,
    check_use,
    printed,
    shape,
    without_revisions,
)
from deadlines import eventually
from live_node import LiveNode, start_node
from live_platform import LivePlatform, live_platform
from postgres_server import PostgresServer
from s3_server import S3Server
from usage_receiver import Receiver, receiving

from dsfn.billing.entry import COLUMNS, Entry, usage_of
from dsfn.billing.usage import Usage
from dsfn.knative.cli.reaching import control_service
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import SERVING

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FILTERED = Path(__file__).parent / "apps" / "filtered.py"
CALL_TIMEOUT_S = 90.0
HAPPENS_WITHIN_S = 90.0
RELAY = """
import dsfn
from dsfn import Event


@dsfn.on(type="word.relayed")
@dsfn.function
def relay(event: Event) -> Event:
    return Event.of(type="word.passed", source="/relay", id=f"{{event.id}}-passed", data={number})
"""


@dataclass(frozen=True, slots=True)
class OnCluster:
    """The control service of a platform, and its ledger."""

    platform: LivePlatform
    http: httpx.Client

    def rows(self, function: str = "") -> list[Usage]:
        """The rows of the calls of one function or of all, in the order of their start."""
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM dsfn.entries WHERE kind = 'usage'"
            " AND %s IN ('', function) ORDER BY started_at_us"
        )
        with psycopg.connect(self.platform.dsfn.variables["DSFN_LEDGER"]) as connection:
            rows = connection.execute(query.encode(), (function,)).fetchall()
        return [usage_of(Entry._make(row)) for row in rows]

    def rows_of(self, invocation: str) -> list[Usage]:
        """The rows of an invocation."""
        return [row for row in self.rows() if row.invocation_id == invocation]


@pytest.fixture(scope="module")
def platform(
    objects: Objects,
    any_postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LivePlatform]:
    """One of the module's own: its books are compared."""
    database = any_postgres.make_database()
    with live_platform(
        objects, database, s3, any_postgres, tmp_path_factory.mktemp("own")
    ) as found:
        yield found
    any_postgres.drop_database(database)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node beside it. None of the functions uses a library."""
    node = start_node(tmp_path_factory.mktemp("node"), libraries=())
    try:
        node.be_owner()
        yield node
        assert node.stop() == 0, node.log
    finally:
        node.end()


@pytest.fixture(scope="module")
def cli(platform: LivePlatform, node: LiveNode, tmp_path_factory: pytest.TempPathFactory) -> Dsfn:
    """With a context for each."""
    place = tmp_path_factory.mktemp("cli")
    cli = Dsfn(place, {"XDG_CONFIG_HOME": str(place), "KUBECONFIG": os.environ["KUBECONFIG"]})
    key = platform.dsfn.variables["DSFN_API_KEY"]
    owners = (node.data / "node.key").read_text(encoding="utf-8")
    assert cli("context", "set", "knative", platform.url, "--key", key).code == 0
    assert cli("context", "set", "node", node.url, "--key", owners).code == 0
    return cli


@pytest.fixture(scope="module")
def deployed(cli: Dsfn) -> dict[str, list[Any]]:
    """What deploying the same files printed for each."""
    sources = (str(BOTH), str(FILTERED))
    return {
        name: [
            one
            for source in sources
            for one in cli("deploy", source, "--json", "--target", name).json()
        ]
        for name in TARGETS
    }


@pytest.fixture(scope="module")
def control(platform: LivePlatform, deployed: dict[str, list[Any]]) -> Iterator[OnCluster]:
    """The control service, with the functions."""
    headers = {"Authorization": f"Bearer {platform.dsfn.variables['DSFN_API_KEY']}"}
    with ExitStack() as stack:
        there = stack.enter_context(control_service(platform.url))
        http = httpx.Client(
            base_url=there.url,
            transport=httpx.HTTPTransport(uds=there.socket),
            timeout=CALL_TIMEOUT_S,
            headers=headers,
        )
        yield OnCluster(platform, stack.enter_context(http))


def test_a_deployment_is_told_alike(deployed: dict[str, list[Any]], cli: Dsfn) -> None:
    here, there = (deployed[name] for name in TARGETS)
    assert shape(here) == shape(there)
    assert [one["name"] for one in here] == [one["name"] for one in there]
    urls = {one["name"]: one["url"] for one in there}
    assert urls["count-up"].startswith("http://count-up.")
    assert urls["loudness"].endswith("/workflows/loudness")
    lists = [cli("list", "--json", "--target", name).json() for name in TARGETS]
    assert shape(lists[0]) == shape(lists[1])
    assert [one["name"] for one in lists[0]] == [one["name"] for one in lists[1]]


def test_calls_come_to_the_same_and_are_billed_the_same(node: LiveNode, control: OnCluster) -> None:
    check_calls(node, control)


def test_a_run_of_a_workflow_comes_to_the_same(
    cli: Dsfn, node: LiveNode, control: OnCluster
) -> None:
    documents = []
    for name, target in named(node, control):
        to = ("--target", name)
        answer = target.http.post("/workflows/loudness", json={"text": "hello"})
        assert (answer.status_code, answer.text) == (200, "5")
        run = cli("runs", "show", answer.headers["dsfn-run-id"], "--json", *to).json()
        rows = eventually(partial(rows_of_run, target, run["id"], 2), "the rows of the run")
        assert {row.invocation_id for row in rows} == {
            each for step in run["steps"] for each in step["invocations"]
        }
        steps = ("id", "function", "revision", "item", "state", "attempts", "cached", "error")
        documents.append(
            {
                **{part: run[part] for part in ("workflow", "revision", "state", "output")},
                "steps": [{part: step[part] for part in steps} for step in run["steps"]],
                "rows": [billed(replace(row, caller="", idempotency_key="")) for row in rows],
            }
        )
    assert without_revisions(documents[0]) == without_revisions(documents[1])
    assert [row["function"] for row in documents[0]["rows"]] == ["shout", "measure"]


def named(node: Target, cluster: Target) -> list[tuple[str, Target]]:
    """Each with the name of its context."""
    return list(zip(TARGETS, (node, cluster), strict=True))


def rows_of_run(target: Target, run: str, count: int) -> list[Usage]:
    """The rows of a run's steps, none while there are fewer."""
    rows = [row for row in target.rows() if row.run == run]
    return rows if len(rows) >= count else []


def test_a_run_that_fails_says_the_same_and_is_given_up(
    cli: Dsfn, node: LiveNode, control: OnCluster
) -> None:
    found = []
    for name, target in named(node, control):
        to = ("--json", "--target", name)
        refused = target.http.post("/workflows/crowd", json={"words": "hey"})
        answer = target.http.post("/workflows/crowd", json={"word": "hey", "times": 2**62})
        problem = answer.json()
        run = cli("runs", "show", problem["run"], *to).json()
        assert without_own(run["error"]) == without_own(problem)
        (letter,) = cli("deadletters", "list", *to).json()["deadletters"]
        assert (letter["kind"], letter["id"]) == ("run", run["id"])
        found.append(
            (
                (refused.status_code, without_own(refused.json())),
                (answer.status_code, without_own(problem)),
                (run["state"], [(step["id"], step["state"]) for step in run["steps"]]),
                (letter["name"], letter["attempts"], without_own(letter["error"])),
            )
        )
    assert without_revisions(found[0]) == without_revisions(found[1])
    assert [each[0] for each in found[0][:3]] == [422, 500, "failed"]


def without_own(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem without what is of one call alone."""
    own = ("instance", "run", "charge", "phases", "pid")
    return {name: value for name, value in problem.items() if name not in own}


def test_large_results_go_from_step_to_step(node: LiveNode, control: OnCluster) -> None:
    for each in (node, control):
        answer = each.http.post("/workflows/crowd", json={"word": "hey", "times": 100_000})
        assert (answer.status_code, answer.text) == (200, "HEY" * 100_000)


def photo(id_: str, **attributes: str) -> dict[str, Any]:
    """An event that `note` wants."""
    event = {"id": id_, "type": "photo.taken", "source": "/eu/1", "subject": "a.jpg"}
    return {"specversion": "1.0", **event, **attributes}


def said(id_: str) -> dict[str, Any]:
    """An event that `hear` wants, from which another follows that `note` wants."""
    event = {"id": id_, "type": "word.said", "source": "/mouth"}
    return {"specversion": "1.0", **event, "data": {"word": "hello"}}


def accept(target: Target, event: dict[str, Any]) -> None:
    """Has it taken by POST /events."""
    answer = target.http.post("/events", json=event, headers={"content-type": STRUCTURED})
    assert answer.status_code == 202, answer.text


def ways(
    platform: LivePlatform, node: LiveNode, control: OnCluster
) -> list[tuple[str, Callable[[dict[str, Any]], None], Callable[[dict[str, Any]], None]]]:
    """How an event comes to the node, and how it comes to the cluster."""
    to_node = partial(accept, node)
    return [("posted", to_node, partial(accept, control)), ("broker", to_node, platform.send)]


def of_events(target: Target, function: str) -> list[dict[str, Any]]:
    """The rows of a function's calls by events. What the Broker delivers comes from Knative, not
    from where the event does."""
    found = [
        billed(replace(row, caller="")) for row in target.rows(function) if row.idempotency_key
    ]
    return sorted(found, key=lambda row: str(row["idempotency_key"]))


def test_events_come_once_to_the_functions_whose_filters_they_fit(
    platform: LivePlatform, node: LiveNode, control: OnCluster
) -> None:
    others = {"type": "photo.lost", "source": "/us/1", "subject": "a.png"}
    for way, *both in ways(platform, node, control):
        for send in both:
            for name, value in others.items():
                send(photo(f"{way}-other-{name}", **{name: value}))
            for _ in range(1 if send == platform.send else 2):
                send(photo(f"{way}-photo"))
                send(said(f"{way}-word"))
    for target in (node, control):
        eventually(
            lambda target=target: len(of_events(target, "note")) >= 4,  # type: ignore[misc]
            "the events to be noted",
            HAPPENS_WITHIN_S,
        )
    for function, count in (("hear", 2), ("note", 4)):
        rows = of_events(node, function)
        assert len(rows) == count
        assert without_revisions(rows) == without_revisions(of_events(control, function))


def letters(cli: Dsfn, target: str) -> dict[str, dict[str, Any]]:
    """The dead letters of a target by the ids of their events."""
    to = ("--json", "--target", target)
    found = [
        cli("deadletters", "show", each["id"], *to).json()
        for each in cli("deadletters", "list", *to).json()["deadletters"]
        if each["kind"] == "event"
    ]
    by_event = {each["event"]["id"]: each for each in found}
    assert len(by_event) == len(found)
    return by_event


def told(letter: dict[str, Any]) -> dict[str, Any]:
    """A dead letter without what is of it alone."""
    own = ("id", "created_at", "died_at")
    document = {name: value for name, value in letter.items() if name not in own}
    return {**document, "error": without_own(letter["error"])}


def test_an_event_that_fails_is_retried_as_its_function_says_and_given_up_once(
    cli: Dsfn, platform: LivePlatform, node: LiveNode, control: OnCluster
) -> None:
    ids = set()
    for way, *both in ways(platform, node, control):
        for send in both:
            event = {"id": f"{way}-choke", "type": "word.swallowed", "source": "/mouth"}
            send({"specversion": "1.0", **event})
            ids.add(event["id"])
    found = {}
    for name, target in named(node, control):

        def given_up(name: str = name) -> Any:
            return letters(cli, name) if letters(cli, name).keys() >= ids else None

        before = eventually(given_up, "the events to be given up", HAPPENS_WITHIN_S)
        assert before.keys() == ids
        assert attempts(target, ids) == {each: 2 for each in ids}
        for each in before.values():
            replayed = cli("deadletters", "replay", each["id"], "--target", name)
            assert replayed.code == 0, replayed.err

        def tried_again(name: str = name, target: Target = target) -> Any:
            tried = all(count >= 4 for count in attempts(target, ids).values())
            return given_up(name) if tried else None

        after = eventually(tried_again, "the events to be given up again", HAPPENS_WITHIN_S)
        assert after.keys() == ids
        assert attempts(target, ids) == {each: 4 for each in ids}
        found[name] = {id_: told(each) for id_, each in before.items()}
    # A Broker does not say how often it has tried.
    assert found["knative"]["broker-choke"]["attempts"] == 0
    found["knative"]["broker-choke"]["attempts"] = 2
    for id_ in ids:
        here, there = (without_revisions(found[name][id_]) for name in TARGETS)
        assert here == there


def attempts(target: Target, ids: set[str]) -> Counter[str]:
    """How often `choke` has been called for each of these events, and never for another."""
    rows = target.rows("choke")
    assert len({row.invocation_id for row in rows}) == len(rows)
    assert {row.status for row in rows} <= {"failed"}
    return Counter(next(each for each in ids if each in row.idempotency_key) for row in rows)


@pytest.mark.usefixtures("control")
def test_the_command_line_tells_the_same_of_both(cli: Dsfn) -> None:
    check_use(cli, Use("measure", '{"text": "four"}', 4, "loudness", '{"text": "hello"}'))
    lines = [
        sorted(eventually(partial(printed, cli, "note", name), "what is printed"))
        for name in TARGETS
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4


def test_the_books_are_the_same_in_the_end(
    cli: Dsfn, node: LiveNode, control: OnCluster, deployed: dict[str, list[Any]]
) -> None:
    """No test before has left more on one than on the other."""

    def counted(target: Target) -> Counter[tuple[str, str, str, str]]:
        return Counter((row.function, row.status, row.error, row.workflow) for row in target.rows())

    expected = counted(node)
    eventually(lambda: counted(control) == expected, "the last rows")
    for name, target in named(node, control):
        known = {one["revision"] for one in deployed[name]}
        assert {row.revision for row in target.rows() if row.status == "succeeded"} <= known
    bills = [
        cli("bill", "report", "--json", "--by", "function", "--target", name).json()
        for name in TARGETS
    ]
    here, there = (
        {(line["kind"], line["function"]): line["requests"] for line in bill["lines"]}
        for bill in bills
    )
    assert here == there and here


def bind(objects: Objects, namespace: str, function: str, url: str) -> Any:
    """Has what a function's events come to be sent elsewhere."""
    binding = {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "SinkBinding",
        "metadata": {"name": function, "namespace": namespace},
        "spec": {
            "subject": {"apiVersion": SERVING, "kind": "Service", "name": function},
            "sink": {"uri": url},
            "ceOverrides": {"extensions": {"bound": "yes"}},
        },
    }
    objects.apply(binding)
    return binding


def test_what_follows_from_events_goes_to_the_sink_that_the_next_revision_is_bound_to(
    cli: Dsfn, platform: LivePlatform, control: OnCluster
) -> None:
    def deploy(number: int) -> None:
        (cli.directory / "relay.py").write_text(RELAY.format(number=number), encoding="utf-8")
        run = cli("deploy", "relay.py", "--target", "knative")
        assert run.code == 0, run.err

    def noted() -> list[str]:
        keys = [row["idempotency_key"] for row in of_events(control, "note")]
        return [key for key in keys if "-passed" in key]

    def relayed(id_: str) -> dict[str, Any]:
        return {"specversion": "1.0", "id": id_, "type": "word.relayed", "source": "/mouth"}

    deploy(1)
    platform.send(relayed("first"))
    eventually(noted, "what follows to come by way of the Broker", HAPPENS_WITHIN_S)
    with receiving(Receiver(host=os.environ["DSFN_TEST_HOST"])) as sink:
        binding = bind(platform.objects, platform.namespace, "relay", sink.url)
        deploy(2)
        platform.send(relayed("second"))
        eventually(lambda: sink.taken, "what follows to come to the sink", HAPPENS_WITHIN_S)
        platform.objects.delete(binding)
    (event,) = sink.taken
    assert (event["id"], event["type"], event["data"]) == ("second-passed", "word.passed", 2)
    assert event["bound"] == "yes"
    eventually(lambda: len(control.rows("relay")) >= 2, "the rows")
    assert [row.status for row in control.rows("relay")] == ["succeeded"] * 2
    assert len(noted()) == 1
