"""Calls that come when they come, whether those before are answered or not.

    python -m benchmarks.traffic PLAN.json http://127.0.0.1:8700

posts each call of a plan at its time and prints a line of JSON for each answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx

ANSWER_S = 120.0
QUESTIONS = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call: when, in seconds from the beginning, to which function, with which question."""

    at_s: float
    function: str
    number: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one. `latency_ms` counts from the time at which it was to be sent, `status` is
    0 when no answer came, `problem` names the error."""

    arrival: Arrival
    latency_ms: float
    status: int
    cold: bool
    answer: Any
    problem: str


def plan(
    functions: Sequence[str], calls: int, seconds: float, exponent: float, seed: int
) -> list[Arrival]:
    """Independent arrivals; the function of rank r is called r^-`exponent` times as often as the
    first, and the ranks are drawn."""
    chance = random.Random(seed)
    ranked = chance.sample(functions, len(functions))
    weights = [rank**-exponent for rank in range(1, len(ranked) + 1)]
    times = list(accumulate(chance.expovariate(1) for _ in range(calls)))
    return [
        Arrival(at * seconds / times[-1], function, chance.randrange(QUESTIONS))
        for at, function in zip(times, chance.choices(ranked, weights, k=calls), strict=True)
    ]


async def send(arrivals: Sequence[Arrival], url: str) -> list[Outcome]:
    """Sends all at their times and waits for all answers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S, limits=limits) as client:
        began_s = time.perf_counter()
        tasks = [_send(client, arrival, began_s + arrival.at_s) for arrival in arrivals]
        return await asyncio.gather(*tasks)


async def _send(client: httpx.AsyncClient, arrival: Arrival, due_s: float) -> Outcome:
    await asyncio.sleep(due_s - time.perf_counter())
    status, cold, answer, problem = 0, False, None, ""
    try:
        path = f"/functions/{arrival.function}"
        response = await client.post(path, json={"number": arrival.number})
        status, document = response.status_code, response.json()
        if status == 200:
            answer, cold = document, _was_cold(response.headers["server-timing"])
        else:
            problem = str(document.get("type", "")).rpartition("/")[2] or str(status)
    except (httpx.HTTPError, ValueError) as error:
        problem = type(error).__name__
    latency_ms = (time.perf_counter() - due_s) * 1e3
    return Outcome(arrival, latency_ms, status, cold, answer, problem)


def _was_cold(server_timing: str) -> bool:
    """Whether something had to be started or brought back for it."""
    entries = (entry.strip().partition(";dur=") for entry in server_timing.split(","))
    phases = {name: float(duration) for name, _, duration in entries}
    return phases.get("start", 0) + phases.get("restore", 0) > 0


if __name__ == "__main__":
    wanted = [Arrival(**each) for each in json.loads(Path(sys.argv[1]).read_bytes())]
    for outcome in asyncio.run(send(wanted, sys.argv[2])):
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
