"""A fork server that goes on from an image: `IMAGE FD LIBRARIES [gpus] [first]`.

Where the image does not fit it becomes the usual one, `python -m dsfn.runtime.worker` with the
words after IMAGE. Nothing large is imported here.
"""

from __future__ import annotations

import os
import sys

from dsfn.snapshots.process.image import Elsewhere, Unfit
from dsfn.snapshots.process.restoring import Image


def main() -> None:
    """The program."""
    path, *words = sys.argv[1:]
    try:
        _go_on(path, int(words[0]), {name for name in words[1].split(",") if name})
    except (OSError, Unfit) as error:
        if not isinstance(error, Elsewhere):
            sys.stderr.write(f"Workers do not go on from {path}: {error}.\n")
            sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-m", "dsfn.runtime.worker", *words])


def _go_on(path: str, node: int, libraries: set[str]) -> None:
    """Raises `OSError`, `Unfit`."""
    image = Image(path, os.environ)
    try:
        known = image.words["libraries"]
        assert isinstance(known, list)
        if not libraries.issubset(known):
            raise Elsewhere("other libraries are wanted")
        image.go_on({"node": node, "environ": dict(os.environ)})
    finally:
        image.close()
