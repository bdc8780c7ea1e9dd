"""What a platform knows of what it must be told: by whoever installs it, now or before.

What was told before is in the cluster: in the control service's Deployment and its Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dsfn.billing.signing import new_pem
from dsfn.functions.errors import NotFound, UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.accounts import CONTROL_NAME
from dsfn.knative.manifests.agent import AGENT_NAME, prefetched_of
from dsfn.knative.manifests.control import image_of, variables_of
from dsfn.knative.manifests.features import AGENTS_FEATURE
from dsfn.knative.manifests.images import read_image
from dsfn.knative.manifests.network import agents_namespace
from dsfn.knative.manifests.secrets import (
    API_KEY,
    LEDGER,
    LEDGER_KEY,
    read_secret,
    require_sound_secrets,
    require_whole_credentials,
    together,
)
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.manifests.words import Manifest
from dsfn.runtime.access.access import new_local_key
from dsfn.snapshots.addresses import read_bucket


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody says now, "" or None for what stays as it was, but for a secret that may
    be "", and is none then. The fields are those of `PlatformSettings`."""

    store: str = ""
    image: str = ""
    function_image: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    prefetch: tuple[str, ...] | None = None

    def settings(self, namespace: str, agents: bool = True) -> PlatformSettings:
        """Those of a platform that knows no more."""
        return PlatformSettings(
            namespace,
            self.store,
            self.image,
            self.function_image,
            together({}, self.secrets),
            agents,
            self.prefetch or (),
        )


def require_sound(said: Told | PlatformSettings) -> None:
    """Raises `UsageError` for what is said and cannot be."""
    if said.store:
        read_bucket(said.store, "--store")
    for option, image in (("--image", said.image), ("--function-image", said.function_image)):
        if image:
            read_image(image, option)
    require_sound_secrets(said.secrets)


def platform_settings(
    objects: Objects, namespace: str, told: Told, agents: bool
) -> PlatformSettings:
    """Those of a platform in a cluster, which remembers keys that are made up the first time.
    Raises `ClusterError`."""
    before = _before(objects, namespace)
    made_up = {API_KEY: new_local_key(), LEDGER_KEY: new_pem().decode()}
    now = Told(
        told.store or before.store,
        told.image or before.image,
        told.function_image or before.function_image,
        {**made_up, **together(before.secrets, told.secrets)},
        before.prefetch if told.prefetch is None else told.prefetch,
    )
    return now.settings(namespace, agents)


def require_complete(settings: PlatformSettings) -> None:
    """Raises `UsageError` for settings that lack something, or cannot be: a platform that serves is
    told neither, and keeps the keys that it has."""
    require_sound(settings)
    require_whole_credentials(settings.secrets)
    if not settings.store:
        raise UsageError(
            "The platform keeps revisions, snapshots and blobs in a bucket: say which with --store"
            " s3://BUCKET/PREFIX, and in AWS_... how it is reached."
        )
    if LEDGER not in settings.secrets:
        raise UsageError(
            f"The platform keeps its books in PostgreSQL: say in {LEDGER} where,"
            " postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    if not settings.secrets.keys() >= {LEDGER_KEY, API_KEY}:
        raise UsageError(
            "What is applied again must bring the same keys, and so none is made up without a"
            f" cluster: say in {LEDGER_KEY} the one that signs the ledger (`openssl genpkey"
            f" -algorithm ed25519` makes one), and in {API_KEY} the one with which pods and the"
            " control service ask each other, a random text that begins with dsfn_local_."
        )
    if settings.prefetch and not settings.agents:
        raise UsageError(
            "The snapshots that --prefetch names are brought by the nodes' agents, and Knative's"
            f" feature flag {AGENTS_FEATURE.flag} for these is off: --enable-features switches it"
            " on."
        )
    for option, image in (("image", settings.image), ("function-image", settings.function_image)):
        if not image:
            raise UsageError(
                f"Say what the platform runs with --{option}: `make images` builds it."
            )


def function_image_of(objects: Objects, namespace: str) -> str:
    """The image that the functions of a platform run in. Raises `ClusterError`, `NotFound`."""
    deployment = objects.read(_named("apps/v1", "Deployment", CONTROL_NAME, namespace))
    if deployment is None:
        raise NotFound(
            f"There is no dsfn in namespace {namespace}.", kind="Deployment", name=CONTROL_NAME
        )
    return variables_of(deployment)["DSFN_FUNCTION_IMAGE"]


def _before(objects: Objects, namespace: str) -> Told:
    deployment = objects.read(_named("apps/v1", "Deployment", CONTROL_NAME, namespace))
    secret = objects.read(_named("v1", "Secret", CONTROL_NAME, namespace))
    agents = objects.read(_named("apps/v1", "DaemonSet", AGENT_NAME, agents_namespace(namespace)))
    variables = {} if deployment is None else variables_of(deployment)
    return Told(
        variables.get("DSFN_STORE", ""),
        "" if deployment is None else image_of(deployment),
        variables.get("DSFN_FUNCTION_IMAGE", ""),
        {} if secret is None else read_secret(secret),
        None if agents is None else prefetched_of(agents),
    )


def _named(api_version: str, kind: str, name: str, namespace: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
