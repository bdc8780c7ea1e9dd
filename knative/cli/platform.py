"""`dsfn platform`: install, upgrade, status, uninstall."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dsfn.functions.errors import Conflict, NotFound, UsageError
from dsfn.functions.options import NAME_PATTERN
from dsfn.runtime.cli.options import JsonOption
from dsfn.runtime.cli.output import Column, complain, print_json, print_table, say
from dsfn.runtime.cli.progress import progress

if TYPE_CHECKING:
    from dsfn.knative.cluster.installation import Installation
    from dsfn.knative.cluster.told import Told

ContextOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A context of kubeconfig, instead of its current one."),
]
NamespaceOption = Annotated[str, typer.Option(metavar="NAME", help="The platform's namespace.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]
OutputOption = Annotated[
    Literal["yaml"] | None,
    typer.Option("--output", "-o", help="Print manifests for `kubectl apply`, and do nothing."),
]
FeaturesOption = Annotated[
    bool, typer.Option("--enable-features", help="Switch on Knative's feature flags.")
]
TimeoutOption = Annotated[
    int, typer.Option(metavar="SECONDS", min=1, help="How long to wait for an object.")
]
StoreOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="DSFN_STORE",
        help="s3://BUCKET/PREFIX, where revisions, snapshots and blobs are kept.",
    ),
]
ImageOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        envvar="DSFN_CONTROL_IMAGE",
        help="The image of the control service and the agents.",
    ),
]
FunctionImageOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", envvar="DSFN_FUNCTION_IMAGE", help="The image that functions run in."
    ),
]
PrefetchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A function whose snapshot is brought to every node before a pod asks; once for each.",
    ),
]
_NAMESPACE = "dsfn"
_TIMEOUT_S = 120


def install(
    context: ContextOption = None,
    namespace: NamespaceOption = _NAMESPACE,
    store: StoreOption = "",
    image: ImageOption = "",
    function_image: FunctionImageOption = "",
    prefetch: PrefetchOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
    enable_features: FeaturesOption = False,
    timeout: TimeoutOption = _TIMEOUT_S,
    json_output: JsonOption = False,
) -> None:
    """Install dsfn into a cluster; where it is installed, make it complete."""
    told = _told(store, image, function_image, prefetch)
    if output is not None:
        if json_output:
            raise UsageError("Manifests are printed as YAML or in one JSON document, not both.")
        if context is not None:
            raise UsageError(
                "-o yaml asks no cluster, and so --context has no meaning with it: say it to"
                " `kubectl apply`."
            )
        _print_manifests(told, namespace, enable_features)
        return
    installation = _open(context, namespace)
    _apply(installation, told, enable_features, dry_run, timeout, json_output)


def upgrade(
    context: ContextOption = None,
    namespace: NamespaceOption = _NAMESPACE,
    store: StoreOption = "",
    image: ImageOption = "",
    function_image: FunctionImageOption = "",
    prefetch: PrefetchOption = None,
    dry_run: DryRunOption = False,
    enable_features: FeaturesOption = False,
    timeout: TimeoutOption = _TIMEOUT_S,
    json_output: JsonOption = False,
) -> None:
    """Bring an installed platform to this version of dsfn."""
    told = _told(store, image, function_image, prefetch)
    installation = _open_installed(context, namespace)
    _apply(installation, told, enable_features, dry_run, timeout, json_output)


def status(
    context: ContextOption = None,
    namespace: NamespaceOption = _NAMESPACE,
    json_output: JsonOption = False,
) -> None:
    """Show how the platform is; exits with 1 when something is not as it should be."""
    from dsfn.knative.cli.shown import platform_document

    document = platform_document(_open_installed(context, namespace))
    if json_output:
        print_json(document)
    else:
        rows = [
            (each["object"], each["state"], each["reason"] or "") for each in document["objects"]
        ]
        print_table((Column("object"), Column("state"), Column("reason")), rows, empty="")
        say(f"functions: {', '.join(document['functions']) or 'none'}")
        _tell_of_features(document["features_off"])
    if any(each["state"] != "ready" for each in document["objects"]):
        raise typer.Exit(1)


def uninstall(
    context: ContextOption = None,
    namespace: NamespaceOption = _NAMESPACE,
    dry_run: DryRunOption = False,
    with_functions: Annotated[
        bool, typer.Option("--with-functions", help="Delete the functions there, too.")
    ] = False,
    timeout: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="How long to wait for an object; without it 120, and as long as calls may take.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Take dsfn out of a cluster."""
    from dsfn.knative.cli.shown import going_too, removed_document

    installation = _open(context, namespace)
    functions = installation.functions()
    if functions and not with_functions:
        raise Conflict(
            f"Functions are still in namespace {namespace} ({', '.join(functions)}): delete them"
            " first, or say --with-functions."
        )
    manifests = installation.to_remove()
    others = installation.of_others(manifests)
    document = removed_document(installation, manifests, others, dry_run)
    if others and not json_output:
        complain(going_too(others, dry_run))
    if not dry_run:
        with progress("Deleting") as shown:
            wait_s = _TIMEOUT_S if timeout is None else timeout
            installation.remove(manifests, wait_s, shown.show, with_grace=timeout is None)
    if json_output:
        print_json(document)
    elif dry_run or not manifests:
        say("\n".join(f"- {name}" for name in document["deleted"]) or _not_installed(installation))
    else:
        say(f"dsfn is gone from namespace {namespace}.")


def _open(context: str | None, namespace: str) -> Installation:
    from dsfn.knative.cluster.connection import open_cluster
    from dsfn.knative.cluster.installation import Installation
    from dsfn.knative.cluster.objects import Objects

    _require_namespace(namespace)
    return Installation(Objects(open_cluster(context)), namespace)


def _open_installed(context: str | None, namespace: str) -> Installation:
    """Raises `NotFound` where nothing is installed."""
    installation = _open(context, namespace)
    if not installation.is_there():
        raise NotFound(_not_installed(installation), kind="Namespace", name=namespace)
    return installation


def _told(store: str, image: str, function_image: str, prefetch: list[str] | None) -> Told:
    """What somebody says now: what is secret in the environment, where no other user sees it.
    Raises `UsageError`."""
    from dsfn.knative.cluster.told import Told, require_sound
    from dsfn.knative.manifests.secrets import OPTIONAL, VARIABLES
    from dsfn.snapshots.addresses import read_bucket

    # Without a "/" at its end it is the same, and no change of the platform.
    store = str(read_bucket(store, "--store")) if store else ""
    there = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    secrets = {name: value for name, value in there.items() if value or name in OPTIONAL}
    told = Told(store, image, function_image, secrets, _prefetched(prefetch))
    require_sound(told)
    return told


def _prefetched(names: list[str] | None) -> tuple[str, ...] | None:
    """The functions that --prefetch names; none where it is "". Raises `UsageError`."""
    from dsfn.knative.manifests.agent import MAX_PREFETCHED

    if names is None:
        return None
    found = tuple(dict.fromkeys(name for name in names if name))
    if wrong := [name for name in found if NAME_PATTERN.fullmatch(name) is None]:
        raise UsageError(f"--prefetch takes names of functions, and {wrong[0]!r} is none.")
    if len(found) > MAX_PREFETCHED:
        raise UsageError(f"--prefetch takes at most {MAX_PREFETCHED} functions.")
    return found


def _apply(
    installation: Installation,
    told: Told,
    enable_features: bool,
    dry_run: bool,
    timeout_s: int,
    json_output: bool,
) -> None:
    from dsfn.knative.cli.shown import plan_document, plan_lines

    planned = installation.plan(told, enable_features)
    if not json_output:
        say("\n".join(plan_lines(planned)) or "Everything is there as it should be.", flush=True)
    if not dry_run:
        with progress("Applying") as shown:
            installation.carry_out(planned, timeout_s, shown.show)
    if json_output:
        print_json(plan_document(installation, planned, dry_run))
    else:
        _tell_of_features([each.flag for each in planned.off])


def _print_manifests(told: Told, namespace: str, enable_features: bool) -> None:
    from dsfn.knative.cli.manifest_yaml import manifest_yaml
    from dsfn.knative.cluster.told import require_complete
    from dsfn.knative.manifests.features import enabling
    from dsfn.knative.manifests.platform import platform_objects

    _require_namespace(namespace)
    settings = told.settings(namespace)
    require_complete(settings)
    switched = (enabling(),) if enable_features else ()
    say(manifest_yaml((*switched, *platform_objects(settings))), end="")


def _require_namespace(name: str) -> None:
    """Raises `UsageError` for a namespace that there cannot be."""
    from dsfn.knative.manifests.network import MAX_NAMESPACE, agents_namespace
    from dsfn.knative.manifests.words import is_namespace

    if len(name) > MAX_NAMESPACE:
        raise UsageError(
            f"--namespace takes at most {MAX_NAMESPACE} characters, and {name} has {len(name)}:"
            f" that of the agents, {agents_namespace(name)}, may have no more than 63."
        )
    if not is_namespace(name):
        raise UsageError(
            f"--namespace takes small letters, digits, and dashes within, and {name!r} is none."
        )


def _tell_of_features(flags: list[str]) -> None:
    from dsfn.knative.manifests.features import FEATURES

    for feature in FEATURES:
        if feature.flag in flags:
            complain(
                f"Knative's feature flag {feature.flag} is off: it will refuse"
                f" {feature.needed_for}. --enable-features switches it on."
            )


def _not_installed(installation: Installation) -> str:
    return (
        f"There is no dsfn in namespace {installation.namespace} of context"
        f" '{installation.objects.cluster.context}'."
    )
