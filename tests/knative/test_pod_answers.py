"""A pod answers as a node does, and its calls are on the same books."""

from __future__ import annotations

import io

import pytest
from conformance import JSON, seen
from live_node import LiveNode
from live_pod import StartPod, TestStore
from PIL import Image as Pictures


def picture(side: int) -> bytes:
    buffer = io.BytesIO()
    Pictures.new("RGB", (side, side), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("function", "bodies"),
    [
        (
            "order",
            [
                (JSON, b'{"customer": "a", "lines": [{"article": "b", "count": 3}]}'),
                (JSON, b'{"customer": "a"}'),
                (JSON, b'{"customer": "a", "lines": [{"article": "b", "count": "many"}]}'),
                (JSON, b"{"),
                ({"content-type": "image/png"}, b"x"),
            ],
        ),
        ("enlarge", [({"content-type": "image/png"}, picture(4))]),
        ("shout", [({"content-type": "text/plain"}, b"hello"), (JSON, b'{"text": "hello"}')]),
        ("count-up", [(JSON, b'{"to": 4}')]),
        ("fail", [(JSON, b'{"how": "luck"}')]),
    ],
)
def test_an_answer_is_that_of_a_node(
    node: LiveNode,
    start_pod: StartPod,
    function: str,
    bodies: list[tuple[dict[str, str], bytes]],
) -> None:
    pod = start_pod(function)
    for headers, body in bodies:
        there = node.http.post(f"/functions/{function}", headers=headers, content=body)
        for path in ("/", f"/functions/{function}"):
            here = pod.http.post(path, headers=headers, content=body)
            assert seen(here) == seen(there)
            assert ("server-timing" in here.headers) == ("server-timing" in there.headers)
    assert pod.stop() == 0, pod.log


def test_parts_come_and_go_as_a_form(node: LiveNode, start_pod: StartPod) -> None:
    pod = start_pod("enlarge")
    files: dict[str, tuple[str | None, bytes | str, str | None]] = {
        "picture": ("a.png", picture(4), "image/png"),
        "by": (None, "3", None),
    }
    answer = pod.http.post("/", files=files)
    assert answer.status_code == 200, answer.text
    assert Pictures.open(io.BytesIO(answer.content)).size == (12, 12)
    assert answer.content == node.http.post("/functions/enlarge", files=files).content


def test_a_process_that_ends_is_told_and_the_next_call_has_another(
    node: LiveNode, start_pod: StartPod
) -> None:
    pod = start_pod("fail")
    answer = pod.call(how="exit")
    assert answer.status_code == node.call("fail", how="exit").status_code == 502
    assert answer.json()["type"].endswith("/handler-crashed")
    assert pod.call(how="luck").status_code == 500


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_a_function_with_weights_starts_from_the_snapshot_of_the_store(
    node: LiveNode, start_pod: StartPod, request: pytest.FixtureRequest, kind: str
) -> None:
    store: TestStore = request.getfixturevalue(kind)
    pod = start_pod("weights", store=store)
    answer = pod.call()
    assert answer.json() == {"sum": float(sum(range(100_000))), "restored": True}
    assert "restore" in answer.headers["server-timing"]
    row = node.row(answer)
    assert (row.tenant, row.function, row.status) == ("default", "weights", "succeeded")
    assert row.busy_us == int(answer.headers["dsfn-busy-us"])
    assert pod.stop() == 0, pod.log


def test_what_a_function_prints_is_the_pods_output(node: LiveNode, start_pod: StartPod) -> None:
    pod = start_pod("fail")
    pod.call(how="luck")
    assert pod.stop() == 0
    assert "Traceback (most recent call last)" not in pod.log or "ValueError" in pod.log


def test_a_pod_says_what_it_is(start_pod: StartPod) -> None:
    pod = start_pod("shout")
    pod.http.post("/", content=b"a", headers={"content-type": "text/plain"})
    assert pod.http.get("/health/liveness").text == "ok"
    assert "/functions/shout" in pod.http.get("/openapi.json").json()["paths"]
    assert 'dsfn_invocations_total{function="shout",status="succeeded"} 1.0' in (
        pod.http.get("/metrics").text
    )
    assert pod.http.get("/nothing").json()["type"].endswith("/not-found")
    assert (pod.http.get("/").status_code, pod.http.get("/").headers["allow"]) == (405, "POST")
