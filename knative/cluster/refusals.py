"""What an API server's refusal means, as one error with one sentence."""

from __future__ import annotations

import json
import re
from typing import Any

from dsfn.functions.errors import (
    ClusterRefused,
    ClusterUnreachable,
    DsfnError,
    MissingRights,
    NotFound,
)

# services.serving.knative.dev "a" is forbidden: User "eve" cannot patch resource "services" in
# API group "serving.knative.dev" in the namespace "dsfn"
_MAY_NOT = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_UNAVAILABLE = (429, 502, 503, 504)


def refusal_of(status: int, body: bytes | str | None, where: str) -> DsfnError:
    """The error for an answer with this status; `where`: which cluster, for the sentence."""
    document = _document(body)
    message = one_line(document.get("message") or f"it answered with status {status}")
    if status == 401:
        return MissingRights(
            f"The cluster of {where} does not know the user: its credentials are wrong or too old."
        )
    if status == 403 and (found := _MAY_NOT.search(message)):
        return _missing_rights(found)
    details = document.get("details") or {}
    name, kind = str(details.get("name", "")), str(details.get("kind", ""))
    if status == 404:
        return NotFound(f"The cluster of {where}: {message}.", kind=kind, name=name)
    if status in _UNAVAILABLE:
        return ClusterUnreachable(
            f"The cluster of {where} cannot answer now: {message}.", reason=message
        )
    return ClusterRefused(
        f"The cluster refused {kind} {name}: {message}." if name else f"It refused: {message}.",
        object=f"{kind}/{name}",
        reason=message,
    )


def one_line(text: object) -> str:
    """A cluster's words without line breaks and a full stop at their end."""
    return " ".join(str(text).split()).rstrip(".")


def _missing_rights(found: re.Match[str]) -> MissingRights:
    group, namespace = found["group"], found["namespace"]
    resource = f"{found['resource']}.{group}" if group else found["resource"]
    where = f"in the namespace {namespace}" if namespace else "in the cluster"
    return MissingRights(
        f"{found['user']} may not {found['verb']} {resource} {where}: whoever administers the"
        " cluster can grant it with a Role.",
        user=found["user"],
        verb=found["verb"],
        resource=resource,
        namespace=namespace or "",
    )


def _document(body: bytes | str | None) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
