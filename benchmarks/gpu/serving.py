"""The systems of `many_models`: each serves all functions at one address."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.gpu.node import Node, gpu_node
from benchmarks.gpu.scene import Scene
from benchmarks.harness import ROOT, console
from benchmarks.processes import free_port, request, running, wait_for_answer
from benchmarks.systems import deploy

# Ten minutes are pressed into the seconds of a run, and so is what a function waits for.
PRESSED_S = 600.0
PARK_AFTER_S = 60.0
DEPLOYS = 3
_APP = ROOT / "benchmarks" / "app" / "chain.py"


@contextmanager
def dsfn(scene: Scene) -> Iterator[int]:
    """A node with every function deployed; gives its port. Its snapshots stay for the others."""
    arena_bytes = len(scene.functions) * (scene.shape.size_bytes + (1 << 20)) + (64 << 20)
    lines = ["[gpu]", f'devices = ["{scene.device}"]', f"arena = {arena_bytes}"]
    if not scene.device.startswith("cuda"):
        lines += ["reserve = 0", "context = 0"]
    with gpu_node(scene.directory, lines) as node:
        with ThreadPoolExecutor(DEPLOYS) as pool:
            list(pool.map(partial(_deploy, node, scene), range(len(scene.functions))))
        files = {name: str(_slab(node, name)) for name in scene.functions}
        _files(scene).write_text(json.dumps(files), encoding="utf-8")
        yield node.port


@contextmanager
def on_demand(scene: Scene) -> Iterator[int]:
    """A process for each model, loaded when it is called."""
    with _processes(scene, None) as port:
        yield port


@contextmanager
def static(scene: Scene) -> Iterator[int]:
    """As many processes as fit, for the models that will be asked most, which nobody knows in
    advance. Calls of the others are refused."""
    counts = Counter(arrival.function for arrival in scene.arrivals)
    with _processes(scene, [name for name, _ in counts.most_common(scene.fit)]) as port:
        yield port


SYSTEMS: Mapping[str, Callable[[Scene], AbstractContextManager[int]]] = {
    "dsfn": dsfn,
    "process on demand": on_demand,
    "static": static,
}


def _deploy(node: Node, scene: Scene, number: int) -> None:
    began_s = time.monotonic()
    deploy(node.port, _source(scene, number))
    name, took_s = scene.functions[number], time.monotonic() - began_s
    console.print(f"{name} is deployed after {took_s:.1f} s")


def _source(scene: Scene, number: int) -> Path:
    """A function's source with a seed, a size and options of its own."""
    name, shape = scene.functions[number], scene.shape
    changes = {
        'name="chain"': f'name="{name}"',
        'park_after="60s"': f"park_after={PARK_AFTER_S * scene.seconds / PRESSED_S}",
        "= 0, 4, 64": f"= {number}, {shape.layers}, {shape.width}",
    }
    text = _APP.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = scene.directory / f"{name.replace('-', '_')}.py"
    path.write_text(text, encoding="utf-8")
    return path


def _slab(node: Node, name: str) -> Path:
    """The file with a function's weights."""
    document = json.loads(request(node.port, "GET", f"/functions/{name}").body)
    digest: str = document["snapshot"]["digest"]
    snapshot = node.directory / "data" / "snapshots" / digest
    return max(snapshot.glob("*.safetensors"), key=lambda path: path.stat().st_size)


def _files(scene: Scene) -> Path:
    return scene.directory / "files.json"


@contextmanager
def _processes(scene: Scene, fixed: Sequence[str] | None) -> Iterator[int]:
    files = json.loads(_files(scene).read_bytes())
    config, log = scene.directory / "processes.json", scene.directory / "processes.log"
    document = {"files": files, "capacity": scene.fit, "fixed": fixed}
    config.write_text(json.dumps(document), encoding="utf-8")
    port = free_port()
    command = (sys.executable, "-m", "benchmarks.peers.on_demand", str(config), str(port))
    with running(command, ROOT, {}, log) as server:
        wait_for_answer(server, log, port, "/functions", None)
        yield port
