"""dsfn's own part of `coldstart_gpu`: functions put into a state, and called."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from benchmarks.gpu.balloon import only
from benchmarks.gpu.node import Node, Timed, gpu_node
from benchmarks.gpu.rows import Measured
from benchmarks.gpu.run import Run
from benchmarks.gpu.setups import CODED_MODELS, PARKED_AS, SLOW_STATES, Setup

WARM_UP = 3
# For the node to fork the next worker, or to bring a slab to a neighbour.
SETTLED_STATES = ("neighbour", "fork")
SETTLE_S = 1.5
# What is free of a GPU's memory that keeps nothing for its neighbours: they leave it a quarter.
CROWDED = 0.2


def serve(run: Run, setup: Setup) -> None:
    """All states of all models that a node with this setup is for."""
    models = [
        model for model in run.options.models if not setup.compressed or model in CODED_MODELS
    ]
    variables = _with_codec(run.options.codec) if setup.compressed else {}
    free_bytes = int(run.gpus.memory_bytes * CROWDED)
    with (
        only(setup.devices[1], free_bytes) if setup.crowded else nullcontext(),
        gpu_node(run.directory, setup.config(run.options.models), variables) as node,
    ):
        for number, model in enumerate(models, 1):
            what = f"{model}, {setup.name}"
            run.attempt(what, partial(_serve_model, run, node, setup, model, number))


def _with_codec(codec: Path) -> dict[str, str]:
    """The variables with which a process finds the codec's library beside all else."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(codec))))}


def _serve_model(run: Run, node: Node, setup: Setup, model: str, number: int) -> None:
    node.deploy(model)
    node.call(model)
    if setup.compressed:
        node.wait_until_coded(number)
    if setup.has_warm_pool:
        node.wait_until_warm()
    for state in setup.states:
        run.add(_in_state(run, node, setup, model, state))
    node.park(model, "absent")


def _in_state(run: Run, node: Node, setup: Setup, model: str, state: str) -> Measured:
    """All rounds of a model in a state."""
    rounds = run.rounds(model)
    count = rounds.slow if state in SLOW_STATES else rounds.quick
    calls: list[Timed] = []
    failed = ""
    try:
        for _ in range(WARM_UP if PARKED_AS.get(state) != "absent" else 1):
            node.call(model)
        for _ in range(count):
            calls.append(_round(run, node, model, state))
            if state == "warm":
                node.wait_until_warm()
    except Exception as error:  # noqa: BLE001  whatever it was stands in the table
        failed = f"{type(error).__name__}: {error}"
    return Measured(
        "dsfn",
        model,
        state,
        setup.name,
        answers_ms=[call.total_ms for call in calls],
        phases_ms=[call.phases_ms for call in calls],
        forwards_ms=[call.answer["forward_ms"] for call in calls],
        failed=failed,
    )


def _round(run: Run, node: Node, model: str, state: str) -> Timed:
    if state in PARKED_AS:
        node.park(model, PARKED_AS[state])
        if state in SETTLED_STATES:
            time.sleep(SETTLE_S)
    kept_bytes = node.kept_bytes()
    call = node.call(model)
    run.check(model, call.answer)
    if call.was_cold != (state in PARKED_AS):
        raise RuntimeError(f"the function was not {state}: {call.phases_ms}")
    if (node.kept_bytes() > kept_bytes) != (state == "neighbour"):
        raise RuntimeError(f"{state}: the weights came from somewhere else")
    return call
