"""A node with GPUs, or stand-ins for them, as `coldstart_gpu` needs it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.gpu.models import MODELS
from benchmarks.harness import ROOT
from benchmarks.processes import request
from benchmarks.systems import deploy, node

LAST_LINES = 20
PATIENCE_S = 60.0
_APP = ROOT / "benchmarks" / "app" / "models.py"


@dataclass(frozen=True, slots=True)
class Timed:
    """One call: what the client waited, and what the node says of it; milliseconds."""

    total_ms: float
    phases_ms: Mapping[str, float]
    answer: Any

    @property
    def was_cold(self) -> bool:
        """Whether the function's weights had to be brought back."""
        return self.phases_ms.get("start", 0) + self.phases_ms.get("restore", 0) > 0


@dataclass(frozen=True, slots=True)
class Node:
    """A running node at `port`, with everything that it needs in `directory`."""

    port: int
    directory: Path

    def deploy(self, model: str) -> None:
        """Deploys one of the models alone. Raises `CalledProcessError`."""
        place = self.directory / "sources" / model
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(_APP, place)
        entry = place / f"{model}_function.py"
        entry.write_text(f"from models import {MODELS[model].function.__name__}  # noqa: F401\n")
        deploy(self.port, entry)

    def call(self, model: str) -> Timed:
        """Asks a model, over a connection of its own. Raises `RuntimeError` unless it answers."""
        body, content_type = MODELS[model].request()
        began_ns = time.perf_counter_ns()
        answer = request(self.port, "POST", f"/functions/{model}", body, content_type)
        total_ms = (time.perf_counter_ns() - began_ns) / 1e6
        if answer.status != 200:
            raise RuntimeError(f"{model} answered {answer.status}: {answer.body[:300]!r}")
        phases = phases_ms(answer.headers["server-timing"])
        return Timed(total_ms, phases, json.loads(answer.body))

    def park(self, model: str, to: str) -> None:
        """Has all replicas of a model leave: to "parked", "frozen" or "absent"."""
        body, path = json.dumps({"to": to}).encode(), f"/functions/{model}/park"
        answer = request(self.port, "POST", path, body)
        if answer.status != 200:
            raise RuntimeError(f"{model} cannot be {to}: {answer.status} {answer.body[:300]!r}")

    def memory(self) -> Mapping[str, Any]:
        """The memory owner's account."""
        found: Mapping[str, Any] = json.loads(request(self.port, "GET", "/status").body)["memory"]
        return found

    def kept_bytes(self) -> int:
        """What came out of a GPU's memory so far, instead of over a link."""
        return sum(link["kept_bytes"] for link in self.memory()["links"])

    def wait_until_coded(self, slabs: int) -> None:
        """Raises `RuntimeError` when so many slabs are not coded in time."""
        self._wait(lambda memory: memory["coded_slabs"] >= slabs, f"{slabs} slabs are not coded")

    def wait_until_warm(self) -> None:
        """Until the first GPU has a worker with a context again: what makes one takes processors
        and bus. Raises `RuntimeError`."""
        self._wait(lambda memory: memory["warm"][0] > 0, "there is no warm worker")

    def _wait(self, holds: Callable[[Mapping[str, Any]], bool], lack: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds(self.memory()):
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{lack} after {PATIENCE_S:g} s")
            time.sleep(0.1)


@contextmanager
def gpu_node(
    directory: Path, config: Sequence[str], variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Node]:
    """A node whose configuration are these lines. Its data, and what is deployed, stay there.

    What goes wrong inside the block comes with the node's last words.
    """
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "config.toml").write_text("\n".join((*config, "")), encoding="utf-8")
    with node(directory, variables) as port:
        try:
            yield Node(port, directory)
        except Exception as error:
            words = (directory / "log").read_text(errors="replace").splitlines()[-LAST_LINES:]
            error.add_note("\n".join(("The node's log:", *words)))
            raise


def phases_ms(header: str) -> dict[str, float]:
    """Reads a `Server-Timing` header."""
    entries = (entry.strip().partition(";dur=") for entry in header.split(","))
    return {name: float(duration) for name, _, duration in entries}
