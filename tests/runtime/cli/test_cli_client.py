"""The client against servers that answer as a node should not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cli_runs import Dsfn

from dsfn.functions.errors import DsfnError, HandlerRaised, Unavailable, UsageError
from dsfn.runtime.cli.client import Client
from dsfn.runtime.cli.ways import Reached, Way, add_way
from dsfn.runtime.problem_reading import problem_error


@contextmanager
def _server(answer: bytes) -> Iterator[str]:
    """Sends these bytes to whoever connects, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


def _http(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_a_page_that_is_no_nodes_is_one_sentence() -> None:
    with _server(_http("200 OK", "text/html", b"<p>Hello")) as url, Client(url) as client:
        with pytest.raises(DsfnError, match="answer is not JSON"):
            client.status()


@pytest.mark.parametrize("body", [b"<p>No", b"[]", b"{}"])
def test_an_error_that_is_no_problem_document_is_one_sentence(body: bytes) -> None:
    with _server(_http("404 Not Found", "text/html", body)) as url, Client(url) as client:
        with pytest.raises(DsfnError, match="answered with HTTP status 404"):
            client.functions()


def test_a_connection_that_breaks_is_one_sentence() -> None:
    half = _http("200 OK", "application/json", b'{"functions": []}')[:-5]
    with _server(half) as url, Client(url) as client:
        with pytest.raises(Unavailable, match="broke before the answer was complete"):
            client.functions()


def test_what_a_broken_connection_may_have_changed_is_said_to_be_unknown() -> None:
    step = b'{"stage": "setup", "function": "a", "message": "Running."}\n'
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = f"{len(step):x}\r\n".encode() + step + b"\r\n"
    with _server(head + chunk) as url, Client(url) as client:
        with pytest.raises(Unavailable, match=r"complete\. It may have done what it was asked"):
            list(client.deploy(b"", "app.py", {}))


def test_a_stream_that_breaks_is_one_sentence() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with _server(head + b'd\r\n{"text": "a"}\n\r\n') as url, Client(url) as client:
        with pytest.raises(Unavailable, match="broke before the answer was complete"):
            list(client.logs("a", None, follow=True))


@pytest.mark.parametrize("url", ["", "localhost:8700", "ftp://localhost", "http://", "http://a b"])
def test_a_url_that_is_none_is_a_usage_mistake(url: str) -> None:
    with pytest.raises(UsageError, match=r"and not an http\(s\) URL"):
        Client(url)


def test_a_problem_becomes_its_own_class_of_error_with_its_fields() -> None:
    error = problem_error(
        {
            "type": "https://dsfn.dev/errors/handler-raised",
            "title": "Handler raised",
            "status": 500,
            "detail": "It raised.",
            "instance": "i",
            "exception": "ValueError",
        }
    )
    assert isinstance(error, HandlerRaised)
    assert error.message == "It raised."
    assert error.fields == {"instance": "i", "exception": "ValueError"}


def test_a_problem_of_an_unknown_type_is_still_its_sentence() -> None:
    error = problem_error({"type": "about:blank", "detail": "No."})
    assert (type(error), error.message) == (DsfnError, "No.")


def test_what_a_deployment_needs_elsewhere_is_prepared_before_it_is_sent(dsfn: Dsfn) -> None:
    wanted: list[frozenset[str]] = []

    def prepare(requirements: frozenset[str]) -> None:
        wanted.append(requirements)
        raise UsageError("There is nothing to build with.")

    @contextmanager
    def way(url: str) -> Iterator[Reached]:
        yield Reached("http://127.0.0.1:9", prepare=prepare)

    add_way("elsewhere", Way(way, require_url=str))
    there, app = dsfn.given(DSFN_URL="elsewhere://here"), dsfn.directory / "app.py"
    app.write_text("import dsfn\n\n@dsfn.function\ndef a() -> int:\n    return 1\n")
    assert "No node answers" in there("deploy", str(app)).err and wanted == []
    app.write_text(app.read_text().replace("function", "function(requirements=['b==2', 'c'])"))
    run = there("deploy", str(app))
    assert (run.code, run.err) == (2, "There is nothing to build with.\n")
    assert wanted == [{"b==2", "c"}]
