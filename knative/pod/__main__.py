"""`python -m dsfn.knative.pod`: serves one revision of a function on $PORT."""

from __future__ import annotations

import gc
import os

from dsfn.knative.pod.images import FRONT, go_on, image_path
from dsfn.knative.process_one import end_at_sigterm


def main() -> None:
    """The program: serves until SIGTERM."""
    port = None
    if image := image_path(os.environ, FRONT):
        port = _port()
        go_on(image, port)  # it is over here then
    end_at_sigterm()
    gc.disable()  # nothing of what a start makes is garbage; `run` enables it
    from dsfn.runtime.bytecode import use_bytecode

    use_bytecode()
    from dsfn.knative.pod.start import start

    start(port)


def _port() -> int | None:
    """The descriptor of the pod's port, None where it cannot be had: then `start` says why."""
    from dsfn.functions.errors import UsageError
    from dsfn.knative.pod.listening import take_port

    try:
        return take_port().detach()
    except UsageError:
        return None


if __name__ == "__main__":
    main()
