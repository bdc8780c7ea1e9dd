"""What the command line shows and does is the same on a node and on a cluster."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from acting_cluster import ActingCluster, acting_cluster
from deadlines import eventually
from live_node import DeployFailed, LiveNode
from live_pod import s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server

SPOKEN = """
import dsfn


@dsfn.on(type="word.due", prefix={{"source": "/mouth"}})
@dsfn.function
def speak(word: str = "", bad: bool = False, times: int = 1) -> int:
    for _ in range(times):
        print(f"I say {{word}}")
    if bad and {number} > 1:
        raise ValueError("no good")
    return {number}
"""


@pytest.fixture(scope="module")
def cluster(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActingCluster]:
    secret = {**s3_store(s3).variables, "DSFN_API_KEY": KEY}
    with acting_cluster(tmp_path_factory.mktemp("cluster") / "acting", secret) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def control(
    cluster: ActingCluster,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str, str], None],
) -> Iterator[LiveNode]:
    require("kubernetes", "pip install 'dsfn[knative]'")
    place = tmp_path_factory.mktemp("control")
    control = start_control(place, cluster, s3_store(s3), free_port())
    try:
        yield control
        assert control.stop() == 0, control.log
    finally:
        control.end()


def deployed(control: LiveNode, place: Path, number: int, **terms: str) -> str:
    """The revision of `speak` with this number."""
    source = place / "app.py"
    source.write_text(SPOKEN.format(number=number), encoding="utf-8")
    return str(control.deploy(source, **terms)["speak"]["revision"])


def test_what_a_function_prints_in_its_pod_is_read_and_followed(
    control: LiveNode, tmp_path: Path
) -> None:
    revision = deployed(control, tmp_path, 1)
    answer = control.call("speak", word="hello")
    lines = eventually(
        lambda: control.http.get("/functions/speak/logs").text.splitlines(), "a line"
    )
    line = json.loads(lines[-1])
    assert (line["text"], line["revision"]) == ("I say hello", revision)
    assert line["invocation"] == answer.headers["dsfn-invocation-id"]
    assert line["pod"].startswith("speak-")
    told: list[str] = []

    def follow() -> None:
        with control.http.stream(
            "GET", "/functions/speak/logs", params={"follow": "true"}
        ) as stream:
            for each in stream.iter_lines():
                told.append(json.loads(each)["text"])
                if told[-1] == "I say done":
                    return

    following = threading.Thread(target=follow)
    following.start()
    spoken = [f"word {number}" for number in range(10)]
    for word in [*spoken, "done"]:
        control.call("speak", word=word)
    following.join(30)
    assert [text for text in told if "word" in text] == [f"I say {word}" for word in spoken]
    assert control.http.get("/functions/speak/logs", params={"since": "0"}).text == ""


def test_more_than_is_read_at_once_is_read_and_followed_to_its_end(
    control: LiveNode, tmp_path: Path
) -> None:
    deployed(control, tmp_path, 1)
    control.call("speak", word="much" * 250, times=3000)
    control.call("speak", word="the end")

    def words(lines: Iterator[str]) -> list[str]:
        found = []
        for line in lines:
            found.append(json.loads(line)["text"].removeprefix("I say "))
            if found[-1] == "the end":
                break
        return [word for word in found if word[:4] in ("much", "the ")]

    expected = ["much" * 250] * 3000 + ["the end"]
    read = control.http.get("/functions/speak/logs").text
    assert words(iter(read.splitlines())) == expected
    with control.http.stream("GET", "/functions/speak/logs", params={"follow": "true"}) as stream:
        assert words(stream.iter_lines()) == expected


def shares(cluster: ActingCluster) -> list[int]:
    """Of the Service's revisions."""
    service = cluster.of_kind("Service")["speak"]
    return sorted(each["percent"] for each in service["spec"]["traffic"])


def test_a_canary_in_a_cluster_shares_the_traffic_of_the_service_and_ends_by_itself(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    first = deployed(control, tmp_path, 1)
    second = deployed(control, tmp_path, 2, canary="40", promote_after_s="0")
    assert shares(cluster) == [40, 60]
    for _ in range(20):
        control.call("speak", word="x", bad=True)

    def state() -> str:
        canary = control.describe("speak")["canary"]
        assert canary["revision"] == second
        return str(canary["state"])

    eventually(lambda: state() == "rolled back", "the canary to be taken back")
    eventually(lambda: shares(cluster) == [100], "the Service to be told")
    assert control.describe("speak")["traffic"] == {first: 100}
    deployed(control, tmp_path, 2, canary="40", promote_after_s="0")

    def is_promoted() -> bool:
        for _ in range(10):
            control.call("speak", word="y")
        return state() == "promoted"

    eventually(is_promoted, "the canary to be promoted")
    eventually(lambda: shares(cluster) == [100], "the Service to be told")
    assert control.value("speak", word="z") == 2


def test_what_the_broker_gives_up_is_a_dead_letter_and_can_be_replayed(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    deployed(control, tmp_path, 1)
    told = cluster.of_kind("Trigger")["speak"]
    # What comes to the Broker before that is lost.
    assert [each["status"] for each in told["status"]["conditions"]] == ["True"]
    spec = told["spec"]
    assert spec["filters"] == [
        {"any": [{"all": [{"exact": {"type": "word.due"}}, {"prefix": {"source": "/mouth"}}]}]}
    ]
    sink = spec["delivery"]["deadLetterSink"]
    assert sink["ref"]["name"] == "dsfn-control"
    why = {"type": "https://dsfn.dev/problems/handler-raised", "detail": "ValueError: no good."}
    for number, told in enumerate((b64encode(json.dumps(why).encode()).decode(), "cut off")):
        for _ in range(2):  # brokers send at least once
            answer = httpx.post(
                control.url + sink["uri"],
                content=b'{"word": "late"}',
                headers={
                    "content-type": "application/json",
                    "ce-specversion": "1.0",
                    "ce-id": f"late-{number}",
                    "ce-source": "/mouth",
                    "ce-type": "word.due",
                    "ce-knativeerrordest": "http://speak.functions.svc",
                    "ce-knativeerrorcode": "500",
                    "ce-knativeerrordata": told,
                },
            )
            assert answer.status_code == 204, answer.text
    letters = control.http.get("/deadletters").json()["deadletters"]
    assert {(letter["name"], letter["error"]["detail"]) for letter in letters} == {
        ("speak", "ValueError: no good."),
        ("speak", "A broker could not deliver the event to speak: the answer was HTTP status 500."),
    }
    id_ = letters[0]["id"]
    event = control.http.get(f"/deadletters/{id_}").json()["event"]
    assert not [name for name in event if name.startswith("knative")]
    before = len(control.rows("speak"))
    location = control.http.post(f"/deadletters/{id_}/replay").json()["location"]
    eventually(
        lambda: control.http.get(location).json()["state"] == "succeeded", "the event to be heard"
    )
    assert len(control.rows("speak")) == before + 1
    nobody = sink["uri"][:-1] + ("0" if sink["uri"][-1] != "0" else "1")
    assert httpx.post(control.url + nobody, content=b"{}").status_code == 401


def test_a_replay_of_what_has_succeeded_meanwhile_is_on_the_books_once(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    deployed(control, tmp_path, 1)
    event = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "meanwhile",
        "ce-source": "/mouth",
        "ce-type": "word.due",
    }
    body = b'{"word": "meanwhile"}'
    pod = json.loads(cluster.hosts.read_bytes())["speak.functions.svc.cluster.local"]
    assert httpx.post(pod, content=body, headers=event).status_code == 200
    sink = cluster.of_kind("Trigger")["speak"]["spec"]["delivery"]["deadLetterSink"]["uri"]
    lost = httpx.post(
        control.url + sink, content=body, headers={**event, "ce-knativeerrorcode": "504"}
    )
    assert lost.status_code == 204
    letter = control.http.get("/deadletters").json()["deadletters"][0]
    location = control.http.post(f"/deadletters/{letter['id']}/replay").json()["location"]
    eventually(
        lambda: control.http.get(location).json()["state"] == "succeeded", "the event to be heard"
    )
    rows = [row for row in control.rows("speak") if "meanwhile" in row.idempotency_key]
    assert [row.status for row in rows] == ["succeeded"]


def test_later_attempts_of_a_replay_book_no_second_success(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    source = tmp_path / "app.py"
    once = SPOKEN.replace("@dsfn.function", "@dsfn.function(retries=0)")
    revisions = []
    for number in (1, 2):
        source.write_text(once.format(number=number), encoding="utf-8")
        revisions.append(control.deploy(source)["speak"]["revision"])

    def serve(revision: str) -> None:
        control.http.post("/functions/speak/rollback", json={"revision": revision})

    event = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "secretly",
        "ce-source": "/mouth",
        "ce-type": "word.due",
    }
    body = b'{"word": "secretly", "bad": true}'  # which the second revision does not take
    serve(revisions[0])
    pod = json.loads(cluster.hosts.read_bytes())["speak.functions.svc.cluster.local"]
    assert httpx.post(pod, content=body, headers=event).status_code == 200
    sink = cluster.of_kind("Trigger")["speak"]["spec"]["delivery"]["deadLetterSink"]["uri"]
    httpx.post(control.url + sink, content=body, headers={**event, "ce-knativeerrorcode": "504"})
    letter = control.http.get("/deadletters").json()["deadletters"][0]
    for revision, expected in zip(reversed(revisions), ("failed", "succeeded"), strict=True):
        serve(revision)
        location = control.http.post(f"/deadletters/{letter['id']}/replay").json()["location"]

        def has_ended(location: str = location, expected: str = expected) -> bool:
            return bool(control.http.get(location).json()["state"] == expected)

        eventually(has_ended, f"the replay to have {expected}")
    rows = [row for row in control.rows("speak") if "secretly" in row.idempotency_key]
    assert sorted(row.status for row in rows) == ["failed", "succeeded"]


def test_a_filter_that_knative_does_not_have_is_refused_at_deploy(
    cluster: ActingCluster, control: LiveNode, tmp_path: Path
) -> None:
    before = set(cluster.of_kind("Service"))
    source = tmp_path / "app.py"
    text = SPOKEN.format(number=1).replace("speak", "counted")
    source.write_text(text.replace('type="word.due"', 'suffix={"1st": "x"}'), encoding="utf-8")
    with pytest.raises(DeployFailed, match="Knative takes no filter on the attribute '1st'"):
        control.deploy(source)
    assert set(cluster.of_kind("Service")) == before
