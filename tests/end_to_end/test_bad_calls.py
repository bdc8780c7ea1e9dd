"""What a caller does wrong: each time a 4xx that says what, and the function goes on."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import PIL.Image
import pytest
from live_node import APPS, LiveNode

JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
LIMIT = 4 << 20


def png() -> bytes:
    out = io.BytesIO()
    PIL.Image.effect_noise((64, 48), 90).save(out, "PNG")
    return out.getvalue()


def huge_png() -> bytes:
    """A small file that says it is a picture of 200 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack("!I", zlib.crc32(kind + data))
        return struct.pack("!I", len(data)) + kind + data + check

    header = struct.pack("!IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(20_001) * 100)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "calls.py")


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must have this status and type."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"https://dsfn.dev/errors/{slug}")
    assert document["status"] == status
    assert document["title"] and document["detail"].endswith(".")
    return document


@pytest.mark.parametrize(
    ("function", "body", "status", "slug", "field"),
    [
        ("order", b'{"customer": "a"}', 422, "invalid-input", "lines"),
        ("order", b"{}", 422, "invalid-input", "customer"),
        ("order", b"", 422, "invalid-input", "customer"),
        ("order", b'{"customer": 7, "lines": []}', 422, "invalid-input", "customer"),
        (
            "order",
            b'{"customer": "a", "lines": [{"article": "b", "count": "many"}]}',
            422,
            "invalid-input",
            "lines.0.count",
        ),
        (
            "order",
            b'{"customer": "a", "lines": [], "colour": 1}',
            422,
            "invalid-input",
            "colour",
        ),
        (
            "order",
            b'{"customer": "a", "lines": [], "discount": NaN}',
            422,
            "invalid-input",
            "discount",
        ),
        ("order", b'{"customer": "a", "lines": [', 400, "malformed-body", "body"),
        ("order", b"[1, 2]", 422, "invalid-input", "body"),
        ("order", b'{"customer": "\xff", "lines": []}', 400, "malformed-body", "body"),
        ("anything", b'{"value": {"x": [1, NaN]}}', 422, "invalid-input", "value.x.1"),
        ("anything", b'{"value": 1e999}', 422, "invalid-input", "value"),
        ("anything", b'{"value": -Infinity}', 422, "invalid-input", "value"),
        (
            "anything",
            b'{"value": ' + b"[" * 5000 + b"]" * 5000 + b"}",
            422,
            "invalid-input",
            "value",
        ),
        (
            "anything",
            b'{"value": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
            422,
            "invalid-input",
            "value",
        ),
        ("measure", b'{"picture": "not base64!"}', 422, "invalid-input", "picture"),
        (
            "measure",
            b'{"picture": {"$ref": "blob:sha256:' + b"0" * 64 + b'"}}',
            422,
            "invalid-input",
            "picture",
        ),
        (
            "measure",
            b'{"picture": {"$ref": "file:///etc/passwd"}}',
            422,
            "invalid-input",
            "picture",
        ),
    ],
)
def test_json_that_does_not_fit_is_refused_and_names_the_field(
    node: LiveNode, function: str, body: bytes, status: int, slug: str, field: str
) -> None:
    answer = node.http.post(f"/functions/{function}", content=body, headers=JSON)
    found = problem(answer, status, slug)
    assert found["field"] == field
    assert found["instance"] == answer.headers["dsfn-invocation-id"]
    assert node.row(answer).status == "rejected"
    assert node.value("order", customer="a", lines=[{"article": "b", "count": 2}]) == 2


def test_a_wrong_content_type_is_refused_and_says_what_is_taken(node: LiveNode) -> None:
    answer = node.http.post(
        "/functions/order", content=b"a=1", headers={"Content-Type": "text/plain"}
    )
    found = problem(answer, 415, "unsupported-media-type")
    assert found["field"] == "body"
    assert "application/json" in found["expected"]
    answer = node.http.post(
        "/functions/measure", content=b"hello", headers={"Content-Type": "text/plain"}
    )
    found = problem(answer, 415, "unsupported-media-type")
    assert found["field"] == "picture"
    assert "image/*" in found["expected"]


@pytest.mark.parametrize(
    ("picture", "word"),
    [
        (png()[:-200], "truncated"),
        (png()[:20], "image"),
        (b"", "image"),
        (b"hello", "image"),
        (huge_png(), "large"),
    ],
    ids=["truncated", "a header only", "nothing", "text", "200 megapixels"],
)
def test_a_bad_picture_is_refused_and_names_the_field(
    node: LiveNode, picture: bytes, word: str
) -> None:
    answer = node.http.post("/functions/measure", content=picture, headers=PNG)
    found = problem(answer, 422, "invalid-input")
    assert found["field"] == "picture"
    assert word in found["detail"]
    assert node.http.post("/functions/measure", content=png(), headers=PNG).json() == [64, 48]


def test_a_form_is_refused_field_by_field(node: LiveNode) -> None:
    def send(**files: bytes) -> httpx.Response:
        return node.http.post(
            "/functions/overlay",
            files={name: (f"{name}.png", data, "image/png") for name, data in files.items()},
        )

    good = send(below=png(), above=png())
    assert (good.status_code, good.json()) == (200, "(64, 48) over (64, 48)")
    assert problem(send(below=png()), 422, "invalid-input")["field"] == "above"
    assert problem(send(below=png(), above=png()[:-99]), 422, "invalid-input")["field"] == "above"
    strange = send(below=png(), above=png(), beside=png())
    assert problem(strange, 422, "invalid-input")["field"] == "beside"
    content_type = {"Content-Type": "multipart/form-data; boundary=x"}
    cut = node.http.post("/functions/overlay", content=b"--x\r\nConte", headers=content_type)
    assert problem(cut, 400, "malformed-body")["field"] == "body"


def test_a_body_over_the_limit_is_refused_before_it_has_come(node: LiveNode) -> None:
    answer = node.http.post("/functions/measure", content=bytes(LIMIT + 1), headers=PNG)
    found = problem(answer, 413, "payload-too-large")
    assert (found["field"], found["limit_bytes"]) == ("body", LIMIT)


def test_a_body_that_grows_over_the_limit_is_refused(node: LiveNode) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(1 << 20)

    answer = node.http.post("/functions/measure", content=chunks(), headers=PNG)
    found = problem(answer, 413, "payload-too-large")
    assert (found["field"], found["limit_bytes"]) == ("body", LIMIT)
    exact = node.http.post(
        "/functions/shout", content=b"a" * LIMIT, headers={"Content-Type": "text/plain"}
    )
    assert exact.status_code == 200
    assert len(exact.content) == LIMIT


def test_an_unknown_function_is_not_found_and_leaves_no_row(node: LiveNode) -> None:
    answer = node.call("no-such-function", text="a")
    found = problem(answer, 404, "not-found")
    assert (found["kind"], found["name"]) == ("function", "no-such-function")
    assert node.rows_of(answer.headers["dsfn-invocation-id"]) == []
    later = node.http.post("/functions/no-such-function", headers={"Prefer": "respond-async"})
    assert problem(later, 404, "not-found")["name"] == "no-such-function"


def test_an_answer_that_the_client_does_not_take_is_refused(node: LiveNode) -> None:
    headers = {"Accept": "audio/*"}
    answer = node.http.post("/functions/order", json={}, headers=headers)
    found = problem(answer, 406, "not-acceptable")
    assert found["available"] == ["application/json"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/functions/echo/nothing", 404),
        ("GET", "/nothing", 404),
        ("PATCH", "/functions/echo", 405),
        ("GET", "/invocations/nothing", 404),
        ("GET", "/invocations/nothing/result", 404),
        ("GET", "/blobs/nothing", 404),
        ("DELETE", "/functions/nothing", 404),
        ("DELETE", "/subscriptions/nothing", 404),
        ("GET", "/functions/nothing/logs", 404),
        ("GET", "/functions/echo/logs?since=yesterday", 422),
        ("GET", "/bill?month=2026-13", 400),
        ("GET", "/bill?by=weather", 400),
        ("GET", "/bill?moth=2025-01", 422),
        ("GET", "/invoices?tenants=acme", 422),
        ("GET", "/cost/advice?fro=last+month", 422),
        ("GET", "/runs?status=failed", 422),
        ("GET", "/status?format=json", 422),
        ("GET", "/functions/echo/logs?folow=true", 422),
        ("GET", "/budgets?tenants=acme", 422),
        ("DELETE", "/functions/echo?force=true", 422),
        ("GET", "/rates/nothing", 404),
        ("GET", "/rates/0", 404),
        ("POST", "/rates", 422),
        ("POST", "/deployments", 422),
        ("POST", "/deployments?entry=app.py", 415),
        ("POST", "/events", 415),
        ("POST", "/subscriptions", 400),
        ("PUT", "/functions/echo/traffic", 422),
    ],
)
def test_every_other_wrong_request_gets_a_problem_too(
    node: LiveNode, method: str, path: str, status: int
) -> None:
    answer = node.http.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize("length", ["-1", "ten", "5, 5", "99999999999999999999999"])
def test_a_content_length_that_is_none_gets_an_answer_and_breaks_nothing(
    node: LiveNode, length: str
) -> None:
    answer = node.raw(
        b"POST /functions/echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + length.encode() + b"\r\n\r\n{}"
    )
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), answer
    assert node.value("echo", text="a") == "a"
