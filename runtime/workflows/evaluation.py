"""Works out expressions: at once where all is at hand, else in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextlib import closing
from dataclasses import field
from typing import Any, TypeVar

import apsw

from dsfn.billing.sqlite import BUSY_TIMEOUT_MS
from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import Interface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import MAX_INSTANCES, MAX_ITEMS, Call, Decide, Each
from dsfn.runtime.blobs import BlobStore, digest_of
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.workflows.active import ActiveRun, StoredOutcomes
from dsfn.runtime.workflows.bodies import Body, call_body, output_blob
from dsfn.runtime.workflows.model import Blob
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.recent import Recent
from dsfn.runtime.workflows.values import Evaluator, NotAtHand, too_many

T = TypeVar("T")

# Not more: what lives long is looked at by the garbage collector again and again.
_RECENT_BYTES = 32 << 20
_MEMO_BYTES = 256 << 20
# A join of more items is worth a thread.
_MAX_JOINED_AT_ONCE = 500


@dataclass(eq=False, slots=True)
class Evaluation:
    """Evaluates for the runs of a node. `max_bytes`: of a body or an output."""

    connection: apsw.Connection
    blobs: BlobStore
    max_bytes: int
    recent: Recent[Hashable, Any] = field(default_factory=lambda: Recent(_RECENT_BYTES))
    memo: Recent[Hashable, Any] = field(default_factory=lambda: Recent(_MEMO_BYTES))
    _database: str = field(init=False)

    def __post_init__(self) -> None:
        self._database = self.connection.filename

    def outcomes(self, run: ActiveRun) -> StoredOutcomes:
        """The stored results of a run."""
        return StoredOutcomes(self.connection, run.seq, run.id, self.recent)

    def at_once(self, run: ActiveRun) -> Evaluator:
        """Evaluates what is at hand; raises `NotAtHand` for all else."""
        return Evaluator(
            run.id,
            run.plan,
            run.inputs,
            self.outcomes(run),
            _inline,
            self.memo,
            _MAX_JOINED_AT_ONCE,
        )

    async def in_thread(self, run: ActiveRun, work: Callable[[Evaluator], T]) -> T:
        """Does `work` in a thread, where blobs may be read."""
        return await asyncio.to_thread(self._work, run, work)

    async def body(self, run: ActiveRun, instance: Instance, interface: Interface) -> Body:
        """The body of a call. Raises `PayloadTooLarge`, `InvalidInput`, `NotFound`."""
        step, path = run.call(instance), instance[1]

        def work(evaluator: Evaluator) -> Body:
            return body_of(step, evaluator, path, interface, self.max_bytes)

        try:
            return work(self.at_once(run))
        except NotAtHand:
            return await self.in_thread(run, work)

    def store(self, output: Blob) -> Blob:
        """A blob that may be large as one that can lie in a row. Raises `StorageFull`."""
        if output.inline is None or output.size_bytes <= INLINE_BYTES:
            return output
        ref = self.blobs.put(output.inline, output.content_type)
        return Blob(output.content_type, output.size_bytes, None, ref, output.name)

    def output(self, run: ActiveRun, evaluator: Evaluator) -> Blob:
        """What a run gives. Raises `PayloadTooLarge`, `InvalidInput`, `NotFound`."""
        dag = run.plan.dag
        value = evaluator.value(dag.output, ())
        return output_blob(value, evaluator.load, self.max_bytes, dag.result)

    def outcome(self, run: ActiveRun, instance: Instance, evaluator: Evaluator) -> int:
        """The branch that a decision takes, or the number of items of a fan-out.

        Raises `InvalidInput`, also for more items than there may be, and `NotFound`.
        """
        id_, path = instance
        step = run.plan.nodes[id_].step
        if isinstance(step, Decide):
            return int(evaluator.truth(step.condition, path))
        assert isinstance(step, Each)
        count = len(evaluator.fanned(id_, path)[0])
        if count > MAX_ITEMS:
            raise too_many(count)
        if run.progress.more_instances(id_, count) > MAX_INSTANCES:
            raise InvalidInput(
                f"With {count} items more the run would have over {MAX_INSTANCES} steps.",
                field="items",
                limit=MAX_INSTANCES,
            )
        return count

    def _work(self, run: ActiveRun, work: Callable[[Evaluator], T]) -> T:
        with closing(apsw.Connection(self._database)) as connection:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.execute("PRAGMA query_only=ON")
            outcomes = StoredOutcomes(connection, run.seq, run.id, self.recent)
            return work(Evaluator(run.id, run.plan, run.inputs, outcomes, self._load, self.memo))

    def _load(self, blob: Blob) -> bytes:
        if blob.ref is None:
            return blob.inline or b""
        return self.blobs.get(digest_of(blob.ref))[0]


def body_of(
    step: Call, evaluator: Evaluator, path: tuple[int, ...], interface: Interface, max_bytes: int
) -> Body:
    """The body of a call of `step` for the items of `path`."""
    arguments = [(name, evaluator.value(expr, path)) for name, expr in step.arguments]
    return call_body(interface, arguments, evaluator.load, max_bytes)


def _inline(blob: Blob) -> bytes:
    if blob.ref is not None:
        raise NotAtHand
    return blob.inline or b""
