"""A real S3 server over a directory, for the tests that need one."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

HOW_TO_GET_IT = (
    "put the program `versitygw` (https://github.com/versity/versitygw/releases) on PATH"
)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    # What a developer has set up for other work must not be looked at.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_START_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class S3Server:
    """The server: buckets are the directories of `root`."""

    root: Path
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self) -> str:
        """A new empty bucket; its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        (self.root / name).mkdir()
        return name

    def files(self, bucket: str) -> dict[str, Path]:
        """The objects of a bucket by key, as the files that they are kept in."""
        root = self.root / bucket
        found = (path for path in root.rglob("*") if path.is_file())
        keys = {str(path.relative_to(root)): path for path in found}
        return {key: path for key, path in keys.items() if not key.startswith(".sgwtmp")}

    def has_unfinished_uploads(self, bucket: str) -> bool:
        """Whether parts are kept of uploads that have not ended."""
        place = self.root / bucket / ".sgwtmp" / "multipart"
        return any(path.is_file() for path in place.rglob("*"))


@contextmanager
def s3_server(place: Path) -> Iterator[S3Server]:
    """Runs a server whose buckets lie below `place`."""
    port = free_port()
    root = place / "buckets"
    root.mkdir()
    command = ["versitygw", "--port", f"127.0.0.1:{port}", "posix", str(root)]
    roots = {
        "ROOT_ACCESS_KEY": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    with (place / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **roots}, cwd=place, stdout=log, stderr=log
        )
    try:
        _wait_for(port, process, place / "s3.log")
        yield S3Server(root, port)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
