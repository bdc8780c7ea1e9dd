"""Workers that have a context on a GPU already, for whichever function needs one next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import field

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.gpus.holding import Holding, Standby
from dsfn.runtime.replicas.forkserver import WorkerProcess
from dsfn.runtime.replicas.launcher import Nursery
from dsfn.runtime.waiting import wait_within
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Gpu, Warm

# A refill right after an adoption would take processors and bus from the call that is waiting.
REFILL_AFTER_S = 1.0
# One that had to go, or was killed, is made anew once there is room again: that is looked for.
LOOK_EVERY_S = 5.0
_EXIT_S = 5.0
_WARMED = frames.encode(Kind.WARMED, 0)


@dataclass(eq=False, slots=True)
class Spare(Standby):
    """A worker with a context. As a `Holder` it is the first to go."""

    worker: WorkerProcess
    holding: Holding
    heat: float = -1.0
    ready: bool = False

    def is_ready(self) -> bool:
        """Whether it has its context."""
        if not self.ready and self.worker.hear(len(_WARMED)) == _WARMED:
            self.ready = True
            self.holding.has_all()
        return self.ready and not self.worker.exited.done()

    def can_give_up(self) -> bool:
        """See `Holder`."""
        return not self.worker.exited.done()

    async def give_up(self) -> None:
        """See `Holder`. Its context goes with it."""
        self.worker.kill()
        await asyncio.wait({self.worker.exited}, timeout=_EXIT_S)


@dataclass(eq=False)
class WarmPool:
    """`size` spares for each GPU, as long as nobody needs the room. `nursery`: where the node's
    own workers come from."""

    gpus: Gpus
    nursery: Callable[[], Nursery]
    size: int
    _spares: dict[int, list[Spare]] = field(default_factory=dict)
    _adopted: dict[int, asyncio.Event] = field(default_factory=dict)
    _refills: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Makes the first spares, in the background, and others for those that went."""
        if self.size:
            self._refills = [asyncio.create_task(self._keep(gpu)) for gpu in self.gpus.all()]

    def adopt(self, gpus: Sequence[Gpu]) -> WorkerProcess | None:
        """A worker with a context on this GPU, if there is one; none has one on several. One that
        is still at it would take longer than a fresh one, which makes nothing but its context."""
        if len(gpus) != 1:
            return None
        (gpu,) = gpus
        self._bury(gpu)
        spares = self._spares.get(gpu.index, [])
        spare = next(filter(Spare.is_ready, spares), None)
        if spare is None:
            return None
        spares.remove(spare)
        self.gpus.forget(spare.holding)
        self._adopted[gpu.index].set()
        return spare.worker

    def counts(self) -> list[int]:
        """For each GPU, how many spares there are to be adopted."""
        return [sum(map(Spare.is_ready, self._spares.get(g.index, []))) for g in self.gpus.all()]

    async def close(self) -> None:
        """Stops refilling, and closes the spares' descriptors: they end with the fork server."""
        for refill in self._refills:
            refill.cancel()
        await asyncio.gather(*self._refills, return_exceptions=True)
        for spares in self._spares.values():
            for spare in spares:
                spare.worker.close()

    def _bury(self, gpu: Gpu) -> None:
        for spare in list(self._spares.get(gpu.index, [])):
            if spare.worker.exited.done():
                self._spares[gpu.index].remove(spare)
                self.gpus.forget(spare.holding)
                spare.worker.close()
            else:
                spare.is_ready()

    async def _keep(self, gpu: Gpu) -> None:
        adopted = self._adopted[gpu.index] = asyncio.Event()
        while True:
            await self._refill(gpu)
            await wait_within(adopted, LOOK_EVERY_S)
            if adopted.is_set():
                adopted.clear()
                await asyncio.sleep(REFILL_AFTER_S)

    async def _refill(self, gpu: Gpu) -> None:
        spares = self._spares.setdefault(gpu.index, [])
        self._bury(gpu)
        try:
            while len(spares) < self.size and await self.gpus.has_room_to_spare(gpu):
                spares.append(await self._make(gpu))
        except DsfnError:
            return  # who needs a worker forks one, and says what fails

    async def _make(self, gpu: Gpu) -> Spare:
        worker = await self.nursery().adopt()
        worker.tell(frames.encode_json(Kind.WARM, Warm((gpu,)).to_document()))
        holding = Holding.of_context((gpu,), self.gpus.settings.context_bytes)
        spare = Spare(worker, holding)
        holding.holder = spare
        self.gpus.add(holding)
        return spare
