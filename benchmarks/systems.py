"""The servers that `serve` measures: how each is started and asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from benchmarks.harness import ROOT
from benchmarks.peers.setup import environment
from benchmarks.processes import free_port, request, running, wait_for_answer

Workload = Literal["echo", "embed"]
WORKLOADS: tuple[Workload, ...] = ("echo", "embed")

SENTENCES = (
    "How do I reset my password?",
    "The invoice of last month has not arrived yet.",
    "Where can I see how much a function costs?",
    "A cat sleeps on the sofa while the rain falls outside.",
    "Bake the bread for an hour at two hundred degrees.",
    "The meeting is moved to Thursday at ten o'clock.",
    "Which model gives the best results on short texts?",
    "Interest rates rose for the third time this year.",
)
_PEERS = ROOT / "benchmarks" / "peers"
_SOURCES: Mapping[Workload, Path] = {
    "echo": ROOT / "benchmarks" / "app" / "echo.py",
    "embed": ROOT / "functions" / "library" / "embed.py",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A server in an environment of its own.

    `command`: its arguments after `bin/`, with {workload}, {service} and {port} to fill in.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """A server that answers: where to post what."""

    port: int
    path: str
    bodies: tuple[bytes, ...]


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "starlette",
            (
                *("uvicorn", "starlette_server:{workload}", "--port", "{port}"),
                *("--http", "httptools", "--loop", "uvloop"),
                *("--no-access-log", "--log-level", "warning"),
            ),
        ),
        Peer(
            "litserve",
            ("python", "litserve_server.py", "{workload}", "{port}"),
            {"OMP_NUM_THREADS": "1"},
        ),
        Peer(
            "bentoml",
            (
                *("bentoml", "serve", "bento_server:{service}"),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ),
            {"OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1"},
        ),
        Peer(
            "rayserve",
            ("python", "ray_server.py", "{workload}", "{port}"),
            {
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        ),
    )
}
SYSTEMS = ("dsfn", *PEERS)


@contextmanager
def serving(system: str, workload: Workload) -> Iterator[Target]:
    """Starts a system for one workload, and ends it. Its first answer is checked."""
    with tempfile.TemporaryDirectory(prefix="dsfn-bench-") as directory:
        if system == "dsfn":
            with _dsfn(workload, Path(directory)) as target:
                yield target
        else:
            with _peer(PEERS[system], workload, Path(directory)) as target:
                yield target


def check(workload: Workload, answer: bytes) -> None:
    """Raises `AssertionError` when the first body's answer is not right."""
    document: Any = json.loads(answer)
    if workload == "echo":
        assert document in ("hello", {"text": "hello"}), document
        return
    vector: Any = document["embedding"] if isinstance(document, dict) else document
    vector = vector[0] if isinstance(vector[0], list) else vector
    golden = _golden()
    assert len(vector) == len(golden), len(vector)
    assert max(abs(a - b) for a, b in zip(vector, golden, strict=True)) < 1e-5, vector[:4]


def bodies(workload: Workload) -> tuple[bytes, ...]:
    """What is posted, one after the other."""
    if workload == "echo":
        return (b'{"text":"hello"}',)
    return tuple(json.dumps({"texts": [s]}).encode() for s in SENTENCES)


def _golden() -> list[float]:
    """Sentence-transformers' embedding of the first sentence."""
    path = ROOT / "tests" / "functions" / "library" / "embeddings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vector: list[float] = document["embeddings"][document["texts"].index(SENTENCES[0])]
    return vector


@contextmanager
def _peer(peer: Peer, workload: Workload, directory: Path) -> Iterator[Target]:
    port, log = free_port(), directory / "log"
    fill = {"workload": workload, "service": workload.capitalize(), "port": str(port)}
    program, *arguments = (part.format_map(fill) for part in peer.command)
    tools = environment(peer.name) / "bin"
    variables = {
        **peer.variables,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    target = Target(port, "/predict", bodies(workload))
    with running((str(tools / program), *arguments), _PEERS, variables, log) as server:
        first = target.bodies[0]
        check(workload, wait_for_answer(server, log, port, target.path, first))
        yield target


@contextmanager
def node(directory: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[int]:
    """A node with its data in `directory` and these environment variables; gives its port."""
    with node_process(directory, variables) as (_, port):
        yield port


@contextmanager
def node_process(
    directory: Path, variables: Mapping[str, str] = MappingProxyType({}), module: str = "dsfn"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The same, or another module with its command line; gives its process too."""
    port, log = free_port(), directory / "log"
    command = (sys.executable, "-m", module, "up", "--port", str(port))
    data = ("--data", str(directory / "data"))
    with running((*command, *data), ROOT, variables, log) as server:
        wait_for_answer(server, log, port, "/health/readiness", None)
        yield server, port


def deploy(port: int, source: Path) -> None:
    """Deploys a file to the node at `port`."""
    subprocess.run(
        (sys.executable, "-m", "dsfn", "deploy", str(source), "--json"),
        env={**os.environ, "DSFN_URL": f"http://127.0.0.1:{port}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


@contextmanager
def _dsfn(workload: Workload, directory: Path) -> Iterator[Target]:
    with node(directory) as port:
        deploy(port, _SOURCES[workload])
        target = Target(port, f"/functions/{workload}", bodies(workload))
        answer = request(port, "POST", target.path, target.bodies[0])
        assert answer.status == 200, answer
        check(workload, answer.body)
        yield target
