"""What the GPU's events say of a call, where a test stands in for the GPU."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
import torch

from dsfn.runtime.worker.stopwatch import CudaStopwatch, NoWaits, Stopwatch


@dataclass
class Gpu:
    """A stream on which time passes when a test says so."""

    now_ms: float = 0.0
    fails: bool = False
    waited_for: list[float] = field(default_factory=list)

    def event(self, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)


@dataclass
class Event:
    gpu: Gpu
    at_ms: float | None = None

    def record(self) -> None:
        if self.gpu.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.at_ms = self.gpu.now_ms

    def synchronize(self) -> None:
        assert self.at_ms is not None
        self.gpu.waited_for.append(self.at_ms)

    def elapsed_time(self, end: Event) -> float:
        assert self.at_ms is not None and end.at_ms is not None
        return end.at_ms - self.at_ms


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found = Gpu()
    monkeypatch.setattr(torch.cuda, "Event", found.event)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    return found


def test_a_call_was_busy_for_as_long_as_the_gpu_was(gpu: Gpu) -> None:
    watch = CudaStopwatch()
    time.sleep(0.01)  # decoding, which keeps no GPU busy
    watch.computes()
    gpu.now_ms += 1.2345
    watch.computed()
    assert watch.read_us() == 1234
    assert gpu.waited_for == [1.2345]


def test_the_items_of_a_stream_add_up(gpu: Gpu) -> None:
    watch = CudaStopwatch()
    for _ in range(3):
        watch.computes()
        gpu.now_ms += 2
        watch.computed()
        gpu.now_ms += 5  # until the reader has taken it
    assert watch.read_us() == 6000


def test_what_a_call_waited_for_is_not_what_it_did(gpu: Gpu) -> None:
    watch = CudaStopwatch()
    watch.waits = NoWaits(waited_us=400)
    watch.computes()
    gpu.now_ms += 1
    watch.computed()
    assert watch.read_us() == 600


def test_a_share_of_a_batch_takes_the_place_of_what_the_process_did(gpu: Gpu) -> None:
    watch = CudaStopwatch()
    time.sleep(0.01)
    watch.pause()
    watch.resume()
    watch.add(77)
    assert watch.read_us() == 77


@pytest.mark.parametrize("when", ["never", "fails later", "raises"])
def test_without_events_the_processs_time_stands_in(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "never":
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    watch = CudaStopwatch()
    watch.computes()
    time.sleep(0.01)
    gpu.fails = when == "fails later"
    if when != "raises":
        watch.computed()
    assert 10_000 <= watch.read_us() < 1_000_000


def test_waiting_is_not_counted() -> None:
    watch = Stopwatch()
    with watch.paused():
        time.sleep(0.05)
    assert watch.read_us() < 50_000
