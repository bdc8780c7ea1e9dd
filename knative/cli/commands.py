"""The commands of this room, which `dsfn` has beside those of the runtime."""

from __future__ import annotations

from dsfn.knative.cli import platform
from dsfn.runtime.cli.app import add_group


def add_commands() -> None:
    """Adds them."""
    group = add_group("platform", "dsfn in a Kubernetes cluster with Knative.")
    group.command("install")(platform.install)
    group.command("upgrade")(platform.upgrade)
    group.command("status")(platform.status)
    group.command("uninstall")(platform.uninstall)
