"""What drawing bills needs is an extra of the package: most nodes print none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dsfn.functions.errors import NotAcceptable


@contextmanager
def require_extra(what: str) -> Iterator[None]:
    """Imports in the block belong to the extra. Raises `NotAcceptable` when it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotAcceptable(
            f"The node cannot give {what}: {error.name} is not installed. Run"
            " `pip install 'dsfn[invoices]'`."
        ) from error
