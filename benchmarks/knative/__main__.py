"""Cold starts and deployments on Knative, against bare servers on the same cluster.

    python -m benchmarks.knative [--rounds 10]

A round waits until no Service has a pod, and calls each once through Knative's ingress: a function
without a model, one with 64 MB of weights in its snapshot, a bare HTTP server in Python, the same
without a token, and one in Go. An agent is on the node, as the platform has it. A deployment is
that of a change in the code, until the new revision is ready: `dsfn deploy`, and `kubectl apply` of
the bare server.

It needs KUBECONFIG, `kubectl` and `versitygw` (an S3 server) on PATH, and these variables:

    DSFN_FUNCTION_IMAGE      dsfn's images, as `make images` names them
    DSFN_CONTROL_IMAGE
    DSFN_TEST_HELLO_IMAGE    a bare server in Go, by default Knative's example
    DSFN_BENCH_PYTHON_IMAGE  any image with python3, by default dsfn's
    DSFN_TEST_HOST           an address of this machine that pods reach
    DSFN_TEST_GATEWAY        Knative's ingress, such as "http://127.0.0.1:31080"
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import Machine, Spread, console, save, show
from benchmarks.knative.cold import Cold, body_of, cold_call, wait_for_zero
from benchmarks.knative.place import Images, Place, place

APP = Path(__file__).parent / "app.py"
MODEL = Path(__file__).parent / "model.py"
# Without the token of a ServiceAccount, which Kubernetes mounts into every pod, and with it the
# kubelet's wait for volumes.
BARER = "python, no token"
GO = "ghcr.io/knative/helloworld-go:latest"
WITH_MODEL = "dsfn, 64 MB"
RESTORE = "answer: restore"
SYSTEMS = ("dsfn", WITH_MODEL, "python", BARER, "go")
DEPLOYMENTS = 5


@dataclass(frozen=True, slots=True)
class ColdRow:
    """Cold calls of one system, in milliseconds; `times_python`: the median, by that of the bare
    server in Python, and `times_python_beside_restore` without its restore."""

    system: str
    total: Spread
    phases: Mapping[str, Spread]
    times_python: float
    times_python_beside_restore: float


@dataclass(frozen=True, slots=True)
class DeployRow:
    """Deployments of a change until it is ready, in milliseconds."""

    system: str
    total: Spread
    times_python: float


def main() -> None:
    """Measures, prints and saves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    machine = Machine.this()
    console.print(machine.sentence())
    function = os.environ["DSFN_FUNCTION_IMAGE"]
    images = Images(
        function,
        os.environ.get("DSFN_TEST_HELLO_IMAGE", GO),
        os.environ.get("DSFN_BENCH_PYTHON_IMAGE", function),
        os.environ["DSFN_CONTROL_IMAGE"],
    )
    host, gateway = os.environ["DSFN_TEST_HOST"], os.environ["DSFN_TEST_GATEWAY"]
    with place(images, host, gateway) as here:
        deployments = _deployments(here)
        calls = _cold_calls(here, rounds)
    cold, deployed = _cold_rows(calls), _deploy_rows(deployments)
    _show(cold, deployed)
    path = save("knative", machine, {"rounds": rounds}, [*cold, *deployed])
    console.print(f"Saved to {path}.")


def _deployments(here: Place) -> dict[str, list[float]]:
    """The first one of each system is not of a change, and is left out."""
    found: dict[str, list[float]] = {"dsfn": [], "python": []}
    with TemporaryDirectory() as directory:
        source = Path(directory) / "greet.py"
        for edition in range(DEPLOYMENTS + 1):
            text = APP.read_text(encoding="utf-8").replace("hello", f"hello {edition}")
            source.write_text(text, encoding="utf-8")
            found["dsfn"].append(_timed_ms(partial(here.deploy, source)))
            bare = partial(here.apply, "python", here.python(edition))
            found["python"].append(_timed_ms(bare))
    return {system: times[1:] for system, times in found.items()}


def _timed_ms(work: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    work()
    return (time.perf_counter() - begin_s) * 1e3


def _cold_calls(here: Place, rounds: int) -> dict[str, list[Cold]]:
    """Every system once a round, another one first each time; a first round, in which caches are
    filled, is not counted."""
    services: Mapping[str, tuple[Any, str, bytes | None]] = {
        "dsfn": (here.objects.read(here.service("greet")), "POST", body_of({"name": "Ada"})),
        WITH_MODEL: (here.deploy(MODEL), "POST", body_of({"row": 7})),
        "python": (here.objects.read(here.service("python")), "GET", None),
        BARER: (
            here.apply("barer", here.python(), automountServiceAccountToken=False),
            "GET",
            None,
        ),
        "go": (here.apply("go", here.go()), "GET", None),
    }
    found: dict[str, list[Cold]] = {system: [] for system in SYSTEMS}
    for number in range(rounds + 1):
        wait_for_zero(here)
        first = number % len(SYSTEMS)
        for system in (*SYSTEMS[first:], *SYSTEMS[:first]):
            call = cold_call(here, *services[system])
            console.print(f"{number} {system}: {_line(call)}")
            if number:
                found[system].append(call)
    return found


def _line(call: Cold) -> str:
    phases = ", ".join(f"{name} {ms:.0f}" for name, ms in call.phases_ms.items())
    return f"{call.total_ms:.0f} ms ({phases})"


def _cold_rows(calls: Mapping[str, Sequence[Cold]]) -> list[ColdRow]:
    totals = {
        system: Spread.of([each.total_ms for each in several]) for system, several in calls.items()
    }
    beside = {
        system: Spread.of([each.total_ms - each.phases_ms.get(RESTORE, 0.0) for each in several])
        for system, several in calls.items()
    }
    return [
        ColdRow(
            system,
            totals[system],
            {
                phase: Spread.of([each.phases_ms[phase] for each in several])
                for phase in several[0].phases_ms
            },
            totals[system].p50 / totals["python"].p50,
            beside[system].p50 / totals["python"].p50,
        )
        for system, several in calls.items()
    ]


def _deploy_rows(times: Mapping[str, Sequence[float]]) -> list[DeployRow]:
    spreads = {system: Spread.of(several) for system, several in times.items()}
    return [
        DeployRow(system, spread, spread.p50 / spreads["python"].p50)
        for system, spread in spreads.items()
    ]


def _show(cold: Sequence[ColdRow], deployed: Sequence[DeployRow]) -> None:
    columns = ("", "p50", "p99", "least", "most", "times Python")
    rows = []
    for row in cold:
        rows.append((row.system, *_figures(row.total), f"{row.times_python:.2f}"))
        rows += [(f"  {name}", *_figures(phase), "") for name, phase in row.phases.items()]
    show("From no pod to the answer, ms", columns, rows)
    show(
        "From a change in the code to ready, ms",
        columns,
        [(row.system, *_figures(row.total), f"{row.times_python:.2f}") for row in deployed],
    )


def _figures(spread: Spread) -> tuple[str, ...]:
    return tuple(f"{ms:.0f}" for ms in (spread.p50, spread.p99, spread.least, spread.most))


if __name__ == "__main__":
    main()
