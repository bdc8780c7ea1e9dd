"""The GPUs that a worker was given: chosen before CUDA is touched, their memory the owner's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import cycle
from typing import TYPE_CHECKING

from dsfn.functions.values import dataclass
from dsfn.runtime.worker.messages import Gpu

if TYPE_CHECKING:
    import torch

    from dsfn.snapshots.memory import Memory
    from dsfn.snapshots.owner.client import OwnerClient

_CHOICE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Devices:
    """What this process runs on. `owner` is its socket to the memory owner."""

    gpus: tuple[Gpu, ...]
    owner: socket.socket | None

    @classmethod
    def choose(cls, gpus: Sequence[Gpu], owner: socket.socket | None) -> Devices:
        """Shows CUDA these GPUs and no others. Before anything has touched CUDA."""
        os.environ[_CHOICE] = visible([gpu.spec for gpu in gpus], _outer())
        return cls(tuple(gpus), owner)

    @cached_property
    def memories(self) -> Mapping[str, Memory]:
        """The memory of each device, by the name that a snapshot has for it. Needs torch."""
        from dsfn.snapshots.cpu import CpuMemory

        found: dict[str, Memory] = {"cpu": CpuMemory()}
        if self.gpus and self.owner is not None:
            from dsfn.snapshots.owner.client import OwnerClient

            client = OwnerClient(self.owner)
            for number, gpu in enumerate(self.gpus):
                found[f"gpu:{number}"] = _owned(client, gpu, number)
        return found

    @property
    def place(self) -> Callable[[torch.Tensor], str] | None:
        """Which slab a tensor belongs into, where its own device does not say: stand-ins for
        GPUs have tensors that look like the CPU's, and get storages in turn."""
        if not self.gpus or self.on_cuda:
            return None
        turns = cycle(f"gpu:{number}" for number in range(len(self.gpus)))
        return lambda _: next(turns)

    @property
    def device_class(self) -> str:
        """What the device that this worker runs on is billed as."""
        if not self.gpus or not has_torch():
            return "cpu"
        return self.memories["gpu:0"].device_class

    @property
    def on_cuda(self) -> bool:
        """Whether there is a real GPU."""
        return bool(self.gpus) and _is_cuda(self.gpus[0])

    def release_cache(self) -> None:
        """Gives the driver back what torch keeps of a GPU's memory for later."""
        if self.on_cuda:
            import torch

            torch.cuda.empty_cache()


def has_torch() -> bool:
    """Whether torch, and with it snapshots, can be used here."""
    return find_spec("torch") is not None


def visible(specs: Sequence[str], outer: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for the GPUs of these specs, whose numbers count the devices that
    `outer`, the node's own CUDA_VISIBLE_DEVICES, lets through."""
    numbers = [int(spec.partition(":")[2]) for spec in specs if spec.startswith("cuda:")]
    if outer is None:
        return ",".join(map(str, numbers))
    names = outer.split(",")
    return ",".join(names[number] for number in numbers if number < len(names))


@cache
def _outer() -> str | None:
    """The node's own, kept by the first choice: a worker that was warmed up chooses again when it
    becomes a replica. What this module was imported with may be that of whoever made an image."""
    return os.environ.get(_CHOICE)


def _owned(client: OwnerClient, gpu: Gpu, number: int) -> Memory:
    if _is_cuda(gpu):
        from dsfn.snapshots.cuda import CudaMemory

        return CudaMemory(client, number, gpu.index)
    from dsfn.snapshots.owner.memory import OwnedMemory
    from dsfn.snapshots.owner.space import HostSpace

    return OwnedMemory(client, HostSpace(), gpu.index)


def _is_cuda(gpu: Gpu) -> bool:
    return gpu.spec.startswith("cuda:")
