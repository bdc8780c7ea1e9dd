"""What a row in the ledger adds to a warm call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.harness import ROOT, Spread
from benchmarks.ledgers.stores import open_ledger
from benchmarks.processes import JSON, REQUEST_S
from benchmarks.systems import bodies, check, deploy, node_process
from dsfn.runtime.ledgers import FILE_NAME

_MODULES = ("dsfn", "benchmarks.ledgers.unbilled")
_BODY = bodies("echo")[0]
_WARM_UP = 100


@dataclass(frozen=True, slots=True)
class Served:
    """A client's time for a warm call of `echo`, from a node with its ledger in SQLite and from
    one whose ledger keeps nothing. `added_ms`: between the medians."""

    calls: int
    with_ms: Spread
    without_ms: Spread
    added_ms: float
    part: str = "serve"


def serve(directory: Path, calls: int) -> Served:
    """Calls both nodes in turn, so that what else the machine does slows both. Raises
    `RuntimeError` where one has rows that it should not have, or not those that it should."""
    places = [directory / "with", directory / "without"]
    took_ms: list[list[float]] = [[], []]
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(_node(place, module))
            for place, module in zip(places, _MODULES, strict=True)
        ]
        for number in range(-_WARM_UP, calls):
            # Whoever comes second finds the processor as the other has left it.
            for index in (0, 1) if number % 2 else (1, 0):
                each_ms = _call(nodes[index])
                if number >= 0:
                    took_ms[index].append(each_ms)
    with_rows, without_rows = (_rows(place) for place in places)
    if with_rows < calls or without_rows:
        raise RuntimeError(f"{calls} calls: {with_rows} rows, and {without_rows} without a ledger.")
    billed_ms, unbilled_ms = map(Spread.of, took_ms)
    return Served(calls, billed_ms, unbilled_ms, billed_ms.p50 - unbilled_ms.p50)


@contextmanager
def _node(place: Path, module: str) -> Iterator[HTTPConnection]:
    """A connection to a node with `echo` deployed."""
    place.mkdir()
    with node_process(place, module=module) as (_, port):
        deploy(port, ROOT / "benchmarks" / "app" / "echo.py")
        with closing(HTTPConnection("127.0.0.1", port, timeout=REQUEST_S)) as connection:
            yield connection


def _call(connection: HTTPConnection) -> float:
    """Milliseconds until the answer is there."""
    began_s = time.perf_counter()
    connection.request("POST", "/functions/echo", _BODY, {"Content-Type": JSON})
    answer = connection.getresponse().read()
    took_ms = (time.perf_counter() - began_s) * 1e3
    check("echo", answer)
    return took_ms


def _rows(place: Path) -> int:
    """How many calls the ledger of a node that has ended has."""
    with open_ledger(str(place / "data" / FILE_NAME)) as ledger:
        return sum(1 for _ in ledger.between(0, 2**62))
