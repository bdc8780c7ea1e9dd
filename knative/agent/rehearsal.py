"""`python -m dsfn.knative.agent.rehearsal LIBRARIES`: a pod's start, rehearsed.

It imports what a pod and its worker do, and uses it as they do: what they read of their image is
in the node's memory then, page by page. It takes the processor only when nobody else in its
container wants it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from dsfn.runtime.bytecode import use_bytecode

_LOWEST_PRIORITY = 19


def main() -> None:
    """The program. Libraries that cannot be imported are told at its end, with exit code 1; the
    others are imported nevertheless."""
    os.nice(_LOWEST_PRIORITY)
    gc.disable()  # this, and what follows, as a fork server has it
    use_bytecode()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    libraries = sys.argv[1].split(",")
    troubles = {name: trouble for name in libraries if (trouble := _import(name))}
    _rehearse([name for name in libraries if name not in troubles])
    sys.exit("\n".join(f"{name}: {trouble}" for name, trouble in troubles.items()) or None)


def _import(library: str) -> str:
    """What keeps it from being imported, "" for nothing."""
    try:
        import_module(library)
    except Exception as error:  # noqa: BLE001
        # A library may raise anything; the others are imported all the same.
        return f"{type(error).__name__}: {error}"
    return ""


def _rehearse(libraries: Sequence[str]) -> None:
    from dsfn.knative.pod.program import import_all
    from dsfn.runtime.worker.rehearsal import rehearse

    import_all()
    rehearse(libraries)


if __name__ == "__main__":
    main()
