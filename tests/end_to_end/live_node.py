"""A real node in a process of its own, and what a test may do with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import apsw
import httpx
from deadlines import eventually
from plain_http import plain_client

from dsfn.billing.entry import Entry, interval_of, usage_of
from dsfn.billing.interval import Interval
from dsfn.billing.spool import rows_in
from dsfn.billing.usage import Usage
from dsfn.runtime.deploy.bundle import BUNDLE_CONTENT_TYPE, pack
from dsfn.runtime.libraries import LIBRARIES

APPS = Path(__file__).parent / "apps"
SHARED_MEMORY = Path("/dev/shm")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 90.0
# How long calls wait for a replica where a test says nothing else: on a machine that runs many
# tests at once a process may need as long to start.
QUEUE_TIMEOUT_S = 80.0
_MARK = "DSFN_TEST_MARK"
_UP = ("-m", "dsfn", "up")
_INTERVALS = (
    "SELECT * FROM entries WHERE lease = ?1"
    " AND kind IN ('held', 'restore', 'idle') AND source = 'interval' ORDER BY seq"
)
_ROWS = "SELECT * FROM entries WHERE kind = 'usage' AND ?1 IN ('', function) ORDER BY seq"

Document = dict[str, Any]
Table = Mapping[str, object]


class DeployFailed(Exception):
    """A deployment came to this problem."""

    def __init__(self, problem: Document) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


@dataclass(eq=False)
class LiveNode:
    """A node that was started by this test run. Its processes are known by a mark that they
    inherit, so that no other node on this machine is ever touched."""

    place: Path
    mark: str
    process: subprocess.Popen[bytes]
    url: str = ""
    http: httpx.Client = field(default_factory=lambda: plain_client("", CALL_TIMEOUT_S))

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.place / "data"

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.place / "node.log").read_text(encoding="utf-8")

    # What a client does.

    def client(self, key: str) -> httpx.Client:
        """A client of its own with an API key."""
        headers = {"Authorization": f"Bearer {key}"}
        return plain_client(self.url, CALL_TIMEOUT_S, headers)

    def deploy(self, path: Path, **terms: str) -> dict[str, Document]:
        """Deploys a file or directory, on the terms of a canary if there are some; the functions by
        name. Raises `DeployFailed`."""
        last = self.deploy_steps(path, **terms)[-1]
        if last["stage"] == "failed":
            raise DeployFailed(last["problem"])
        return {one["name"]: one for one in last["result"]}

    def deploy_steps(self, path: Path, **terms: str) -> list[Document]:
        """Deploys a file or directory; every step that the node told of."""
        bundle = pack(path)
        answer = self.http.post(
            "/deployments",
            params={"entry": bundle.entry, **terms},
            content=bundle.data,
            headers={"Content-Type": BUNDLE_CONTENT_TYPE},
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def call(self, function: str, /, **arguments: object) -> httpx.Response:
        """Calls a function with JSON arguments."""
        return self.http.post(f"/functions/{function}", json=arguments)

    def value(self, function: str, /, **arguments: object) -> Any:
        """What a call gives, which must work."""
        answer = self.call(function, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def describe(self, function: str) -> Document:
        """All that the node tells of a function."""
        answer = self.http.get(f"/functions/{function}")
        assert answer.status_code == 200, answer.text
        document: Document = answer.json()
        return document

    def states(self, function: str) -> list[str]:
        """The states of a function's replicas."""
        return [replica["state"] for replica in self.describe(function)["replicas"]]

    def pids(self, function: str) -> set[int]:
        """The processes of a function's replicas."""
        return {replica["pid"] for replica in self.describe(function)["replicas"]}

    def metric(self, name: str, **labels: str) -> float:
        """One number of /metrics; 0 while it is not there."""
        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        head = f"{name}{{{pairs}}}" if labels else name
        found = re.search(rf"^{re.escape(head)} (\S+)$", self.http.get("/metrics").text, re.M)
        return float(found[1]) if found else 0.0

    def memory(self) -> Document:
        """What the memory owner holds, once there is one."""

        def found() -> Document | None:
            document: Document | None = self.http.get("/status").json()["memory"]
            return document

        document = eventually(found, "a memory owner")
        assert document is not None
        return document

    def park(self, function: str, to: str = "parked") -> None:
        """Has the replicas at rest of a function give up what they hold."""
        answer = self.http.post(f"/functions/{function}/park", json={"to": to})
        assert answer.status_code == 200, answer.text

    def begin(self, function: str, /, **arguments: object) -> socket.socket:
        """Sends a call and does not wait; closing the socket is to go away."""
        body = json.dumps(arguments).encode()
        head = (
            f"POST /functions/{function} HTTP/1.1\r\nHost: node\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection = self.connect()
        connection.sendall(head.encode() + body)
        return connection

    def raw(self, request: bytes) -> bytes:
        """Sends bytes as they are; the first that come back."""
        with self.connect() as connection:
            connection.sendall(request)
            return connection.recv(1 << 16)

    def connect(self) -> socket.socket:
        """A connection on which nothing has been asked yet."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return socket.create_connection((url.host, url.port), CALL_TIMEOUT_S)

    # What only this machine's owner sees.

    def be_owner(self) -> None:
        """Has `http` send the key that the node wrote for its owner."""
        key = (self.data / "node.key").read_text(encoding="utf-8")
        self.http.headers["Authorization"] = f"Bearer {key}"

    def rows(self, function: str = "") -> list[Usage]:
        """The rows of the ledger, of one function or of all, in the order of posting, and those
        that wait for it: a node that was killed, or has no room, posts them later."""
        waiting = [row for row in rows_in(self.data) if isinstance(row, Usage)]
        with closing(apsw.Connection(str(self.data / "ledger.db"))) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.set_busy_timeout(5000)
            rows = [
                usage_of(Entry._make(row[2:-1])) for row in connection.execute(_ROWS, (function,))
            ]
        of_it = [row for row in waiting if function in ("", row.function)]
        return rows + [row for row in of_it if row not in rows]

    def settled(self) -> None:
        """Returns when no row waits for the ledger."""
        assert eventually(lambda: not rows_in(self.data), "all rows to be posted")

    def row(self, answer: httpx.Response) -> Usage:
        """The one row of a call."""
        (row,) = self.rows_of(answer.headers["dsfn-invocation-id"])
        return row

    def rows_of(self, invocation: str) -> list[Usage]:
        """The rows of an invocation: never more than one."""
        return [row for row in self.rows() if row.invocation_id == invocation]

    def intervals(self, lease: str) -> list[Interval]:
        """The rows of a lease that are no call's, in the order of posting."""
        self.settled()
        with closing(apsw.Connection(str(self.data / "ledger.db"))) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.set_busy_timeout(5000)
            return [
                interval_of(Entry._make(row[2:-1]))
                for row in connection.execute(_INTERVALS, (lease,))
            ]

    def processes(self) -> set[int]:
        """The living processes of this node, its workers and all that they started."""
        wanted = f"{_MARK}={self.mark}".encode()
        found = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = environ.read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended meanwhile
            if wanted in variables:
                found.add(int(environ.parent.name))
        return found

    def _is_gone(self) -> bool:
        """Whether it has no process any more. One that is just being started shows no mark for
        a moment: hence the second look."""
        if self.processes():
            return False
        time.sleep(0.1)
        return not self.processes()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code once it has ended."""
        code = self.process.wait(STOP_TIMEOUT_S)
        self.http.close()
        return code

    def kill(self) -> None:
        """kill -9, and waits until the kernel has taken all its processes."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self.http.close()
        eventually(self._is_gone, "the processes of a killed node to end")

    def end(self) -> None:
        """Ends it if it still lives, however that can be done."""
        if self.process.poll() is None:
            self.kill()


class StartNode(Protocol):
    """Starts a node of a test's own; the same place again is the same data directory."""

    def __call__(
        self,
        place: Path | None = None,
        *,
        gpu: Table | None = None,
        snapshots: Table | None = None,
        blobs: Table | None = None,
        auth: Table | None = None,
        billing: Table | None = None,
        libraries: Sequence[str] = LIBRARIES,
        **limits: float,
    ) -> LiveNode: ...


def start_node(
    place: Path,
    *,
    port: int = 0,
    gpu: Table | None = None,
    snapshots: Table | None = None,
    blobs: Table | None = None,
    auth: Table | None = None,
    billing: Table | None = None,
    libraries: Sequence[str] = LIBRARIES,
    **limits: float,
) -> LiveNode:
    """Starts a node whose data directory is `place`/data and waits until it takes calls."""
    node = launch(
        place,
        port=port,
        gpu=gpu,
        snapshots=snapshots,
        blobs=blobs,
        auth=auth,
        billing=billing,
        libraries=libraries,
        program=_UP,
        variables={},
        **limits,
    )
    return once_ready(node)


def once_ready(node: LiveNode) -> LiveNode:
    """A node that was launched, once it takes calls."""
    try:
        eventually(lambda: _is_ready(node), "the node to take calls", START_TIMEOUT_S)
    except BaseException:
        node.end()
        raise
    return node


def launch(
    place: Path,
    *,
    port: int = 0,
    gpu: Table | None = None,
    snapshots: Table | None = None,
    blobs: Table | None = None,
    auth: Table | None = None,
    billing: Table | None = None,
    libraries: Sequence[str] = LIBRARIES,
    program: Sequence[str] = _UP,
    variables: Mapping[str, str] = MappingProxyType({}),
    **limits: float,
) -> LiveNode:
    """Starts a node and does not wait. `gpu`, `snapshots`, `blobs`, `auth`, `billing`: what these
    tables say; without the first it uses no GPU. `libraries`: what workers are born with; without
    torch, which takes 2 s to import, where no function uses it and none is a class, whose snapshot
    needs it. `program`: what Python is to run as the node, with these `variables`."""
    data = place / "data"
    data.mkdir(parents=True, exist_ok=True)
    (place / "tmp").mkdir(exist_ok=True)
    tables: dict[str, Table] = {
        "limits": {"queue_timeout_s": QUEUE_TIMEOUT_S, **limits},
        "gpu": gpu or {"devices": []},
        "snapshots": snapshots or {},
        "blobs": blobs or {},
        "auth": auth or {},
        "billing": billing or {},
    }
    lines = [f"libraries = {json.dumps(list(libraries))}"]
    lines += [
        line
        for table, values in tables.items()
        for line in (f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items()))
    ]
    (data / "config.toml").write_text("\n".join(lines), encoding="utf-8")
    mark = uuid.uuid4().hex
    with (place / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *program, "--port", str(port), "--data", str(data)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment({**variables, _MARK: mark, "TMPDIR": str(place / "tmp")}),
            start_new_session=True,
        )
    return LiveNode(place, mark, process)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with only these of dsfn's own variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DSFN_")}
    return {**kept, **variables}


def left_in_shared_memory(before: set[Path]) -> set[Path]:
    """The shared memory that came since and no living process has mapped: what others on this
    machine made meanwhile, tests that run beside this one among them, is in use; what PostgreSQL
    makes for a query lives shorter than this looks."""
    files = filter(Path.is_file, SHARED_MEMORY.iterdir())
    came = {path for path in files if not path.name.startswith("PostgreSQL.")} - before
    return came - _mapped_files() if came else came


def _mapped_files() -> set[Path]:
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            continue  # it has ended meanwhile
        found |= {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}
    return found


def _is_ready(node: LiveNode) -> bool:
    assert node.process.poll() is None, f"The node ended while it started:\n{node.log}"
    try:
        told = json.loads((node.data / "node.json").read_bytes())
    except (OSError, ValueError):
        return False
    if told["pid"] != node.process.pid:
        return False
    if not node.url:
        node.url = told["url"]
        node.http = plain_client(node.url, CALL_TIMEOUT_S)
    try:
        return node.http.get("/health/readiness").status_code == 200
    except httpx.TransportError:
        return False
