"""`python -m dsfn.knative.control`: a replica of the control service."""

from __future__ import annotations

import logging
import os
import sys

from dsfn.knative.process_one import end_at_sigterm


def main() -> None:
    """The program: serves until SIGTERM. What keeps it from that is said in a sentence."""
    end_at_sigterm()
    from dsfn.functions.errors import DsfnError
    from dsfn.knative.control.caller import open_client
    from dsfn.knative.control.program import run
    from dsfn.knative.control.settings import read_settings

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        run(read_settings(os.environ), open_client())
    except DsfnError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
