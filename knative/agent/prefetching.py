"""Snapshots that are on the node's disk before a pod asks for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from dsfn.functions.errors import DsfnError
from dsfn.knative.agent.snapshots import NodeSnapshots
from dsfn.knative.pod.control import Control

# A function that is deployed anew has another snapshot.
EVERY_S = 60.0
_LOG = logging.getLogger("dsfn.agent")


async def prefetch(functions: Sequence[str], control: Control, snapshots: NodeSnapshots) -> None:
    """Brings the snapshots of these functions, now and whenever they have others, until it is
    cancelled. One that cannot be had is tried again."""
    while True:
        for function in functions:
            try:
                if digest := await control.snapshot_of(function):
                    await snapshots.ensure(digest)
            except (DsfnError, OSError) as error:
                _LOG.warning("The snapshot of %s is not here yet: %s", function, error)
        await asyncio.sleep(EVERY_S)
