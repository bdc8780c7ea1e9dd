"""How a pod starts: its port first, then the process that imports beside it, then the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsfn.functions.errors import DsfnError
from dsfn.knative.pod.listening import CannotListen, take_port
from dsfn.knative.pod.settings import read_settings
from dsfn.runtime.replicas.begun import begin
from dsfn.snapshots.secrets import keep_secrets


def start() -> None:
    """Serves until SIGTERM. What keeps it from that is said in a sentence."""
    try:
        with take_port() as listener:
            settings = read_settings(os.environ)
            # It imports while this process does.
            begun = (
                None
                if settings.libraries is None
                else begin(Path(sys.executable), settings.libraries, in_a_hurry=True)
            )
            # Its workers come later, and a function's code after them.
            keep_secrets()
            # Only now: what can be known to be wrong is known before all of this is imported.
            from dsfn.knative.pod.program import run

            run(listener, settings, begun)
    except CannotListen as error:
        sys.exit(str(error))
    except DsfnError as error:
        sys.exit(error.message)
