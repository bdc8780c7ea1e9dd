"""The time of kernels, by the GPU's own clock."""

from __future__ import annotations

import time

import pytest
import torch

from dsfn.runtime.worker.stopwatch import CudaStopwatch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

# The clocks of the GPUs that this runs on are 1 to 2 GHz.
CYCLES = 200_000_000
LEAST_US, MOST_US = 90_000, 250_000


@pytest.fixture(autouse=True)
def cuda() -> None:
    torch.zeros(1, device="cuda").item()


def keep_busy(cycles: int) -> None:
    """A kernel on the current stream that takes so many cycles."""
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]


def test_the_gpu_is_busy_after_the_code_has_returned() -> None:
    watch = CudaStopwatch()
    watch.computes()
    began_s = time.perf_counter()
    keep_busy(CYCLES)
    watch.computed()
    assert time.perf_counter() - began_s < LEAST_US / 1e6 / 2
    assert LEAST_US <= watch.read_us() <= MOST_US


def test_what_the_process_does_before_and_after_is_not_counted() -> None:
    watch = CudaStopwatch()
    time.sleep(0.3)
    watch.computes()
    keep_busy(CYCLES)
    watch.computed()
    torch.cuda.synchronize()
    time.sleep(0.3)
    assert LEAST_US <= watch.read_us() <= MOST_US


def test_the_items_of_a_stream_add_up() -> None:
    watch = CudaStopwatch()
    for _ in range(4):
        watch.computes()
        keep_busy(CYCLES // 4)
        watch.computed()
        torch.cuda.synchronize()
        time.sleep(0.1)
    assert LEAST_US <= watch.read_us() <= MOST_US


def test_another_stream_counts_as_far_as_it_is_waited_for() -> None:
    watch, side = CudaStopwatch(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    watch.computes()
    with torch.cuda.stream(side):
        keep_busy(CYCLES)
    torch.cuda.current_stream().wait_stream(side)
    watch.computed()
    assert LEAST_US <= watch.read_us() <= MOST_US


def test_measuring_costs_microseconds() -> None:
    costs_us = []
    for _ in range(200):
        began_s = time.perf_counter()
        watch = CudaStopwatch()
        watch.computes()
        watch.computed()
        watch.read_us()
        costs_us.append((time.perf_counter() - began_s) * 1e6)
    assert sorted(costs_us)[100] < 100
