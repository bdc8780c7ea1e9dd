"""Of a call that the control service makes, it says on whose account that is."""

from __future__ import annotations

import json

import pytest
from live_node import LiveNode
from live_pod import LivePod, StartPod

from dsfn.knative.pod.platform import Said, as_said, call_headers
from dsfn.runtime.model import Call, Origin

KEY = "key-of-the-platform"
CALL = Call(
    id="0" * 30,
    function="shout",
    body=b"",
    content_type="text/plain",
    tenant="acme",
    key_id="k1",
    caller="10.1.2.3",
    idempotency_key=None,
    max_cost_nano=None,
    origin=Origin("album", "run-1", "step-1"),
)


@pytest.fixture
def pod(start_pod: StartPod, node: LiveNode) -> LivePod:
    key = (node.data / "node.key").read_text(encoding="utf-8").strip()
    return start_pod("shout", variables={"DSFN_API_KEY": key})


def test_what_it_says_is_on_the_books(node: LiveNode, pod: LivePod) -> None:
    key = (node.data / "node.key").read_text(encoding="utf-8").strip()
    headers = {**call_headers(CALL, key), "content-type": "text/plain"}
    answer = pod.http.post("/functions/shout", content=b"hello", headers=headers)
    assert (answer.status_code, answer.text) == (200, "HELLO")
    assert answer.headers["dsfn-invocation-id"] == CALL.id
    row = node.row(answer)
    assert (row.tenant, row.key_id, row.caller) == ("acme", "k1", "10.1.2.3")
    assert (row.workflow, row.run, row.step) == ("album", "run-1", "step-1")


@pytest.mark.parametrize("authorization", ["", "Bearer guessed"])
def test_nobody_else_is_believed(pod: LivePod, authorization: str) -> None:
    headers = {**call_headers(CALL, ""), "authorization": authorization}
    answer = pod.http.post("/", json={"text": "a"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (
        403,
        "https://dsfn.dev/errors/forbidden",
    )


@pytest.mark.parametrize("whole", [True, False])
def test_all_of_it_comes_through(whole: bool) -> None:
    sent = {k.encode(): v.encode() for k, v in call_headers(CALL, KEY, whole).items()}
    received = Call(id="1", function="shout", body=b"", content_type="text/plain")
    assert as_said(received, sent, KEY) == Said(CALL, whole)


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"origin": {}}', json.dumps({"origin": None})])
def test_what_says_nothing_is_refused(pod: LivePod, node: LiveNode, said: str) -> None:
    key = (node.data / "node.key").read_text(encoding="utf-8").strip()
    headers = {"dsfn-call": said, "authorization": f"Bearer {key}"}
    assert pod.http.post("/", json={"text": "a"}, headers=headers).status_code == 400
