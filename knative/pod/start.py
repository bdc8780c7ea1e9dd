"""How a pod starts: the process that imports beside it, its port, then the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsfn.functions.errors import DsfnError
from dsfn.knative.pod.listening import BACKLOG, take_port
from dsfn.runtime.libraries import told_libraries
from dsfn.runtime.replicas.begun import begin
from dsfn.snapshots.secrets import keep_secrets


def start() -> None:
    """Serves until SIGTERM. What keeps it from that is said in a sentence."""
    try:
        with take_port() as listener:
            libraries = told_libraries(os.environ)
            # It imports while this process does.
            begun = (
                None
                if libraries is None
                else begin(Path(sys.executable), libraries, in_a_hurry=True)
            )
            # Its workers come later, and a function's code after them.
            keep_secrets()
            # Only now, step by step: each import takes time in which another has something to do.
            from dsfn.knative.pod.settings import read_settings

            settings = read_settings(os.environ)
            if settings.proved:
                # The pod is ready: whoever connects waits for the rest.
                listener.listen(BACKLOG)
            from dsfn.knative.pod.program import run

            run(listener, settings, begun)
    except DsfnError as error:
        sys.exit(error.message)
