"""`python -m dsfn.knative.agent`: serves the pods of its node."""

from __future__ import annotations

import os
import sys

from dsfn.knative.process_one import end_at_sigterm


def main() -> None:
    """The program: serves until SIGTERM. What keeps it from that is said in a sentence."""
    end_at_sigterm()
    from dsfn.functions.errors import DsfnError
    from dsfn.knative.agent.program import run
    from dsfn.knative.agent.settings import read_settings

    try:
        run(read_settings(os.environ))
    except DsfnError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
