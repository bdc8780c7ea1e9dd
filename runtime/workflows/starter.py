"""From a request, an event or a point of time to a run that can be started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dsfn.functions.errors import InvalidInput, NotFound, PayloadTooLarge
from dsfn.functions.event import DATAREF, Event
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.invalid import invalid
from dsfn.functions.limits import Limits
from dsfn.functions.media import OCTET_STREAM, parse_content_type
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import WorkflowInput
from dsfn.runtime.blobs import REF_PREFIX, BlobStore, digest_of
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.results import CORRELATION, event_key, hops_of
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.workflows.binding import Binder, Bound, Given, part_type
from dsfn.runtime.workflows.model import Blob, Cause, NewRun, Value, WorkflowRevision
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.tracecontext import TRACEPARENT, valid_traceparent

SCHEDULE_CALLER = "schedule"
_MAX_CALLER_CHARS = 256
_HEAD_BYTES = 64
# Checking more against a schema takes so long that others would wait.
_BOUND_AT_ONCE_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class Starter:
    """Binds what came to a workflow's inputs, keeps what is large as blobs, and pins the
    functions. Nothing runs before the engine has the run.

    All methods raise `NotFound` for an unknown workflow, `Conflict` when its functions do not
    fit it any more, `StorageFull`, and for what was given `MalformedBody`, `InvalidInput` (with
    the `field`), `UnsupportedMediaType` and `PayloadTooLarge`, as functions do.
    """

    workflows: WorkflowRegistry
    pins: Pins
    blobs: BlobStore
    clock: Clock
    new_id: Callable[[int], str]
    max_body_bytes: int

    async def from_request(
        self,
        workflow: str,
        content_type: str,
        body: bytes,
        *,
        tenant: str,
        key_id: str = "",
        caller: str = "",
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> NewRun:
        """The run that a request asks for; its body may be an event in structured mode."""
        revision = self.workflows.find(workflow)
        binder = Binder(revision.dag.inputs, self._limits)
        if len(body) > _BOUND_AT_ONCE_BYTES:
            bound = await asyncio.to_thread(binder.body, content_type, body)
        else:
            bound = binder.body(content_type, body)
        inputs = await self._inputs(revision, bound)
        # Last: between the choice and the engine's taking the run on nothing is waited for.
        pins = self.pins.choose(revision)
        return NewRun(
            self._id(),
            revision,
            inputs,
            pins,
            tenant,
            key_id=key_id,
            caller=caller,
            idempotency_key=idempotency_key,
            traceparent=valid_traceparent(traceparent),
        )

    async def from_event(
        self, workflow: str, event: Event, *, tenant: str, key_id: str = ""
    ) -> NewRun:
        """The run that an event starts; the same event starts the same run."""
        revision = self.workflows.find(workflow)
        inputs = await self._inputs(revision, await self._bound_event(revision, event))
        pins = self.pins.choose(revision)
        correlation = event.attribute(CORRELATION) or event.id
        return NewRun(
            self._id(),
            revision,
            inputs,
            pins,
            tenant,
            key_id=key_id,
            caller=event.source[:_MAX_CALLER_CHARS],
            idempotency_key=event_key(event, workflow),
            traceparent=event.attribute(TRACEPARENT),
            cause=Cause(event.id, correlation, hops_of(event)),
        )

    async def scheduled(self, workflow: str, key: str, *, tenant: str) -> NewRun:
        """The run of a workflow whose time has come: all its inputs are their defaults."""
        revision = self.workflows.find(workflow)
        bound = Binder(revision.dag.inputs, self._limits).body(JSON_CONTENT_TYPE, b"")
        inputs = await self._inputs(revision, bound)
        pins = self.pins.choose(revision)
        return NewRun(
            self._id(),
            revision,
            inputs,
            pins,
            tenant,
            caller=SCHEDULE_CALLER,
            idempotency_key=key,
        )

    @property
    def _limits(self) -> Limits:
        return Limits(max_body_bytes=self.max_body_bytes)

    def _id(self) -> str:
        return self.new_id(self.clock.now_us())

    async def _bound_event(self, revision: WorkflowRevision, event: Event) -> Bound:
        inputs = revision.dag.inputs
        binder = Binder(inputs, self._limits)
        reference = event.attribute(DATAREF)
        others = [one for one in inputs if one.kind != "event"]
        if reference is None or event.data or not others:
            return await asyncio.to_thread(binder.event, event)
        if len(others) == 1 and others[0].kind != "json":
            one = others[0]
            given = Given(one.name, one.kind, event.datacontenttype or "", ref=reference)
            bound = {} if len(inputs) == 1 else Binder(_events(inputs), self._limits).event(event)
            return {**bound, one.name: [given] if one.many else given}
        digest = _digest(reference, DATAREF)
        size_bytes, stored = await self._describe(digest, reference, DATAREF)
        self._require_size(size_bytes, DATAREF)
        data, _ = await asyncio.to_thread(self.blobs.get, digest)
        whole = replace(event, data=data, datacontenttype=event.datacontenttype or stored)
        return await asyncio.to_thread(binder.event, whole)

    async def _inputs(self, revision: WorkflowRevision, bound: Bound) -> Mapping[str, Value]:
        found: dict[str, Value] = {}
        for one in revision.dag.inputs:
            given = bound.get(one.name)
            if given is None:
                found[one.name] = _default(one)
            elif isinstance(given, Given):
                found[one.name] = await self._kept(given)
            else:
                found[one.name] = await self._kept_list(given)
        return found

    async def _kept_list(self, given: Sequence[Given]) -> Sequence[Blob]:
        return [await self._kept(each) for each in given]

    async def _kept(self, given: Given) -> Blob:
        """What came as it is kept: small bytes inline, large ones and references as blobs."""
        if given.ref is not None:
            return await self._referred(given, given.ref)
        size_bytes = len(given.data)
        if size_bytes <= INLINE_BYTES:
            return Blob(given.content_type, size_bytes, given.data, name=given.name)
        self._require_size(size_bytes, given.at)
        ref = await asyncio.to_thread(self.blobs.put, given.data, given.content_type)
        return Blob(given.content_type, size_bytes, ref=ref, name=given.name)

    async def _referred(self, given: Given, ref: str) -> Blob:
        digest = _digest(ref, given.at)
        size_bytes, stored = await self._describe(digest, ref, given.at)
        self._require_size(size_bytes, given.at)
        said = given.content_type or stored
        head = b""
        if parse_content_type(said)[0] in ("", OCTET_STREAM):
            head = await asyncio.to_thread(self.blobs.head, digest, _HEAD_BYTES)
        content_type = part_type(given.kind, given.at, said, (), lambda: head)
        return Blob(content_type, size_bytes, ref=ref, name=given.name)

    async def _describe(self, digest: str, ref: str, field: str) -> tuple[int, str]:
        try:
            return await asyncio.to_thread(self.blobs.describe, digest)
        except NotFound as error:
            raise invalid(field, f"refers to {ref!r}, which does not exist") from error

    def _require_size(self, size_bytes: int, field: str) -> None:
        if size_bytes > self.max_body_bytes:
            raise PayloadTooLarge(
                f"'{field}' is over the limit of {self.max_body_bytes} bytes.",
                field=field,
                limit_bytes=self.max_body_bytes,
            )


def _events(inputs: Sequence[WorkflowInput]) -> list[WorkflowInput]:
    return [one for one in inputs if one.kind == "event"]


def _digest(ref: str, field: str) -> str:
    if not ref.startswith(REF_PREFIX):
        # A run may be taken up and retried for days: what it needs is kept by the node itself.
        raise invalid(
            field,
            f"is {ref!r}; a workflow takes references to blobs of the node alone:"
            f" POST the bytes to /blobs and give {REF_PREFIX}<hex>",
        )
    try:
        return digest_of(ref)
    except InvalidInput as error:
        raise invalid(field, f"is {ref!r}, not a reference like {REF_PREFIX}<hex>") from error


def _default(one: WorkflowInput) -> Value:
    assert one.default is not None, "what need not be given has a default"
    text = one.default.text.encode()
    return Blob(JSON_CONTENT_TYPE, len(text), text)
