"""How a pod starts: the process that imports beside it, its port, then the rest."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from dsfn.functions.errors import DsfnError
from dsfn.knative.pod.images import WORKERS, image_path
from dsfn.knative.pod.listening import take_port
from dsfn.runtime.libraries import told_libraries
from dsfn.runtime.replicas.begun import Begun, begin
from dsfn.snapshots.secrets import keep_secrets


def start(port: int | None = None) -> None:
    """Serves until SIGTERM. What keeps it from that is said in a sentence. `port`: the descriptor
    of the pod's port, where that is taken already."""
    try:
        with take_port() if port is None else socket.socket(fileno=port) as listener:
            libraries = told_libraries(os.environ)
            # It imports while this process does.
            begun = None if libraries is None else _begin(libraries)
            # Its workers come later, and a function's code after them.
            keep_secrets()
            # Only now, step by step: each import takes time in which another has something to do.
            from dsfn.knative.pod.settings import read_settings

            settings = read_settings(os.environ)
            from dsfn.knative.pod.program import run

            run(listener, settings, begun)
    except DsfnError as error:
        sys.exit(error.message)


def _begin(libraries: Sequence[str]) -> Begun:
    image = image_path(os.environ, WORKERS)
    return begin(
        Path(sys.executable), libraries, in_a_hurry=True, image=Path(image) if image else None
    )
