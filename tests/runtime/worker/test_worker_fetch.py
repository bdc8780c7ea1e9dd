from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dsfn.functions.errors import CorruptBlob, InvalidInput, NotFound, PayloadTooLarge
from dsfn.runtime.worker.fetch import Fetcher

DATA = b"a blob"
HEX = sha256(DATA).hexdigest()


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/picture")
            self.end_headers()
        elif self.path == "/picture":
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
        else:
            self.send_error(404 if self.path == "/gone" else 500)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to be said."""


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    path = tmp_path / HEX[:2] / HEX
    path.parent.mkdir()
    path.write_bytes(DATA)
    return tmp_path


def test_a_blob_is_read_with_its_type_where_it_is_known(blobs: Path) -> None:
    fetch = Fetcher(blobs, 1000)
    assert fetch(f"blob:sha256:{HEX}") == (DATA, "application/octet-stream")
    (blobs / HEX[:2] / f"{HEX}.type").write_text("text/plain\n")
    assert fetch(f"blob:sha256:{HEX}") == (DATA, "text/plain")


def test_a_blob_that_is_not_there_is_not_found(blobs: Path) -> None:
    with pytest.raises(NotFound):
        Fetcher(blobs, 1000)(f"blob:sha256:{'cd' * 32}")


@pytest.mark.parametrize("bytes_", [b"a blub", b"a blo", b"a blob and more", b""])
def test_a_damaged_blob_is_refused_by_its_name(blobs: Path, bytes_: bytes) -> None:
    (blobs / HEX[:2] / HEX).write_bytes(bytes_)
    with pytest.raises(CorruptBlob, match=f"blob:sha256:{HEX} is damaged") as caught:
        Fetcher(blobs, 1000)(f"blob:sha256:{HEX}")
    assert caught.value.fields == {"blob": HEX}


def test_a_large_blob_is_in_memory_once(blobs: Path) -> None:
    large = bytes(50_000_000)
    digest = sha256(large).hexdigest()
    (blobs / digest[:2]).mkdir(exist_ok=True)
    (blobs / digest[:2] / digest).write_bytes(large)
    tracemalloc.start()
    data, _ = Fetcher(blobs, 1 << 30)(f"blob:sha256:{digest}")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data == large
    assert peak_bytes < 1.1 * len(large)


@pytest.mark.parametrize("reference", ["/etc/passwd", "file:///etc/passwd", "blob:sha256:../x", ""])
def test_nothing_but_blobs_and_the_web_can_be_referred_to(blobs: Path, reference: str) -> None:
    with pytest.raises(InvalidInput, match="not a blob"):
        Fetcher(blobs, 1000)(reference)


@pytest.mark.parametrize("path", ["picture", "moved"])
def test_the_web_is_fetched_with_its_type(blobs: Path, web: str, path: str) -> None:
    assert Fetcher(blobs, 1000)(f"{web}/{path}") == (b"x" * 1000, "image/png")


def test_what_is_too_large_is_not_fetched(blobs: Path, web: str) -> None:
    with pytest.raises(PayloadTooLarge):
        Fetcher(blobs, 999)(f"{web}/picture")
    with pytest.raises(PayloadTooLarge):
        Fetcher(blobs, 5)(f"blob:sha256:{HEX}")


def test_a_failing_server_is_told_apart_from_a_missing_page(blobs: Path, web: str) -> None:
    with pytest.raises(NotFound):
        Fetcher(blobs, 1000)(f"{web}/gone")
    with pytest.raises(InvalidInput, match="500"):
        Fetcher(blobs, 1000)(f"{web}/broken")
    with pytest.raises(InvalidInput, match="cannot be fetched"):
        Fetcher(blobs, 1000)("http://127.0.0.1:1/")
