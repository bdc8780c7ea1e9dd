"""Results that come piece by piece, and clients that go away in between."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "streams.py")
    node.deploy(APPS / "calls.py")


def items_of(node: LiveNode, answer: httpx.Response) -> str:
    """The stream's own events; its last one tells what the row says."""
    items, mark, usage = answer.text.partition("event: usage\ndata: ")
    row = node.row(answer)
    told = json.loads(usage)
    assert mark and (told["busy_us"], told["held_us"]) == (row.busy_us, row.held_us)
    return items


def test_json_streams_as_server_sent_events(node: LiveNode) -> None:
    answer = node.call("count-up", to=5)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert items_of(node, answer) == "".join(f"data: {number}\n\n" for number in range(5))
    assert answer.headers["dsfn-revision"].startswith("count-up-")
    row = node.row(answer)
    assert (row.status, row.function) == ("succeeded", "count-up")
    assert row.busy_us <= row.held_us


def test_texts_of_several_lines_stay_whole(node: LiveNode) -> None:
    answer = node.call("lines", text="one\ntwo|three")
    assert items_of(node, answer) == "data: one\ndata: two\n\ndata: three\n\n"


def test_an_empty_stream_is_an_empty_answer(node: LiveNode) -> None:
    answer = node.call("count-up", to=0)
    assert (answer.status_code, items_of(node, answer)) == (200, "")
    assert node.row(answer).status == "succeeded"


def test_items_arrive_before_the_stream_has_ended(node: LiveNode, tmp_path: Path) -> None:
    path = tmp_path / "stopped"
    with node.http.stream("POST", "/functions/go-on", json={"path": str(path)}) as answer:
        events = answer.iter_lines()
        assert next(events) == "data: 0"
        assert not path.exists()


def test_raw_parts_stream_as_chunks(node: LiveNode) -> None:
    answer = node.call("blocks", count=40, size=100_000)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == b"".join(bytes([number]) * 100_000 for number in range(40))


def test_a_stream_that_is_asked_for_later_or_again_comes_as_a_whole(node: LiveNode) -> None:
    whole = "data: 0\n\ndata: 1\n\n"
    later = node.http.post(
        "/functions/count-up", json={"to": 2}, headers={"Prefer": "respond-async"}
    )
    result = f"{later.headers['location']}/result"
    eventually(lambda: node.http.get(result).status_code == 200, "the result")
    assert node.http.get(result).text == whole
    for _ in range(2):
        headers = {"Idempotency-Key": "a-stream"}
        answer = node.http.post("/functions/count-up", json={"to": 2}, headers=headers)
        assert answer.text == whole
    assert answer.headers["dsfn-replayed"] == "true"


def test_a_slow_reader_gets_all_of_a_stream_larger_than_any_buffer(node: LiveNode) -> None:
    size = 0
    arguments = {"count": 48, "size": 1 << 20}
    with node.http.stream("POST", "/functions/blocks", json=arguments) as answer:
        for number, chunk in enumerate(answer.iter_raw()):
            size += len(chunk)
            if number % 100 == 0:
                time.sleep(0.01)
    assert size == 48 << 20
    assert eventually(lambda: node.rows_of(answer.headers["dsfn-invocation-id"]), "its row")


def test_a_stream_that_fails_at_once_has_a_status_of_its_own(node: LiveNode) -> None:
    answer = node.call("break-off", after=0)
    assert (answer.status_code, answer.json()["detail"]) == (500, "ValueError: nothing more")
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_error_in_the_middle_is_the_last_event(node: LiveNode) -> None:
    answer = node.call("break-off", after=3)
    *items, error = answer.text.removesuffix("\n\n").split("\n\n")
    assert items == ["data: 0", "data: 1", "data: 2"]
    assert error.startswith("event: error\ndata: ")
    problem = json.loads(error.partition("data: ")[2])
    assert (problem["status"], problem["detail"]) == (500, "ValueError: nothing more")
    row = node.row(answer)
    assert (row.status, row.error) == ("failed", "HandlerRaised")
    assert items_of(node, node.call("count-up", to=1)) == "data: 0\n\n"


def test_an_error_among_chunks_cuts_the_stream_off(node: LiveNode) -> None:
    with node.http.stream("POST", "/functions/break-off-blocks", json={}) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            assert answer.read() == b"never whole"
    row = eventually(lambda: node.rows_of(answer.headers["dsfn-invocation-id"]), "its row")[0]
    assert (row.status, row.error) == ("failed", "HandlerRaised")


def test_a_process_that_ends_in_the_middle_is_told_in_the_stream(node: LiveNode) -> None:
    answer = node.call("end-in-the-middle")
    assert answer.text.startswith("data: 1\n\nevent: error\n")
    assert '"exit_code": 5' in answer.text
    assert node.row(answer).error == "HandlerCrashed"


@pytest.mark.parametrize("function", ["go-on", "go-on-async"])
def test_a_client_that_goes_away_stops_the_generator(
    node: LiveNode, function: str, tmp_path: Path
) -> None:
    path = tmp_path / "stopped"
    with node.http.stream("POST", f"/functions/{function}", json={"path": str(path)}) as answer:
        assert next(answer.iter_lines()) == "data: 0"
        (pid,) = node.pids(function)
    eventually(path.exists, "the generator to be stopped")
    invocation = answer.headers["dsfn-invocation-id"]
    (row,) = eventually(lambda: node.rows_of(invocation), "its row")
    assert (row.status, row.error) == ("cancelled", "CallCancelled")
    assert node.pids(function) == {pid}
    eventually(lambda: node.describe(function)["state"] == "ready", "the replica to be free")


@pytest.mark.parametrize(
    "function",
    ["note-interruption", "note-interruption-in-thread", "note-interruption-in-task"],
)
def test_a_client_that_goes_away_cancels_its_call(
    node: LiveNode, function: str, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    known = len(node.rows(function))
    connection = node.begin(function, path=str(path))
    eventually(lambda: path.exists() and path.read_text() == "begun", "the call to run")
    (pid,) = node.pids(function)
    connection.close()
    eventually(lambda: path.read_text() == "stopped", "the call to be stopped")
    (row,) = eventually(lambda: node.rows(function)[known:], "its row")
    assert (row.status, row.error) == ("cancelled", "CallCancelled")
    eventually(lambda: node.states(function) == ["ready"], "the replica to be free")
    assert node.pids(function) == {pid}


def test_a_client_that_goes_away_while_it_waits_leaves_the_queue(
    node: LiveNode, tmp_path: Path
) -> None:
    rows = len(node.rows("count-runs"))
    path = tmp_path / "runs"
    running = [node.begin("count-runs", path=str(path), seconds=1.5) for _ in range(2)]
    eventually(lambda: path.exists() and path.read_text() == "xx", "both replicas to be busy")
    waiting = node.begin("count-runs", path=str(tmp_path / "never"))
    depth = ("dsfn_queue_depth", {"function": "count-runs"})
    eventually(lambda: node.metric(depth[0], **depth[1]) == 1, "the third to wait")
    waiting.close()
    eventually(lambda: node.metric(depth[0], **depth[1]) == 0, "it to leave")
    for connection in running:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.close()
    assert not (tmp_path / "never").exists()
    assert len(node.rows("count-runs")) == rows + 2
