"""Peers that bring weights from files of the page cache to the GPU, each as its page says.

    python -m benchmarks.peers.loaders PEER DIRECTORY MODEL:ROUNDS ...

The process is warm: libraries, context and the network without weights are there, one round came
before. A round goes from no weights on the GPU to an answer on the CPU, and prints a line of JSON.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import perf_counter_ns

import torch

from benchmarks.app.models import Forward
from benchmarks.gpu.models import MODELS
from benchmarks.peers.holder import DEVICE
from benchmarks.peers.rounds import Round, after_first, run_each

Weights = Mapping[str, torch.Tensor]
Loader = Callable[[Path], AbstractContextManager[Weights]]


@contextmanager
def safetensors(path: Path) -> Iterator[Weights]:
    """https://huggingface.co/docs/safetensors"""
    from safetensors.torch import load_file

    yield load_file(path, device=DEVICE)


@contextmanager
def torch_mmap(path: Path) -> Iterator[Weights]:
    """https://docs.pytorch.org/docs/stable/generated/torch.load.html"""
    pickled = path.with_suffix(".pt")
    yield torch.load(pickled, mmap=True, weights_only=True, map_location=DEVICE)


@contextmanager
def fastsafetensors(path: Path) -> Iterator[Weights]:
    """Through bounce buffers: GPUDirect Storage cannot read what is in memory.

    https://github.com/foundation-model-stack/fastsafetensors/blob/main/docs/overview.md
    """
    from fastsafetensors import SafeTensorsFileLoader

    loader = SafeTensorsFileLoader(None, DEVICE, nogds=True, max_threads=8)
    try:
        loader.add_filenames({0: [str(path)]})
        buffers = loader.copy_files_to_device()
        yield {key: buffers.get_tensor(key) for key in loader.get_keys()}
        buffers.close()
    finally:
        loader.close()


@contextmanager
def runai(path: Path) -> Iterator[Weights]:
    """https://github.com/run-ai/runai-model-streamer/blob/master/docs/src/usage.md"""
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        streamer.stream_file(str(path), device=DEVICE)
        yield dict(streamer.get_tensors())


@contextmanager
def instanttensor(path: Path) -> Iterator[Weights]:
    """Without a copy: the buffer holds all tensors and stays as long as they are used.

    https://github.com/scitix/InstantTensor
    """
    from instanttensor import safe_open

    size = path.stat().st_size
    with safe_open(
        str(path), "pt", DEVICE, copy=False, buffer_size=size + (64 << 20), max_free_mem_usage=0.95
    ) as file:
        yield dict(file.tensors())


LOADERS: Mapping[str, Loader] = {
    "safetensors": safetensors,
    "torch-mmap": torch_mmap,
    "fastsafetensors": fastsafetensors,
    "runai-model-streamer": runai,
    "instanttensor": instanttensor,
}


def rounds(loader: Loader, directory: Path, name: str, count: int) -> Iterator[Round]:
    """From no weights on the GPU to the answer."""
    path, given = directory / f"{name}.safetensors", MODELS[name].given()
    for _ in range(count):
        network = MODELS[name].empty()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
        began_ns = perf_counter_ns()
        with loader(path) as weights:
            loaded_ns = perf_counter_ns()
            network.load_state_dict(weights, assign=True)
            answer = Forward(network)(given)
            yield Round.of(began_ns, loaded_ns, perf_counter_ns(), answer)
            del network, weights


if __name__ == "__main__":
    chosen, place = LOADERS[sys.argv[1]], Path(sys.argv[2])
    run_each(sys.argv[3:], lambda name, count: after_first(rounds(chosen, place, name, count + 1)))
