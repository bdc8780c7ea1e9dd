"""Images of a pod's processes, beside the socket of its node's agent: see `knative.agent.imaging`.

A pod begins with this: nothing large is imported here.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping

FRONT = "front.image"
WORKERS = "workers.image"
PROXY_PATIENCE_S = 0.25
_LOOK_S = 0.005


def image_path(environ: Mapping[str, str], name: str) -> str:
    """Where the image of this name is, "" for nowhere: a pod without volumes has none."""
    agent = environ.get("DSFN_AGENT", "")
    path = os.path.join(os.path.dirname(agent), name)
    return path if agent.startswith("/") and os.path.exists(path) else ""


def wait_for_proxy(environ: Mapping[str, str]) -> None:
    """Returns once queue-proxy serves, or after `PROXY_PATIENCE_S`. No call comes before, and where
    it is not there yet when the kubelet and the activator first ask for it they ask again 0.3 to
    1 s later: so a pod leaves the processor to those who start it."""
    port, end_s = environ.get("DSFN_PROXY_PORT", ""), time.monotonic() + PROXY_PATIENCE_S
    while port.isdigit() and time.monotonic() < end_s:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as proxy:
            proxy.settimeout(PROXY_PATIENCE_S)
            if proxy.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(_LOOK_S)


def go_on(path: str, port: int | None) -> None:
    """Has this process go on from the image of a front, where that fits: it is told the descriptor
    of its port. SIGTERM must be blocked meanwhile."""
    from dsfn.snapshots.process.image import Elsewhere, Unfit
    from dsfn.snapshots.process.restoring import Image

    try:
        image = Image(path, os.environ)
        try:
            wait_for_proxy(os.environ)
            image.go_on({"environ": dict(os.environ), "port": port})
        finally:
            image.close()
    except Elsewhere:
        return  # as for a function with requirements
    except (OSError, Unfit) as error:
        # It starts as it would without one.
        sys.stderr.write(f"This pod does not go on from {path}: {error}.\n")
