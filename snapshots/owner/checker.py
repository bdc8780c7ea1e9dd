"""Reads memory of devices back and says whether it holds what was captured."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from hashlib import sha256
from threading import Event

from dsfn.functions.errors import DsfnError, SnapshotError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.arena import ArenaSlab, HostMemory
from dsfn.snapshots.owner.device import Device, Granule
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.pieces import cut

_PIECE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """Whether `granules` of a device hold the data of a slab. `done` gets the answer, or why
    there is none, in the checker's thread; one that is `cancelled` says no."""

    slab: ArenaSlab
    device: Device
    granules: list[Granule]
    done: Callable[[bool, DsfnError | None], None]
    cancelled: Event = field(default_factory=Event)


class Checker:
    """Inspects one after the other, in a thread, through a piece of host memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "dsfn-checker")
        self._bounce: HostMemory | None = None

    def submit(self, inspection: Inspection) -> None:
        """Queues an inspection."""
        self._thread.submit(self._run, inspection)

    def _run(self, inspection: Inspection) -> None:
        try:
            inspection.device.use()
            is_intact = self._is_intact(inspection)
        except DsfnError as fault:
            inspection.done(False, fault)
        except OSError as error:
            reason = f"The memory cannot be read back: {error.strerror}."
            inspection.done(False, SnapshotError(reason))
        else:
            inspection.done(is_intact, None)

    def _is_intact(self, inspection: Inspection) -> bool:
        """The digest is of the whole file; what of it never goes to a device is known."""
        digest, bounce = sha256(inspection.slab.head), self._memory(inspection.device)
        sizes = [granule.size_bytes for granule in inspection.granules]
        for piece in cut(inspection.slab.data_bytes, sizes, _PIECE_BYTES):
            if inspection.cancelled.is_set():
                return False
            source = piece.address(inspection.granules)
            inspection.device.download(bounce.address, source, piece.size_bytes)
            digest.update(bounce.bytes_at(0, piece.size_bytes))
        return digest.hexdigest() == inspection.slab.key[1]

    def _memory(self, device: Device) -> HostMemory:
        """Taken with the first: most owners never get one."""
        if self._bounce is None:
            with HostFile(_PIECE_BYTES) as file:
                bounce = HostMemory(file.fd)
            device.register(bounce.address, bounce.size_bytes)
            self._bounce = bounce
        return self._bounce
