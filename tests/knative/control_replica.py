"""A replica of the control service whose calls of functions go where DSFN_TEST_HOSTS says."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import httpx
from acting_cluster import MappedTransport

from dsfn.functions.errors import DsfnError
from dsfn.knative.control.program import run
from dsfn.knative.control.settings import read_settings


def main() -> None:
    """Runs it until SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    transport = MappedTransport(Path(os.environ["DSFN_TEST_HOSTS"]))
    try:
        run(read_settings(os.environ), httpx.AsyncClient(transport=transport))
    except DsfnError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
