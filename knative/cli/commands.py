"""What `dsfn` has of this room beside the commands of the runtime."""

from __future__ import annotations

from dsfn.knative.cli import platform, reaching
from dsfn.runtime.cli.app import add_group
from dsfn.runtime.cli.ways import Way, add_way


def add_commands() -> None:
    """Adds them, and the way to the control service of a cluster."""
    add_way(reaching.SCHEME, Way(reaching.control_service, reaching.read_address))
    group = add_group("platform", "dsfn in a Kubernetes cluster with Knative.")
    group.command("install")(platform.install)
    group.command("upgrade")(platform.upgrade)
    group.command("status")(platform.status)
    group.command("uninstall")(platform.uninstall)
