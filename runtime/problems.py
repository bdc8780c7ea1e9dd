"""Errors as HTTP: the one place where an error gets a status (RFC 9457)."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from dsfn.functions import errors
from dsfn.functions.errors import DsfnError
from dsfn.runtime.model import Charge

if TYPE_CHECKING:
    from starlette.responses import Response

PROBLEM_CONTENT_TYPE = "application/problem+json"
_TYPE_BASE = "https://dsfn.dev/errors/"

_STATUS: dict[type[DsfnError], int] = {
    errors.InvalidInput: 422,
    errors.MalformedBody: 400,
    errors.UnsupportedMediaType: 415,
    errors.NotAcceptable: 406,
    errors.PayloadTooLarge: 413,
    errors.HeadTooLarge: 431,
    errors.NotFound: 404,
    errors.NoPlan: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.Conflict: 409,
    errors.IdempotencyMismatch: 422,
    errors.RequestError: 400,
    errors.DeployError: 422,
    errors.HandlerTimedOut: 504,
    errors.HandlerCrashed: 502,
    errors.CallCancelled: 499,
    errors.FunctionError: 500,
    errors.BudgetExceeded: 402,
    errors.RunTimedOut: 504,
    errors.RunCancelled: 409,
    errors.RunError: 500,
    errors.BudgetReserved: 429,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
    errors.ClusterError: 502,
    errors.UsageError: 400,
    DsfnError: 500,
}


def status_of(error: DsfnError) -> int:
    """The HTTP status of an error: its own class's, or that of the nearest ancestor."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 500


def slug_of(kind: type[DsfnError]) -> str:
    """`InvalidInput` -> `invalid-input`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def problem_document(error: DsfnError, instance: str = "") -> dict[str, Any]:
    """The RFC 9457 document of an error, its fields as extension members."""
    slug = slug_of(type(error))
    document: dict[str, Any] = {
        "type": _TYPE_BASE + slug,
        "title": slug.replace("-", " ").capitalize(),
        "status": status_of(error),
        "detail": error.message,
    }
    if instance:
        document["instance"] = instance
    return {**error.fields, **document}


def problem_response(error: DsfnError, instance: str = "", status: int | None = None) -> Response:
    """The error as a response, with its own status where none is given; `Retry-After` in whole
    seconds when the error knows it."""
    # A call that works needs none of it, and the first one of a pod waits for what is imported.
    from starlette.responses import Response

    document = problem_document(error, instance)
    if status is not None:
        document["status"] = status
    headers = {}
    retry_after_s = document.get("retry_after_s")
    if isinstance(retry_after_s, (int, float)):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if instance:
        headers["Dsfn-Invocation-Id"] = instance
    headers.update(_usage_headers(error))
    return Response(
        json.dumps(document, default=str),
        status_code=document["status"],
        media_type=PROBLEM_CONTENT_TYPE,
        headers=headers,
    )


def _usage_headers(error: DsfnError) -> dict[str, str]:
    """What a call that failed took and costs, as `dsfn.runtime.invoke` tells it with the error."""
    fields, headers = error.fields, {}
    if isinstance(fields.get("phases"), str):
        headers["Server-Timing"] = str(fields["phases"])
    if isinstance(fields.get("revision"), str):
        headers["Dsfn-Revision"] = str(fields["revision"])
    charge = fields.get("charge")
    if isinstance(charge, dict):
        headers.update(Charge.from_document(charge).headers())
    if fields.get("replayed") is True:
        headers["Dsfn-Replayed"] = "true"
    return headers
