"""Workflows in YAML: read in the node, since nobody's code is in them."""

from __future__ import annotations

from pathlib import Path

from dsfn.functions.errors import BundleError
from dsfn.functions.workflow.dag import MAX_DOCUMENT_BYTES, Dag


def read_yaml(path: Path) -> Dag:
    """The workflow that a file holds. Raises `BundleError` and `DefinitionError`."""
    data = path.read_bytes()
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BundleError(
            f"{path.name} has more than {MAX_DOCUMENT_BYTES} bytes.",
            limit_bytes=MAX_DOCUMENT_BYTES,
        )
    raise NotImplementedError
