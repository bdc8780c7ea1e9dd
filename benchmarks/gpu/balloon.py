"""Makes a GPU smaller: takes all of its memory but so many bytes, until its input ends.

python -m benchmarks.gpu.balloon cuda:0 BYTES
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import ROOT


@contextmanager
def only(device: str, free_bytes: int) -> Iterator[None]:
    """Inside the block others find `free_bytes` of a GPU. A stand-in has its size in its name."""
    if not device.startswith("cuda"):
        yield
        return
    command = (sys.executable, "-m", "benchmarks.gpu.balloon", device, str(free_bytes))
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"The memory of {device} could not be taken.")
        yield
    finally:
        process.kill()
        process.communicate()


def _take(device: str, free_bytes: int) -> None:
    import torch

    there, _ = torch.cuda.mem_get_info(device)
    taken = torch.empty(max(0, there - free_bytes), dtype=torch.uint8, device=device)
    sys.stdout.write(f"{taken.nbytes}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _take(sys.argv[1], int(sys.argv[2]))
