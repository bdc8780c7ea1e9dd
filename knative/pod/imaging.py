"""`python -m dsfn.knative.pod.imaging IMAGE`: writes an image of a pod's front, before it is told
whose it is."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from dsfn.knative.process_one import end_at_sigterm
from dsfn.runtime.bytecode import bytecode_files
from dsfn.snapshots.process.image import Unfit

_LOWEST_PRIORITY = 19


def main() -> None:
    """The program. Why there can be no image is told at its end, with exit code 1."""
    environ = dict(os.environ)
    os.nice(_LOWEST_PRIORITY)
    gc.disable()  # and on from where it serves
    from dsfn.knative.pod.program import import_all
    from dsfn.knative.pod.start import start
    from dsfn.snapshots.process.checkpoint import About, checkpoint
    from dsfn.snapshots.process.renewal import renew

    import_all()
    gc.freeze()
    try:
        told = checkpoint(Path(sys.argv[1]), About(environ, bytecode_files(), {}))
    except Unfit as unfit:
        sys.exit(str(unfit))
    if told is not None:
        found, port = told["environ"], told["port"]
        assert isinstance(found, dict) and isinstance(port, int | None)
        renew(found)
        end_at_sigterm()
        start(port)


if __name__ == "__main__":
    main()
