"""`IMAGE`: goes on from an image that is told nothing, and so proves that it goes on.

The exit code is 0 then. It is run as the programs are that use the image, with their environment.
"""

from __future__ import annotations

import os
import sys

from dsfn.snapshots.process.image import Unfit
from dsfn.snapshots.process.restoring import Image


def main() -> None:
    """The program."""
    try:
        Image(sys.argv[1], os.environ).go_on({})
    except (OSError, Unfit) as error:
        sys.exit(str(error))
