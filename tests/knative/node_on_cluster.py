"""A control service in a process of its own, whose leader is the only one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from acting_cluster import ActingCluster
from live_node import LiveNode, launch, once_ready
from live_pod import TestStore

KEY = "dsfn_local_of-the-platform"
_PROGRAM = Path(__file__).parent / "control_program.py"


def start_control(
    place: Path,
    cluster: ActingCluster,
    store: TestStore,
    port: int,
    variables: Mapping[str, str] = MappingProxyType({}),
    start_timeout_s: float = 600.0,
) -> LiveNode:
    """Starts it, and returns once it is ready; the same place again is the same data."""
    told = ("--store", store.url, "--hosts", str(cluster.hosts), "--key", KEY)
    control = launch(
        place,
        port=port,
        blobs={
            "store": f"{store.url}/blobs",
            "endpoint_url": store.variables["AWS_ENDPOINT_URL"],
        },
        program=(str(_PROGRAM), *told),
        variables={
            **store.variables,
            **variables,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        start_timeout_s=start_timeout_s,
    )
    return once_ready(control)
