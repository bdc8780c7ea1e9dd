"""A run that is to be started, as it will be stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from hashlib import sha256

from dsfn.functions.errors import IdempotencyMismatch
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.model import shown_key
from dsfn.runtime.workflows.active import ActiveRun
from dsfn.runtime.workflows.documents import by_reference, fits_inline, value_document
from dsfn.runtime.workflows.journal import Journal
from dsfn.runtime.workflows.model import NewRun, Value
from dsfn.runtime.workflows.plan import Plan
from dsfn.runtime.workflows.progress import Progress


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new run with its inputs as a text. `digest`: of them, for the idempotency key."""

    new: NewRun
    inputs: Mapping[str, Value]
    text: str
    digest: bytes


async def prepare(new: NewRun, blobs: BlobStore) -> Prepared:
    """Puts inputs that are too large for a row into the blob store. Raises `StorageFull`."""
    inputs = new.inputs
    if not fits_inline(inputs):
        inputs = await asyncio.to_thread(_all_by_reference, inputs, blobs)
    documents = {name: value_document(value) for name, value in inputs.items()}
    text = json.dumps(documents, sort_keys=True)
    return Prepared(new, inputs, text, sha256(text.encode()).digest())


def first_run(prepared: Prepared, journal: Journal) -> str | None:
    """The id of the run that this one repeats. Raises `IdempotencyMismatch`."""
    first = journal.first(prepared.new)
    if first is None:
        return None
    id_, digest = first
    if digest != prepared.digest:
        key = shown_key(prepared.new.idempotency_key)
        raise IdempotencyMismatch(
            f"The idempotency key {key!r} came before with other inputs.", key=key
        )
    return id_


def insert(prepared: Prepared, plan: Plan, journal: Journal, now_us: int) -> ActiveRun:
    """Stores the run, inside the caller's transaction; not yet begun."""
    new = prepared.new
    seq = journal.insert_run(new, prepared.text, prepared.digest, now_us)
    if new.retry_of is not None:
        journal.take_over(new.retry_of, seq)
    return ActiveRun(
        seq=seq,
        id=new.id,
        workflow=new.revision.workflow,
        revision=new.revision.id,
        tenant=new.tenant,
        key_id=new.key_id,
        caller=new.caller,
        traceparent=new.traceparent,
        cause=new.cause,
        retry_of=new.retry_of,
        pins=new.pins,
        inputs=prepared.inputs,
        started_at_us=now_us,
        plan=plan,
        progress=Progress(plan),
    )


def _all_by_reference(inputs: Mapping[str, Value], blobs: BlobStore) -> Mapping[str, Value]:
    return {name: by_reference(value, blobs) for name, value in inputs.items()}
