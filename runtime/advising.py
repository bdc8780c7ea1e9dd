"""Advice about the functions of a node: what the ledger says, with the options of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import field

from dsfn.billing.advice import Deployed, Lowering, Report, advise
from dsfn.billing.ledger import Ledger
from dsfn.billing.rates import RateBook
from dsfn.functions.errors import CorruptSnapshot
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.runtime.registry.values import FunctionRecord
from dsfn.snapshots.format import ITEM_BYTES, Manifest
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.store import FileStore

_KIND = "int8"
# As of `dsfn.snapshots.precision`, which only processes with torch can import.
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_MIN_ELEMENTS = 4096
_SCALE_BYTES = 4


@dataclass(eq=False)
class Adviser:
    """Gives advice, one piece at a time: each reads all the rows of a stretch of time."""

    registry: Registry
    snapshots: FileStore
    ledger: Ledger
    book: Callable[[], RateBook]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def advise(self, start_us: int, end_us: int, function: str | None = None) -> Report:
        """Advice for every function that is deployed now, or for one, by what it did in
        [start_us, end_us). Raises `NotFound`."""
        records = (
            self.registry.functions() if function is None else [self.registry.function(function)]
        )
        known = [self._with_history(record) for record in records]
        async with self._turn:
            return await asyncio.to_thread(self._advise, known, start_us, end_us)

    def _with_history(self, record: FunctionRecord) -> tuple[Revision, Sequence[Revision]]:
        """A function's present revision, and all that there are of it, newest first."""
        history = self.registry.history(record.name)
        return record.current, [entry.revision for entry in history]

    def _advise(
        self, known: Sequence[tuple[Revision, Sequence[Revision]]], start_us: int, end_us: int
    ) -> Report:
        deployed = [
            deployed_of(current, self._lowering(current, history)) for current, history in known
        ]
        return advise(self.ledger, self.book(), deployed, start_us, end_us)

    def _lowering(self, current: Revision, history: Sequence[Revision]) -> Lowering | None:
        """What lower precision would make of a function, measured or from its tensors."""
        if current.options.precision is not None or current.snapshot is None:
            return None
        for revision in history:
            found = None if revision.snapshot is None else revision.snapshot.precision
            if found is not None:
                return Lowering(found.kind, found.bytes_before, found.bytes_after, measured=True)
        digest = current.snapshot.digest
        if not self.snapshots.has(digest):
            return None
        try:
            return lowered(read_manifest(self.snapshots.path(digest))[1])
        except (CorruptSnapshot, OSError):
            return None  # it is another command's to say so


def deployed_of(revision: Revision, lowering: Lowering | None) -> Deployed:
    """A revision's options as advice knows them."""
    options = revision.options
    return Deployed(
        function=revision.function,
        park_after_us=round(options.park_after_s * 1_000_000),
        remove_after_us=round(options.remove_after_s * 1_000_000),
        min_replicas=options.min_replicas,
        concurrency=options.concurrency,
        max_batch=options.max_batch,
        devices=max(1, int(options.gpu)),
        lowering=lowering,
    )


def lowered(manifest: Manifest) -> Lowering | None:
    """What 8 bits for each weight would make of a snapshot's tensors, if every parameter that is
    large enough is one of a module that can be lowered; None when there is nothing to gain."""
    before = sum(storage.size_bytes for storage in manifest.storages)
    saved: dict[tuple[int, int], int] = {}
    for tensor in manifest.tensors:
        elements = 1
        for length in tensor.shape:
            elements *= length
        if tensor.parameter and tensor.dtype in _DTYPES and len(tensor.shape) > 1:
            if elements >= _MIN_ELEMENTS:
                codes = elements + _SCALE_BYTES * tensor.shape[0]
                gain = elements * ITEM_BYTES[tensor.dtype] - codes
                saved[tensor.storage, tensor.offset] = gain
    after = before - sum(saved.values())
    return Lowering(_KIND, before, after, measured=False) if 0 < after < before else None
