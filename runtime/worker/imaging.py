"""`python -m dsfn.runtime.worker.imaging IMAGE LIBRARIES`: writes an image of a fork server.

It has these libraries, and what brings weights to a GPU; its first worker comes at once, and few
follow. What goes on from it serves the node that `dsfn.runtime.worker.imaged` names. The program
takes the processor only when nobody else in its container wants it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from dsfn.runtime.bytecode import bytecode_files
from dsfn.runtime.left_out import left_out
from dsfn.runtime.worker.__main__ import NOT_NEEDED
from dsfn.snapshots.process.image import Unfit

_LOWEST_PRIORITY = 19


def main() -> None:
    """The program. Why there can be no image is told at its end, with exit code 1."""
    environ = dict(os.environ)
    os.nice(_LOWEST_PRIORITY)
    gc.disable()
    with left_out(NOT_NEEDED):
        from dsfn.runtime.worker.forkserver import prepare
    from dsfn.snapshots.process.checkpoint import About, checkpoint

    libraries = [name for name in sys.argv[2].split(",") if name]
    prepare(libraries, gpus=True, in_a_hurry=True)
    about = About(environ, bytecode_files(), {"libraries": libraries})
    try:
        told = checkpoint(Path(sys.argv[1]), about)
    except Unfit as unfit:
        sys.exit(str(unfit))
    if told is not None:
        node, environment = told["node"], told["environ"]
        assert isinstance(node, int) and isinstance(environment, dict)
        _serve(node, environment)


def _serve(node: int, environ: Mapping[str, str]) -> NoReturn:
    """In a process that has gone on."""
    from dsfn.runtime.worker.forkserver import ForkServer, node_at, tell_libraries
    from dsfn.snapshots.process.renewal import renew

    renew(environ)
    tell_libraries()
    ForkServer(node_at(node)).serve()


if __name__ == "__main__":
    main()
