"""The control service's parts: a node's, with a cluster as the place where functions run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

import httpx

from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.control.caller import ServiceCaller
from dsfn.knative.control.function_services import FunctionServices
from dsfn.knative.control.known import KnownFunctions
from dsfn.knative.control.pod_logs import PodLogs
from dsfn.knative.control.publishing import Publisher
from dsfn.knative.control.serving import KnativeServing
from dsfn.knative.control.sharing import Sharing
from dsfn.knative.control.unfinished import Unfinished
from dsfn.knative.manifests.accounts import CONTROL_NAME
from dsfn.knative.manifests.function import ServiceSettings
from dsfn.knative.manifests.platform import BROKER
from dsfn.knative.manifests.trigger import DeadLetterSink
from dsfn.knative.pod.store import Store
from dsfn.runtime.access.access import is_local_key
from dsfn.runtime.access.letterbox import letterbox_path
from dsfn.runtime.calling import Around, MakePlace, Place
from dsfn.runtime.deploy.confinement import confinement_of


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where functions run. `api_key`: with which pods ask the control service, and are called by
    it: "dsfn_local_" and what nobody guesses. Raises `UsageError` for a key that begins
    otherwise."""

    services: ServiceSettings
    api_key: str = field(repr=False)
    broker: str = BROKER

    def __post_init__(self) -> None:
        if not is_local_key(self.api_key):
            raise UsageError("The key of the control service must begin with dsfn_local_.")


class PostedByPods:
    """`UsageSink` of calls whose rows are on the books when they are told here."""

    async def reserve(self, begun: Callable[[], Usage]) -> None:
        """See `UsageSink`. The pod does so."""

    async def post(self, row: Usage, kept: bool = False) -> None:
        """See `UsageSink`."""

    def lost(self, row: Usage) -> None:
        """See `UsageSink`."""


def posted_by_pods(
    rows: Sequence[Usage], done: Callable[[Sequence[Exception | None]], None]
) -> None:
    """`Post` of runs whose calls' rows are on the books."""
    done([None] * len(rows))


def on_a_cluster(
    settings: ClusterSettings, objects: Objects, store: Store, client: httpx.AsyncClient
) -> MakePlace:
    """The place for `assemble`: functions run as Knative Services. `client` makes the calls."""

    def make_place(around: Around) -> Place:
        node = around.settings
        publisher = Publisher(
            objects,
            store,
            settings.services,
            node.data_dir / "bundles",
            around.tiers.disk.files,
            around.environments.requirements,
            node.limits.transfer_timeout_s,
            node.limits.start_timeout_s,
        )
        services = FunctionServices(
            objects,
            settings.services.namespace,
            settings.broker,
            lambda name: DeadLetterSink(CONTROL_NAME, letterbox_path(settings.api_key, name)),
        )
        sharing = Sharing(services, KnownFunctions(around.connection))
        unfinished = Unfinished(around.connection)
        serving = KnativeServing(around.registry, publisher, services, sharing, unfinished)
        caller = ServiceCaller(
            client,
            sharing.address,
            settings.api_key,
            around.budgets,
            around.in_force,
            around.metrics,
            around.timelines,
            around.clock,
        )
        return Place(
            serving,
            caller,
            PostedByPods(),
            posted_by_pods,
            settings.api_key,
            PodLogs(objects, services.namespace),
            has_gpus=True,
            confinement=confinement_of(node.data_dir),
        )

    return make_place
