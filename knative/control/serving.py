"""`Serving` of a cluster: Knative has the pods, and is told what the registry says."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import field, replace
from functools import partial

from dsfn.functions.errors import ClusterRefused, Conflict, DsfnError, NotReady
from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import is_about
from dsfn.knative.cluster.waiting import AGAIN_S, Awaited
from dsfn.knative.control.function_services import FunctionServices, PodOf, Share
from dsfn.knative.control.publishing import Former, Placed, Publisher
from dsfn.knative.control.sharing import SHARE_S, Sharing
from dsfn.knative.control.unfinished import Unfinished
from dsfn.knative.manifests.trigger import require_filter
from dsfn.knative.manifests.words import Manifest
from dsfn.runtime.model import ReplicaState, Revision
from dsfn.runtime.registry import FunctionRecord, Registry
from dsfn.runtime.replicas.verifying import VerifiedReplica
from dsfn.runtime.serving import ReplicaView, Tell
from dsfn.runtime.waiting import wait_within

# How often what could not be done is tried again, and the pods are counted.
LOOK_S = 5.0
# After how many looks at a Trigger that is not ready Knative is to look, too.
REMIND_LOOKS = 20
_LOG = logging.getLogger("dsfn.control")


@dataclass(eq=False)
class KnativeServing:
    """Makes the cluster agree with the registry, again and again until it does: an API server that
    is away delays that, and no call."""

    outlives_node = True
    registry: Registry
    publisher: Publisher
    services: FunctionServices
    sharing: Sharing
    unfinished: Unfinished
    _coming: set[str] = field(default_factory=set)
    _pods: list[PodOf] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _undoing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See `Serving`."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """See `Serving`: the pods stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.sharing.close()

    def cut_off(self) -> None:
        """See `Serving`: calls run elsewhere, and end with their connections."""

    async def bring_up(self, revisions: Sequence[Revision], tell: Tell) -> None:
        """See `Serving`. Raises `ClusterError`, `StoreUnavailable`, and `DefinitionError` for what
        a function may not be on a cluster."""
        for revision in revisions:
            for each in revision.interface.triggers:
                require_filter(each, revision.function)
            await asyncio.to_thread(self.publisher.require_free_name, revision.function)
            await asyncio.to_thread(self.services.require_events, revision)
        loop = asyncio.get_running_loop()
        functions, placed = {each.function for each in revisions}, list[Placed]()
        subscribed = list[Manifest]()
        await self._undo()
        self._coming |= functions

        def say(function: str, message: str) -> None:
            loop.call_soon_threadsafe(tell, function, f"{message}.")

        try:
            await _together(self._gone(each, partial(say, each)) for each in functions)
            self.sharing.known.add(functions)
            await _seen_through(self._place(revisions, placed))
            await _together(
                self._ready(each, subscribed, partial(say, each.revision.function))
                for each in placed
            )
        except BaseException:
            await _seen_through(self._put_back(placed, subscribed))
            raise
        finally:
            self._coming -= functions

    async def reconcile(self) -> None:
        """See `Serving`. What the cluster does not take in time is tried again later."""
        self._agree()
        if changes := self.sharing.fresh():
            await asyncio.wait(changes, timeout=SHARE_S)

    def retire(self) -> None:
        """See `Serving`."""
        self._wake.set()

    def require_filter(self, filter_: FilterInterface, function: str) -> None:
        """See `Serving`: the Broker's events are filtered by Knative."""
        require_filter(filter_, function)

    def url(self, function: str, here: str) -> str | None:
        """See `Serving`: a function is called at its Service."""
        return self.services.urls.get(function) or None

    def state(self, function: str) -> ReplicaState:
        """See `Serving`."""
        states = {_state(pod) for pod in self._pods if pod.function == function}
        order = (ReplicaState.READY, ReplicaState.STARTING)
        return next((each for each in order if each in states), ReplicaState.ABSENT)

    def replicas(self, function: str) -> list[ReplicaView]:
        """See `Serving`."""
        return [
            ReplicaView(pod.revision, _state(pod), pod=pod.name)
            for pod in self._pods
            if pod.function == function
        ]

    def counts(self) -> dict[tuple[str, str], int]:
        """See `Serving`."""
        return dict(Counter((pod.function, _state(pod).value) for pod in self._pods))

    def queue_depths(self) -> dict[str, int]:
        """See `Serving`: calls wait in Knative's activator."""
        return {}

    def spares(self) -> list[int]:
        """See `Serving`."""
        return []

    def snapshots(self) -> frozenset[str]:
        """See `Serving`: pods have copies of their own."""
        return frozenset()

    async def rest(self, function: str, to: ReplicaState) -> int:
        """See `Serving`. Raises `Conflict`."""
        raise Conflict("On a cluster Knative says when pods go.", function=function)

    async def verify(self, function: str) -> list[VerifiedReplica]:
        """See `Serving`. Raises `Conflict`."""
        raise Conflict("What is in the memory of pods is not looked at.", function=function)

    async def _gone(self, function: str, tell: Callable[[str], None]) -> None:
        """Returns once nothing is left of a function that was deleted before: its pods answer their
        last calls. Raises `NotReady` where that takes too long, `ClusterError`."""
        await self.sharing.removed(function)
        loop = asyncio.get_running_loop()
        ends_at_s, told = loop.time() + self.publisher.deadline_s, False
        while await asyncio.to_thread(self.services.is_going, function):
            if not told:
                tell("Waiting for the pods of the one that was deleted to be gone")
                told = True
            if loop.time() >= ends_at_s:
                reason = f"The Service of {function} that was deleted does not go."
                raise NotReady(reason, object=f"Service {function}", reason=reason, log="")
            await asyncio.sleep(AGAIN_S)

    async def _place(self, revisions: Sequence[Revision], placed: list[Placed]) -> None:
        for revision in revisions:
            each = await asyncio.to_thread(self.publisher.prepare, revision)
            self.unfinished.add(each.former)
            placed.append(each)
            await asyncio.to_thread(self.publisher.place, each)

    async def _ready(
        self, placed: Placed, subscribed: list[Manifest], tell: Callable[[str], None]
    ) -> None:
        """Returns once it is, and its Trigger."""
        awaited = self.publisher.awaited(placed, tell)
        events = await self._subscribe(placed.revision, subscribed)
        service = await _once_ready(awaited)
        if events is not None:
            await self._once_heard(replace(awaited, manifest=events))
        await asyncio.to_thread(self.publisher.prove, placed)
        self.services.note(placed.revision.function, service)
        self.services.names[placed.revision.id] = placed.name

    async def _subscribe(self, revision: Revision, subscribed: list[Manifest]) -> Manifest | None:
        """The revision's Trigger, if events call it: the one that is there, or one that hears of
        nothing before the revision is live, which is then among those `subscribed`."""
        events = self.services.silent_trigger(revision)
        objects = self.services.objects
        if events is not None and await asyncio.to_thread(objects.read, events) is None:
            subscribed.append(events)
            self.sharing.forget(revision.function)
            await _seen_through(asyncio.to_thread(objects.apply, events))
        return events

    async def _once_heard(self, awaited: Awaited) -> None:
        """Returns once a Trigger is ready whose Service is. Knative, which found no Service, looks
        for it after pauses that double; when the Trigger changes it does so at once."""
        looks = 0
        while await asyncio.to_thread(awaited.look) is None:
            if looks % REMIND_LOOKS == 0:
                await asyncio.to_thread(self.services.remind, awaited.manifest, looks)
            looks += 1
            await asyncio.sleep(AGAIN_S)

    async def _put_back(self, placed: Sequence[Placed], subscribed: Sequence[Manifest]) -> None:
        for events in subscribed:
            try:
                await asyncio.to_thread(self.services.objects.delete, events)
            except DsfnError as error:
                _LOG.error("%s is not gone: %s", is_about(events), error.message)
        for each in placed:
            await self._be_as(each.former)

    async def _undo(self) -> None:
        """Has functions be as they were before what has not become live, also what a leader before
        this one has brought."""
        async with self._undoing:
            for former in self.unfinished.beside(self._coming):
                is_live = self.registry.find(former.revision) is not None
                if is_live or not self.registry.has(former.function):
                    self.unfinished.discard(former.function)
                    continue
                self._coming.add(former.function)
                try:
                    await self._be_as(former)
                    self.sharing.forget(former.function)
                finally:
                    self._coming.discard(former.function)

    async def _be_as(self, former: Former) -> None:
        """Tries it; it is tried again later, unless the cluster refuses it."""
        try:
            await asyncio.to_thread(self.publisher.put_back, former)
            self.unfinished.discard(former.function)
        except DsfnError as error:
            _LOG.error("%s is not as it was: %s", former.function, error.message)
            if isinstance(error, ClusterRefused):
                self.unfinished.discard(former.function)

    async def _keep(self) -> None:
        loaded = False
        while True:
            try:
                await self._undo()
                if not loaded:
                    await self.sharing.load()
                    self._agree()
                    self.sharing.fresh()  # nobody waits for what was so before
                    loaded = True
                self._agree()
                self._pods = await asyncio.to_thread(self.services.pods)
            except DsfnError as error:
                _LOG.warning("%s", error.message)
            except Exception:  # noqa: BLE001
                # Whatever it was, the pods are counted all the same once it is over.
                _LOG.exception("The cluster may not be as the registry says.")
            await wait_within(self._wake, LOOK_S)
            self._wake.clear()

    def _agree(self) -> None:
        """Begins to tell the cluster what has changed since it was told last."""
        records = {each.name: each for each in self.registry.functions()}
        shares = {
            name: share
            for name, record in records.items()
            if name not in self._coming and (share := self._share(record)) is not None
        }
        kept = {each.function for each in self.registry.retained()}
        self.sharing.agree(shares, records, kept | self._coming)

    def _share(self, record: FunctionRecord) -> Share | None:
        """Who is to get a function's calls, None while the cluster lacks one that should."""
        names, pinned = self.services.names, self.registry.pinned()
        wanted = dict(record.traffic)
        wanted.update((id_, 0) for id_ in pinned if self._is_of(id_, record) and id_ not in wanted)
        if missing := [id_ for id_, percent in wanted.items() if percent and id_ not in names]:
            _LOG.error("The cluster has no revision %s: deploy it again.", missing[0])
            return None
        targets = tuple((names[id_], share) for id_, share in wanted.items() if id_ in names)
        subscriptions = self.registry.subscriptions()
        filters = tuple(each.filter for each in subscriptions if each.function == record.name)
        return Share(record.current, targets, filters)

    def _is_of(self, revision: str, record: FunctionRecord) -> bool:
        found = self.registry.find(revision)
        return found is not None and found.function == record.name


def _state(pod: PodOf) -> ReplicaState:
    return ReplicaState.READY if pod.is_ready else ReplicaState.STARTING


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Does all of the works; with the first that fails the others end."""
    tasks = [asyncio.ensure_future(each) for each in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _once_ready(awaited: Awaited) -> Manifest:
    """What is awaited. It may take minutes, of which threads are held for moments."""
    while (ready := await asyncio.to_thread(awaited.look)) is None:
        await asyncio.sleep(AGAIN_S)
    return ready


async def _seen_through(work: Coroutine[None, None, object]) -> None:
    """Does all of the work, though whoever waits for it is called off meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
