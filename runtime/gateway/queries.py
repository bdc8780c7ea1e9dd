"""Which parameters the query of each route may have."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from dsfn.functions.errors import InvalidInput

CANARY = ("canary", "promote_after_s", "max_error_percent", "max_p99_us")
_PICTURE = ("format",)
# By method and path; a route that is not here has none.
PARAMETERS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("GET", "/functions/{name}/logs"): ("since", "follow"),
    ("POST", "/deployments"): ("entry", *CANARY),
    ("GET", "/deadletters"): ("tenant", "limit", "before"),
    ("GET", "/workflows/{name}/graph"): _PICTURE,
    ("GET", "/runs"): ("workflow", "state", "tenant", "limit", "before"),
    ("GET", "/runs/{id}"): ("limit", "after"),
    ("GET", "/runs/{id}/graph"): _PICTURE,
    ("GET", "/runs/{id}/logs"): ("follow",),
    ("POST", "/auto"): ("output", "want", "optimise"),
    ("GET", "/bill"): ("month", "for", "start", "end", "by", "tenant", "format"),
    ("GET", "/cost/advice"): ("month", "for", "function"),
    ("GET", "/invoices"): ("month", "tenant"),
    ("GET", "/invoices/{number}"): ("format",),
    ("GET", "/budgets"): ("tenant",),
}


def require_known(request: Request, known: tuple[str, ...]) -> None:
    """Raises `InvalidInput` for a parameter of another name: one that is misspelt would be missed
    without a word, and the answer be about something else."""
    for name in request.query_params:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise InvalidInput(f"There is no parameter {name!r} here; {there}.", field=name)
