"""The load generator: wrk, which costs little of the CPU that it shares with the server."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.systems import Target

_SCRIPT = Path(__file__).parent / "post.lua"


@dataclass(frozen=True, slots=True)
class Load:
    """One run. Latencies are of whole requests as the client saw them."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def load(target: Target, clients: int, seconds: int) -> Load:
    """Posts the target's bodies over `clients` connections, each waiting for its answer."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("The load generator is missing: apt-get install wrk")
    url = f"http://127.0.0.1:{target.port}{target.path}"
    options = ("-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(_SCRIPT))
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"".join(body + b"\n" for body in target.bodies))
        file.flush()
        done = subprocess.run(
            (wrk, *options, url, "--", file.name), stdout=subprocess.PIPE, check=True, text=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Load(
        requests_per_s=found["requests"] / (found["duration_us"] / 1e6),
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        failed=found["failed"],
    )
